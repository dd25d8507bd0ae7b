/* SPDX-License-Identifier: ISC
 *
 * t/fuzz/startup.c - fuzz target: the packets before a session, in each place, against
 * PostgreSQL's reading (postgres.h).
 *
 * The input's first byte is the place and how the bytes arrive; the rest are the client's bytes,
 * one packet after another. After an SSLRequest in clear the place is within TLS.
 *
 * sabotage: s/if (at != last)/if (at > last)/ wire/startup.c
 * sabotage: s/(len < 8 ||/(len < 7 ||/ wire/startup.c
 * sabotage: s/len > r->max)/len > r->max + 1)/ wire/startup.c
 * sabotage: s/(r->once .. /(false \&\& / wire/startup.c
 * sabotage: s/st->user_twice |= .*;/;/ wire/startup.c
 * sabotage: s/st->database = st->user;/st->database = NULL;/ wire/startup.c
 * sabotage: s/read_packet(st, s, 8, when)/read_packet(st, s, 9, when)/ wire/startup.c
 */
#include "wire/startup.h"

#include "memstream.h"
#include "postgres.h"

static struct pg_port port;

/* What the place and the packets before say. */
struct where {
	enum startup_place place;
	bool first;
	bool ssl_done, gss_done; /* ProcessStartupPacket's arguments */
	bool ssl_seen, gss_seen;
};

static void check_request(const struct startup *st, enum startup_kind kind, bool seen)
{
	if (port.len != 8) /* PostgreSQL ignores the rest */
		CHECK(st->kind == STARTUP_REFUSED && st->why == REFUSE_LENGTH);
	else if (seen) /* PostgreSQL lets a client ask for the two in turn without end */
		CHECK(st->kind == STARTUP_REFUSED && st->why == REFUSE_AGAIN);
	else
		CHECK(st->kind == kind);
}

static void check_version(const struct startup *st, const struct where *w)
{
	bool request = port.proto == 80877103 || port.proto == 80877104;

	CHECK(st->kind == STARTUP_REFUSED);
	CHECK(st->why == (port.proto == 2 << 16            ? REFUSE_VERSION_2
			  : !request                       ? REFUSE_VERSION
			  : port.len != 8                  ? REFUSE_LENGTH
			  : w->place == STARTUP_NEGOTIATED ? REFUSE_REPEATED
							   : REFUSE_AGAIN));
}

static void check_session(const struct startup *st)
{
	CHECK(st->kind == STARTUP_SESSION);
	CHECK(same_text(st->user, port.user_name));
	CHECK(same_text(st->database, port.database_name));
	CHECK(same_text(st->application_name, port.application_name));
	CHECK(st->user_twice == (port.users > 1 || port.databases > 1));
	CHECK(st->name_too_long == port.long_name);
}

static void check_packet(const struct startup *st, const struct where *w, enum pg_reading reading)
{
	switch (reading) {
	case PG_GONE:
		CHECK(st->kind == STARTUP_NOTHING);
		break;
	case PG_INCOMPLETE: /* the first eight bytes are enough to refuse a packet */
		CHECK(st->kind == STARTUP_BROKEN ? st->io == IO_END
						 : st->kind == STARTUP_REFUSED && st->len == 8);
		break;
	case PG_LENGTH:
		CHECK(st->kind == STARTUP_REFUSED && st->why == REFUSE_LENGTH);
		break;
	case PG_CANCEL: /* a key has at least 4 bytes (protocol 3.0) */
		CHECK(port.len < 16 ? st->kind == STARTUP_REFUSED && st->why == REFUSE_LENGTH
				    : st->kind == STARTUP_CANCEL);
		break;
	case PG_SSL:
		check_request(st, STARTUP_SSL_REQUEST, w->ssl_seen);
		break;
	case PG_GSS:
		check_request(st, STARTUP_GSS_REQUEST, w->gss_seen);
		break;
	case PG_VERSION:
		check_version(st, w);
		break;
	case PG_LAYOUT:
	case PG_NO_USER:
	case PG_SESSION:
		if (w->place == STARTUP_CLEAR)
			CHECK(st->kind == STARTUP_REFUSED && st->why == REFUSE_NO_TLS);
		else if (reading == PG_SESSION)
			check_session(st);
		else
			CHECK(st->kind == STARTUP_REFUSED &&
			      st->why == (reading == PG_LAYOUT ? REFUSE_LAYOUT : REFUSE_NO_USER));
		break;
	}
}

