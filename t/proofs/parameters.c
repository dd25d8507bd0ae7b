/* SPDX-License-Identifier: ISC
 *
 * t/proofs/parameters.c - parse_parameters takes the user, the database and the application_name
 * that PostgreSQL takes, and refuses what PostgreSQL refuses, for each packet of 8 to STARTUP_MAX
 * bytes (lowered to 80: a name may be too long). It reads no byte behind the packet.
 *
 * By induction over the loop. `at_loop` stands at its head: it makes the state arbitrary but for
 * the invariant, and compares one step with one of PostgreSQL's loop.
 *
 * cbmc: --nondet-static
 * edit: /#define STARTUP_MAX/s/10004/80/ wire/startup.h
 * edit: s/while (at <= last \&\&/while (at_loop(st, \&at), at <= last \&\&/ wire/startup.c
 * sabotage: s/st->packet\[st->len\] = '.0';/;/ wire/startup.c
 * sabotage: s/if (value > last)/if (value > last + 1)/ wire/startup.c
 * sabotage: s/if (at != last)/if (at > last)/ wire/startup.c
 * sabotage: s/\*where = value;/if (*where == NULL) *where = value;/ wire/startup.c
 * sabotage: s/strlen(value) > STARTUP_NAME_MAX/strlen(value) > STARTUP_NAME_MAX + 1/ wire/startup.c
 * sabotage: s/if (strcasecmp(name/if (strcmp(name/ wire/startup.c
 */
#include "proof.h"

#define strlen     length_of
#define strcmp     compare
#define strcasecmp compare_setting
static size_t length_of(const char *s);
static int compare(const char *s, const char *word);
static int compare_setting(const char *s, const char *word);
struct startup;
static void at_loop(struct startup *st, size_t *at);

#include "wire/startup.c"

static struct startup st;

/* Of the string at each place: where it ends, and whether it equals a word. Arbitrary. */
static unsigned short end_of[STARTUP_MAX + 1];
static bool is_user[STARTUP_MAX + 1], is_database[STARTUP_MAX + 1], is_name[STARTUP_MAX + 1];

/* PostgreSQL's variables in ProcessStartupPacket; places count from `packet`. */
static struct {
	size_t offset, user, database, application_name; /* 0: NULL */
	bool twice, too_long;                            /* not of PostgreSQL: what it would lose */
	bool stopped;
} pg;

/* ---- strings in the packet */

static size_t place_of(const char *s)
{
	size_t at = (size_t)(s - (const char *)st.packet);

	prove(__CPROVER_same_object(s, &st) && at <= st.len, "strings begin inside the packet");
	prove(st.packet[st.len] == '\0', "strings end inside the packet");
	given(end_of[at] >= at && end_of[at] <= st.len && st.packet[end_of[at]] == '\0');
	given((end_of[at] == at) == (st.packet[at] == '\0'));
	return at;
}

static size_t length_of(const char *s)
{
	size_t at = place_of(s);

	return end_of[at] - at;
}

static int compare(const char *s, const char *word)
{
	size_t at = place_of(s);
	bool equal = word[0] == 'u' ? is_user[at] : is_database[at];

	given(!equal || st.packet[at] == word[0]);
	return equal ? 0 : 1;
}

/* The name of a setting, in any case. */
static int compare_setting(const char *s, const char *word)
{
	size_t at = place_of(s);

	given(!is_name[at] || (st.packet[at] | 0x20) == word[0]);
	return is_name[at] ? 0 : 1;
}

/* ---- PostgreSQL */

static void take(size_t name, size_t value)
{
	size_t *where = compare((char *)st.packet + name, "user") == 0       ? &pg.user
			: compare((char *)st.packet + name, "database") == 0 ? &pg.database
									     : NULL;
	if (where != NULL) {
		pg.twice |= *where != 0;
		pg.too_long |= length_of((char *)st.packet + value) > 63;
		*where = value;
	} else if (compare_setting((char *)st.packet + name, "application_name") == 0) {
		pg.application_name = value;
	}
}

