/* SPDX-License-Identifier: ISC
 *
 * t/fuzz/appname.c - fuzz target: --application-name-host rewrites a startup packet.
 *
 * The input is the client's host, a NUL, its port, a NUL, and the parameters of the packet. The new
 * packet, as PostgreSQL reads it (postgres.h), must have the same parameters in the same order, but
 * for the setting that decides application_name.
 *
 * sabotage: s/STARTUP_NAME_MAX - strlen(suffix)/STARTUP_NAME_MAX + 1 - strlen(suffix)/ wire/startup.c
 * sabotage: s/0xc0) == 0x80/0xc0) == 0xc0/ wire/startup.c
 * sabotage: s/strcasecmp(name, "application_name")/strcmp(name, "application_name")/ wire/startup.c
 * sabotage: s/at, strlen(name) + 1, text/at, strlen(name), text/ wire/startup.c
 * sabotage: s/if (st->len - old + size > STARTUP_MAX)/if (st->len - old + size > STARTUP_MAX - 1)/ wire/startup.c
 */
#include "wire/startup.h"

#include "memstream.h"
#include "postgres.h"

#define HOST_MAX  46 /* INET6_ADDRSTRLEN */
#define SHOWN_MAX (PG_NAMEDATALEN - 1)

/* pg_clean_ascii() since version 16. */
static size_t shown_size(const char *name, size_t len)
{
	size_t size = 0;

	for (size_t i = 0; i < len; i++)
		size += name[i] >= 32 && name[i] <= 126 ? 1 : 4;
	return size;
}

/* The longest beginning of `name` that leaves room for the suffix and ends between characters. */
static size_t kept_size(const char *name, size_t room)
{
	size_t len = strlen(name);

	while (len > 0 &&
	       (shown_size(name, len) > room || ((unsigned char)name[len] & 0xc0) == 0x80))
		len--;
	return len;
}

/* What is to be shown for `name`, or for a client without one. */
static char *expected_name(const char *name, const char *host, const char *port)
{
	static char text[2 * PG_NAMEDATALEN];
	char suffix[PG_NAMEDATALEN] = " - ";
	bool v6 = strchr(host, ':') != NULL && port[0] != '\0';

	strcat(suffix, v6 ? "[" : "");
	strcat(suffix, host);
	strcat(suffix, v6 ? "]" : "");
	strcat(suffix, port[0] != '\0' ? ":" : "");
	strcat(suffix, port);
	if (name == NULL)
		name = "app";
	size_t kept = kept_size(name, SHOWN_MAX - strlen(suffix));
	memcpy(text, name, kept);
	strcpy(text + kept, suffix);
	return text;
}

static void check_parameters(const struct pg_port *was, const struct pg_port *is, const char *text)
{
	bool found = false;

	CHECK(is->parameters == was->parameters + (was->application_name == NULL));
	for (size_t i = is->parameters; i-- > 0;) {
		bool added = i == was->parameters;
		bool ours = added || was->value[i] == was->application_name;

		CHECK(strcmp(is->name[i], added ? "application_name" : was->name[i]) == 0);
		CHECK(strcmp(is->value[i], ours ? text : was->value[i]) == 0);
		found |= ours;
	}
	CHECK(found && same_text(is->application_name, text));
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static struct memstream m;
	static struct startup st;
	static struct pg_port was, is;
	static unsigned char packet[PG_PACKET_MAX + 4];
	struct input in = {data, size};
	char host[HOST_MAX], port[6];

	input_string(&in, host, sizeof host);
	input_string(&in, port, sizeof port);
	size_t len = in.left + 8;
	if (len > sizeof packet)
		return 0;
	memcpy(packet, (const unsigned char[]){0, 0, (unsigned char)(len >> 8), (unsigned char)len},
	       4);
	memcpy(packet + 4, "\0\3\0\0", 4);
	memcpy(packet + 8, in.at, in.left);
	memstream_again(&m, packet, len);
	startup_read(&st, &m.stream, STARTUP_LOCAL, false, DEADLINE_NEVER);
	if (st.kind != STARTUP_SESSION)
		return 0;
	CHECK(pg_read(&was, packet, len, false, false) == PG_SESSION);
	const char *text = expected_name(was.application_name, host, port);
	size_t old = was.application_name == NULL ? 0 : strlen(was.application_name) + 1;
	size_t new = strlen(text) + 1 + (old == 0 ? sizeof "application_name" : 0);
	CHECK(startup_append_host(&st, host, port) == (len - old + new <= PG_PACKET_MAX + 4));
	CHECK(st.kind == STARTUP_SESSION);
	if (len - old + new > PG_PACKET_MAX + 4) {
		CHECK(st.len == len && memcmp(st.packet, packet, len) == 0);
		return 0;
	}
	CHECK(pg_read(&is, st.packet, st.len, false, false) == PG_SESSION && is.len == st.len);
	check_parameters(&was, &is, text);
	CHECK(same_text(st.user, was.user_name) && same_text(st.database, was.database_name));
	CHECK(same_text(st.application_name, text));
	CHECK(st.user_twice == (was.users > 1 || was.databases > 1));
	return 0;
}
