/* SPDX-License-Identifier: ISC
 *
 * wire/startup.h - PostgreSQL's packets before a session: read, classify, check, answer.
 *
 * The protocol is PostgreSQL's documentation, chapter "Frontend/Backend Protocol", sections Start-up, Cancelling Requests in Progress, SSL Session
 * Encryption and GSSAPI Session Encryption. Knows nothing of TLS or sockets: it gets a stream. Never reads a byte past the packet at hand: bytes sent in clear
 * behind an SSLRequest must never be taken for bytes received under TLS (CVE-2021-23222).
 */
#ifndef PGSSL_WIRE_STARTUP_H
#define PGSSL_WIRE_STARTUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"
#include "net/stream.h"

#define STARTUP_MAX 10004 /* PostgreSQL's MAX_STARTUP_PACKET_LENGTH and the length word */
#define STARTUP_NAME_MAX                                                                           \
	63 /* NAMEDATALEN - 1: what PostgreSQL takes of a user's or database's name */
#define STARTUP_REQUEST_SIZE 8 /* SSLRequest and GSSENCRequest */

extern const unsigned char startup_ssl_request[STARTUP_REQUEST_SIZE];
extern const unsigned char startup_gss_request[STARTUP_REQUEST_SIZE];

/* Where a packet is read: what is allowed differs. */
enum startup_place {
	STARTUP_CLEAR = 1,      /* outside TLS */
	STARTUP_NEGOTIATED = 2, /* inside TLS that began with SSLRequest */
	STARTUP_DIRECT = 4,     /* inside TLS that began at once */
	STARTUP_LOCAL =
	    8, /* client mode: from a client on this machine, which needs no encryption */
};

enum startup_kind {
	STARTUP_NOTHING, /* the client left without a byte */
	STARTUP_DIRECT_TLS, /* TLS begins at once; its first byte is packet[0], for the caller to put back */
	STARTUP_SSL_REQUEST, /* answered 'S' or 'N' by startup_answer */
	STARTUP_GSS_REQUEST,
	STARTUP_CANCEL,
	STARTUP_SESSION, /* StartupMessage of version 3 */
	STARTUP_REFUSED, /* `why` says it */
	STARTUP_BROKEN, /* the stream failed or ended inside a packet, `io` says how: nobody is left to be told */
};

/* All that a client can be told before its session; see the table in startup.c. */
enum refusal {
	REFUSE_NO_TLS,
	REFUSE_REPEATED,
	REFUSE_VERSION,
	REFUSE_VERSION_2,
	REFUSE_LENGTH,
	REFUSE_LAYOUT,
	REFUSE_NO_USER,
	REFUSE_NO_CERTIFICATE,
	REFUSE_CERTIFICATE,
	REFUSE_BACKEND,
	REFUSE_BACKEND_TLS,
	REFUSE_TOO_MANY,
};

/* One packet. About 10 kB: the caller keeps it static or on the stack. */
struct startup {
	enum startup_kind kind;
	enum refusal why;
	enum io_status io;
	unsigned seen;   /* requests so far: each is allowed once a connection */
	char detail[64]; /* for startup_refuse */
	size_t len;
	unsigned char packet[STARTUP_MAX + 1];
	/* Of a STARTUP_SESSION; they point into `packet`, are NUL-terminated, and are what PostgreSQL would take: the last one given wins. */
	const char *user, *database, *application_name;
	bool user_twice; /* user or database stood in the packet more than once */
	bool
	    name_too_long; /* user or database has more than STARTUP_NAME_MAX bytes: PostgreSQL would cut it */
};

/*
 * Read the next packet, which must be the first thing on `s`, in `place`, until `when`. `first` is true for the very first bytes of a connection (only there does 0x16
 * mean TLS at once). The result is in st->kind; never fails otherwise. Set `st` to zeros before the first call.
 */
void startup_read(struct startup *st, struct stream *s, enum startup_place place, bool first,
		  deadline when);

/*
 * --application-name-host: append " - HOST:PORT" (IPv6: " - [HOST]:PORT"; " - HOST" without a port) to the application_name of a STARTUP_SESSION, as pgbouncer's
 * application_name_add_host does; an absent one is taken for "app". The name is cut at a character's border so that all has at most
 * STARTUP_NAME_MAX bytes. False, and nothing is changed, if the packet would become longer than PostgreSQL takes.
 */
bool startup_append_host(struct startup *st, const char *host, const char *port) MUST_USE;

/* Answer an SSLRequest or GSSENCRequest with exactly one byte: libpq checks that nothing follows it. */
enum io_status startup_answer(struct stream *s, char answer, deadline when) MUST_USE;

/*
 * Send ErrorResponse, severity FATAL. `detail` is what the row's message leaves open (may be NULL). For REFUSE_VERSION_2 in the old form.
 */
enum io_status startup_refuse(struct stream *s, enum refusal why, const char *detail,
			      deadline when);

/*
 * Client mode, step 8: hand the server's messages to the client up to and with its first authentication request, out of which SCRAM-SHA-256-PLUS is
 * taken: libpq without TLS gives up when that is offered, and we may take it out since we verified the server ourselves. Nothing else is changed or
 * looked at. IO_DONE when it is done, or when what comes is not for us to judge, or the client is gone: all that can be carried on as it is. Else as
 * the server's stream; the client then got whole messages only, so that it can be told.
 */
enum io_status startup_relay_authentication(struct stream *server, struct stream *client,
					    deadline when) MUST_USE;

/* The message of a refusal as the client gets it, for the log. Returns `buf`. */
const char *startup_refusal_text(enum refusal why, const char *detail, char *buf, size_t size);

/* The name of an io that broke a packet, for the log: "client closed the connection inside a packet", ... */
const char *startup_broken_text(const struct startup *st);

/* What the backend says to a StartupMessage. */
struct startup_reply {
	uint32_t method;   /* AuthenticationRequest: what it asks for, 0 for nothing */
	char sqlstate[6];  /* ErrorResponse; "" if it has none */
	char message[512]; /* the same, cut if it is longer */
};

/*
 * Ask the backend for a login, as a client of protocol 3.0: send a StartupMessage with `parameters`,
 * names and values in turn with a NULL at the end, and read one message. Returns its type, 'R' or 'E'
 * if it was understood; 0 if `parameters` are too long or no whole message came until `when`.
 */
char startup_ask(struct startup_reply *r, struct stream *backend, const char *const parameters[],
		 deadline when) MUST_USE;

#endif
