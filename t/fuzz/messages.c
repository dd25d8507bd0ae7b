/* SPDX-License-Identifier: ISC
 *
 * t/fuzz/messages.c - fuzz target: the messages that are read after the startup packet. In client
 * mode the backend's up to its authentication request, from which SCRAM-SHA-256-PLUS is removed,
 * and the client's answer; with --check what a backend says.
 *
 * The input's first byte says which and how the bytes arrive; the rest are the peer's bytes.
 *
 * sabotage: s/if (at + n > len)/if (at + n > len + 1)/ wire/startup.c
 * sabotage: s/while (at < len .. m.at. != '.0')/while (at < len)/ wire/startup.c
 * sabotage: s/if (n == sizeof plus .. memcmp(m + at, plus, n) == 0)/if (n > 1 \&\& memcmp(m + at, plus, n - 1) == 0)/ wire/startup.c
 * sabotage: s/size > RELAY_MAX)/size > RELAY_MAX - 1)/ wire/startup.c
 * sabotage: s/m.0. == 'N' || m.0. == 'v'/m[0] == 'N'/ wire/startup.c
 * sabotage: s/m.flag. == 'y' ../m[flag] != 'n' \&\&/ wire/startup.c
 * sabotage: s/at += strlen(at) + 1;/at += strlen(at);/ wire/startup.c
 */
#include "wire/startup.h"

#include "memstream.h"
#include "postgres.h"

#define LONGEST 8192 /* longer messages are relayed unseen */

static const char plus_name[] = "SCRAM-SHA-256-PLUS";
static unsigned char expected[1 << 17];
static size_t expected_len;

static void expect(const unsigned char *bytes, size_t len)
{
	memcpy(expected + expected_len, bytes, len);
	expected_len += len;
}

/* The message at `in`, its type and length included; 0 if not all of it is there. */
static size_t message_size(const unsigned char *in, size_t left)
{
	return left >= 5 && be32(in + 1) < left ? (size_t)be32(in + 1) + 1 : 0;
}

static bool malformed(const unsigned char *in, size_t left)
{
	return left >= 5 && (be32(in + 1) < 4 || be32(in + 1) >= LONGEST);
}

/* An AuthenticationSASL without the one name; libpq reads names up to an empty one. */
static bool expect_sasl(const unsigned char *in, size_t size)
{
	size_t start = expected_len, at = 9, end;

	expect(in, 9);
	while (at < size && in[at] != '\0') {
		for (end = at; end < size && in[end] != '\0'; end++)
			;
		if (end == size)
			break;
		if (strcmp((const char *)in + at, plus_name) != 0)
			expect(in + at, end + 1 - at);
		at = end + 1;
	}
	expect(in + at, size - at);
	size_t len = expected_len - start - 1;
	for (int i = 0; i < 4; i++)
		expected[start + 1 + (size_t)i] = (unsigned char)(len >> (24 - 8 * i));
	return len + 1 < size;
}

/* What must be read of the backend's bytes. */
static size_t expect_authentication(const unsigned char *in, size_t left, enum io_status *status,
				    bool *removed)
{
	size_t at = 0, size;

	*removed = false;
	for (;;) {
		const unsigned char *m = in + at;

		*status = IO_DONE;
		if (malformed(m, left - at)) {
			expect(m, 5);
			return at + 5;
		}
		if ((size = message_size(m, left - at)) == 0) {
			*status = IO_END;
			return left;
		}
		if (m[0] == 'R' && size >= 9 && be32(m + 5) == 10)
			*removed = expect_sasl(m, size);
		else
			expect(m, size);
		at += size;
		if (m[0] != 'N' && m[0] != 'v')
			return at;
	}
}

static void test_authentication(struct memstream *backend, struct memstream *client)
{
	bool removed, want_removed;
	enum io_status want;
	size_t used = expect_authentication(backend->in, backend->in_len, &want, &want_removed);

	CHECK(startup_relay_authentication(&backend->stream, &client->stream, &removed,
					   DEADLINE_NEVER) == want);
	CHECK(removed == want_removed);
	CHECK(backend->in_at == used);
	CHECK(client->out_len == expected_len && memcmp(client->out, expected, expected_len) == 0);
}

