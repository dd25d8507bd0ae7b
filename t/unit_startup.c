/* SPDX-License-Identifier: ISC
 *
 * t/unit_startup.c - PostgreSQL's packets before a session, from memory: each request in each
 * place, each packet cut at every byte, parameters as PostgreSQL reads them, the bytes of each
 * refusal.
 *
 * sabotage: wire/startup.c s/UNENCRYPTED, true, STARTUP_GSS/STARTUP_CLEAR | STARTUP_LOCAL, true, STARTUP_GSS/
 * sabotage: net/stream.c s/= read \&\& (s->verbs.*;/= false;/
 * sabotage: wire/startup.c s/if (at != last)/if (at > last)/
 */
#include "wire/startup.h"

#include <string.h>

#include "memstream.h"
#include "tap.h"

/* A string literal that may contain NULs, and its length. */
#define B(literal)   literal, sizeof(literal) - 1
#define COUNT(table) (sizeof(table) / sizeof *(table))
#define X4(s)        s s s s
#define X16(s)       X4(X4(s))
#define X64(s)       X4(X16(s))
#define CLEAR        STARTUP_CLEAR
#define NEGOTIATED   STARTUP_NEGOTIATED
#define DIRECT       STARTUP_DIRECT
#define LOCAL        STARTUP_LOCAL
#define EVERYWHERE   (CLEAR | NEGOTIATED | DIRECT | LOCAL)
#define BEHIND       "never read me"

static const enum startup_place places[] = {CLEAR, NEGOTIATED, DIRECT, LOCAL};
static const char *const place_names[] = {"in clear", "in negotiated TLS", "in direct TLS",
					  "locally"};

/* How the bytes arrive. */
static const struct packaging {
	const char *name;
	size_t chunk;
	bool stutter;
} packagings[] = {{"at once", 0, false}, {"bytewise", 1, false}, {"with pauses", 1, true}};

/* ---- the table of requests ---- */

static const struct row {
	const char *name, *bytes;
	size_t len;
	unsigned places; /* where it is `kind`; elsewhere it is refused with `why` */
	enum startup_kind kind;
	enum refusal why;
} rows[] = {
    {"SSLRequest", B("\0\0\0\x08\x04\xd2\x16\x2f"), CLEAR | DIRECT | LOCAL, STARTUP_SSL_REQUEST,
     REFUSE_REPEATED},
    {"GSSENCRequest", B("\0\0\0\x08\x04\xd2\x16\x30"), CLEAR | DIRECT | LOCAL, STARTUP_GSS_REQUEST,
     REFUSE_REPEATED},
    {"CancelRequest", B("\0\0\0\x10\x04\xd2\x16\x2e\0\0\1\2\xca\xfe\xba\xbe"), EVERYWHERE,
     STARTUP_CANCEL, 0},
    {"CancelRequest of protocol 3.2, longest key",
     B("\0\0\1\x0c\x04\xd2\x16\x2e\0\0\1\2" X64("\0xyz")), EVERYWHERE, STARTUP_CANCEL, 0},
    {"StartupMessage 3.0", B("\0\0\0\x14\0\3\0\0user\0alice\0\0"), NEGOTIATED | DIRECT | LOCAL,
     STARTUP_SESSION, REFUSE_NO_TLS},
    {"StartupMessage 3.2", B("\0\0\0\x14\0\3\0\2user\0alice\0\0"), NEGOTIATED | DIRECT | LOCAL,
     STARTUP_SESSION, REFUSE_NO_TLS},
    {"StartupMessage 3.65535", B("\0\0\0\x14\0\3\xff\xffuser\0alice\0\0"),
     NEGOTIATED | DIRECT | LOCAL, STARTUP_SESSION, REFUSE_NO_TLS},
    {"SSLRequest of 9 bytes", B("\0\0\0\x09\x04\xd2\x16\x2f\0"), 0, 0, REFUSE_LENGTH},
    {"GSSENCRequest of 12 bytes", B("\0\0\0\x0c\x04\xd2\x16\x30\0\0\0\0"), 0, 0, REFUSE_LENGTH},
    {"CancelRequest of 15 bytes", B("\0\0\0\x0f\x04\xd2\x16\x2e\0\0\1\2\xca\xfe\xba"), 0, 0,
     REFUSE_LENGTH},
    {"CancelRequest of 269 bytes", B("\0\0\1\x0d\x04\xd2\x16\x2e\0\0\1\2" X64("\0xyz") "!"), 0, 0,
     REFUSE_LENGTH},
    {"protocol 2.0", B("\0\0\1\x28\0\2\0\0"), 0, 0, REFUSE_VERSION_2},
    {"protocol 2.1", B("\0\0\1\x28\0\2\0\1"), 0, 0, REFUSE_VERSION},
    {"protocol 1.0", B("\0\0\0\x14\0\1\0\0user\0alice\0\0"), 0, 0, REFUSE_VERSION},
    {"protocol 4.0", B("\0\0\0\x14\0\4\0\0user\0alice\0\0"), 0, 0, REFUSE_VERSION},
    {"protocol 0.0", B("\0\0\0\x08\0\0\0\0"), 0, 0, REFUSE_VERSION},
    {"request code 5681", B("\0\0\0\x08\x04\xd2\x16\x31"), 0, 0, REFUSE_VERSION},
    {"length 0", B("\0\0\0\0\0\3\0\0"), 0, 0, REFUSE_LENGTH},
    {"length 4", B("\0\0\0\4\0\3\0\0"), 0, 0, REFUSE_LENGTH},
    {"length 7", B("\0\0\0\7\0\3\0\0"), 0, 0, REFUSE_LENGTH},
    {"length 10005", B("\0\0\x27\x15\0\3\0\0"), 0, 0, REFUSE_LENGTH},
    {"length 2147483647", B("\x7f\xff\xff\xff\0\3\0\0"), 0, 0, REFUSE_LENGTH},
    {"length 4294967295", B("\xff\xff\xff\xff\0\3\0\0"), 0, 0, REFUSE_LENGTH},
    {"an HTTP request", B("GET / HTTP/1.1\r\n\r\n"), 0, 0, REFUSE_LENGTH},
    {"an SSH client", B("SSH-2.0-OpenSSH_9.2\r\n"), 0, 0, REFUSE_LENGTH},
    {"a ClientHello that is not the first", B("\x16\3\1\2\0\1\0\1\xfc\3\3"), 0, 0, REFUSE_LENGTH},
};

