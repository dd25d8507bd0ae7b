/* SPDX-License-Identifier: ISC
 *
 * session/client.c - steps 6 to 8 of client mode: plaintext from a program on this machine, TLS to PostgreSQL elsewhere.
 *
 * The local client is told what went wrong as a FATAL; an ErrorResponse that a server sends before TLS is up is nobody's word and is not handed on (CVE-2024-10977).
 */
#include "session/client.h"

#include <stdio.h>

void client_negotiate(struct session *s)
{
	for (;;) {
		startup_read(&s->startup, s->client, STARTUP_LOCAL, false, s->deadline);
		switch (s->startup.kind) {
		case STARTUP_SSL_REQUEST:
		case STARTUP_GSS_REQUEST:
			if (startup_answer(s->client, 'N', s->deadline) != IO_DONE)
				session_leave(s, EX_PROTOCOL);
			break;
		case STARTUP_SESSION:
		case STARTUP_CANCEL:
			return;
		default:
			session_end_startup(s);
		}
	}
}

/* TLS cannot be had; `why` is for the log and for the client. */
static noreturn void refuse(struct session *s, const char *why, int status)
{
	char detail[512];

	snprintf(detail, sizeof detail, "%s: %s", s->addresses.name, why);
	if (s->startup.kind != STARTUP_CANCEL) /* whose client reads no answer */
		session_refuse(s, REFUSE_BACKEND_TLS, detail, status);
	log_peer_line(LOG_ERR, "could not hand on a cancel request to %s", detail);
	session_leave(s, status);
}

/* SSLRequest, and exactly one byte of answer: what comes behind it must be TLS (CVE-2021-23222). */
static void ask_for_tls(struct session *s)
{
	char answer = '\0';
	size_t got;

	if (stream_write_all(s->postgres, startup_ssl_request, STARTUP_REQUEST_SIZE, s->deadline) !=
		IO_DONE ||
	    stream_read_exactly(s->postgres, &answer, 1, &got, s->deadline) != IO_DONE)
		refuse(s, "it closed the connection when asked for TLS", EX_UNAVAILABLE);
	if (answer == 'N')
		refuse(s, "the server does not support TLS", EX_UNAVAILABLE);
	if (answer != 'S')
		refuse(s, "the server did not understand the request for TLS", EX_UNAVAILABLE);
}

/* The server's last words, or how it went without any. */
static const char *lost(const struct session *s, enum io_status io)
{
	switch (io) {
	case IO_END:
		return "it closed the connection without an answer to the startup packet";
	case IO_TIMEOUT:
		return "it did not answer the startup packet in time";
	case IO_TERMINATED:
		return "terminated by SIGTERM before the session began";
	default:
		return tls_failure(s->tls)[0] != '\0' ? tls_failure(s->tls)
						      : "the connection was lost";
	}
}

void client_shake_hands(struct session *s)
{
	struct error e;

	if (s->too_many && s->startup.kind != STARTUP_CANCEL)
		session_refuse(s, REFUSE_TOO_MANY, NULL, EX_TEMPFAIL);
	if (s->tls_error.status != 0)
		refuse(s, "TLS is not set up rightly here, see pgssl's log", s->tls_error.status);
	session_connect_backend(s);
	if (s->backend_error.status != 0 && s->startup.kind == STARTUP_CANCEL)
		session_carry_cancel(s); /* which says so */
	if (s->backend_error.status != 0)
		session_refuse(s, REFUSE_BACKEND, s->backend_error.text, EX_UNAVAILABLE);
	if (s->options.ca == NULL)
		log_peer_line(
		    LOG_WARNING,
		    "the server's certificate is not verified: anybody could be it; give -A");
	if (s->options.sslnegotiation != SSLNEGOTIATION_DIRECT)
		ask_for_tls(s);
	if (!tls_connect(s->tls, s->postgres, s->deadline, &e))
		refuse(s, e.text, e.status);
	s->postgres = tls_stream(s->tls);
}

void client_admit(struct session *s)
{
	const struct startup *st = &s->startup;

	if (st->kind == STARTUP_CANCEL)
		session_carry_cancel(s);
	session_set_title(s);
	enum io_status io = stream_write_all(s->postgres, st->packet, st->len, s->deadline);
	/* A server that took no more has perhaps said why: under TLS 1.3 the alert that refuses our certificate comes only now. */
	if (io == IO_DONE || io == IO_FAILED)
		io = startup_relay_authentication(s->postgres, s->client, s->deadline);
	if (io != IO_DONE)
		refuse(s, lost(s, io), EX_UNAVAILABLE);
}
