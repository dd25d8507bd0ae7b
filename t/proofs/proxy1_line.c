/* SPDX-License-Identifier: ISC
 *
 * t/proofs/proxy1_line.c - v1_read_line reads exactly the line of a PROXY header of version 1, and
 * no byte behind its CRLF. It accepts each line of 15 to 107 bytes that begins with "PROXY " and
 * has no other CR or LF, and nothing else. (t/proofs/proxy1.c has the words of the line.)
 *
 * By induction over the loop: `at_loop` makes the number of bytes that were read arbitrary.
 *
 * cbmc: --nondet-static --unwind 114
 * edit: /V2_LONGEST =/s/4096/112/ wire/proxy.c
 * edit: s/while (!v1_line_ended(/while (at_loop(h), !v1_line_ended(/ wire/proxy.c
 * sabotage: s/== '\\r' ? 1 : 2;/== '\\r' ? 2 : 2;/ wire/proxy.c
 * sabotage: s/h->len + missing > V1_LONGEST/h->len > V1_LONGEST/ wire/proxy.c
 * sabotage: s/V1_SHORTEST - h->len, e/V1_SHORTEST, e/ wire/proxy.c
 * sabotage: s/body -= 1;/;/ wire/proxy.c
 * sabotage: s/"PROXY ", 6) != 0/"PROXY ", 5) != 0/ wire/proxy.c
 */
#define INPUT 112
#include "proof.h"

#define memchr find
static void *find(const void *s, int c, size_t n);
struct header;
static void at_loop(struct header *h);

#include "wire/proxy.c"

static struct header h;
static size_t end; /* behind the CRLF; 0: there is no such line */
static bool again;

/* Where the line ends: at its first LF, which must be behind its first CR. */
static size_t line_end(void)
{
	size_t cr = INPUT, lf = INPUT;

	for (size_t i = INPUT; i > 0; i--) {
		cr = input[i - 1] == '\r' ? i - 1 : cr;
		lf = input[i - 1] == '\n' ? i - 1 : lf;
	}
	return lf == cr + 1 && lf >= 14 && lf < 107 ? lf + 1 : 0;
}

static size_t packet_end(void)
{
	return end != 0 ? end : 107;
}

static void *find(const void *s, int c, size_t n)
{
	prove(s == h.bytes && n <= arrived, "only what arrived is searched");
	for (size_t i = 0; i < INPUT; i++)
		if (i < n && h.bytes[i] == (unsigned char)c)
			return h.bytes + i;
	return NULL;
}

static void check_bytes(void)
{
	size_t some = any_size(0, INPUT - 1);

	prove(h.len == arrived, "the length is what arrived");
	prove(some >= arrived || h.bytes[some] == input[some], "the bytes are the peer's");
}

static void at_loop(struct header *same)
{
	static struct header other;
	static size_t before;

	prove(same == &h && arrived == taken && buffer == h.bytes, "all arrived");
	prove(arrived >= 15 && arrived <= packet_end(), "and none of it is behind the line");
	check_bytes();
	if (again) {
		prove(arrived > before, "each step reads");
		given(false);
	}
	again = true;
	before = h.len = arrived = taken = any_size(15, packet_end());
	for (size_t i = 0; i < INPUT; i++)
		h.bytes[i] = i < arrived ? input[i] : other.bytes[i];
}

int main(void)
{
	struct error e;

	end = line_end();
	again = finished = false;
	buffer = h.bytes;
	h.len = arrived = taken = 1; /* proxy_read has read a byte */
	h.bytes[0] = input[0];
	bool good = v1_read_line(&h, &e);
	check_bytes();
	prove(!good || arrived == end, "the whole line was read");
	prove(good == (arrived == taken && end != 0 && memcmp(input, "PROXY ", 6) == 0),
	      "accepted if it is a line");
	possible(good && arrived == 15);
	possible(good && arrived == 107);
	possible(!good && arrived == 107);
	possible(!good && arrived == 106 && taken == 107);
	return 0;
}