/* Read one packet of `len` bytes, with other bytes after it. */
static void read_one(struct startup *st, struct memstream *m, const char *bytes, size_t len,
		     enum startup_place place, const struct packaging *how)
{
	static char all[STARTUP_MAX + 64];

	memcpy(all, bytes, len);
	memcpy(all + len, B(BEHIND));
	memset(st, 0, sizeof *st);
	memstream_init(m, all, len + sizeof BEHIND - 1);
	m->chunk = how->chunk;
	m->stutter = how->stutter;
	startup_read(st, &m->stream, place, false, deadline_in(60000));
	memstream_close(m);
}

static bool row_is_right(const struct row *row, enum startup_place place,
			 const struct packaging *how)
{
	static struct startup st;
	static struct memstream m;
	size_t behind = sizeof BEHIND - 1;

	read_one(&st, &m, row->bytes, row->len, place, how);
	if (m.out_len != 0)
		return false;
	if ((row->places & place) == 0)
		return st.kind == STARTUP_REFUSED && st.why == row->why &&
		       memstream_left(&m) >= behind;
	return st.kind == row->kind && st.len == row->len &&
	       memcmp(st.packet, row->bytes, row->len) == 0 && memstream_left(&m) == behind;
}

static void test_rows(void)
{
	for (size_t r = 0; r < COUNT(rows); r++) {
		for (size_t p = 0; p < COUNT(places); p++) {
			bool good = true;

			for (size_t k = 0; k < COUNT(packagings); k++)
				good &= row_is_right(&rows[r], places[p], &packagings[k]);
			ok(good, "%s %s: %s", rows[r].name, place_names[p],
			   (rows[r].places & places[p]) != 0 ? "accepted" : "refused");
		}
	}
}

static void test_version_detail(void)
{
	static struct startup st;
	static struct memstream m;

	read_one(&st, &m, B("\0\0\0\x08\0\4\0\7"), LOCAL, &packagings[0]);
	ok(strcmp(st.detail, "4.7") == 0, "a refused version is named");
	read_one(&st, &m, B("\0\0\0\x08\xff\xff\xff\xff"), LOCAL, &packagings[0]);
	ok(strcmp(st.detail, "65535.65535") == 0, "also the highest one");
}

/* ---- sequences of requests ---- */

#define SSL   "\0\0\0\x08\x04\xd2\x16\x2f"
#define GSS   "\0\0\0\x08\x04\xd2\x16\x30"
#define ALICE "\0\0\0\x14\0\3\0\0user\0alice\0\0"

