/* SPDX-License-Identifier: ISC
 *
 * session/session.h - one connection: what its ten steps share, steps 6 to 8 of the two modes, and
 * the ways to end.
 *
 * wrapper.c drives the steps. The parts of a session belong to their modules.
 */
#ifndef PGSSL_SESSION_SESSION_H
#define PGSSL_SESSION_SESSION_H

#include <stdint.h>

#include "auth/identmap.h"
#include "log.h"
#include "net/address.h"
#include "net/backend.h"
#include "net/sock.h"
#include "net/splice.h"
#include "net/stream.h"
#include "options.h"
#include "sandbox/sandbox.h"
#include "tls.h"
#include "wire/startup.h"

#define SESSION_LAST_WORDS_MS 5000 /* how long sending the last message may take */

/*
 * Steps 6 to 8. Each returns when its step is done; otherwise it reports the error to the client
 * and ends the process. They wait until s->deadline, and up to --connect-timeout for the backend.
 *
 *                 server mode                            client mode
 * 6 negotiate     read requests in clear until TLS       answer requests for encryption with 'N';
 *                 begins; forward a cancel request       read startup packet or cancel request
 * 7 shake_hands   with the client; then begin to         connect to the backend, ask it for TLS,
 *                 connect, unless verify-full needs      and verify it
 *                 the startup packet first
 * 8 admit         read the startup packet, check it      forward the packet, relay the answers up
 *                 against the certificate, connect,      to the first authentication request, or
 *                 forward the packet                     forward the cancel request
 */
struct session;
struct session_mode {
	void (*negotiate)(struct session *s);
	void (*shake_hands)(struct session *s);
	void (*admit)(struct session *s);
};

extern const struct session_mode session_server_mode, session_client_mode;

/* An error with status 0 means that no error is known. */
struct session {
	struct options options;
	const struct session_mode *mode;
	deadline deadline;              /* until the startup packet is in */
	int64_t started_ms;             /* CLOCK_MONOTONIC */
	struct sock_name peer;          /* the client's address, in numbers */
	struct sockaddr_storage source; /* the same for --transparent, if it is AF_INET or _INET6 */
	bool from_listener;             /* a listener did steps 3 and the look-ups of 4 */
	enum refusal excess;            /* beyond this limit of a listener: refused under TLS */
	bool promised_tls;              /* an SSLRequest was answered 'S' */
	bool gss; /* GSSAPI encryption from end to end, neither read nor changed */
	enum startup_place place;
	struct startup startup;

	struct fd_stream client_socket; /* standard input and output */
	struct stream *client;          /* client_socket, or TLS over it */

	struct address_list addresses; /* the backend's */
	struct backend connector;      /* its sockets */
	struct fd_stream backend_socket;
	struct stream *backend;     /* backend_socket, or TLS over it; NULL: not connected */
	struct error backend_error; /* why the backend cannot be reached */

	struct tls *tls;
	struct error tls_error;  /* client mode: why there is no TLS */
	struct identmap *map;    /* --map, or NULL */
	struct sandbox_user who; /* from step 5 on */
	struct splice splice;
};

/* ---- what several steps do ---- */

#define SESSION_FILES 8

/*
 * Load certificates, keys and the map. On failure nothing is left loaded. Fails and blocks as
 * tls_open and identmap_load.
 */
bool session_load(const struct options *o, struct tls **t, struct identmap **map,
		  struct error *e) MUST_USE;

/* The files that session_load reads. Returns how many. */
unsigned session_files(const struct options *o, const char *files[SESSION_FILES]);

/* Warn if the backend is not on this machine. */
void session_warn_remote(const struct session *s);

/* Look up the backend; warn if it is not on this machine. Fails and blocks as address_look_up. */
bool session_look_up_backend(struct session *s, struct error *e) MUST_USE;

/* Take the client from standard input and output. Its address is the connection's unless a listener
 * has set s->source. */
void session_take_client(struct session *s);

/* Answer requests for encryption with 'N' until s->startup is a session or a cancel request. */
void session_read_startup(struct session *s, enum startup_place place);

/* Set the client's address: the connection's own, then that of a PROXY header. */
void session_set_peer(struct session *s, const struct sockaddr_storage *address);

/* Answer a request with one byte. Leaves if the client has disconnected, as probes do. */
void session_answer(struct session *s, char answer);

/* Answer an SSLRequest with 'S'. */
void session_promise_tls(struct session *s);

/* Wait until the backend is connected, and set s->backend or s->backend_error. Nothing is done if
 * either is set. From here on the process cannot connect any more. */
void session_connect_backend(struct session *s);

/* Forward the CancelRequest in s->startup and wait until the backend has closed: only then has the
 * signal been sent. The client gets no answer. Takes up to --connect-timeout, twice if not yet
 * connected. */
noreturn void session_forward_cancel(struct session *s);

/*
 * Set the process title as PostgreSQL does, which --sessions reads:
 * "pgssl: alice sales 192.0.2.7(51234) TLSv1.3 TLS_AES_256_GCM_SHA384".
 */
void session_set_title(const struct session *s);

/* ---- the ways to end ---- */

/* End the client's connection so that the last message arrives, and exit. Takes up to 35 s if the
 * client does not acknowledge it. */
noreturn void session_leave(struct session *s, int status);

/* Send the client the refusal `why` as a FATAL, and leave. The caller writes the log. */
noreturn void session_tell(struct session *s, enum refusal why, const char *detail, int status);

/* The same, with a log line; it contains `detail` unescaped. */
noreturn void session_refuse(struct session *s, enum refusal why, const char *detail, int status);

/* The same: s->backend_error says why there is no backend. */
noreturn void session_refuse_backend(struct session *s);

/* Leave with status 0 and a debug line: health checks disconnect like this all day. */
noreturn void session_end_probe(struct session *s);

/* Leave because startup_read brought no request: the client left, broke off, or is refused. */
noreturn void session_end_startup(struct session *s);

#endif
