/* SPDX-License-Identifier: ISC
 *
 * net/splice.h - step 9: both directions between two streams, until both are done.
 *
 * Does not know what the bytes mean, nor which stream is TLS. Back pressure: each direction has one buffer of fixed size, and nothing is read while it is full.
 */
#ifndef PGSSL_NET_SPLICE_H
#define PGSSL_NET_SPLICE_H

#include <stdint.h>

#include "net/stream.h"

/* Why a session ended; splice_reason gives the words for the log. */
enum splice_end {
	SPLICE_CLIENT_CLOSED, /* the client ended its side first, and PostgreSQL's answer was carried to the end */
	SPLICE_CLIENT_RESET,  /* the connection to the client broke */
	SPLICE_SERVER_CLOSED, /* PostgreSQL ended the session */
	SPLICE_SERVER_RESET,  /* the connection to PostgreSQL broke */
	SPLICE_IDLE,          /* --idle-timeout */
	SPLICE_EXPIRED,       /* the deadline passed */
	SPLICE_TERMINATED,    /* SIGTERM */
};

struct splice {
	struct stream *client,
	    *server; /* both stay the caller's, and are neither shut nor closed towards the client */
	int idle_ms;    /* end the session after so long without a byte either way; 0: never */
	int spin_us;    /* --spin: see stream_spin */
	deadline until; /* end the session then */
	/* Bytes from the client and to it, plaintext; the caller sets them to what went before. */
	uint64_t received, sent;
	uint64_t
	    idle_count; /* of both, when the idle time began, which ends at idle_at; splice_run sets these */
	deadline idle_at;
	enum splice_end end; /* the result */
};

/*
 * Carry bytes until the session is over, which is when PostgreSQL has ended its side and all that it sent was taken by the client's stream, or one side
 * broke. The client's end (close_notify or FIN) only ends its direction: PostgreSQL gets it after the last byte, as a half close.
 * On SPLICE_IDLE, _EXPIRED and _TERMINATED what was received from PostgreSQL has been delivered.
 */
void splice_run(struct splice *sp);

/* "client closed", ... */
const char *splice_reason(enum splice_end end);

#endif