static void test_sequence(const char *name, const char *bytes, size_t len, enum startup_place place,
			  const enum startup_kind *kinds, size_t n)
{
	static struct startup st;
	static struct memstream m;
	bool good = true;

	memset(&st, 0, sizeof st);
	memstream_init(&m, bytes, len);
	for (size_t i = 0; i < n; i++) {
		startup_read(&st, &m.stream, place, false, deadline_in(60000));
		good &=
		    st.kind == kinds[i] && (st.kind != STARTUP_REFUSED || st.why == REFUSE_AGAIN);
	}
	memstream_close(&m);
	ok(good && memstream_left(&m) == 0, "%s", name);
}

static void test_sequences(void)
{
	static const enum startup_kind gss_ssl[] = {STARTUP_GSS_REQUEST, STARTUP_SSL_REQUEST,
						    STARTUP_SESSION};
	static const enum startup_kind ssl_gss[] = {STARTUP_SSL_REQUEST, STARTUP_GSS_REQUEST,
						    STARTUP_SESSION};
	static const enum startup_kind ssl_twice[] = {STARTUP_SSL_REQUEST, STARTUP_REFUSED};
	static const enum startup_kind gss_twice[] = {STARTUP_GSS_REQUEST, STARTUP_SSL_REQUEST,
						      STARTUP_REFUSED};

	for (size_t p = 0; p < COUNT(places); p++) {
		if (places[p] == NEGOTIATED)
			continue;
		bool session = places[p] != CLEAR; /* refused there: no TLS */
		test_sequence("GSSENCRequest, SSLRequest, StartupMessage",
			      B(GSS SSL ALICE) - (session ? 0 : 20), places[p], gss_ssl,
			      session ? 3 : 2);
		test_sequence("SSLRequest, GSSENCRequest, StartupMessage",
			      B(SSL GSS ALICE) - (session ? 0 : 20), places[p], ssl_gss,
			      session ? 3 : 2);
		test_sequence("SSLRequest twice", B(SSL SSL), places[p], ssl_twice, 2);
		test_sequence("GSSENCRequest twice", B(GSS SSL GSS), places[p], gss_twice, 3);
	}
}

/* ---- incomplete packets ---- */

static void cut(const struct row *row, enum io_status after)
{
	static struct startup st;
	static struct memstream m;
	enum io_status want = after == IO_WANT_READ ? IO_TIMEOUT : after;
	bool good = true;

	for (size_t len = 0; len < row->len; len++) {
		enum startup_kind kind =
		    len == 0 && after != IO_WANT_READ ? STARTUP_NOTHING : STARTUP_BROKEN;

		memset(&st, 0, sizeof st);
		memstream_init(&m, row->bytes, len);
		m.after = after;
		startup_read(&st, &m.stream, LOCAL, false, deadline_in(0));
		memstream_close(&m);
		good &= st.kind == kind && st.io == want && startup_broken_text(&st)[0] != '\0';
	}
	ok(good, "%s, cut at every byte by %s", row->name,
	   after == IO_END      ? "an end"
	   : after == IO_FAILED ? "a reset"
				: "silence");
}

static void test_cuts(void)
{
	for (size_t r = 0; r < COUNT(rows) && (rows[r].places & LOCAL) != 0; r++) {
		cut(&rows[r], IO_END);
		cut(&rows[r], IO_FAILED);
		cut(&rows[r], IO_WANT_READ);
	}
}

/* ---- the first byte of a connection ---- */

static void test_first_byte(void)
{
	static struct startup st;
	static struct memstream m;

	memstream_init(&m, B("\x16\3\1\2\0\1"));
	startup_read(&st, &m.stream, CLEAR, true, deadline_in(60000));
	memstream_close(&m);
	ok(st.kind == STARTUP_DIRECT_TLS && st.packet[0] == 0x16 && memstream_left(&m) == 5,
	   "direct TLS: only its first byte is read");
	memset(&st, 0, sizeof st);
	memstream_init(&m, B(SSL));
	startup_read(&st, &m.stream, CLEAR, true, deadline_in(60000));
	memstream_close(&m);
	ok(st.kind == STARTUP_SSL_REQUEST, "an SSLRequest may come first");
}

/* ---- parameters ---- */

#define NAME63 X16("abc") "abcdefghijklmno"

