/* SPDX-License-Identifier: ISC
 *
 * t/proofs/relay.c - client mode's filter takes the names SCRAM-SHA-256-PLUS out of the list of an
 * AuthenticationSASL, and the client gets each other byte as the backend sent it. Nothing is read
 * past the message. For each message of up to RELAY_MAX bytes, lowered to 64, and the head of each
 * longer one.
 *
 * By induction over the loop of remove_scram_plus: `at_loop` makes its state arbitrary, and checks
 * that one step removes one such name or passes another one. A second message is like the first:
 * nothing of it is kept.
 *
 * cbmc: --nondet-static --unwind 66
 * edit: /#define RELAY_MAX/s/8192/64/ wire/startup.c
 * edit: s/while (at < len \&\&/while (at_loop(m, \&len, \&at), at < len \&\&/ wire/startup.c
 * sabotage: s/if (at + n > len)/if (at + n > len + 1)/ wire/startup.c
 * sabotage: s/if (n == sizeof plus \&\&/if (n >= sizeof plus \&\&/ wire/startup.c
 * sabotage: s/put_be32(m + 1, len - 1)/put_be32(m + 1, len)/ wire/startup.c
 * sabotage: s/size < MESSAGE_HEAD ||/size < MESSAGE_HEAD - 1 ||/ wire/startup.c
 * sabotage: s/size > RELAY_MAX)/size > RELAY_MAX + 1)/ wire/startup.c
 */
#define INPUT 64
#include "proof.h"

#define memmove move
#define strnlen length_of
static void *move(void *to, const void *from, size_t n);
static size_t length_of(const char *s, size_t max);
static void at_loop(unsigned char *m, size_t *len, size_t *at);

#include "wire/startup.c"

static const char name[] = "SCRAM-SHA-256-PLUS";
static unsigned char kept[INPUT]; /* its contents before the step */
static size_t kept_len, kept_at;
static bool filtered; /* the loop was reached */
static size_t some;   /* what is proved for this place holds for all */

static size_t size_of_input(void)
{
	return (size_t)get_be32(input + 1) + 1;
}

static bool is_whole(void)
{
	return size_of_input() >= MESSAGE_HEAD && size_of_input() <= RELAY_MAX;
}

static bool is_list(void)
{
	return is_whole() && input[0] == 'R' && size_of_input() >= 9 && get_be32(input + 5) == 10;
}

static size_t packet_end(void)
{
	return taken >= MESSAGE_HEAD && is_whole() ? size_of_input() : MESSAGE_HEAD;
}

/* memmove(): only the byte at `some` is of interest afterwards. */
static void *move(void *to, const void *from, size_t n)
{
	size_t t = (size_t)((unsigned char *)to - buffer);
	size_t f = (size_t)((const unsigned char *)from - buffer);
	unsigned char any[INPUT];

	prove(t <= INPUT && n <= INPUT - t && f <= INPUT && n <= INPUT - f,
	      "moved inside the buffer");
	given(any[some] == buffer[some >= t && some < t + n ? some - t + f : some]);
	memcpy(buffer, any, INPUT);
	return to;
}

/* strnlen(): that no byte is NUL before the end is needed for two bytes. */
static size_t length_of(const char *s, size_t max)
{
	size_t at = (size_t)((const unsigned char *)s - buffer), n = any_size(0, max);

	prove(at <= INPUT && max <= INPUT - at, "strings are inside the buffer");
	given(n == max || buffer[at + n] == '\0');
	given(n <= sizeof name - 1 || buffer[at + sizeof name - 1] != '\0');
	given(some < at || some >= at + n || buffer[some] != '\0');
	given(n == 0 || buffer[at] != '\0');
	return n;
}

/* Is there a whole name to be removed at this place of what was kept? */
static bool is_name(size_t at)
{
	for (size_t i = 0; i < sizeof name; i++)
		if (at + i >= kept_len || kept[at + i] != (unsigned char)name[i])
			return false;
	return true;
}

/* Is the list over, or has the name at this place no end? */
static bool is_end(size_t at)
{
	return at >= kept_len || kept[at] == '\0' || some < at || some >= kept_len ||
	       kept[some] != '\0';
}

static void check_step(size_t len, size_t at)
{
	prove(at <= len, "the place is inside the list");
	if (is_name(kept_at)) {
		prove(len == kept_len - sizeof name && at == kept_at, "a name is removed");
		if (some < len)
			prove(buffer[some] == kept[some < at ? some : some + sizeof name],
			      "and nothing else");
		possible(len > at);
	} else {
		prove(len == kept_len && at > kept_at, "another name is passed");
		prove(kept[at - 1] == '\0', "up to its end");
		if (some >= kept_at && some < at - 1)
			prove(kept[some] != '\0', "and not further");
		if (some < len)
			prove(buffer[some] == kept[some], "nothing is changed");
		possible(at == len);
	}
}

static void at_loop(unsigned char *m, size_t *len, size_t *at)
{
	unsigned char any[INPUT];

	if (filtered) {
		check_step(*len, *at);
		given(false);
	}
	prove(is_list(), "only a list is filtered");
	prove(m == buffer && *len == size_of_input() && *at == 9, "from its beginning");
	prove(some >= *len || m[some] == input[some], "the message is the backend's");
	filtered = true;
	memcpy(m, any, INPUT);
	memcpy(kept, any, INPUT);
	*len = kept_len = any_size(9, size_of_input());
	*at = kept_at = any_size(9, *len);
}

/* What the client gets. */
static void check_message(const unsigned char *m, size_t len)
{
	size_t size = is_whole() ? size_of_input() : MESSAGE_HEAD;

	prove(filtered == is_list(), "each list is filtered");
	if (!filtered) {
		prove(len == size, "the length is the backend's");
		prove(some >= len || m[some] == input[some], "each byte is the backend's");
		return;
	}
	prove(len == kept_len && get_be32(m + 1) == len - 1, "the length is right");
	prove(is_end(kept_at), "the list ends with an empty name, or within one");
	prove(some >= len || (some >= 1 && some < MESSAGE_HEAD) || m[some] == kept[some],
	      "nothing else is changed");
}

enum io_status stream_write_all(struct stream *s, const void *buf, size_t size, deadline when)
{
	check_message(buf, size);
	possible(filtered);
	possible(!filtered && size == INPUT);
	finished = true;
	return nondet_bool() ? IO_DONE : IO_TIMEOUT;
}

int main(void)
{
	struct stream backend, client;
	bool removed;

	taken = arrived = 0;
	buffer = NULL;
	filtered = finished = false;
	given(some < INPUT);
	enum io_status io = startup_relay_authentication(&backend, &client, &removed, 0);
	prove(finished || io != IO_DONE, "a message that did not arrive is not success");
	prove(removed == (filtered && kept_len < size_of_input()),
	      "the caller learns of a removal");
	return 0;
}