/* Never a byte after the packet, and all of a packet that is accepted, unchanged. */
static void check_bytes(const struct startup *st, const unsigned char *in, size_t used)
{
	bool accepted = st->kind == STARTUP_SESSION || st->kind == STARTUP_CANCEL ||
			st->kind == STARTUP_SSL_REQUEST || st->kind == STARTUP_GSS_REQUEST;

	CHECK(used == st->len && memcmp(st->packet, in, used) == 0);
	CHECK(accepted ? used == port.len : used <= (port.len == 0 ? 4 : port.len));
}

/* What libpq makes of an ErrorResponse: its length, and strings up to an empty one. */
static void check_refusal(struct memstream *m, enum refusal why, const char *detail)
{
	m->out_len = 0;
	CHECK(startup_refuse(&m->stream, why, detail, DEADLINE_NEVER) == IO_DONE);
	size_t at = 5, fields = 0;
	CHECK(m->out_len > at && m->out[0] == 'E' && m->out[m->out_len - 1] == '\0');
	if (why == REFUSE_VERSION_2) {
		CHECK(strlen((const char *)m->out) + 1 == m->out_len);
		return;
	}
	CHECK(be32(m->out + 1) == m->out_len - 1);
	for (; at < m->out_len && m->out[at] != '\0'; fields++)
		at += strlen((const char *)m->out + at) + 1;
	CHECK(at == m->out_len - 1 && fields >= 4 && fields <= 5);
}

/* Answer as sessions do, and go on in the place where the client is then. */
static bool answer(struct startup *st, struct where *w, struct memstream *m)
{
	w->first = false;
	if (st->kind == STARTUP_SSL_REQUEST) {
		bool yes = w->place == STARTUP_CLEAR;
		w->ssl_seen = w->ssl_done = true;
		w->gss_done = yes;
		w->place = yes ? STARTUP_NEGOTIATED : w->place;
		return true;
	}
	if (st->kind == STARTUP_GSS_REQUEST) {
		w->gss_seen = w->gss_done = true;
		w->ssl_done = false;
		return true;
	}
	if (st->kind == STARTUP_REFUSED)
		check_refusal(m, st->why, st->detail);
	if (st->kind == STARTUP_SESSION)
		check_refusal(m, REFUSE_CERTIFICATE, st->user);
	return false;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static struct memstream m;
	static struct startup st;

	if (size == 0)
		return 0;
	struct where w = {.place = 1u << (data[0] & 3), .first = data[0] & 4};
	w.ssl_done = w.gss_done = w.place == STARTUP_NEGOTIATED;
	memstream_again(&m, data + 1, size - 1);
	m.stutter = (data[0] & 8) != 0 && size < 200; /* a pause is a call */
	m.chunk = data[0] >> 4;
	st.seen = 0;
	st.detail[0] = '\0';
	do {
		const unsigned char *in = m.in + m.in_at;
		size_t left = memstream_left(&m);
		startup_read(&st, &m.stream, w.place, w.first, DEADLINE_NEVER);
		enum pg_reading reading = pg_read(&port, in, left, w.ssl_done, w.gss_done);
		if (w.first && left > 0 && in[0] == 0x16) { /* ProcessSSLStartup() */
			CHECK(st.kind == STARTUP_DIRECT_TLS && m.in_at == 1);
			return 0;
		}
		check_packet(&st, &w, reading);
		check_bytes(&st, in, left - memstream_left(&m));
	} while (answer(&st, &w, &m));
	return 0;
}
