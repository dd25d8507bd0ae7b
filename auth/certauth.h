/* SPDX-License-Identifier: ISC
 *
 * auth/certauth.h - the client's certificate against what the options demand and the startup packet claims (steps 7 to 9 of server mode).
 *
 * PostgreSQL's clientcert and its method "cert": whoever has a certificate may be the user that it names, and nobody else.
 */
#ifndef PGSSL_AUTH_CERTAUTH_H
#define PGSSL_AUTH_CERTAUTH_H

#include "session/session.h"

/*
 * After the handshake: may this client cost PostgreSQL a backend already? Not without the certificate that --clientcert demands, and not before its
 * name is known to be right; a cancel request is let through all the same.
 */
bool certauth_may_connect(const struct session *s);

/* With the startup packet read: log who came; return if he may be the user that he claims to be, else tell client and log, and end the process. */
void certauth_check(struct session *s);

/* When the session must end: with --clientcert-expiry the certificate's end, else never. */
deadline certauth_until(const struct session *s);

#endif
