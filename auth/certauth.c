/* SPDX-License-Identifier: ISC
 *
 * auth/certauth.c - who may come in by certificate.
 *
 * The certificate is verified (tls_peer.c) or there is none. What is left is PostgreSQL's question: does it name the user of the startup packet, directly
 * or through a map? Whoever has no certificate gets as far as the startup packet, since a cancel request comes without one.
 */
#include "auth/certauth.h"

#include <stdio.h>
#include <string.h>

bool certauth_may_connect(const struct session *s)
{
	struct tls_peer peer;

	switch (s->options.clientcert) {
	case CLIENTCERT_VERIFY_FULL:
		return false;
	case CLIENTCERT_VERIFY_CA:
		return tls_peer(s->tls, &peer);
	default:
		return true;
	}
}

/* PostgreSQL's words, for whoever looks for them in logs. */
static void log_identity(const struct tls_peer *peer)
{
	char subject[LOG_ESCAPED_SIZE(sizeof peer->subject)];

	log_escape(subject, sizeof subject, peer->subject, strlen(peer->subject));
	log_peer_line(LOG_NOTICE, "connection authenticated: identity=\"%s\" method=cert", subject);
}

/* Who the client says to be, and what its certificate said instead. */
struct claim {
	const char *user;
	const struct identmap *map;
	unsigned names;
	char first[LOG_ESCAPED_SIZE(64)];
};

static bool fits(const char *name, void *arg)
{
	struct claim *c = arg;

	if (c->names++ == 0)
		log_escape(c->first, sizeof c->first, name, strlen(name));
	return c->map != NULL ? identmap_allows(c->map, name, c->user) : strcmp(name, c->user) == 0;
}

/* Refused: the client is told what PostgreSQL would tell it, the log also why. */
static noreturn void refuse_user(struct session *s, const char *why)
{
	char user[STARTUP_NAME_MAX + 1], escaped[LOG_ESCAPED_SIZE(STARTUP_NAME_MAX)];

	strlcpy(user, s->startup.user, sizeof user);
	log_escape(escaped, sizeof escaped, user, strlen(user));
	log_peer_line(LOG_WARNING, "certificate authentication failed for user \"%s\": %s", escaped,
		      why);
	session_tell(s, REFUSE_CERTIFICATE, user, EX_NOPERM);
}

static noreturn void refuse_claim(struct session *s, const struct claim *c)
{
	static const char *const kinds[] = {
	    [CLIENTNAME_CN] = "CN", [CLIENTNAME_DN] = "DN", [CLIENTNAME_SAN] = "SAN"};
	const char *kind = kinds[s->options.clientname];
	char why[sizeof c->first + 128], more[32] = "";

	if (c->names > 1)
		snprintf(more, sizeof more, " and %u more", c->names - 1);
	if (c->names == 0)
		snprintf(why, sizeof why, "the certificate has no usable %s", kind);
	else if (c->map != NULL)
		snprintf(why, sizeof why, "no line of the map allows it to %s \"%s\"%s", kind,
			 c->first, more);
	else
		snprintf(why, sizeof why, "the certificate's %s is \"%s\"%s", kind, c->first, more);
	refuse_user(s, why);
}

/* PostgreSQL takes the last of two users, and 63 bytes of one: what it takes must be what was checked. */
static void check_names(struct session *s)
{
	struct claim c = {.user = s->startup.user, .map = s->map};

	if (s->startup.user_twice)
		refuse_user(s, "user or database was given twice");
	if (s->startup.name_too_long)
		refuse_user(s, "user or database has more than 63 bytes");
	if (!tls_peer_has_name(s->tls, s->options.clientname, fits, &c))
		refuse_claim(s, &c);
}

void certauth_check(struct session *s)
{
	struct tls_peer peer;

	if (tls_peer(s->tls, &peer))
		log_identity(&peer);
	else if (s->options.clientcert != CLIENTCERT_UNSET)
		session_refuse(s, REFUSE_NO_CERTIFICATE, NULL, EX_NOPERM);
	if (s->options.clientcert == CLIENTCERT_VERIFY_FULL)
		check_names(s);
}

deadline certauth_until(const struct session *s)
{
	int64_t left = s->options.clientcert_expiry ? tls_peer_ms_left(s->tls) : INT64_MAX;

	return left == INT64_MAX ? DEADLINE_NEVER : deadline_in(left);
}