/* One round of its loop, which ends by break or when offset reaches the length. */
static void step(void)
{
	if (pg.offset >= st.len || st.packet[pg.offset] == '\0') {
		pg.stopped = true;
		return;
	}
	size_t value = pg.offset + length_of((char *)st.packet + pg.offset) + 1;
	if (value >= st.len) {
		pg.stopped = true;
		return;
	}
	take(pg.offset, value);
	pg.offset = value + length_of((char *)st.packet + value) + 1;
}

/* ---- the induction */

static const char *pointer(size_t place)
{
	return place == 0 ? NULL : (const char *)st.packet + place;
}

static bool same_state(size_t at)
{
	return at == pg.offset && st.user == pointer(pg.user) &&
	       st.database == pointer(pg.database) &&
	       st.application_name == pointer(pg.application_name) && st.user_twice == pg.twice &&
	       st.name_too_long == pg.too_long;
}

/* A value lies before the next name. */
static bool is_value(size_t place)
{
	return place == 0 || (place > 8 && place <= st.len && end_of[place] < pg.offset);
}

static bool invariant(void)
{
	return pg.offset >= 8 && pg.offset <= st.len + 1 && is_value(pg.user) &&
	       is_value(pg.database) && is_value(pg.application_name);
}

static void any_state(size_t *at)
{
	pg.offset = *at = nondet_size();
	pg.user = nondet_size();
	pg.database = nondet_size();
	pg.application_name = nondet_size();
	st.user_twice = pg.twice = nondet_bool();
	st.name_too_long = pg.too_long = nondet_bool();
	given(invariant());
	st.user = pointer(pg.user);
	st.database = pointer(pg.database);
	st.application_name = pointer(pg.application_name);
}

static bool again;

static void at_loop(struct startup *unused, size_t *at)
{
	static size_t before;

	(void)unused;
	prove(same_state(*at), "the state is PostgreSQL's");
	prove(invariant(), "values lie before the next name");
	if (again) {
		prove(!pg.stopped && pg.offset > before,
		      "the loop goes on only where PostgreSQL's does");
		possible(pg.user != 0 && pg.database != 0 && pg.application_name != 0);
		given(false);
	}
	again = true;
	any_state(at);
	before = pg.offset;
	step();
}

/* What follows PostgreSQL's loop. */
static void check_outcome(void)
{
	prove(pg.stopped, "the loop ends where PostgreSQL's does");
	if (pg.offset != st.len - 1) {
		prove(st.kind == STARTUP_REFUSED && st.why == REFUSE_LAYOUT, "refused: layout");
		possible(pg.offset == st.len + 1);
	} else if (pg.user == 0 || st.packet[pg.user] == '\0') {
		prove(st.kind == STARTUP_REFUSED && st.why == REFUSE_NO_USER, "refused: no user");
		possible(pg.user != 0);
		possible(st.len == 9);
	} else {
		size_t database =
		    pg.database == 0 || st.packet[pg.database] == '\0' ? pg.user : pg.database;

		prove(st.kind == STARTUP_SESSION, "accepted");
		prove(st.user == pointer(pg.user), "the user is the one that PostgreSQL takes");
		prove(st.database == pointer(database),
		      "the database is the one that PostgreSQL takes");
		prove(st.application_name == pointer(pg.application_name),
		      "and so is application_name");
		prove(st.user_twice == pg.twice && st.name_too_long == pg.too_long,
		      "names that PostgreSQL would replace or cut are noticed");
		possible(st.user_twice && !st.name_too_long && st.len == STARTUP_MAX);
		possible(st.name_too_long && database == pg.user);
	}
}

int main(void)
{
	struct startup any = st;
	size_t len = any_size(8, STARTUP_MAX);
	size_t some = any_size(0, len - 1); /* what is proved for this place holds for all */

	st.len = len;
	st.kind = STARTUP_SESSION;
	st.user = st.database = st.application_name = NULL;
	st.user_twice = st.name_too_long = false;
	memset(&pg, 0, sizeof pg);
	pg.offset = 8;
	again = false;
	parse_parameters(&st);
	check_outcome();
	prove(st.len == len && st.packet[some] == any.packet[some], "the packet is unchanged");
	return 0;
}
