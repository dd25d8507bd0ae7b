/* SPDX-License-Identifier: ISC
 *
 * t/unit_relay.c - client mode removes SCRAM-SHA-256-PLUS from the backend's first messages, and
 * changes nothing else. It refuses a client that misses it, since the backend would.
 *
 * sabotage: wire/startup.c s/SCRAM "-PLUS";/"SCRAM-SHA-512-PLUS";/
 * sabotage: wire/startup.c s/m\[flag\] == 'y'/m[flag] == 'z'/
 * sabotage: wire/startup.c s/while (whole \&\& /while (/
 */
#include "wire/startup.h"

#include <string.h>

#include "memstream.h"
#include "tap.h"

/* A string literal that may contain NULs, and its length. */
#define B(literal)   literal, sizeof(literal) - 1
#define COUNT(table) (sizeof(table) / sizeof *(table))

/* How the bytes arrive. */
static const struct packaging {
	const char *name;
	size_t chunk;
	bool stutter;
} packagings[] = {{"at once", 0, false}, {"bytewise", 1, false}, {"with pauses", 1, true}};

#define SASL      "\0\0\0\x0a"
#define PLUS      "SCRAM-SHA-256-PLUS\0"
#define SCRAM     "SCRAM-SHA-256\0"
#define UNTOUCHED NULL, 0

/* A message, and the body that the client gets. */
static const struct relayed {
	const char *name;
	char type;
	const char *body;
	size_t len;
	const char *want;
	size_t want_len;
} relayed[] = {
    {"PLUS first, as PostgreSQL sends it", 'R', B(SASL PLUS SCRAM "\0"), B(SASL SCRAM "\0")},
    {"PLUS last", 'R', B(SASL SCRAM PLUS "\0"), B(SASL SCRAM "\0")},
    {"PLUS in the middle", 'R', B(SASL "OAUTHBEARER\0" PLUS SCRAM "\0"),
     B(SASL "OAUTHBEARER\0" SCRAM "\0")},
    {"PLUS alone", 'R', B(SASL PLUS "\0"), B(SASL "\0")},
    {"PLUS twice", 'R', B(SASL PLUS PLUS SCRAM "\0"), B(SASL SCRAM "\0")},
    {"PLUS at both ends", 'R', B(SASL PLUS SCRAM PLUS "\0"), B(SASL SCRAM "\0")},
    {"no PLUS", 'R', B(SASL SCRAM "\0"), UNTOUCHED},
    {"longer names", 'R', B(SASL "SCRAM-SHA-256-PLUSX\0XSCRAM-SHA-256-PLUS\0\0"), UNTOUCHED},
    {"a shorter name, another hash", 'R', B(SASL "SCRAM-SHA-256-PLU\0SCRAM-SHA-512-PLUS\0\0"),
     UNTOUCHED},
    {"names are case-sensitive", 'R', B(SASL "scram-sha-256-plus\0\0"), UNTOUCHED},
    {"PLUS after the end of the list", 'R', B(SASL SCRAM "\0" PLUS), UNTOUCHED},
    {"PLUS without its NUL", 'R', B(SASL "SCRAM-SHA-256-PLUS"), UNTOUCHED},
    {"an empty list", 'R', B(SASL "\0"), UNTOUCHED},
    {"no list", 'R', B(SASL), UNTOUCHED},
    {"AuthenticationOk", 'R', B("\0\0\0\0"), UNTOUCHED},
    {"AuthenticationCleartextPassword", 'R', B("\0\0\0\3"), UNTOUCHED},
    {"AuthenticationMD5Password", 'R', B("\0\0\0\5salt"), UNTOUCHED},
    {"AuthenticationGSS", 'R', B("\0\0\0\7"), UNTOUCHED},
    {"AuthenticationSASLContinue that contains the name", 'R', B("\0\0\0\x0b" PLUS "\0"),
     UNTOUCHED},
    {"another type with the same body", 'S', B(SASL PLUS SCRAM "\0"), UNTOUCHED},
    {"an authentication message that is too short", 'R', B("\0\0"), UNTOUCHED},
    {"ErrorResponse", 'E', B("SFATAL\0C28P01\0Mno\0\0"), UNTOUCHED},
};

static size_t message(unsigned char *at, char type, const char *body, size_t len)
{
	size_t size = len + 4;
	unsigned char head[5] = {(unsigned char)type, 0, (unsigned char)(size >> 16),
				 (unsigned char)(size >> 8), (unsigned char)size};

	memcpy(at, head, 5);
	memcpy(at + 5, body, len);
	return len + 5;
}

