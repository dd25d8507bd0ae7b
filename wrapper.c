/* SPDX-License-Identifier: ISC
 *
 * wrapper.c - pgssl: TLS in front of PostgreSQL, one process per connection.
 *
 * main() is the table of contents: the life of one connection in ten steps, and their order is the security argument. The client is on
 * standard input and output; whatever goes wrong, nothing is ever written to standard error while that is the client too.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/certauth.h"
#include "check/check.h"
#include "session/client.h"
#include "listen/listen.h"
#include "log.h"
#include "pidfile.h"
#include "sandbox/sandbox.h"
#include "session/server.h"
#include "session/session.h"

/* How long a broken configuration waits for an SSLRequest, so that the client can be told under TLS. */
#define GREET_AGAIN_MS 2000

/* ---- 0: before anything ---- */

static bool same_file(int a, int b)
{
	struct stat st_a, st_b;

	return fstat(a, &st_a) == 0 && fstat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev &&
	       st_a.st_ino == st_b.st_ino;
}

static int put_aside = -1; /* what 2 was, if 1 is the same and 0 is not: of -d, it is no client's */

/* Descriptors 0, 1 and 2 exist from here on, and 2 is not the client. True if 2 was something of its own: then somebody reads it. */
static bool guard_stderr(void)
{
	bool closed = fcntl(STDERR_FILENO, F_GETFD) < 0;
	bool client = !closed && (same_file(STDERR_FILENO, STDIN_FILENO) ||
				  same_file(STDERR_FILENO, STDOUT_FILENO));
	int null = open("/dev/null", O_RDWR | O_NOCTTY);

	while (null >= 0 &&
	       null <
		   STDERR_FILENO) /* 0 or 1 was closed: nothing opened later may take its place */
		null = dup(null);
	if (null < 0)
		_exit(EX_OSERR);
	if (isatty(STDERR_FILENO)) /* a person, started by hand */
		return true;
	bool void_already = !closed && same_file(STDERR_FILENO, null);
	if (client && !void_already && !same_file(STDERR_FILENO, STDIN_FILENO))
		put_aside = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if ((closed || client) && dup2(null, STDERR_FILENO) < 0)
		_exit(EX_OSERR);
	return !closed && !client && !void_already;
}

static bool before_anything(int argc, char **argv, char **envp)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	stream_catch_sigterm();
	bool stderr_is_read = guard_stderr();
	closefrom(put_aside >= 0 ? put_aside + 1 : STDERR_FILENO + 1);
	setprogname("pgssl");
	setproctitle_init(argc, argv, envp);
	return stderr_is_read;
}

/* ---- 1: options ---- */

static void print_and_exit(const struct options *o)
{
	struct error e;
	char library[128];

	if (o->help)
		options_help();
	else if (o->version)
		options_version(tls_library(library, sizeof library));
	else if (o->check)
		exit(check_run(o));
	else if (o->sessions != NULL) {
		if (!pidfile_list(o->sessions, &e))
			die(e.status, "%s", e.text);
	} else
		return;
	exit(EX_OK);
}

/* "pgssl -d 9000 >file 2>&1", and systemd's journal: whoever listens has no client there, and somebody reads it. */
static bool take_stderr_back(bool listening, bool stderr_is_read)
{
	if (put_aside < 0)
		return stderr_is_read;
	bool back = listening && dup2(put_aside, STDERR_FILENO) >= 0;
	closefrom(STDERR_FILENO + 1);
	return back;
}

static void read_options(struct session *s, int argc, char **argv, bool stderr_is_read)
{
	struct options *o = &s->options;
	struct error usage = {.status = 0}, e;

	s->started_ms = deadline_in(0);
	bool ok = options_parse(o, argc, argv, &usage);
	stderr_is_read = take_stderr_back(o->listen != NULL, stderr_is_read);
	if (!log_open(o->log, stderr_is_read, o->service, o->debug, &e)) {
		(void)!log_open(NULL, stderr_is_read, o->service, o->debug,
				&(struct error){.status = 0});
		die(e.status, "%s", e.text);
	}
	if (!ok || !address_check(o->connect, &usage))
		die(usage.status, "%s", usage.text);
	print_and_exit(o);
	if (o->listen == NULL && isatty(STDIN_FILENO))
		die(EX_USAGE, "standard input is a terminal: pgssl is started by xinetd, inetd or "
			      "systemd with a "
			      "client there, or listens itself with -d (see --help)");
	s->deadline = deadline_in((int64_t)o->handshake_timeout * 1000);
}

