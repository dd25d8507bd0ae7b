/* SPDX-License-Identifier: ISC
 *
 * wire/startup.h - PostgreSQL's packets before a session: read, classify, check, answer.
 *
 * See "Frontend/Backend Protocol" in PostgreSQL's manual: Start-up, Canceling Requests in Progress,
 * SSL Session Encryption, GSSAPI Session Encryption. Never reads a byte after the current packet:
 * bytes sent in clear behind an SSLRequest must never be taken for bytes received under TLS
 * (CVE-2021-23222).
 */
#ifndef PGSSL_WIRE_STARTUP_H
#define PGSSL_WIRE_STARTUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"
#include "net/stream.h"

#define STARTUP_MAX          10004 /* PostgreSQL's MAX_STARTUP_PACKET_LENGTH, and the length */
#define STARTUP_NAME_MAX     63    /* NAMEDATALEN - 1: PostgreSQL cuts longer names */
#define STARTUP_REQUEST_SIZE 8     /* SSLRequest and GSSENCRequest */

extern const unsigned char startup_ssl_request[STARTUP_REQUEST_SIZE];
extern const unsigned char startup_gss_request[STARTUP_REQUEST_SIZE];

/* Where a packet is read decides what is allowed. */
enum startup_place {
	STARTUP_CLEAR = 1,      /* outside TLS */
	STARTUP_NEGOTIATED = 2, /* inside TLS that began with SSLRequest */
	STARTUP_DIRECT = 4,     /* inside direct TLS */
	STARTUP_LOCAL = 8,      /* client mode: from a local client, which needs no encryption */
};

enum startup_kind {
	STARTUP_NOTHING,     /* the client left, or its stream failed, before the first byte */
	STARTUP_DIRECT_TLS,  /* packet[0] is the first byte of TLS: put it back */
	STARTUP_SSL_REQUEST, /* answer with startup_answer */
	STARTUP_GSS_REQUEST,
	STARTUP_CANCEL,
	STARTUP_SESSION, /* StartupMessage of version 3 */
	STARTUP_REFUSED, /* for the reason in `why` */
	STARTUP_BROKEN,  /* the stream failed or ended inside a packet, see `io` */
};

/* The errors that a client can get before its session. */
enum refusal {
	REFUSE_NONE,
	REFUSE_NO_TLS,
	REFUSE_REPEATED, /* TLS or GSSAPI is there already */
	REFUSE_AGAIN,    /* the first such request was answered N */
	REFUSE_VERSION,
	REFUSE_VERSION_2,
	REFUSE_LENGTH,
	REFUSE_LAYOUT,
	REFUSE_NO_USER,
	REFUSE_NO_CERTIFICATE,
	REFUSE_CERTIFICATE,
	REFUSE_BACKEND,
	REFUSE_BACKEND_TLS,
	REFUSE_CHANNEL_BINDING,
	REFUSE_TOO_MANY,
	REFUSE_TOO_MANY_OF_SOURCE,
};

/* One packet. */
struct startup {
	enum startup_kind kind;
	enum refusal why;
	enum io_status io;
	unsigned seen;   /* requests so far: each is allowed once per connection */
	char detail[64]; /* for startup_refuse */
	size_t len;
	unsigned char packet[STARTUP_MAX + 1];
	/* Of a STARTUP_SESSION; inside `packet`. As in PostgreSQL, the last value counts. */
	const char *user, *database, *application_name;
	bool user_twice;    /* user or database was given more than once */
	bool name_too_long; /* user or database has more than STARTUP_NAME_MAX bytes */
};

/*
 * Read the next packet, blocking until `when` at most. `first` is true for the first bytes of a
 * connection: only there does 0x16 mean direct TLS. The result is in st->kind. `st` must be zeroed
 * before the first call.
 */
void startup_read(struct startup *st, struct stream *s, enum startup_place place, bool first,
		  deadline when);

/*
 * --application-name-host: append " - HOST:PORT" (" - [HOST]:PORT" for IPv6, " - HOST" without a
 * port) to the application_name of a STARTUP_SESSION, "app" if it has none. The name is cut between
 * characters to make room. False, and nothing is changed, if the packet would get too long.
 */
bool startup_append_host(struct startup *st, const char *host, const char *port) MUST_USE;

/* Answer a request with exactly one byte: libpq checks that nothing follows it. */
enum io_status startup_answer(struct stream *s, char answer, deadline when) MUST_USE;

/* Send an ErrorResponse of severity FATAL. `detail` fills the gap in the message, if it has one. */
enum io_status startup_refuse(struct stream *s, enum refusal why, const char *detail,
			      deadline when);

/*
 * Client mode, step 8: relay the backend's messages up to its first authentication request, and
 * remove SCRAM-SHA-256-PLUS from that (see DESIGN, "The steps"). IO_DONE if the rest can be relayed
 * unchanged, which includes a message that is not understood and a client that is gone. Else the
 * status of the backend's stream; the client got whole messages only and can be sent an error.
 */
enum io_status startup_relay_authentication(struct stream *backend, struct stream *client,
					    bool *plus_removed, deadline when) MUST_USE;

/*
 * The same if SCRAM-SHA-256-PLUS was removed: relay the client's answer, or what comes of it until
 * `when`. *result is IO_DONE if the rest can be relayed unchanged, else the status of the backend's
 * stream. False, and nothing was forwarded, if the client supports channel binding: the backend
 * would end the login, and what could persuade it is covered by the client's proof of its password.
 */
bool startup_relay_scram(struct stream *client, struct stream *backend, enum io_status *result,
			 deadline when) MUST_USE;

/* The message of a refusal, for the log. Returns `buf`. */
const char *startup_refusal_text(enum refusal why, const char *detail, char *buf, size_t size);

/* What happened to a STARTUP_BROKEN packet, for the log. */
const char *startup_broken_text(const struct startup *st);

/* What the backend says to a StartupMessage. */
struct startup_reply {
	uint32_t method;   /* AuthenticationRequest: what it asks for, 0 for nothing */
	char sqlstate[6];  /* ErrorResponse; "" if it has none */
	char message[512]; /* the same, cut if it is longer */
};

/*
 * Ask the backend for a login, or for physical replication if `database` is NULL, as a client of
 * protocol 3.0, and read one message. Returns its type, 'R' or 'E' if it was understood; 0 if the
 * names are too long or no whole message arrived in time.
 */
char startup_ask(struct startup_reply *r, struct stream *backend, const char *user,
		 const char *database, deadline when) MUST_USE;

/* What an AuthenticationRequest of that kind asks for, in words; NULL if it is not known. */
const char *startup_method_text(uint32_t method);

#endif
