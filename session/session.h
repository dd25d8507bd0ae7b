/* SPDX-License-Identifier: ISC
 *
 * session/session.h - one connection: what its ten steps share, and the ways in which they end it.
 *
 * Owns nothing of its own: the parts belong to their modules. wrapper.c drives the steps; server.c and client.c have steps 6 to 8 of the two modes.
 */
#ifndef PGSSL_SESSION_SESSION_H
#define PGSSL_SESSION_SESSION_H

#include <stdint.h>

#include "net/address.h"
#include "net/backend.h"
#include "auth/identmap.h"
#include "log.h"
#include "options.h"
#include "sandbox/sandbox.h"
#include "net/sock.h"
#include "net/splice.h"
#include "wire/startup.h"
#include "net/stream.h"
#include "tls.h"

#define SESSION_LAST_WORDS_MS 5000 /* how long sending the last message may take */

struct session {
	struct options options;
	deadline deadline; /* for all until the startup packet is in */
	int64_t started_ms;
	struct sock_name peer;
	struct sockaddr_storage
	    source;    /* the client's address, for --transparent; ss_family 0: it has none */
	bool too_many; /* more sessions than --max-connections: to be told so under TLS */
	struct fd_stream raw;    /* the client as it is */
	struct stream *client;   /* the client as it is spoken to: raw, or TLS over it */
	struct fd_stream server; /* PostgreSQL as it is */
	/* PostgreSQL as it is spoken to: server, or in client mode TLS over it. NULL: not connected. */
	struct stream *postgres;
	struct tls *tls;
	struct error
	    tls_error; /* client mode: why TLS cannot be had, status 0 if nothing is known against it */
	struct identmap *map;          /* --map, or NULL */
	struct sandbox_user who;       /* from step 5 on */
	struct address_list addresses; /* PostgreSQL's */
	struct backend backend;
	struct error
	    backend_error; /* why PostgreSQL cannot be connected to, status 0 if nothing is known against it */
	bool promised_tls; /* an SSLRequest was answered 'S' */
	bool
	    gss; /* GSSAPI encryption between the client and PostgreSQL: no TLS, no startup packet to read */
	enum startup_place place;
	struct startup startup;
	struct splice splice;
};

/* End the client's side so that what was said last arrives, and exit. May take 30 s, if the client does not acknowledge it. */
noreturn void session_leave(struct session *s, int status);

/* Tell the client `why` in PostgreSQL's way, and leave. The log is the caller's. */
noreturn void session_tell(struct session *s, enum refusal why, const char *detail, int status);

/* Tell the client `why` in PostgreSQL's way, log it, and leave. `detail` goes to the log as it is: no client's text. */
noreturn void session_refuse(struct session *s, enum refusal why, const char *detail, int status);

/* What startup_read brought is no request: the client left, or broke off, or has to be told something. */
noreturn void session_end_startup(struct session *s);

/* Load certificates, keys and the map as the options say; nothing is left of what could not be loaded. Fails as tls_open and identmap_load. */
bool session_load(const struct session *s, struct tls **t, struct identmap **map,
		  struct error *e) MUST_USE;

#define SESSION_FILES 8

/* The files that session_load reads, for the parent of -d to look whether they have changed. Returns how many. */
unsigned session_files(const struct session *s, const char *files[SESSION_FILES]);

/* Look up PostgreSQL, and warn if the way to it leaves this machine. Fails as address_look_up. */
bool session_resolve_backend(struct session *s, struct error *e) MUST_USE;

/* Look up the client's address at `fd`, and let the log name it. */
void session_know_peer(struct session *s, int fd);

/* The client is who a PROXY header says. */
void session_set_peer(struct session *s, const struct sockaddr_storage *address);

/* Answer an SSLRequest 'S'. Ends the process if the client is gone. */
void session_promise_tls(struct session *s);

/*
 * Wait until PostgreSQL is connected, and set s->postgres. If it cannot be, s->backend_error says
 * why. After that the process cannot connect any more.
 */
void session_connect_backend(struct session *s);

/*
 * --gss: connect, and pass the GSSENCRequest in s->startup on to PostgreSQL. 'G': all that follows
 * is between the client and PostgreSQL. 'N': PostgreSQL refuses and waits for a startup packet, or
 * it gave no answer and s->backend_error says so. May take --connect-timeout twice.
 */
char session_ask_gss(struct session *s);

/* Hand the CancelRequest in s->startup to PostgreSQL and wait until it has closed: only then has the signal been sent. There is no answer. */
noreturn void session_carry_cancel(struct session *s);

/* The process title, as PostgreSQL sets it: "pgssl: alice sales 192.0.2.7(51234)". */
void session_set_title(const struct session *s);

#endif