/* ---- 2: greet ---- */

static void know_client(struct session *s)
{
	fd_stream_init(&s->raw, STDIN_FILENO, STDOUT_FILENO);
	s->client = &s->raw.stream;
	session_know_peer(s, STDIN_FILENO);
	sock_nodelay(STDOUT_FILENO);
	sock_keepalive(STDOUT_FILENO, s->options.keepalive);
}

/* A constant comparison, no parsing: the client builds its ClientHello while OpenSSL initialises here. Not with --gss: its clients begin otherwise. */
static void greet(struct session *s)
{
	if (!s->promised_tls && !s->options.client && !s->options.gss &&
	    !s->options.proxy_protocol &&
	    sock_take_if(STDIN_FILENO, startup_ssl_request, sizeof startup_ssl_request))
		session_promise_tls(s);
}

/* ---- 3: certificate and key, authorities, names ---- */

/* Something is wrong here, not with the client: log it, and let a client that was promised TLS see an alert. */
static noreturn void fail_here(struct session *s, const struct error *e)
{
	log_peer_line(LOG_ERR, "%s", e->text);
	if (!s->promised_tls &&
	    stream_wait(&s->raw.stream, IO_WANT_READ, deadline_in(GREET_AGAIN_MS)) == IO_DONE)
		greet(s);
	if (s->promised_tls) {
		/* After the ClientHello: what libpq gets together with the 'S' it takes for no part of TLS and drops. */
		(void)!stream_wait(&s->raw.stream, IO_WANT_READ, deadline_in(GREET_AGAIN_MS));
		tls_send_internal_error(&s->raw.stream, deadline_in(SESSION_LAST_WORDS_MS));
	}
	session_leave(s, e->status);
}

static void open_tls(struct session *s)
{
	struct error e;

	if (session_load(s, &s->tls, &s->map, &e))
		return;
	if (!s->options.client)
		fail_here(s, &e);
	log_peer_line(LOG_ERR, "%s", e.text);
	s->tls_error = e; /* the local client is told in step 7, when it can read an answer */
}

/* ---- 4: look-ups and sockets. In step 8, under TLS, the client is told if they failed. ---- */

static void look_up(struct session *s)
{
	struct error e;

	if (!session_resolve_backend(s, &s->backend_error)) {
		if (s->backend_error.status == EX_USAGE)
			fail_here(s, &s->backend_error);
		log_peer_line(LOG_ERR, "%s", s->backend_error.text);
	}
	if (!sandbox_find_user(s->options.user, s->options.group, &s->who, &e))
		fail_here(s, &e);
}

static void open_backend(struct session *s)
{
	if (s->backend_error.status == 0 &&
	    !backend_open(&s->backend, &s->addresses, &s->options, &s->backend_error))
		log_peer_line(LOG_ERR, "%s", s->backend_error.text);
}

/* ---- 5: sandbox ---- */

static void enter_sandbox(struct session *s)
{
	const struct options *o = &s->options;
	struct sock_name local;
	struct error e;
	char danger[256];

	if (address_peer_danger(&s->addresses, s->who.uid, danger, sizeof danger))
		log_peer_line(LOG_WARNING, "%s", danger);
	if (!sandbox_drop_privileges(&s->who, &e))
		fail_here(s, &e);
	listen_tie_child();
	sock_local(STDIN_FILENO, &local);
	if (o->listen == NULL && o->pidfile != NULL &&
	    !pidfile_create(o->pidfile, local.host, local.port, &e))
		log_peer_line(LOG_WARNING, "%s", e.text);
	atexit(pidfile_delete);
	bool ready = s->backend_error.status == 0;
	struct sandbox_needs needs = {
	    .remove_in = pidfile_folder(),
	    .tcp_port = ready ? address_tcp_port(&s->addresses) : 0,
	    .unix_connect = ready && address_is_unix(&s->addresses),
	    .bind = o->transparent,
	    .yield = o->spin > 0,
	    .log_to_file = log_is_file(),
	};
	/* Also wipes the arguments and the environment as they were given, of which libbsd made copies. */
	setproctitle("startup %s", s->peer.host);
	if (!sandbox_enter(&needs, &e))
		fail_here(s, &e);
}

