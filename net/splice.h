/* SPDX-License-Identifier: ISC
 *
 * net/splice.h - step 9: relay both directions between two streams until the session ends.
 *
 * Does not know what the bytes mean or which stream is TLS. Back pressure: each direction has one
 * buffer of fixed size, and nothing is read while it is not empty.
 */
#ifndef PGSSL_NET_SPLICE_H
#define PGSSL_NET_SPLICE_H

#include <stdint.h>

#include "net/stream.h"

/* Why a session ended. splice_reason gives the words for the log. */
enum splice_end {
	SPLICE_CLIENT_CLOSED, /* the client ended first and got the rest of the backend's answer */
	SPLICE_CLIENT_RESET,  /* the connection to the client broke */
	SPLICE_BACKEND_CLOSED,
	SPLICE_BACKEND_RESET,
	SPLICE_BACKEND_UNREACHED, /* writing to it failed here, and it went on waiting */
	SPLICE_NO_MEMORY,         /* ours or the kernel's, on either side */
	SPLICE_IDLE,              /* --idle-timeout */
	SPLICE_EXPIRED,           /* the deadline passed */
	SPLICE_TERMINATED,        /* SIGTERM */
};

struct splice {
	struct stream *client, *backend; /* owned by the caller */
	int idle_ms;                     /* end after this long without a byte; 0: never */
	int spin_us;                     /* --spin: see stream_spin */
	deadline until;
	/* Plaintext bytes from and to the client. The caller sets what preceded the relay. */
	uint64_t received, sent;
	/* Results and state of splice_run. */
	uint64_t idle_count; /* received + sent when idle_at was set */
	deadline idle_at;
	enum splice_end end;
};

/*
 * Relay until the backend has ended its direction and the client's stream has accepted all of it,
 * or until one side breaks. The client's end (close_notify or FIN) ends only its direction: the
 * backend gets a half-close after the last byte. The client's stream is neither shut nor closed.
 * On SPLICE_IDLE, _EXPIRED and _TERMINATED, what the backend has sent is delivered first, which
 * takes at most 5 s. If writing to the backend fails and the backend does not end the session, it
 * ends after 5 s.
 */
void splice_run(struct splice *sp);

/* "client closed", ... */
const char *splice_reason(enum splice_end end);

#endif
