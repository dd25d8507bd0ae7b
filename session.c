/* SPDX-License-Identifier: ISC
 *
 * session.c - what several steps do: the ways to end, the connection to PostgreSQL, cancel requests.
 */
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sandbox.h"

#define LINGER_MS 30000 /* how long a close waits for the client to take the last message */

noreturn void session_leave(struct session *s, int status)
{
	if (s->client != &s->raw.stream) /* close_notify */
		(void)!stream_shut_all(s->client, deadline_in(SESSION_LAST_WORDS_MS));
	stream_linger(s->raw.stream.rfd, s->raw.stream.wfd, deadline_in(LINGER_MS));
	exit(status);
}

noreturn void session_tell(struct session *s, enum refusal why, const char *detail, int status)
{
	if (startup_refuse(s->client, why, detail, deadline_in(SESSION_LAST_WORDS_MS)) != IO_DONE)
		log_peer_line(LOG_DEBUG, "the client did not take the error message");
	session_leave(s, status);
}

noreturn void session_refuse(struct session *s, enum refusal why, const char *detail, int status)
{
	char text[1024];

	log_peer_line(status == EX_UNAVAILABLE ? LOG_ERR : LOG_WARNING, "%s",
		      startup_refusal_text(why, detail, text, sizeof text));
	session_tell(s, why, detail, status);
}

noreturn void session_end_startup(struct session *s)
{
	const struct startup *st = &s->startup;

	if (st->kind == STARTUP_REFUSED)
		session_refuse(s, st->why, st->detail, EX_PROTOCOL);
	if (st->kind == STARTUP_NOTHING) { /* probes do that all day */
		log_peer_line(LOG_DEBUG, "client left without a startup packet");
		session_leave(s, EX_OK);
	}
	log_peer_line(LOG_WARNING, "%s", startup_broken_text(st));
	session_leave(s, EX_PROTOCOL);
}

void session_prepare_backend(struct session *s)
{
	const struct options *o = &s->options;
	struct backend_options bo = {
	    .address = o->connect, .local = o->local, .timeout = o->connect_timeout, .keepalive = o->keepalive};

	if (s->backend.name[0] != '\0' || s->backend_error.status != 0)
		return; /* --early-connect was here */
	if (!backend_prepare(&s->backend, &bo, &s->backend_error) ||
	    (o->gss && !backend_prepare(&s->spare, &bo, &s->backend_error)))
		log_peer_line(LOG_ERR, "%s", s->backend_error.text);
}

void session_promise_tls(struct session *s)
{
	s->promised_tls = true;
	if (startup_answer(&s->raw.stream, 'S', s->deadline) != IO_DONE)
		exit(EX_PROTOCOL);
	if (!s->options.early_connect)
		return;
	session_prepare_backend(s);
	if (s->backend_error.status == 0 && !s->backend.started)
		backend_start(&s->backend);
}

static void finish_connect(struct session *s)
{
	if (s->backend_error.status != 0)
		return;
	if (!backend_finish(&s->backend, &s->backend_error)) {
		log_peer_line(LOG_DEBUG, "%s", s->backend_error.text);
		return;
	}
	fd_stream_init(&s->server, s->backend.fd, s->backend.fd);
	s->postgres = &s->server.stream;
}

static void shut_connect(struct session *s)
{
	struct error e;

	s->connect_over = true;
	if (!sandbox_connected(&e))
		die(e.status, "%s", e.text);
}

void session_connect_backend(struct session *s)
{
	if (s->connect_over)
		return;
	finish_connect(s);
	shut_connect(s);
}

/* PostgreSQL's answer to a GSSENCRequest: one byte and never one more, which would be the client's. 0 if there is none. */
static char gss_answer(struct session *s)
{
	deadline when = deadline_min(s->deadline, deadline_in((int64_t)s->options.connect_timeout * 1000));
	char answer;
	size_t n;

	if (stream_write_all(&s->server.stream, startup_gss_request, STARTUP_REQUEST_SIZE, when) != IO_DONE ||
	    stream_read_exactly(&s->server.stream, &answer, 1, &n, when) != IO_DONE)
		return 0;
	return answer;
}

char session_ask_gss(struct session *s)
{
	finish_connect(s);
	char answer = s->backend_error.status == 0 ? gss_answer(s) : 'N';

	if (stream_terminated()) {
		s->startup.kind = STARTUP_BROKEN;
		s->startup.io = IO_TERMINATED;
		session_end_startup(s);
	}
	if (answer == 'G' || answer == 'N') {
		shut_connect(s);
		return answer;
	}
	/* Before PostgreSQL 12 it is an error that ends the connection; later ones have it for a fork that failed. */
	log_peer_line(LOG_INFO, "%s: no answer to a GSSENCRequest; going on without GSSAPI encryption",
		      s->backend.name);
	close(s->backend.fd);
	s->backend = s->spare;
	s->postgres = NULL;
	return 'N';
}

noreturn void session_carry_cancel(struct session *s)
{
	char byte;
	size_t n;

	if (s->postgres == NULL)
		session_connect_backend(s);
	if (s->backend_error.status != 0) {
		log_peer_line(LOG_ERR, "could not hand on a cancel request: %s", s->backend_error.text);
		session_leave(s, EX_UNAVAILABLE);
	}
	deadline when = deadline_in((int64_t)s->options.connect_timeout * 1000);
	if (stream_write_all(s->postgres, s->startup.packet, s->startup.len, when) == IO_DONE)
		while (stream_read_exactly(s->postgres, &byte, 1, &n, when) == IO_DONE)
			;
	log_peer_line(LOG_INFO, "cancel request handed to PostgreSQL");
	session_leave(s, EX_OK);
}

void session_set_title(const struct session *s)
{
	char user[LOG_ESCAPED_SIZE(STARTUP_NAME_MAX)], database[LOG_ESCAPED_SIZE(STARTUP_NAME_MAX)];
	const struct startup *st = &s->startup;
	const char *who = s->gss ? "gssapi" : st->user, *where = s->gss ? "encrypted" : st->database;

	log_escape(user, sizeof user, who, strlen(who));
	log_escape(database, sizeof database, where, strlen(where));
	if (s->peer.port[0] == '\0')
		setproctitle("%s %s %s", user, database, s->peer.host);
	else
		setproctitle("%s %s %s(%s)", user, database, s->peer.host, s->peer.port);
}