static const struct parameters {
	const char *name, *body;
	size_t len;
	const char *user, *database, *application_name; /* user NULL: refused with `why` */
	bool twice, too_long;
	enum refusal why;
} parameters[] = {
    {"user alone: the database has the same name", B("user\0alice\0\0"), "alice", "alice", NULL,
     false, false, 0},
    {"all three", B("user\0alice\0database\0sales\0application_name\0psql\0\0"), "alice", "sales",
     "psql", false, false, 0},
    {"another order, other parameters",
     B("_pq_.x\0y\0database\0sales\0replication\0true\0user\0alice\0\0"), "alice", "sales", NULL,
     false, false, 0},
    {"an empty database is the user's", B("user\0alice\0database\0\0\0"), "alice", "alice", NULL,
     false, false, 0},
    {"an empty value of another parameter", B("options\0\0user\0alice\0\0"), "alice", "alice", NULL,
     false, false, 0},
    {"values that look like names", B("options\0user\0user\0database\0\0"), "database", "database",
     NULL, false, false, 0},
    {"any byte but NUL", B("user\0\xff\x01 \n\x7f\0\0"), "\xff\x01 \n\x7f", "\xff\x01 \n\x7f", NULL,
     false, false, 0},
    {"names are case-sensitive", B("User\0bob\0user\0alice\0DATABASE\0x\0\0"), "alice", "alice",
     NULL, false, false, 0},
    {"user twice: the last one wins", B("user\0bob\0user\0alice\0\0"), "alice", "alice", NULL, true,
     false, 0},
    {"user twice, the same", B("user\0alice\0user\0alice\0\0"), "alice", "alice", NULL, true, false,
     0},
    {"user twice, the first empty", B("user\0\0user\0alice\0\0"), "alice", "alice", NULL, true,
     false, 0},
    {"database twice", B("user\0alice\0database\0a\0database\0b\0\0"), "alice", "b", NULL, true,
     false, 0},
    {"application_name twice is not reported",
     B("user\0alice\0application_name\0a\0application_name\0b\0\0"), "alice", "alice", "b", false,
     false, 0},
    {"a user of 63 bytes", B("user\0" NAME63 "\0\0"), NAME63, NAME63, NULL, false, false, 0},
    {"a user of 64 bytes", B("user\0" NAME63 "p\0\0"), NAME63 "p", NAME63 "p", NULL, false, true,
     0},
    {"a database of 64 bytes", B("user\0alice\0database\0" NAME63 "p\0\0"), "alice", NAME63 "p",
     NULL, false, true, 0},
    {"a long user, then a short one", B("user\0" NAME63 "p\0user\0alice\0\0"), "alice", "alice",
     NULL, true, true, 0},
    {"a long application_name", B("user\0alice\0application_name\0" NAME63 "p\0\0"), "alice",
     "alice", NAME63 "p", false, false, 0},
    {"no parameter", B("\0"), NULL, NULL, NULL, false, false, REFUSE_NO_USER},
    {"no user", B("database\0sales\0\0"), NULL, NULL, NULL, false, false, REFUSE_NO_USER},
    {"an empty user", B("user\0\0database\0sales\0\0"), NULL, NULL, NULL, false, false,
     REFUSE_NO_USER},
    {"user twice, the last empty", B("user\0alice\0user\0\0\0"), NULL, NULL, NULL, true, false,
     REFUSE_NO_USER},
    {"nothing after the version", B(""), NULL, NULL, NULL, false, false, REFUSE_LAYOUT},
    {"the last NUL is missing", B("user\0alice\0"), NULL, NULL, NULL, false, false, REFUSE_LAYOUT},
    {"both last NULs are missing", B("user\0alice"), NULL, NULL, NULL, false, false, REFUSE_LAYOUT},
    {"a name without a value", B("user\0"), NULL, NULL, NULL, false, false, REFUSE_LAYOUT},
    {"a name without its NUL", B("user"), NULL, NULL, NULL, false, false, REFUSE_LAYOUT},
    {"an empty value instead of the last NUL", B("user\0\0"), NULL, NULL, NULL, false, false,
     REFUSE_LAYOUT},
    {"a value missing at the end", B("user\0alice\0database\0"), NULL, NULL, NULL, false, false,
     REFUSE_LAYOUT},
    {"a NUL after the last", B("user\0alice\0\0\0"), NULL, NULL, NULL, false, false, REFUSE_LAYOUT},
    {"a parameter after the last NUL", B("user\0alice\0\0user\0bob\0\0"), NULL, NULL, NULL, false,
     false, REFUSE_LAYOUT},
};

