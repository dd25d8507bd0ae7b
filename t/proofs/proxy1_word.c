/* SPDX-License-Identifier: ISC
 *
 * t/proofs/proxy1_word.c - take_word takes the next word of a PROXY header of version 1, up to a
 * blank or the end of the line, and refuses an empty one, one with a NUL, one that is too long, and
 * a blank at the end of the line. For each line, each place in it, and each size of a word.
 *
 * cbmc: --nondet-static --unwind 114
 * edit: /V2_LONGEST =/s/4096/112/ wire/proxy.c
 * sabotage: s/len == 0 || len >= size/len == 0 || len > size/ wire/proxy.c
 * sabotage: s/len == 0 || len >= size/len >= size/ wire/proxy.c
 * sabotage: s/memchr(start, '.0', len) != NULL/false/ wire/proxy.c
 * sabotage: s/h->at += len + (blank != NULL);/h->at += len + 1;/ wire/proxy.c
 * sabotage: s/h->bad |= blank != NULL \&\& h->at == h->end;/;/ wire/proxy.c
 */
#include "proof.h"

#define memchr find
#define memcpy copy
static void *find(const void *s, int c, size_t n);
static void *copy(void *to, const void *from, size_t n);

#include "wire/proxy.c"

enum { LINE = 107, WORD = INET6_ADDRSTRLEN };

static struct header h;
static size_t from; /* where the word begins */

static size_t blank, nul; /* the first blank behind it, the first NUL in it; or its end */

static bool inside(const unsigned char *s, size_t n)
{
	return __CPROVER_same_object(s, &h) && s == h.bytes + from && n <= h.end - from;
}

/* The first place from `from` to `end` that has this byte. */
static size_t first(unsigned char c, size_t end)
{
	size_t at = any_size(0, LINE);

	given(at >= from && at <= end && (at == end || h.bytes[at] == c));
	for (size_t i = 0; i < LINE; i++)
		given(i < from || i >= at || h.bytes[i] != c);
	return at;
}

static void *find(const void *s, int c, size_t n)
{
	size_t at = c == ' ' ? blank : nul, end = c == ' ' ? h.end : blank;

	prove(c == ' ' || c == '\0', "a blank or a NUL is searched for");
	prove(inside(s, n) && n == end - from, "in the rest of the line, or in the word");
	return at == end ? NULL : h.bytes + at;
}

static void *copy(void *to, const void *bytes, size_t n)
{
	prove(inside(bytes, n) && n < WORD, "only a word is copied");
	for (size_t i = 0; i < WORD && i < n; i++)
		((char *)to)[i] = (char)h.bytes[from + i];
	return to;
}

int main(void)
{
	static char word[WORD];
	size_t size = any_size(1, WORD), some = any_size(0, WORD - 1);

	h.end = any_size(0, LINE - 2);
	from = h.at = any_size(0, h.end);
	h.bad = false;
	blank = first(' ', h.end);
	nul = first('\0', blank);
	take_word(&h, word, size);
	size_t len = blank - from;
	bool good = len > 0 && len < size && nul == blank;

	prove(h.bad == (!good || (blank < h.end && blank + 1 == h.end)), "what is refused");
	prove(h.at == (!good ? from : blank < h.end ? blank + 1 : h.end), "where the next begins");
	prove(word[good ? len : 0] == '\0', "the word has an end");
	prove(!good || some >= len || word[some] == (char)h.bytes[from + some], "and its bytes");
	possible(!h.bad && len == WORD - 1 && blank < h.end);
	possible(!h.bad && blank == h.end && h.end == LINE - 2);
	possible(h.bad && good);
	return 0;
}
