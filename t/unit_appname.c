/* SPDX-License-Identifier: ISC
 *
 * t/unit_appname.c - startup_append_host changes application_name and nothing else in the packet.
 *
 * sabotage: wire/startup.c s/((unsigned char)name\[len\] \& 0xc0) == 0x80/false/
 */
#include "wire/startup.h"

#include <string.h>

#include "memstream.h"
#include "tap.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))
#define X10(s)       s s s s s s s s s s

/* Parameters before and after, with '|' for NUL, without the packet's header and final NUL. */
static const struct row {
	const char *what, *host, *port, *before, *after;
} rows[] = {
    {"the address is appended", "192.0.2.7", "51234", "user|alice|application_name|psql|",
     "user|alice|application_name|psql - 192.0.2.7:51234|"},
    {"parameters after it are kept", "192.0.2.7", "1", "user|a|application_name|psql|database|b|",
     "user|a|application_name|psql - 192.0.2.7:1|database|b|"},
    {"IPv6", "2001:db8::7", "51234", "user|a|application_name|psql|",
     "user|a|application_name|psql - [2001:db8::7]:51234|"},
    {"no port", "[local]", "", "user|a|application_name|psql|",
     "user|a|application_name|psql - [local]|"},
    {"no application_name", "192.0.2.7", "1", "user|a|database|b|",
     "user|a|database|b|application_name|app - 192.0.2.7:1|"},
    {"an empty application_name", "192.0.2.7", "1", "application_name||user|a|",
     "application_name| - 192.0.2.7:1|user|a|"},
    {"given twice: the last one counts", "192.0.2.7", "1",
     "user|a|application_name|x|application_name|y|",
     "user|a|application_name|x|application_name|y - 192.0.2.7:1|"},
    {"its name in capitals: settings have no case", "192.0.2.7", "1",
     "user|a|application_name|x|APPLICATION_Name|y|",
     "user|a|application_name|x|APPLICATION_Name|y - 192.0.2.7:1|"},
    {"a value that looks like the parameter's name", "192.0.2.7", "1",
     "user|application_name|database|b|",
     "user|application_name|database|b|application_name|app - 192.0.2.7:1|"},
    {"cut to make room for the address", "192.0.2.7", "51234",
     "user|a|application_name|" X10("0123456789") "|",
     "user|a|application_name|"
     "0123456789012345678901234567890123456789"
     "01234 - 192.0.2.7:51234|"},
    {"not cut inside a 2-byte character", "192.0.2.7", "51234",
     "user|a|application_name|" X10("\xc3\xa4\xc3\xa4\xc3\xa4") "|",
     "user|a|application_name|\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4 - 192.0.2.7:51234|"},
    {"not cut inside a 4-byte character", "192.0.2.7", "51234",
     "user|a|application_name|" X10("\xf0\x9f\x90\x98\xf0\x9f\x90\x98") "|",
     "user|a|application_name|\xf0\x9f\x90\x98\xf0\x9f\x90\x98 - 192.0.2.7:51234|"},
    {"bytes that are not UTF-8", "192.0.2.7", "51234",
     "user|a|application_name|" X10("\x80\x80\x80\x80\x80\x80\x80") "|",
     "user|a|application_name| - 192.0.2.7:51234|"},
};

/* Build a packet from `text`; return its length. */
static size_t make(unsigned char *packet, const char *text)
{
	size_t len = 8 + strlen(text) + 1;

	memcpy(packet,
	       (unsigned char[]){0, 0, (unsigned char)(len >> 8), (unsigned char)len, 0, 3, 0, 0},
	       8);
	for (size_t i = 0; i <= strlen(text); i++)
		packet[8 + i] = text[i] == '|' ? '\0' : (unsigned char)text[i];
	return len;
}

static void read_packet(struct startup *st, const unsigned char *packet, size_t len)
{
	struct memstream m;

	memset(st, 0, sizeof *st);
	memstream_init(&m, packet, len);
	startup_read(st, &m.stream, STARTUP_NEGOTIATED, false, deadline_in(1000));
	memstream_close(&m);
}

static void check(const struct row *r)
{
	static struct startup st, again;
	unsigned char before[512], after[512];
	size_t len = make(before, r->before), want = make(after, r->after);

	read_packet(&st, before, len);
	ok(st.kind == STARTUP_SESSION && startup_append_host(&st, r->host, r->port), "%s", r->what);
	if (!ok(st.len == want && memcmp(st.packet, after, want) == 0, "the whole packet"))
		note("got %.*s", (int)st.len - 8, st.packet + 8);
	ok(strlen(st.application_name) <= STARTUP_NAME_MAX, "not longer than PostgreSQL allows");
	read_packet(&again, st.packet, st.len);
	ok(again.kind == STARTUP_SESSION && strcmp(again.user, st.user) == 0 &&
	       strcmp(again.database, st.database) == 0 &&
	       strcmp(again.application_name, st.application_name) == 0,
	   "the pointers are correct");
}

/* A packet of the maximum length, and slightly shorter ones. */
static void check_limit(void)
{
	static struct startup st;
	static unsigned char packet[STARTUP_MAX + 1], copy[STARTUP_MAX + 1];
	static const char head[] = "user\0a\0application_name\0psql\0x";
	static const size_t added = sizeof " - 192.0.2.7:1" - 1;

	for (size_t spare = 0; spare <= added + 1; spare++) {
		size_t len = STARTUP_MAX - spare;

		memset(packet, 'x', sizeof packet);
		memcpy(packet,
		       (unsigned char[]){0, 0, (unsigned char)(len >> 8), (unsigned char)len, 0, 3,
					 0, 0},
		       8);
		memcpy(packet + 8, head, sizeof head);
		packet[len - 2] = packet[len - 1] = '\0';
		read_packet(&st, packet, len);
		memcpy(copy, st.packet, sizeof copy);
		bool fits = spare >= added, done = startup_append_host(&st, "192.0.2.7", "1");

		ok(st.kind == STARTUP_SESSION && done == fits, "%zu bytes to spare: %s", spare,
		   fits ? "done" : "refused");
		if (!fits)
			ok(st.len == len && memcmp(st.packet, copy, len) == 0,
			   "and nothing is changed");
		else
			ok(st.len == len + added, "and the length is correct");
	}
}

int main(void)
{
	for (size_t i = 0; i < COUNT(rows); i++)
		check(&rows[i]);
	check_limit();
	return done_testing();
}
