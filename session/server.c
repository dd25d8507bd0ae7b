/* SPDX-License-Identifier: ISC
 *
 * session/server.c - steps 6 to 8 of server mode: the client asks for TLS, gets it, and names user and database.
 *
 * Every byte that comes here is a stranger's; the sandbox is on.
 */
#include "session/server.h"

#include <stdlib.h>

#include "auth/certauth.h"
#include "wire/proxy.h"

/* ---- 6: the client's request, outside TLS ---- */

/* True if the client and PostgreSQL go on by themselves, under GSSAPI encryption. */
static bool answer_gss(struct session *s)
{
	char answer = s->options.gss && !s->too_many ? session_ask_gss(s) : 'N';

	if (startup_answer(s->client, answer, s->deadline) != IO_DONE)
		session_leave(s, EX_PROTOCOL);
	s->gss = answer == 'G';
	return s->gss;
}

/* Whom the load balancer speaks for. A connection without a proper header is answered nothing. */
static void take_proxy_header(struct session *s)
{
	struct proxy_client client;
	struct error e;

	if (!proxy_read(&s->raw.stream, &client, s->deadline, &e)) {
		log_peer_line(client.spoke ? LOG_WARNING : LOG_DEBUG, "%s", e.text);
		session_leave(s, e.status);
	}
	if (!client.given)
		return;
	log_peer_line(LOG_DEBUG, "PROXY header received");
	session_set_peer(s, &client.address);
}

void server_negotiate(struct session *s)
{
	struct startup *st = &s->startup;

	if (s->options.proxy_protocol)
		take_proxy_header(s);
	if (s->options.transparent && s->backend_error.status == 0)
		(void)!backend_set_source(&s->backend, &s->source, &s->backend_error);
	for (bool first = true; !s->promised_tls; first = false) {
		startup_read(st, &s->raw.stream, STARTUP_CLEAR, first, s->deadline);
		switch (st->kind) {
		case STARTUP_DIRECT_TLS:
			fd_stream_unread(&s->raw, st->packet[0]);
			s->place = STARTUP_DIRECT;
			return;
		case STARTUP_SSL_REQUEST:
			session_promise_tls(s);
			break;
		case STARTUP_GSS_REQUEST:
			if (answer_gss(s))
				return;
			break;
		case STARTUP_CANCEL:
			session_carry_cancel(s);
		default:
			session_end_startup(s);
		}
	}
	s->place = STARTUP_NEGOTIATED;
}

/* ---- 7: handshake. Only a client that completed it gets a backend. ---- */

/* Connect while the client writes its startup packet. With --gss this may be done already. */
static bool may_start_backend(const struct session *s)
{
	return s->postgres == NULL && s->backend_error.status == 0 && !s->too_many &&
	       certauth_may_connect(s);
}

void server_shake_hands(struct session *s)
{
	struct error e;

	if (s->gss) {
		tls_wipe_key(s->tls);
		return;
	}
	if (!tls_accept(s->tls, &s->raw.stream, s->place == STARTUP_DIRECT, s->deadline, &e)) {
		log_peer_line(LOG_WARNING, "%s", e.text);
		session_leave(s, e.status);
	}
	s->client = tls_stream(s->tls);
	if (may_start_backend(s))
		backend_start(&s->backend);
}

/* ---- 8: the startup packet, inside TLS ---- */

static void read_startup(struct session *s)
{
	for (;;) {
		startup_read(&s->startup, s->client, s->place, false, s->deadline);
		switch (s->startup.kind) {
		case STARTUP_SESSION:
			return;
		case STARTUP_SSL_REQUEST: /* psql through a plain TLS tunnel asks for what it has already */
		case STARTUP_GSS_REQUEST:
			if (startup_answer(s->client, 'N', s->deadline) != IO_DONE)
				session_leave(s, EX_PROTOCOL);
			break;
		case STARTUP_CANCEL:
			session_carry_cancel(s);
		default:
			session_end_startup(s);
		}
	}
}

void server_admit(struct session *s)
{
	struct startup *st = &s->startup;

	if (s->gss) { /* who it is stands under an encryption that is not ours */
		session_set_title(s);
		return;
	}
	read_startup(s);
	if (s->too_many)
		session_refuse(s, REFUSE_TOO_MANY, NULL, EX_TEMPFAIL);
	certauth_check(s);
	if (s->postgres == NULL)
		session_connect_backend(s);
	if (s->postgres != NULL && backend_closed(&s->backend))
		fail(&s->backend_error, EX_UNAVAILABLE, "%s: it closed the connection at once",
		     s->addresses.name);
	if (s->backend_error.status != 0)
		session_refuse(s, REFUSE_BACKEND, s->backend_error.text, EX_UNAVAILABLE);
	session_set_title(s);
	if (s->options.application_name_host &&
	    !startup_append_host(st, s->peer.host, s->peer.port))
		log_peer_line(
		    LOG_NOTICE,
		    "the startup packet has no room for the client's address in application_name");
	if (stream_write_all(s->postgres, st->packet, st->len, s->deadline) != IO_DONE)
		fail(&s->backend_error, EX_UNAVAILABLE, "%s: it closed the connection at once",
		     s->addresses.name);
	if (s->backend_error.status != 0)
		session_refuse(s, REFUSE_BACKEND, s->backend_error.text, EX_UNAVAILABLE);
}
