/* SPDX-License-Identifier: ISC
 *
 * t/proofs/proxy1.c - v1_read accepts exactly the lines of the PROXY protocol's version 1, and
 * takes the client's address and port from the second and the fourth word. For all words, as
 * t/proofs/proxy1_word.c takes them from the line that t/proofs/proxy1_line.c has read.
 *
 * inet_pton() is arbitrary, but gets the words.
 *
 * cbmc: --nondet-static --unwind 48
 * edit: /V2_LONGEST =/s/4096/112/ wire/proxy.c
 * edit: s/if (!v1_read_line(h, e))/if (!any_line(h))/ wire/proxy.c
 * edit: s/^static void take_word(/static void unused_take_word(/ wire/proxy.c
 * sabotage: s/port > 65535/port > 65536/ wire/proxy.c
 * sabotage: s/(word\[0\] == '0' \&\& word\[1\] != '.0')/false/ wire/proxy.c
 * sabotage: s/take_address(h, family, destination);/take_address(h, family, source);/ wire/proxy.c
 * sabotage: s/if (h->bad || h->at != h->end)/if (h->bad)/ wire/proxy.c
 * sabotage: s/protocol\[3\] == '4' ? AF_INET : AF_INET6/protocol[3] == '4' ? AF_INET6 : AF_INET/ wire/proxy.c
 * sabotage: s/h->bad |= inet_pton(/h->bad = inet_pton(/ wire/proxy.c
 */
#include "proof.h"

#define strspn    digits_of
#define strtoul   number_of
#define inet_pton any_address
static size_t digits_of(const char *word, const char *digits);
static unsigned long number_of(const char *word, char **end, int base);
static int any_address(int family, const char *word, void *address);
struct header;
static bool any_line(struct header *h);
static void take_word(struct header *h, char *word, size_t size);

#include <arpa/inet.h>
#include <stdlib.h>
#include "wire/proxy.c"

enum { WORDS = 5, WORD = INET6_ADDRSTRLEN };

static char words[WORDS][WORD];
static bool refused[WORDS], last[WORDS], valid[2];
static unsigned char address[2][16];
static unsigned calls, taken; /* of inet_pton, of take_word */

/* ---- what v1_read calls */

static bool any_line(struct header *h)
{
	h->len = any_size(15, V1_LONGEST);
	h->bad = false;
	return true;
}

/* Take an arbitrary word. One that is refused is empty, or has a blank at the end of the line. */
static void take_word(struct header *h, char *word, size_t size)
{
	unsigned n = taken++;

	prove(n < WORDS && h->at <= h->end && size <= WORD, "five words");
	given(words[n][size - 1] == '\0' && (words[n][0] != '\0' || refused[n]));
	given(h->at < h->end || words[n][0] == '\0');
	for (size_t i = 0; i < WORD; i++)
		if (i < size)
			word[i] = words[n][i];
	h->bad |= refused[n];
	h->at = any_size(h->at, h->end);
	given(words[n][0] == '\0' || last[n] == (h->at == h->end));
}

static size_t digits_of(const char *word, const char *digits)
{
	size_t n = 0;

	(void)digits;
	while (word[n] >= '0' && word[n] <= '9')
		n++;
	return n;
}

/* What does not only have digits has any value. */
static unsigned long number_of(const char *word, char **end, int base)
{
	unsigned long value = 0;

	prove(end == NULL && base == 10, "decimal");
	for (size_t i = 0; word[i] != '\0'; i++) {
		if (word[i] < '0' || word[i] > '9')
			return nondet_size();
		value = 10 * value + (unsigned long)(word[i] - '0');
	}
	return value;
}

static int any_address(int family, const char *word, void *to)
{
	size_t some = any_size(0, WORD - 1);

	prove(calls < 2 && family == (words[0][3] == '4' ? AF_INET : AF_INET6), "two addresses");
	prove(word[some] == words[calls + 1][some], "the word as it stands");
	memcpy(to, address[calls], family == AF_INET ? 4 : 16);
	return valid[calls++] ? 1 : 0;
}

/* ---- the specification */

static bool is_port(const char *word, unsigned *port)
{
	size_t n = 0;

	for (*port = 0; n < 6 && word[n] != '\0'; n++) {
		if (word[n] < '0' || word[n] > '9')
			return false;
		*port = 10 * *port + (unsigned)(word[n] - '0');
	}
	return n >= 1 && n <= 5 && *port <= 65535 && (n == 1 || word[0] != '0');
}

static bool is_client(unsigned *port)
{
	unsigned other;

	if (memcmp(words[0], "TCP4", 5) != 0 && memcmp(words[0], "TCP6", 5) != 0)
		return false;
	for (unsigned i = 0; i < WORDS; i++)
		if (refused[i] || last[i] != (i == WORDS - 1))
			return false;
	return valid[0] && valid[1] && is_port(words[3], port) && is_port(words[4], &other);
}

int main(void)
{
	static struct header h;
	struct proxy_client client = {0};
	struct error e;
	const struct sockaddr_in *in = (const struct sockaddr_in *)&client.address;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&client.address;
	unsigned port;

	calls = taken = 0;
	bool good = v1_read(&h, &client, &e), given = is_client(&port);
	prove(good == (given || memcmp(words[0], "UNKNOWN", 8) == 0), "accepted if it is a header");
	prove(client.given == given, "a client is given if the header has one");
	if (given) {
		bool v4 = words[0][3] == '4';
		prove(client.address.ss_family == (v4 ? AF_INET : AF_INET6), "its family");
		prove(ntohs(in->sin_port) == port, "its port");
		prove(v4 ? memcmp(&in->sin_addr, address[0], 4) == 0
			 : memcmp(&in6->sin6_addr, address[0], 16) == 0,
		      "its address");
		possible(v4 && port == 65535);
		possible(!v4 && port == 0);
	}
	possible(good && !given && refused[0]);
	possible(!good && taken == 5 && calls == 2 && valid[0] && valid[1]);
	return 0;
}