static bool same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Build a StartupMessage with this body; return its length. */
static size_t build(char *packet, const char *body, size_t len)
{
	size_t size = 8 + len;
	char head[8] = {0, 0, (char)(size >> 8), (char)size, 0, 3, 0, 0};

	memcpy(packet, head, sizeof head);
	memcpy(packet + sizeof head, body, len);
	return size;
}

static void test_parameters(void)
{
	static struct startup st;
	static struct memstream m;
	char packet[512];

	for (size_t i = 0; i < COUNT(parameters); i++) {
		const struct parameters *row = &parameters[i];
		size_t len = build(packet, row->body, row->len);

		read_one(&st, &m, packet, len, NEGOTIATED, &packagings[0]);
		bool good = row->user == NULL
				? st.kind == STARTUP_REFUSED && st.why == row->why
				: st.kind == STARTUP_SESSION && same(st.user, row->user) &&
				      same(st.database, row->database) &&
				      same(st.application_name, row->application_name) &&
				      st.user_twice == row->twice &&
				      st.name_too_long == row->too_long;
		if (!ok(good && memcmp(st.packet, packet, len) == 0, "%s", row->name))
			note("kind %d, why %d, user %s", st.kind, st.why, st.user);
	}
}

static void test_longest(void)
{
	static char packet[STARTUP_MAX], body[STARTUP_MAX - 8];
	static struct startup st;
	static struct memstream m;

	memset(body, 'x', sizeof body);
	memcpy(body, B("user\0alice\0y\0"));
	body[sizeof body - 1] = body[sizeof body - 2] = '\0';
	size_t len = build(packet, body, sizeof body);
	read_one(&st, &m, packet, len, NEGOTIATED, &packagings[1]);
	ok(len == 10004 && st.kind == STARTUP_SESSION && same(st.user, "alice") &&
	       memstream_left(&m) == sizeof BEHIND - 1,
	   "the longest packet, 10004 bytes");
	memset(body, 'x', sizeof body);
	read_one(&st, &m, packet, build(packet, body, sizeof body), NEGOTIATED, &packagings[0]);
	ok(st.kind == STARTUP_REFUSED && st.why == REFUSE_LAYOUT,
	   "the longest packet without a NUL");
}

/* The state of one packet must not affect the next. */
static void test_state(void)
{
	static struct startup st;
	static struct memstream m;
	static const char bytes[] = "\0\0\0\x1f\0\3\0\0user\0alice\0user\0bob\0\0.." ALICE;

	memstream_init(&m, bytes, sizeof bytes - 1);
	startup_read(&st, &m.stream, DIRECT, false, deadline_in(60000));
	bool refused = st.kind == STARTUP_REFUSED;
	startup_read(&st, &m.stream, DIRECT, false, deadline_in(60000));
	memstream_close(&m);
	ok(refused && st.kind == STARTUP_SESSION && same(st.user, "alice") && !st.user_twice,
	   "nothing is left of the previous packet");
}

/* ---- refusals ---- */

#define FATAL(state, message) "SFATAL\0VFATAL\0C" state "\0M" message "\0"

static const struct told {
	enum refusal why;
	const char *detail, *body;
	size_t len;
} told[] = {
    {REFUSE_NO_TLS, NULL,
     B(FATAL("28000", "this port accepts only TLS connections") "HUse sslmode=require or stronger. "
								"If another error "
								"is shown above this one, that is "
								"the cause: with sslmode=prefer, "
								"the default, libpq then tries "
								"without TLS.\0\0")},
    {REFUSE_REPEATED, NULL,
     B(FATAL("0A000", "encryption has already been negotiated on this connection") "\0")},
    {REFUSE_AGAIN, "GSSAPI",
     B(FATAL("0A000", "GSSAPI encryption has already been refused on this connection") "\0")},
    {REFUSE_VERSION, "4.7",
     B(FATAL("0A000", "unsupported frontend protocol 4.7: server supports 3.0 and later") "\0")},
    {REFUSE_LENGTH, NULL,
     B(FATAL("08P01",
	     "invalid length of startup packet") "HThis port is for PostgreSQL clients.\0\0")},
    {REFUSE_LAYOUT, NULL,
     B(FATAL("08P01", "invalid startup packet layout: expected terminator as last byte") "\0")},
    {REFUSE_NO_USER, NULL,
     B(FATAL("28000", "no PostgreSQL user name specified in startup packet") "\0")},
    {REFUSE_NO_CERTIFICATE, NULL,
     B(FATAL("28000", "connection requires a valid client certificate") "\0")},
    {REFUSE_CERTIFICATE, "al%sice",
     B(FATAL("28000", "certificate authentication failed for user \"al%sice\"") "\0")},
    {REFUSE_BACKEND, "db:1: no",
     B(FATAL("57P03", "could not connect to PostgreSQL at db:1: no") "\0")},
    {REFUSE_BACKEND_TLS, "db:1: no",
     B(FATAL("08006", "could not establish a TLS connection to PostgreSQL at db:1: no") "\0")},
};

