/* SPDX-License-Identifier: ISC
 *
 * t/proofs/replace.c - replace_bytes changes the bytes that it is told to, and the length word; it
 * moves the rest, writes nothing behind STARTUP_MAX, and refuses what does not fit. For each packet
 * of up to STARTUP_MAX bytes, lowered to 112.
 *
 * cbmc: --nondet-static --unwind 6
 * edit: /#define STARTUP_MAX/s/10004/112/ wire/startup.h
 * edit: s/^\tparse_parameters(st);/\tparsed_again = true;/ wire/startup.c
 * sabotage: s/st->packet + at + old, st->len - at - old/st->packet + at + old, st->len - at/ wire/startup.c
 * sabotage: s/old + size > STARTUP_MAX/old + size > STARTUP_MAX + 2/ wire/startup.c
 * sabotage: s/put_be32(st->packet, st->len);/;/ wire/startup.c
 * sabotage: s/memcpy(st->packet + at, bytes, size);/;/ wire/startup.c
 */
#include "proof.h"

#define memmove move
#define memcpy  move
static void *move(void *to, const void *from, size_t n);
static bool parsed_again, copied;

#include "wire/startup.c"

typedef unsigned char place;

static struct startup st, before;
static char bytes[128];
static size_t at, old, size;
static place some; /* what is proved for this place holds for all */

/* memmove() of the rest and memcpy() of the bytes: only the one at `some` is of interest. */
static void *move(void *to, const void *from, size_t n)
{
	size_t t = (size_t)((unsigned char *)to - st.packet);
	bool rest = __CPROVER_same_object(from, &st);

	prove(t <= STARTUP_MAX && n <= STARTUP_MAX - t, "written inside the packet");
	prove(to == st.packet + at + (rest ? size : 0), "to its place");
	prove(from == (rest ? (void *)(st.packet + at + old) : (void *)bytes), "from its place");
	prove(n == (rest ? before.len - at - old : size), "all of it");
	prove(!rest || !copied, "the rest before it is overwritten");
	copied = !rest;
	if (rest && some >= at + size && some < at + size + n)
		st.packet[some] = before.packet[(place)(some - size + old)];
	else if (!rest && some >= at && some < at + size)
		st.packet[some] = (unsigned char)bytes[(place)(some - at)];
	return to;
}

static unsigned char expected(void)
{
	if (some < 4)
		return (unsigned char)(st.len >> (24 - 8 * some));
	if (some < at)
		return before.packet[some];
	return some < at + size ? (unsigned char)bytes[(place)(some - at)]
				: before.packet[(place)(some - size + old)];
}

int main(void)
{
	at = any_size(8, STARTUP_MAX);
	old = any_size(0, STARTUP_MAX);
	size = any_size(0, sizeof bytes);
	st.len = any_size(8, STARTUP_MAX);
	given(at <= st.len && old <= st.len - at);
	parsed_again = copied = false;
	before = st;
	bool done = replace_bytes(&st, at, old, bytes, size);
	size_t len = before.len - old + size;
	prove(done == (len <= STARTUP_MAX), "done if it fits");
	prove(done == parsed_again, "and parsed again");
	prove(st.len == (done ? len : before.len), "the new length");
	if (some < st.len)
		prove(st.packet[some] == (done ? expected() : before.packet[some]),
		      "each byte is the old one but for those that are replaced, and the length");
	possible(done && st.len == STARTUP_MAX && old == 10 && size == 20);
	possible(done && size == 0 && old == 5);
	possible(!done);
	return 0;
}