/* Relay `len` bytes of the backend. Does the client get `want`, and are `left` bytes not read? */
static bool relays(const unsigned char *in, size_t len, const unsigned char *want, size_t want_len,
		   size_t left, enum io_status result, enum io_status after,
		   const struct packaging *how)
{
	static struct memstream backend, client;

	memstream_init(&backend, in, len);
	memstream_init(&client, "", 0);
	backend.chunk = client.write_chunk = how->chunk;
	backend.stutter = client.stutter = how->stutter;
	backend.after = after;
	bool removed;
	enum io_status io =
	    startup_relay_authentication(&backend.stream, &client.stream, &removed,
					 deadline_in(after == IO_WANT_READ ? 0 : 60000));
	memstream_close(&backend);
	memstream_close(&client);
	bool good = io == result && memstream_left(&backend) == left &&
		    client.out_len == want_len && memcmp(client.out, want, want_len) == 0 &&
		    !client.shut && backend.out_len == 0;
	if (!good)
		note("result %d, %zu bytes of %zu wanted, %zu of %zu left", io, client.out_len,
		     want_len, memstream_left(&backend), left);
	return good;
}

static bool relays_row(const struct relayed *row, size_t k)
{
	static const char notice[] = "SNOTICE\0MSCRAM-SHA-256-PLUS\0\0",
			  version[] = "\0\3\0\2\0\0\0\1_pq_.x\0";
	static unsigned char in[1024], want[1024];
	size_t in_len = 0, want_len = 0;

	if (k == 1) { /* with the messages that may precede it */
		in_len = message(in, 'N', notice, sizeof notice - 1);
		in_len += message(in + in_len, 'v', version, sizeof version - 1);
		in_len += message(in + in_len, 'N', "", 0);
		memcpy(want, in, in_len);
		want_len = in_len;
	}
	in_len += message(in + in_len, row->type, row->body, row->len);
	want_len += message(want + want_len, row->type, row->want != NULL ? row->want : row->body,
			    row->want != NULL ? row->want_len : row->len);
	size_t behind = message(in + in_len, 'R', SASL PLUS "\0", 24); /* not to be read */
	return relays(in, in_len + behind, want, want_len, behind, IO_DONE, IO_END, &packagings[k]);
}

static void test_relay(void)
{
	for (size_t i = 0; i < COUNT(relayed); i++) {
		bool good = true;

		for (size_t k = 0; k < COUNT(packagings); k++)
			good &= relays_row(&relayed[i], k);
		ok(good, "relayed: %s", relayed[i].name);
	}
}

/* An incomplete message is not forwarded, so that the client can still be sent an error. */
static void test_relay_cuts(void)
{
	static const enum io_status afters[] = {IO_END, IO_FAILED, IO_WANT_READ},
				    results[] = {IO_END, IO_FAILED, IO_TIMEOUT};
	unsigned char in[128];
	size_t notice = message(in, 'N', "SNOTICE\0\0", 9);
	size_t all = notice + message(in + notice, 'R', SASL PLUS SCRAM "\0", 38);

	for (size_t a = 0; a < COUNT(afters); a++) {
		bool good = true;

		for (size_t len = 0; len < all; len++)
			good &= relays(in, len, in, len < notice ? 0 : notice, 0, results[a],
				       afters[a], &packagings[0]);
		ok(good, "relayed: cut at every byte, result %d", results[a]);
	}
}

static void test_relay_sizes(void)
{
	static unsigned char in[10000];
	static char body[9000];
	const struct packaging *at_once = &packagings[0];

	memcpy(body, SASL PLUS, 23);
	memset(body + 23, 'x', sizeof body - 23);
	size_t len = message(in, 'E', body, 8192 - 5);
	ok(relays(in, len + 3, in, len, 3, IO_DONE, IO_END, at_once),
	   "relayed: the longest message that is examined");
	len = message(in, 'R', body, 8192 - 4);
	ok(relays(in, len, in, 5, len - 5, IO_DONE, IO_END, at_once),
	   "relayed: only the head of a longer message");
	len = message(in, 'N', body, 8192 - 4);
	message(in + 5, 'R', SASL PLUS SCRAM "\0",
		38); /* text of a notice that looks like a message */
	ok(relays(in, len, in, 5, len - 5, IO_DONE, IO_END, at_once),
	   "relayed: nothing after the head of a long notice");
	memcpy(in, "R\0\0\0\3abcdefgh", 13);
	ok(relays(in, 13, in, 5, 8, IO_DONE, IO_END, at_once), "relayed: an impossible length");
	memcpy(in, "N\xff\xff\xff\xff", 5);
	ok(relays(in, 13, in, 5, 8, IO_DONE, IO_END, at_once), "relayed: the maximum length");
}

