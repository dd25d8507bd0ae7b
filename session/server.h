/* SPDX-License-Identifier: ISC
 *
 * session/server.h - steps 6 to 8 of server mode. Each returns when its step is done, or ends the process with the client told why.
 */
#ifndef PGSSL_SESSION_SERVER_H
#define PGSSL_SESSION_SERVER_H

#include "session/session.h"

/* 6: read requests in clear until TLS begins; a cancel request is carried from here. Waits until s->deadline. */
void server_negotiate(struct session *s);

/* 7: the handshake; then begin to connect PostgreSQL, which only a client that has finished it may cost a backend (with --clientcert=verify-full only in step 8). Waits until s->deadline. */
void server_shake_hands(struct session *s);

/* 8: read the startup packet, check it against the certificate, connect, and hand it to PostgreSQL. Waits until s->deadline, and --connect-timeout for PostgreSQL. */
void server_admit(struct session *s);

#endif
