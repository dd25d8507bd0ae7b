/* SPDX-License-Identifier: ISC
 *
 * session/client.c - steps 6 to 8 of client mode: plaintext from a program on this machine, TLS to
 * a backend elsewhere.
 *
 * The client gets every failure as a FATAL. An ErrorResponse that arrives before TLS is up is not
 * authenticated and not forwarded (CVE-2024-10977).
 */
#include "session/session.h"

#include <stdio.h>

static void client_negotiate(struct session *s)
{
	session_read_startup(s, STARTUP_LOCAL);
}

/* There is no session with the backend: `why` goes to the log and to the client. */
static noreturn void give_up(struct session *s, const char *why, int status)
{
	char detail[512];

	snprintf(detail, sizeof detail, "%s: %s", s->addresses.name, why);
	if (s->startup.kind != STARTUP_CANCEL) /* no one reads an answer to that */
		session_refuse(s, REFUSE_BACKEND_TLS, detail, status);
	log_peer_line(LOG_ERR, "could not forward a cancel request to %s", detail);
	session_leave(s, status);
}

static noreturn void refuse_without_tls(struct session *s)
{
	char detail[512];

	snprintf(detail, sizeof detail, "%s: pgssl has an error in its TLS settings, see its log",
		 s->options.connect);
	if (s->startup.kind != STARTUP_CANCEL)
		session_tell(s, REFUSE_BACKEND_TLS, detail, s->tls_error.status);
	session_leave(s, s->tls_error.status);
}

/* No answer came: because of `late` if the time is over, of `lost` if the connection failed. */
static noreturn void no_answer(struct session *s, enum io_status io, const char *late,
			       const char *lost)
{
	switch (io) {
	case IO_NO_MEMORY:
		give_up(s, "out of memory", EX_OSERR);
	case IO_TIMEOUT:
		give_up(s, late, EX_UNAVAILABLE);
	case IO_TERMINATED:
		give_up(s, "terminated by SIGTERM before the session began", EX_UNAVAILABLE);
	default:
		give_up(s, lost, EX_UNAVAILABLE);
	}
}

/* Read exactly one byte of answer: what follows it must be TLS (CVE-2021-23222). */
static void request_tls(struct session *s)
{
	char answer = '\0';
	size_t got;

	enum io_status io =
	    stream_write_all(s->backend, startup_ssl_request, STARTUP_REQUEST_SIZE, s->deadline);
	if (io == IO_DONE)
		io = stream_read_exactly(s->backend, &answer, 1, &got, s->deadline);
	if (io != IO_DONE)
		no_answer(s, io, "the server did not answer the request for TLS in time",
			  "the server closed the connection when asked for TLS");
	if (answer == 'N')
		give_up(s, "the server does not support TLS", EX_UNAVAILABLE);
	if (answer != 'S')
		give_up(s,
			"the server sent an invalid answer to the request for TLS: see its log, "
			"and check that it is PostgreSQL",
			EX_UNAVAILABLE);
}

/* Why the connection ended before the answer to the startup packet: its last words, if any. */
static const char *lost_because(const struct session *s, enum io_status io)
{
	if (io == IO_END)
		return "the server closed the connection without answering the startup packet";
	return tls_failure(s->tls)[0] != '\0' ? tls_failure(s->tls) : "the connection was lost";
}

static void client_shake_hands(struct session *s)
{
	struct error e;

	if (s->excess != REFUSE_NONE && s->startup.kind != STARTUP_CANCEL)
		session_refuse(s, s->excess, NULL, EX_TEMPFAIL);
	if (s->tls_error.status != 0) /* step 3 wrote the log */
		refuse_without_tls(s);
	session_connect_backend(s);
	if (s->backend_error.status != 0 && s->startup.kind == STARTUP_CANCEL)
		session_forward_cancel(s); /* logs it */
	if (s->backend_error.status != 0)
		session_refuse_backend(s);
	if (s->options.ca == NULL)
		log_peer_line(LOG_WARNING, "the server's certificate is not verified, so anyone "
					   "could impersonate it: use -A");
	if (s->options.sslnegotiation != SSLNEGOTIATION_DIRECT)
		request_tls(s);
	if (!tls_connect(s->tls, s->backend, s->deadline, &e))
		give_up(s, e.text, e.status);
	s->backend = tls_stream(s->tls);
}

static void client_admit(struct session *s)
{
	const struct startup *st = &s->startup;
	bool plus_removed = false;

	if (st->kind == STARTUP_CANCEL)
		session_forward_cancel(s);
	session_set_title(s);
	enum io_status io = stream_write_all(s->backend, st->packet, st->len, s->deadline);
	/* After a failed write read on: TLS 1.3's alert about our certificate comes only now. */
	if (io == IO_DONE || io == IO_FAILED)
		io =
		    startup_relay_authentication(s->backend, s->client, &plus_removed, s->deadline);
	if (io == IO_DONE && plus_removed &&
	    !startup_relay_scram(s->client, s->backend, &io, s->deadline))
		session_refuse(s, REFUSE_CHANNEL_BINDING, NULL, EX_PROTOCOL);
	if (io != IO_DONE)
		no_answer(s, io, "the server did not answer the startup packet in time",
			  lost_because(s, io));
}

const struct session_mode session_client_mode = {client_negotiate, client_shake_hands,
						 client_admit};