static void test_refusals(void)
{
	static struct memstream m;

	for (size_t i = 0; i < COUNT(told); i++) {
		const struct told *row = &told[i];
		size_t size = row->len + 4;
		unsigned char head[5] = {'E', 0, 0, (unsigned char)(size >> 8),
					 (unsigned char)size};

		memstream_init(&m, "", 0);
		m.write_chunk = 7;
		m.stutter = true;
		bool sent =
		    startup_refuse(&m.stream, row->why, row->detail, deadline_in(60000)) == IO_DONE;
		memstream_close(&m);
		ok(sent && m.out_len == size + 1 && memcmp(m.out, head, 5) == 0 &&
		       memcmp(m.out + 5, row->body, row->len) == 0,
		   "ErrorResponse: %s", row->body + sizeof "SFATAL\0VFATAL\0C00000\0M" - 1);
	}
}

static void test_odd_refusals(void)
{
	static struct memstream m;
	static char detail[4000];
	static const char old[] =
	    "Eunsupported frontend protocol 2.0: server supports 3.0 and later";

	memstream_init(&m, "", 0);
	ok(startup_refuse(&m.stream, REFUSE_VERSION_2, NULL, deadline_in(60000)) == IO_DONE &&
	       m.out_len == sizeof old && memcmp(m.out, old, sizeof old) == 0,
	   "protocol 2.0 gets the old form: E, text, NUL");
	memstream_close(&m);

	memset(detail, 'd', sizeof detail - 1);
	memstream_init(&m, "", 0);
	bool sent =
	    startup_refuse(&m.stream, REFUSE_BACKEND, detail, deadline_in(60000)) == IO_DONE;
	memstream_close(&m);
	ok(sent && m.out_len < 2048 && m.out[m.out_len - 1] == 0 && m.out[m.out_len - 2] == 0 &&
	       ((size_t)m.out[3] << 8 | m.out[4]) == m.out_len - 1,
	   "a long detail is cut, and the message is complete");

	memstream_init(&m, "", 0);
	m.out_room = 10;
	m.out_after = IO_FAILED;
	ok(startup_refuse(&m.stream, REFUSE_LENGTH, NULL, deadline_in(60000)) == IO_FAILED,
	   "the client has closed the connection");
	m.out_after = IO_WANT_WRITE;
	ok(startup_refuse(&m.stream, REFUSE_LENGTH, NULL, deadline_in(0)) == IO_TIMEOUT,
	   "the client does not read");
	memstream_close(&m);
}

static void test_answer(void)
{
	static struct memstream m;

	memstream_init(&m, "", 0);
	ok(startup_answer(&m.stream, 'N', deadline_in(60000)) == IO_DONE && m.out_len == 1 &&
	       m.out[0] == 'N',
	   "an answer is exactly one byte");
	memstream_close(&m);
}

/* TLS holds bytes that the peer needs before it answers. */
static enum io_status read_once_sent(struct stream *s, void *buf, size_t size, size_t *got)
{
	if (((struct memstream *)s)->unsent > 0)
		return IO_WANT_READ;
	return memstream_read(s, buf, size, got);
}

static void test_unsent(void)
{
	static const struct stream_verbs verbs = {read_once_sent, memstream_write,
						  memstream_pending, memstream_shut};
	static struct memstream m;
	char buf[6];
	size_t got;

	memstream_init(&m, "answer", sizeof buf);
	m.stream.verbs = &verbs;
	m.unsent = 1;
	ok(stream_read_exactly(&m.stream, buf, sizeof buf, &got, deadline_in(1000)) == IO_DONE,
	   "who waits for an answer sends what is still buffered");
	memstream_close(&m);
}

int main(void)
{
	test_unsent();
	test_rows();
	test_version_detail();
	test_sequences();
	test_cuts();
	test_first_byte();
	test_parameters();
	test_longest();
	test_state();
	test_refusals();
	test_odd_refusals();
	test_answer();
	return done_testing();
}
