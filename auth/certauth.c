/* SPDX-License-Identifier: ISC
 *
 * auth/certauth.c - access control by client certificate.
 *
 * The handshake verified the certificate, or there is none. A client without one gets as far as its
 * startup packet even if one is required, since cancel requests come without a certificate.
 */
#include "auth/certauth.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool certauth_may_connect(const struct options *o, const struct tls *t)
{
	struct tls_peer peer;

	if (o->clientcert == CLIENTCERT_VERIFY_CA)
		return tls_peer(t, &peer);
	return o->clientcert == CLIENTCERT_UNSET;
}

/* In PostgreSQL's words, for log analysers. */
static void log_identity(const struct tls_peer *peer)
{
	char subject[LOG_ESCAPED_SIZE(sizeof peer->subject)];

	log_escape(subject, sizeof subject, peer->subject, strlen(peer->subject));
	log_peer_line(LOG_NOTICE, "connection authenticated: identity=\"%s\" method=cert", subject);
}

/* The user that the client claims to be, and the names found in its certificate. */
struct claim {
	const char *user;
	const struct identmap *map;
	unsigned names;
	char first[LOG_ESCAPED_SIZE(64)];
};

static bool name_fits_claim(const char *name, void *arg)
{
	struct claim *c = arg;

	if (c->names++ == 0)
		log_escape(c->first, sizeof c->first, name, strlen(name));
	return c->map != NULL ? identmap_allows(c->map, name, c->user) : strcmp(name, c->user) == 0;
}

static bool refuse_user(struct certauth_refusal *r, const char *user, int status, const char *why)
{
	char escaped[LOG_ESCAPED_SIZE(STARTUP_NAME_MAX)];

	r->why = REFUSE_CERTIFICATE;
	r->status = status;
	strlcpy(r->user, user, sizeof r->user);
	log_escape(escaped, sizeof escaped, r->user, strlen(r->user));
	snprintf(r->log, sizeof r->log, "certificate authentication failed for user \"%s\": %s",
		 escaped, why);
	return false;
}

static bool refuse_claim(struct certauth_refusal *r, enum clientname which, const struct claim *c)
{
	static const char *const kinds[] = {
	    [CLIENTNAME_CN] = "CN", [CLIENTNAME_DN] = "DN", [CLIENTNAME_SAN] = "SAN"};
	const char *kind = kinds[which];
	char why[sizeof c->first + 128], others[32] = "";

	if (c->names > 1)
		snprintf(others, sizeof others, " and %u more", c->names - 1);
	if (c->names == 0)
		snprintf(why, sizeof why, "the certificate has no usable %s", kind);
	else
		snprintf(why, sizeof why,
			 c->map != NULL ? "the map has no match for %s \"%s\"%s"
					: "the certificate's %s is \"%s\"%s",
			 kind, c->first, others);
	return refuse_user(r, c->user, EX_NOPERM, why);
}

bool certauth_check(const struct options *o, const struct tls *t, const struct startup *st,
		    const struct identmap *map, struct certauth_refusal *r)
{
	struct claim c = {.user = st->user, .map = map};
	struct tls_peer peer;

	if (tls_peer(t, &peer)) {
		log_identity(&peer);
	} else if (o->clientcert != CLIENTCERT_UNSET) {
		*r = (struct certauth_refusal){.why = REFUSE_NO_CERTIFICATE, .status = EX_NOPERM};
		startup_refusal_text(r->why, NULL, r->log, sizeof r->log);
		return false;
	}
	if (o->clientcert != CLIENTCERT_VERIFY_FULL)
		return true;
	/* PostgreSQL takes the last of two users, and 63 bytes: check what PostgreSQL will use. */
	if (st->user_twice)
		return refuse_user(r, c.user, EX_NOPERM,
				   "the startup packet has two users or databases");
	if (st->name_too_long)
		return refuse_user(r, c.user, EX_NOPERM,
				   "the name of the user or database has more than 63 bytes");
	errno = 0;
	if (tls_peer_has_name(t, o->clientname, name_fits_claim, &c))
		return true;
	/* regexec() of glibc then says that the name does not match. */
	return errno == ENOMEM ? refuse_user(r, c.user, EX_OSERR, "out of memory")
			       : refuse_claim(r, o->clientname, &c);
}

deadline certauth_until(const struct options *o, const struct tls *t)
{
	int64_t left = o->clientcert_expiry ? tls_peer_ms_left(t) : INT64_MAX;

	return left == INT64_MAX ? DEADLINE_NEVER : deadline_in(left);
}