/* ---- 9 and 10: the session ---- */

static void describe(const struct session *s, struct log_session *line, char *port, size_t size)
{
	static struct tls_peer peer;

	*line = (struct log_session){
	    .user = s->startup.user,
	    .database = s->startup.database,
	    .application_name = s->startup.application_name,
	    .backend_port = backend_port(&s->backend, port, size),
	    .tls = s->gss ? "gss" : tls_version(s->tls),
	    .cipher = s->gss ? NULL : tls_cipher(s->tls),
	    .group = s->gss ? NULL : tls_group(s->tls),
	    .started_ms = s->started_ms,
	};
	if (tls_peer(s->tls, &peer)) {
		line->subject = peer.subject;
		line->issuer = peer.issuer;
		line->serial = peer.serial;
	}
}

static void carry(struct session *s, const struct log_session *line)
{
	log_authorized(line);
	s->splice = (struct splice){
	    .client = s->client,
	    .server = s->postgres,
	    .idle_ms = s->options.idle_timeout * 1000,
	    .spin_us = s->options.spin,
	    .until = certauth_until(s),
	    .received = s->startup.len,
	};
	splice_run(&s->splice);
}

static noreturn void finish(struct session *s, struct log_session *line)
{
	line->received = s->splice.received;
	line->sent = s->splice.sent;
	line->reason = splice_reason(s->splice.end);
	log_disconnection(line, deadline_in(0));
	if (s->options.client) /* close_notify */
		(void)!stream_shut_all(s->postgres, deadline_in(SESSION_LAST_WORDS_MS));
	close(s->backend.fd); /* its backend need not wait for our client's last acknowledgement */
	bool tls_failed = !s->gss && tls_failure(s->tls)[0] != '\0';
	if (tls_failed)
		log_peer_line(LOG_INFO, "TLS failed: %s", tls_failure(s->tls));
	if (s->splice.end == SPLICE_CLIENT_RESET &&
	    !tls_failed) /* else there is an alert on its way */
		exit(EX_OK);
	session_leave(s, EX_OK);
}

/* Steps 6 to 8 of the two modes. */
struct mode {
	void (*negotiate)(struct session *);
	void (*shake_hands)(struct session *);
	void (*admit)(struct session *);
};

static const struct mode server_mode = {server_negotiate, server_shake_hands, server_admit};
static const struct mode client_mode = {client_negotiate, client_shake_hands, client_admit};

int main(int argc, char **argv, char **envp)
{
	static struct session s;
	struct log_session line;
	char port[8];

	bool stderr_is_read = before_anything(argc, argv, envp); /* 0 */
	read_options(&s, argc, argv, stderr_is_read);            /* 1 */
	bool listening = s.options.listen != NULL;
	if (listening)
		listen_run(&s); /* steps 3 and 4 for all sessions; returns in each child */
	know_client(&s);
	greet(&s); /* 2 */
	if (!listening) {
		open_tls(&s); /* 3 */
		look_up(&s);  /* 4 */
	}
	open_backend(&s);  /* 4 */
	enter_sandbox(&s); /* 5: from here on client bytes are parsed */
	const struct mode *mode = s.options.client ? &client_mode : &server_mode;
	mode->negotiate(&s);   /* 6 */
	mode->shake_hands(&s); /* 7 */
	mode->admit(&s);       /* 8 */
	describe(&s, &line, port, sizeof port);
	carry(&s, &line);  /* 9 */
	finish(&s, &line); /* 10 */
}
