/* SPDX-License-Identifier: ISC
 *
 * t/proofs/ask.c - startup_ask sends one whole StartupMessage, or nothing if the names are too
 * long. It reads one message and nothing past it, and takes SQLSTATE and message from inside it,
 * whatever its fields are. For each message of up to RELAY_MAX bytes, lowered to 64, and the head
 * of each longer one.
 *
 * By induction over the loop of error_field: `at_loop` makes the place in the message arbitrary.
 * snprintf() is what its manual promises: only lengths are known.
 *
 * cbmc: --nondet-static --unwind 67
 * edit: /#define RELAY_MAX/s/8192/64/ wire/startup.c
 * edit: s/while (\*at !=/while (at_loop(\&at), *at !=/ wire/startup.c
 * sabotage: s/m\[RELAY_MAX + 2\] = {0};/m[RELAY_MAX + 1] = {0};/ wire/startup.c
 * sabotage: s/put_be32(packet, 8 + len + 1);/put_be32(packet, 8 + len);/ wire/startup.c
 * sabotage: s/if (len >= size || stream_write_all/if (len > size + 8 || stream_write_all/ wire/startup.c
 * sabotage: s/(m\[0\] == 'R' \&\& len < MESSAGE_HEAD + 4)/false/ wire/startup.c
 * sabotage: s/at += strlen(at) + 1;/at += strlen(at);/ wire/startup.c
 */
#define INPUT 64
#include "proof.h"

#include <stdarg.h>
#include <stdio.h>

#define strlen   length_of
#define snprintf print
static size_t length_of(const char *s);
static int print(char *to, size_t size, const char *format, ...);
static void at_loop(const char **at);

#include "wire/startup.c"

static struct startup_reply reply;
static char user[8], database[8], *packet;
static size_t names_len; /* of the parameters */
static bool replication, printed, written, walked;
static size_t before; /* the place before the step */

static size_t size_of_input(void)
{
	return (size_t)get_be32(input + 1) + 1;
}

static bool is_whole(void)
{
	return size_of_input() >= MESSAGE_HEAD && size_of_input() <= RELAY_MAX;
}

static size_t packet_end(void)
{
	return taken >= MESSAGE_HEAD && is_whole() ? size_of_input() : MESSAGE_HEAD;
}

/* A place in the message, or in the two NULs behind it. */
static size_t place_of(const char *s)
{
	size_t at = (size_t)((const unsigned char *)s - buffer);

	prove(__CPROVER_same_object(s, buffer) && at >= MESSAGE_HEAD && at <= arrived + 1,
	      "in the message");
	prove(buffer[arrived] == '\0' && buffer[arrived + 1] == '\0', "which has an end");
	return at;
}

/* strlen(): of the bytes before the end, only that the message's own end ends it is needed. */
static size_t length_of(const char *s)
{
	size_t at = place_of(s), n = any_size(0, arrived + 1 - at);

	given(buffer[at + n] == '\0' && (n == 0 || at + n <= arrived));
	return n;
}

static void at_loop(const char **at)
{
	size_t now = place_of(*at);

	if (walked) {
		prove(now > before + 1 && buffer[now - 1] == '\0', "a field is passed");
		given(false);
	}
	prove(now == MESSAGE_HEAD, "from the first field");
	walked = true;
	before = any_size(MESSAGE_HEAD, arrived + 1);
	*at = (const char *)buffer + before;
}

/* The parameters, then SQLSTATE and message. */
static int print(char *to, size_t size, const char *format, ...)
{
	va_list args;
	size_t len;

	prove(__CPROVER_w_ok(to, size), "written inside the buffer");
	va_start(args, format);
	if (!printed) {
		printed = true;
		packet = to - 8;
		len = names_len;
	} else {
		bool state = to == reply.sqlstate;
		const char *value = va_arg(args, const char *);
		prove(strcmp(format, "%s") == 0 && size == (state ? 6 : 512), "a text");
		prove(value[0] == '\0' || value[-1] == (state ? 'C' : 'M') ||
			  (place_of(value) == before + 1 && buffer[before] != '\0'),
		      "of the field");
		len = value[0] == '\0' ? 0 : length_of(value);
		walked = false;
	}
	to[len < size ? len : size - 1] = '\0';
	va_end(args);
	return (int)len;
}

enum io_status stream_write_all(struct stream *s, const void *buf, size_t size, deadline when)
{
	const unsigned char *m = buf;

	(void)s, (void)when;
	prove(!written && m == (unsigned char *)packet && __CPROVER_r_ok(m, size), "one packet");
	prove(size == 8 + names_len + 1 && m[size - 1] == '\0', "all of it, with its end");
	prove(get_be32(m) == size && get_be32(m + 4) == 0x30000, "its length, and the version");
	written = true;
	possible(size == 1024);
	return nondet_bool() ? IO_DONE : IO_FAILED;
}

int main(void)
{
	struct stream backend;

	taken = arrived = 0;
	buffer = NULL;
	packet = NULL;
	finished = printed = written = walked = false;
	names_len = any_size(40, 100000);
	char type = startup_ask(&reply, &backend, user, replication ? NULL : database, 0);
	prove(written == (names_len < 1024 - 8), "nothing is sent if it would be cut");
	prove(type == 0 || (is_whole() && arrived == taken && arrived == size_of_input()),
	      "a whole message");
	prove(type == 0 || (unsigned char)type == input[0], "of that type");
	prove(type != 'R' || (arrived >= 9 && reply.method == get_be32(input + 5)), "its method");
	possible(type == 'E' && arrived == 64);
	possible(type == 'E' && arrived == 5);
	possible(type == 'R');
	return 0;
}