static void test_scram(struct memstream *client, struct memstream *backend)
{
	const unsigned char *in = client->in;
	size_t size = malformed(in, client->in_len) ? 0 : message_size(in, client->in_len);
	size_t used = size > 0 ? size : malformed(in, client->in_len) ? 5 : client->in_len;
	/* SASLInitialResponse: mechanism, length, gs2-header */
	bool misses = size > 23 && in[0] == 'p' &&
		      strncmp((const char *)in + 5, "SCRAM-SHA-256", 14) == 0 && in[23] == 'y';
	enum io_status result = IO_FAILED;

	CHECK(startup_relay_scram(&client->stream, &backend->stream, &result, DEADLINE_NEVER) ==
	      !misses);
	CHECK(client->in_at == used);
	CHECK(backend->out_len == (misses ? 0 : used) &&
	      memcmp(backend->out, in, backend->out_len) == 0);
	CHECK(misses || result == IO_DONE);
}

/* The value of a field of an ErrorResponse. */
static const char *field(const unsigned char *in, size_t size, char type)
{
	static char value[LONGEST];
	size_t at = 5;

	value[0] = '\0';
	while (at < size && in[at] != '\0' && in[at] != (unsigned char)type)
		at += strnlen((const char *)in + at, size - at) + 1;
	if (at < size && in[at] != '\0')
		snprintf(value, sizeof value, "%.*s", (int)(size - at - 1),
			 (const char *)in + at + 1);
	return value;
}

/* Either what PostgreSQL reads of our packet is what we mean, or there is no packet. */
static void check_question(const struct memstream *backend, const char *user, const char *database)
{
	static struct pg_port port;

	if (backend->out_len == 0) {
		CHECK(strlen(user) + strlen(database) > 900);
		return;
	}
	enum pg_reading reading = pg_read(&port, backend->out, backend->out_len, false, false);
	CHECK(reading == (user[0] == '\0' ? PG_NO_USER : PG_SESSION));
	CHECK(port.len == backend->out_len && strcmp(port.user_name, user) == 0);
	CHECK(user[0] == '\0' ||
	      same_text(port.database_name, database[0] != '\0' ? database : user));
}

static void test_question(struct memstream *backend, struct input *names)
{
	static char user[1024], database[1024];
	struct startup_reply r = {0};

	input_string(names, user, sizeof user);
	input_string(names, database, sizeof database);
	backend->in = names->at;
	backend->in_len = names->left;
	const unsigned char *in = backend->in;
	size_t size = malformed(in, names->left) ? 0 : message_size(in, names->left);
	char type = startup_ask(&r, &backend->stream, user, database, DEADLINE_NEVER);
	check_question(backend, user, database);
	if (backend->out_len == 0 || size == 0 || (in[0] == 'R' && size < 9)) {
		CHECK(type == 0);
		return;
	}
	CHECK(type == (char)in[0] && backend->in_at == size);
	if (type == 'R')
		CHECK(r.method == be32(in + 5));
	if (type != 'E')
		return;
	CHECK(strncmp(r.sqlstate, field(in, size, 'C'), sizeof r.sqlstate - 1) == 0);
	CHECK(strncmp(r.message, field(in, size, 'M'), sizeof r.message - 1) == 0);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static struct memstream from, to;

	if (size == 0 || size > sizeof expected)
		return 0;
	struct input in = {data + 1, size - 1};
	memstream_again(&from, in.at, in.left);
	memstream_again(&to, NULL, 0);
	from.chunk = data[0] >> 4;
	to.write_chunk = data[0] >> 4;
	from.stutter = to.stutter = (data[0] & 8) != 0 && size < 200; /* a pause is a call */
	expected_len = 0;
	switch (data[0] & 3) {
	case 0:
	case 1:
		test_authentication(&from, &to);
		break;
	case 2:
		test_scram(&from, &to);
		break;
	default:
		test_question(&from, &in);
	}
	return 0;
}
