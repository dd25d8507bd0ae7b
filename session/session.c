/* SPDX-License-Identifier: ISC
 *
 * session/session.c - what several steps do: loading, the backend's connection, cancel requests,
 * the ways to end.
 */
#include "session/session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINGER_MS 30000 /* how long a close waits for the client to take the last message */

noreturn void session_leave(struct session *s, int status)
{
	if (s->client != &s->client_socket.stream) /* close_notify */
		(void)!stream_shut_all(s->client, deadline_in(SESSION_LAST_WORDS_MS));
	stream_linger(s->client_socket.stream.rfd, s->client_socket.stream.wfd,
		      deadline_in(LINGER_MS));
	sock_orphan(s->client_socket.stream.wfd, s->options.keepalive);
	exit(status);
}

noreturn void session_tell(struct session *s, enum refusal why, const char *detail, int status)
{
	(void)!startup_refuse(s->client, why, detail, deadline_in(SESSION_LAST_WORDS_MS));
	session_leave(s, status);
}

noreturn void session_refuse(struct session *s, enum refusal why, const char *detail, int status)
{
	char text[1024];

	log_peer_line(status == EX_UNAVAILABLE || status == EX_OSERR ? LOG_ERR : LOG_WARNING, "%s",
		      startup_refusal_text(why, detail, text, sizeof text));
	session_tell(s, why, detail, status);
}

noreturn void session_refuse_backend(struct session *s)
{
	const struct error *e = &s->backend_error;

	session_refuse(s, REFUSE_BACKEND, e->text,
		       e->status == EX_OSERR ? EX_OSERR : EX_UNAVAILABLE);
}

noreturn void session_end_probe(struct session *s)
{
	log_peer_line(LOG_DEBUG, "client left without a startup packet");
	session_leave(s, EX_OK);
}

noreturn void session_end_startup(struct session *s)
{
	const struct startup *st = &s->startup;

	if (st->kind == STARTUP_REFUSED)
		session_refuse(s, st->why, st->detail, EX_PROTOCOL);
	const char *tls_error = s->tls != NULL ? tls_failure(s->tls) : "";
	if (st->kind == STARTUP_NOTHING && tls_error[0] == '\0')
		session_end_probe(s);
	log_peer_line(LOG_WARNING, "%s%s%s", startup_broken_text(st),
		      tls_error[0] != '\0' ? ": " : "", tls_error);
	session_leave(s, st->io == IO_NO_MEMORY ? EX_OSERR : EX_PROTOCOL);
}

void session_answer(struct session *s, char answer)
{
	s->startup.io = startup_answer(s->client, answer, s->deadline);
	if (s->startup.io == IO_DONE)
		return;
	s->startup.kind = s->startup.io == IO_FAILED ? STARTUP_NOTHING : STARTUP_BROKEN;
	session_end_startup(s);
}

void session_read_startup(struct session *s, enum startup_place place)
{
	for (;;) {
		startup_read(&s->startup, s->client, place, false, s->deadline);
		switch (s->startup.kind) {
		case STARTUP_SESSION:
		case STARTUP_CANCEL:
			return;
		case STARTUP_SSL_REQUEST: /* inside TLS: from a psql behind a plain TLS tunnel */
		case STARTUP_GSS_REQUEST:
			session_answer(s, 'N');
			break;
		default:
			session_end_startup(s);
		}
	}
}

bool session_load(const struct options *o, struct tls **t, struct identmap **map, struct error *e)
{
	*map = NULL;
	if (!tls_open(t, o, e))
		return false;
	bool listener = options_listener(o);
	if (o->map == NULL || ((!listener || identmap_try(o->ident_map, o->map, e)) &&
			       identmap_load(o->ident_map, o->map, !listener, map, e)))
		return true;
	tls_discard(*t);
	*t = NULL;
	return false;
}

