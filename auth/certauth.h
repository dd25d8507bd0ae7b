/* SPDX-License-Identifier: ISC
 *
 * auth/certauth.h - may this client certificate be the user of the startup packet?
 *
 * PostgreSQL's clientcert option and its method "cert": the holder of a certificate may be the user
 * that it names, directly or through a map, and no other. The caller sends the error to the
 * client. Nothing here blocks, except on the log.
 */
#ifndef PGSSL_AUTH_CERTAUTH_H
#define PGSSL_AUTH_CERTAUTH_H

#include "auth/identmap.h"
#include "options.h"
#include "tls.h"
#include "wire/startup.h"

/* A client that was refused. */
struct certauth_refusal {
	enum refusal why;                /* for startup_refuse */
	int status;                      /* EX_NOPERM, or EX_OSERR: it could not be checked */
	char user[STARTUP_NAME_MAX + 1]; /* its detail: the user that the client claims to be */
	char log[768];                   /* the log line, with more details than the client gets */
};

/*
 * After the handshake: may a backend be taken before the startup packet is read? Not without the
 * certificate that --clientcert requires, nor while its name is still to be checked.
 */
bool certauth_may_connect(const struct options *o, const struct tls *t);

/*
 * With the startup packet read: log the client's identity, and return true if it may be the user
 * that it claims to be. Else fill in `r`. `map` may be NULL.
 */
bool certauth_check(const struct options *o, const struct tls *t, const struct startup *st,
		    const struct identmap *map, struct certauth_refusal *r) MUST_USE;

/* When the session must end: with --clientcert-expiry when the certificate expires, else never. */
deadline certauth_until(const struct options *o, const struct tls *t);

#endif
