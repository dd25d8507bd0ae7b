/* SPDX-License-Identifier: ISC
 *
 * session/server.c - steps 6 to 8 of server mode: the client asks for TLS, gets it, and names user
 * and database.
 *
 * Every byte read here is untrusted; the sandbox is on.
 */
#include "session/session.h"

#include <unistd.h>

#include "auth/certauth.h"
#include "wire/proxy.h"

/* ---- 6: the client's requests, outside TLS ---- */

/*
 * --gss: connect, and forward the GSSENCRequest. 'G': the rest is between client and backend. 'N':
 * the backend refuses and waits for a startup packet, or s->backend_error says why there is no
 * answer. Exactly one byte is read: the next one would be the client's.
 */
static char forward_gss_request(struct session *s)
{
	char answer = 0;
	size_t n;

	session_connect_backend(s);
	deadline when = deadline_min(s->deadline, deadline_in(s->connector.timeout_ms));
	if (s->backend == NULL ||
	    stream_write_all(s->backend, startup_gss_request, STARTUP_REQUEST_SIZE, when) !=
		IO_DONE ||
	    stream_read_exactly(s->backend, &answer, 1, &n, when) != IO_DONE)
		answer = 0;
	if (stream_terminated()) {
		s->startup.kind = STARTUP_BROKEN;
		s->startup.io = IO_TERMINATED;
		session_end_startup(s);
	}
	if (s->backend == NULL || answer == 'N' || answer == 'G')
		return answer == 'G' ? 'G' : 'N';
	/* PostgreSQL 11 closes with an error, and so does a newer one that cannot fork. */
	fail(&s->backend_error, EX_UNAVAILABLE,
	     "%s: the server did not answer the request for GSSAPI encryption (--gss)",
	     s->addresses.name);
	close(s->connector.fd);
	s->backend = NULL;
	return 'N';
}

static void answer_gss_request(struct session *s)
{
	char answer = s->options.gss && s->excess == REFUSE_NONE ? forward_gss_request(s) : 'N';

	session_answer(s, answer);
	s->gss = answer == 'G';
}

/* The load balancer names the client. Send nothing to a peer without a valid header. */
static void take_proxy_header(struct session *s)
{
	struct proxy_client client;
	struct error e;

	if (!proxy_read(s->client, &client, s->deadline, &e)) {
		if (e.status == EX_OK)
			session_end_probe(s);
		log_peer_line(client.spoke ? LOG_WARNING : LOG_DEBUG, "%s", e.text);
		session_leave(s, e.status);
	}
	if (!client.given)
		return;
	session_set_peer(s, &client.address);
}

static void server_negotiate(struct session *s)
{
	struct startup *st = &s->startup;

	if (s->options.proxy_protocol)
		take_proxy_header(s);
	if (s->options.transparent && s->backend_error.status == 0)
		(void)!backend_set_source(&s->connector, &s->source, &s->backend_error);
	for (bool first = true; !s->promised_tls && !s->gss; first = false) {
		startup_read(st, s->client, STARTUP_CLEAR, first, s->deadline);
		switch (st->kind) {
		case STARTUP_DIRECT_TLS:
			fd_stream_unread(&s->client_socket, st->packet[0]);
			s->place = STARTUP_DIRECT;
			return;
		case STARTUP_SSL_REQUEST:
			session_promise_tls(s);
			break;
		case STARTUP_GSS_REQUEST:
			answer_gss_request(s);
			break;
		case STARTUP_CANCEL:
			session_forward_cancel(s);
		default:
			session_end_startup(s);
		}
	}
	s->place = STARTUP_NEGOTIATED;
}

/* ---- 7: the handshake. Only a client that completed it gets a backend. ---- */

static void server_shake_hands(struct session *s)
{
	struct error e;

	if (s->gss) {
		tls_wipe_key(s->tls);
		return;
	}
	if (!tls_accept(s->tls, s->client, s->place == STARTUP_DIRECT, s->deadline, &e)) {
		if (e.status == EX_OK)
			session_end_probe(s);
		log_peer_line(LOG_WARNING, "%s", e.text);
		session_leave(s, e.status);
	}
	s->client = tls_stream(s->tls);
	/* Connect while the client writes its startup packet. --gss may have done so already. */
	if (s->backend == NULL && s->backend_error.status == 0 && s->excess == REFUSE_NONE &&
	    certauth_may_connect(&s->options, s->tls))
		backend_start(&s->connector);
}

/* ---- 8: the startup packet, inside TLS ---- */

static void authorize(struct session *s)
{
	struct certauth_refusal r;

	if (s->excess != REFUSE_NONE)
		session_refuse(s, s->excess, NULL, EX_TEMPFAIL);
	if (certauth_check(&s->options, s->tls, &s->startup, s->map, &r))
		return;
	log_peer_line(LOG_WARNING, "%s", r.log);
	session_tell(s, r.why, r.user, r.status);
}

static void server_admit(struct session *s)
{
	struct startup *st = &s->startup;

	if (s->gss) { /* the startup packet is encrypted from end to end */
		session_set_title(s);
		return;
	}
	session_read_startup(s, s->place);
	if (st->kind == STARTUP_CANCEL)
		session_forward_cancel(s);
	authorize(s);
	session_connect_backend(s);
	if (s->backend_error.status != 0)
		session_refuse_backend(s);
	session_set_title(s);
	if (s->options.application_name_host &&
	    !startup_append_host(st, s->peer.host, s->peer.port))
		log_peer_line(LOG_NOTICE, "could not append the client's address to "
					  "application_name: the startup packet is full");
	enum io_status io = backend_closed(&s->connector)
				? IO_END
				: stream_write_all(s->backend, st->packet, st->len, s->deadline);
	if (io == IO_DONE)
		return;
	bool no_memory = io == IO_NO_MEMORY;
	fail(&s->backend_error, no_memory ? EX_OSERR : EX_UNAVAILABLE, "%s: %s", s->addresses.name,
	     no_memory ? "out of memory"
		       : "the server closed the connection immediately; see PostgreSQL's log");
	session_refuse_backend(s);
}

const struct session_mode session_server_mode = {server_negotiate, server_shake_hands,
						 server_admit};