unsigned session_files(const struct options *o, const char *files[SESSION_FILES])
{
	const char *const all[SESSION_FILES] = {o->cert[0],         o->cert[1], o->key,
						tls_authorities(o), o->crl,     o->ident_map};
	unsigned n = 0;

	for (unsigned i = 0; i < SESSION_FILES; i++)
		if (all[i] != NULL)
			files[n++] = all[i];
	return n;
}

void session_warn_remote(const struct session *s)
{
	if (!s->options.client && address_is_remote(&s->addresses))
		log_line(LOG_WARNING,
			 "PostgreSQL at %s is not on this machine: the connection to it is not "
			 "encrypted",
			 s->addresses.name);
}

bool session_look_up_backend(struct session *s, struct error *e)
{
	if (!address_look_up(&s->addresses, &s->options, e))
		return false;
	session_warn_remote(s);
	return true;
}

void session_set_peer(struct session *s, const struct sockaddr_storage *address)
{
	s->source = *address;
	sock_unmap(&s->source);
	sock_format((struct sockaddr *)&s->source, sizeof s->source, &s->peer);
	log_set_peer(s->peer.host, s->peer.port);
}

void session_take_client(struct session *s)
{
	struct sockaddr_storage sa = s->source;

	fd_stream_init(&s->client_socket, STDIN_FILENO, STDOUT_FILENO);
	s->client = &s->client_socket.stream;
	if (sa.ss_family == AF_UNSPEC)
		sock_client(STDIN_FILENO, &sa);
	session_set_peer(s, &sa);
	if (s->from_listener) /* its socket has these options, and accept() passed them on */
		return;
	sock_nodelay(STDOUT_FILENO);
	sock_keepalive(STDOUT_FILENO, s->options.keepalive);
}

void session_promise_tls(struct session *s)
{
	s->promised_tls = true;
	session_answer(s, 'S');
}

void session_connect_backend(struct session *s)
{
	struct error e;

	if (s->backend != NULL || s->backend_error.status != 0)
		return;
	if (backend_finish(&s->connector, &s->backend_error)) {
		fd_stream_init(&s->backend_socket, s->connector.fd, s->connector.fd);
		s->backend = &s->backend_socket.stream;
	}
	if (!sandbox_connected(&e))
		die(e.status, "%s", e.text);
}

noreturn void session_forward_cancel(struct session *s)
{
	char byte;
	size_t n;

	session_connect_backend(s);
	if (s->backend == NULL) {
		log_peer_line(LOG_ERR, "could not forward a cancel request: %s",
			      s->backend_error.text);
		session_leave(s, EX_UNAVAILABLE);
	}
	deadline when = deadline_in(s->connector.timeout_ms);
	if (stream_write_all(s->backend, s->startup.packet, s->startup.len, when) != IO_DONE) {
		log_peer_line(LOG_ERR, "could not forward a cancel request: %s: could not send it",
			      s->addresses.name);
		session_leave(s, EX_UNAVAILABLE);
	}
	while (stream_read_exactly(s->backend, &byte, 1, &n, when) == IO_DONE)
		;
	log_peer_line(LOG_INFO, "cancel request forwarded to PostgreSQL");
	session_leave(s, EX_OK);
}

void session_set_title(const struct session *s)
{
	char user[LOG_ESCAPED_SIZE(STARTUP_NAME_MAX)], database[LOG_ESCAPED_SIZE(STARTUP_NAME_MAX)];
	const char *who = s->gss ? "gssapi" : s->startup.user;
	const char *where = s->gss ? "encrypted" : s->startup.database;

	log_escape(user, sizeof user, who, strlen(who));
	log_escape(database, sizeof database, where, strlen(where));
	setproctitle(s->peer.port[0] != '\0' ? "%s %s %s(%s) %s %s" : "%s %s %s%s %s %s", user,
		     database, s->peer.host, s->peer.port, s->gss ? "gss" : tls_version(s->tls),
		     s->gss ? "-" : tls_cipher(s->tls));
}
