/* SPDX-License-Identifier: ISC
 *
 * t/proofs/prefix.c - fitting_prefix: as PostgreSQL shows it, the beginning of the name that it
 * chooses has at most `room` bytes; it does not end inside a UTF-8 character, and is the longest
 * such one. For each name, and each room of up to 63 bytes: it looks at no more of the name.
 *
 * By induction over both loops, whose states become arbitrary at their heads.
 *
 * cbmc: --nondet-static
 * edit: s/shown = 0; name/shown = 0; at_loop(\&len, \&shown), name/ wire/startup.c
 * edit: s/^\twhile (\(len > 0\|((unsigned\)/\twhile (at_cut(\&len), \1/ wire/startup.c
 * sabotage: s/shown > room)/shown > room + 1)/ wire/startup.c
 * sabotage: s/((unsigned char)name\[len\] \& 0xc0) == 0x80/false/ wire/startup.c
 * sabotage: s/len > 0 \&\& ((unsigned/((unsigned/ wire/startup.c
 * sabotage: s/name\[len\] > '~' ? 4/name[len] > '~' ? 2/ wire/startup.c
 */
#include "proof.h"

static void at_loop(size_t *len, size_t *shown);
static void at_cut(size_t *len);

#include "wire/startup.c"

static unsigned char name[65]; /* the string may be longer */
static size_t room, some;      /* what is proved for the place `some` holds for all */
static size_t total[66];       /* bytes that PostgreSQL shows for the ones before each place */
static size_t stop;            /* where the first loop ended */
static bool again, cut;

/* pg_clean_ascii */
static size_t shown_for(unsigned char byte)
{
	return byte >= 32 && byte <= 126 ? 1 : 4;
}

static bool is_inside_character(size_t at)
{
	return name[at] >= 0x80 && name[at] <= 0xbf;
}

static void at_loop(size_t *len, size_t *shown)
{
	static size_t before;

	prove(*len <= *shown && *shown <= room && *shown == total[*len], "what was counted fits");
	if (again) {
		prove(*len == before + 1, "each step counts one byte");
		given(false);
	}
	again = true;
	before = *len = any_size(0, room);
	*shown = total[*len];
	given(*len <= *shown && *shown <= room);
	given(total[*len + 1] == total[*len] + shown_for(name[*len]));
}

static void at_cut(size_t *len)
{
	static size_t before;

	if (!cut)
		stop = *len;
	prove(*len <= stop && (some <= *len || some > stop || is_inside_character(some)),
	      "only places inside characters are passed");
	if (cut) {
		prove(*len < before, "each step goes back");
		given(false);
	}
	cut = true;
	before = *len = any_size(0, stop);
	given(some <= *len || some > stop || is_inside_character(some));
}

int main(void)
{
	room = any_size(0, STARTUP_NAME_MAX);
	total[0] = 0;
	again = cut = false;
	size_t len = fitting_prefix((const char *)name, room);
	prove(name[stop] == '\0' || total[stop + 1] > room, "no more fits");
	prove(total[stop] <= room && len <= stop, "what is chosen fits");
	prove(some <= len || some > stop || is_inside_character(some), "it is the longest");
	prove(len == 0 || !is_inside_character(len), "it ends between characters");
	possible(stop == 63 && len == 63);
	possible(len == 10 && stop == 13);
	return 0;
}
