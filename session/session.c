/* SPDX-License-Identifier: ISC
 *
 * session/session.c - what several steps do: the ways to end, the connection to PostgreSQL, cancel requests.
 */
#include "session/session.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINGER_MS 30000 /* how long a close waits for the client to take the last message */

noreturn void session_leave(struct session *s, int status)
{
	if (s->client != &s->raw.stream) /* close_notify */
		(void)!stream_shut_all(s->client, deadline_in(SESSION_LAST_WORDS_MS));
	stream_linger(s->raw.stream.rfd, s->raw.stream.wfd, deadline_in(LINGER_MS));
	sock_orphan(s->raw.stream.wfd, s->options.keepalive);
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

bool session_load(const struct session *s, struct tls **t, struct identmap **map, struct error *e)
{
	const struct options *o = &s->options;

	*map = NULL;
	if (!tls_open(t, o, e))
		return false;
	if (o->map == NULL || identmap_load(o->ident_map, o->map, map, e))
		return true;
	tls_discard(*t);
	*t = NULL;
	return false;
}

unsigned session_files(const struct session *s, const char *files[SESSION_FILES])
{
	const struct options *o = &s->options;
	const char *const all[SESSION_FILES] = {o->cert[0],         o->cert[1], o->key,
						tls_authorities(o), o->crl,     o->ident_map};
	unsigned n = 0;

	for (unsigned i = 0; i < SESSION_FILES; i++)
		if (all[i] != NULL)
			files[n++] = all[i];
	return n;
}

bool session_resolve_backend(struct session *s, struct error *e)
{
	if (!address_look_up(&s->addresses, &s->options, e))
		return false;
	if (!s->options.client && address_is_remote(&s->addresses))
		log_line(LOG_WARNING,
			 "PostgreSQL at %s is not on this machine: what goes there is in clear",
			 s->addresses.name);
	return true;
}

void session_set_peer(struct session *s, const struct sockaddr_storage *address)
{
	socklen_t len = address->ss_family == AF_INET ? sizeof(struct sockaddr_in)
						      : sizeof(struct sockaddr_in6);

	if (address->ss_family != AF_INET && address->ss_family != AF_INET6)
		return; /* a Unix socket's path says nothing of a client */
	s->source = *address;
	sock_unmap(&s->source, &len);
	sock_format((struct sockaddr *)&s->source, len, &s->peer);
	log_set_peer(s->peer.host, s->peer.port);
}

void session_know_peer(struct session *s, int fd)
{
	struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof sa;

	s->peer = (struct sock_name){.host = "[local]"};
	log_set_peer(s->peer.host, s->peer.port);
	if (getpeername(fd, (struct sockaddr *)&sa, &len) == 0)
		session_set_peer(s, &sa);
}

void session_promise_tls(struct session *s)
{
	s->promised_tls = true;
	if (startup_answer(&s->raw.stream, 'S', s->deadline) != IO_DONE)
		exit(EX_PROTOCOL);
}

void session_connect_backend(struct session *s)
{
	struct error e;

	if (s->backend_error.status != 0)
		return;
	if (backend_finish(&s->backend, &s->backend_error)) {
		fd_stream_init(&s->server, s->backend.fd, s->backend.fd);
		s->postgres = &s->server.stream;
	} else {
		log_peer_line(LOG_DEBUG, "%s", s->backend_error.text);
	}
	if (!sandbox_connected(&e))
		die(e.status, "%s", e.text);
}

/* PostgreSQL's answer to a GSSENCRequest: one byte and never one more, which would be the client's. 0 if there is none. */
static char gss_answer(struct session *s)
{
	deadline when =
	    deadline_min(s->deadline, deadline_in((int64_t)s->options.connect_timeout * 1000));
	char answer;
	size_t n;

	if (stream_write_all(s->postgres, startup_gss_request, STARTUP_REQUEST_SIZE, when) !=
		IO_DONE ||
	    stream_read_exactly(s->postgres, &answer, 1, &n, when) != IO_DONE)
		return 0;
	return answer;
}

char session_ask_gss(struct session *s)
{
	session_connect_backend(s);
	char answer = s->postgres != NULL ? gss_answer(s) : 'N';

	if (stream_terminated()) {
		s->startup.kind = STARTUP_BROKEN;
		s->startup.io = IO_TERMINATED;
		session_end_startup(s);
	}
	if (answer == 'G' || answer == 'N')
		return answer;
	/* PostgreSQL 11 closes with an error, and so does a newer one that cannot fork. */
	fail(&s->backend_error, EX_UNAVAILABLE,
	     "%s: it did not answer the request for GSSAPI encryption (--gss)", s->addresses.name);
	close(s->backend.fd);
	s->postgres = NULL;
	return 'N';
}

noreturn void session_carry_cancel(struct session *s)
{
	char byte;
	size_t n;

	if (s->postgres == NULL)
		session_connect_backend(s);
	if (s->postgres == NULL) {
		log_peer_line(LOG_ERR, "could not hand on a cancel request: %s",
			      s->backend_error.text);
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
	const char *who = s->gss ? "gssapi" : st->user,
		   *where = s->gss ? "encrypted" : st->database;

	log_escape(user, sizeof user, who, strlen(who));
	log_escape(database, sizeof database, where, strlen(where));
	if (s->peer.port[0] == '\0')
		setproctitle("%s %s %s", user, database, s->peer.host);
	else
		setproctitle("%s %s %s(%s)", user, database, s->peer.host, s->peer.port);
}