static void test_client_gone(void)
{
	static struct memstream backend, client;
	unsigned char in[64];
	bool removed;
	size_t len = message(in, 'R', SASL PLUS SCRAM "\0", 38);

	memstream_init(&client, "", 0);
	client.out_room = 4;
	client.out_after = IO_FAILED;
	memstream_init(&backend, in, len);
	ok(startup_relay_authentication(&backend.stream, &client.stream, &removed,
					deadline_in(60000)) == IO_DONE,
	   "relayed: a write to a vanished client is left to the relay");
	memstream_close(&backend);
	memstream_init(&backend, in, len);
	client.out_after = IO_WANT_WRITE;
	ok(startup_relay_authentication(&backend.stream, &client.stream, &removed,
					deadline_in(0)) == IO_TIMEOUT,
	   "relayed: a client that does not read");
	memstream_close(&backend);
	memstream_close(&client);
}

/* The client's answer to AuthenticationSASL: forwarded unless it misses channel binding. */
static const struct answer {
	const char *name, *body;
	size_t len;
	bool refused;
} answers[] = {
    {"y: refused", B("SCRAM-SHA-256\0\0\0\0\x0by,,n=,r=abc"), true},
    {"y and an authorization identity: refused", B("SCRAM-SHA-256\0\0\0\0\x0ey,a=x,n=,r=abc"),
     true},
    {"n: no channel binding", B("SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc"), false},
    {"p: a mechanism that was not offered",
     B("SCRAM-SHA-256-PLUS\0\0\0\0\x18p=tls-server-end-point,,"), false},
    {"another mechanism", B("OAUTHBEARER\0\0\0\0\1\0\0y,,"), false},
    {"no response", B("SCRAM-SHA-256\0\xff\xff\xff\xff"), false},
    {"a password", B("yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\0"), false},
    {"nothing", B(""), false},
};

static bool relays_answer(const struct answer *row, const struct packaging *how)
{
	static struct memstream backend, client;
	unsigned char in[128];
	size_t len = message(in, 'p', row->body, row->len);
	size_t want = row->refused ? 0 : len;
	enum io_status io = IO_DONE;

	memcpy(in + len, "behind", 6); /* not to be read */
	memstream_init(&client, in, len + 6);
	memstream_init(&backend, "", 0);
	client.chunk = backend.write_chunk = how->chunk;
	client.stutter = backend.stutter = how->stutter;
	bool forwarded =
	    startup_relay_scram(&client.stream, &backend.stream, &io, deadline_in(60000));
	memstream_close(&client);
	memstream_close(&backend);
	return forwarded == !row->refused && io == IO_DONE && memstream_left(&client) == 6 &&
	       backend.out_len == want && memcmp(backend.out, in, want) == 0;
}

static void test_answers(void)
{
	for (size_t i = 0; i < COUNT(answers); i++) {
		bool good = true;

		for (size_t k = 0; k < COUNT(packagings); k++)
			good &= relays_answer(&answers[i], &packagings[k]);
		ok(good, "the client's answer: %s", answers[i].name);
	}
}

/* What came of an answer is forwarded, since the relay continues behind it. */
static void test_answer_cuts(void)
{
	static const enum io_status afters[] = {IO_END, IO_FAILED, IO_WANT_READ};
	static struct memstream backend, client;
	unsigned char in[128];
	size_t all = message(in, 'p', answers[0].body, answers[0].len);

	for (size_t a = 0; a < COUNT(afters); a++) {
		bool good = true;

		for (size_t len = 0; len < all; len++) {
			enum io_status io = IO_TIMEOUT;

			memstream_init(&client, in, len);
			memstream_init(&backend, "", 0);
			client.after = afters[a];
			good &= startup_relay_scram(&client.stream, &backend.stream, &io,
						    deadline_in(a == 2 ? 0 : 60000)) &&
				io == IO_DONE && backend.out_len == len &&
				memcmp(backend.out, in, len) == 0;
			memstream_close(&client);
			memstream_close(&backend);
		}
		ok(good, "the client's answer: cut at every byte, %d", afters[a]);
	}
}

int main(void)
{
	test_answers();
	test_answer_cuts();
	test_relay();
	test_relay_cuts();
	test_relay_sizes();
	test_client_gone();
	return done_testing();
}
