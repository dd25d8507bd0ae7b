/* SPDX-License-Identifier: ISC
 *
 * wrapper.c - pgssl: TLS in front of PostgreSQL, one process per connection.
 *
 * main() is the table of contents: one connection in ten steps, whose order is the security
 * argument (DESIGN, "The steps"). The client is on standard input and output. If standard error is
 * the client too, nothing is ever written there.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/certauth.h"
#include "check/check.h"
#include "listen/listen.h"
#include "log.h"
#include "pidfile.h"
#include "sandbox/path.h"
#include "sandbox/sandbox.h"
#include "session/session.h"

/* After step 3 failed: how long to wait for an SSLRequest, so that the client can get an alert. */
#define LATE_REQUEST_MS 2000

/* ---- 0: descriptors and signals ---- */

/* What step 0 found on descriptor 2. */
struct found_stderr {
	bool is_log;   /* not the client, nor closed, nor /dev/null */
	int set_aside; /* a copy if it is the same file as descriptor 1 but not 0, else -1 */
	int first_unused;
};

static bool same_file(int a, int b)
{
	struct stat st_a, st_b;

	return fstat(a, &st_a) == 0 && fstat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev &&
	       st_a.st_ino == st_b.st_ino;
}

static bool has_type(int fd, mode_t type)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type;
}

/* From a terminal, or by a script with /dev/null as input: there is no client. */
static bool started_by_hand(void)
{
	return has_type(STDIN_FILENO, S_IFCHR) && !has_type(STDOUT_FILENO, S_IFSOCK);
}

/* The log is not open. */
static noreturn void refuse_start(bool use_stderr)
{
	int error = errno;

	log_open(-1, use_stderr, "pgssl", LOG_NOTICE);
	die(EX_OSERR, "could not open /dev/null: %s", strerror(error));
}

/*
 * From here on descriptors 0, 1 and 2 are open, 2 is not the client, and those from `first_unused`
 * on are closed.
 */
static struct found_stderr guard_descriptors(int first_unused)
{
	struct found_stderr found = {.set_aside = -1, .first_unused = first_unused};
	bool closed = fcntl(STDERR_FILENO, F_GETFD) < 0;
	bool is_stdin = !closed && same_file(STDERR_FILENO, STDIN_FILENO);
	bool client =
	    is_stdin || (!closed && same_file(STDERR_FILENO, STDOUT_FILENO) && !started_by_hand());
	int null = open("/dev/null", O_RDWR | O_NOCTTY);

	while (null >= 0 && null < STDERR_FILENO) /* fill in 0 and 1 too */
		null = dup(null);
	if (null < 0)
		refuse_start(!closed && !client);
	bool is_null = !closed && same_file(STDERR_FILENO, null);
	if (isatty(STDERR_FILENO)) { /* started by hand */
		found.is_log = true;
	} else {
		found.is_log = !closed && !client && !is_null;
		if (client && !is_stdin && !is_null)
			found.set_aside = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, first_unused);
		if ((closed || client) && dup2(null, STDERR_FILENO) < 0)
			refuse_start(false);
	}
	closefrom(found.set_aside >= 0 ? found.set_aside + 1 : first_unused);
	return found;
}

static struct found_stderr prepare_process(int argc, char **argv, char **envp)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a log that reaches an inherited limit only loses lines */
	signal(SIGCHLD, SIG_DFL);
	stream_catch_signals(); /* and set the signal mask */
	struct found_stderr found = guard_descriptors(listen_inherit());
	setprogname("pgssl");
	setproctitle_init(argc, argv, envp);
	return found;
}

/* ---- 1: options ---- */

/* Does pgssl only report something and exit? */
static bool reports(const struct options *o)
{
	return o->help || o->version || o->check || o->sessions != NULL;
}

/*
 * "pgssl -d 9000 >file 2>&1" and systemd's journal can have the log: a listener has no client. A
 * report has none either.
 */
static bool settle_stderr(struct found_stderr found, const struct options *o)
{
	if (found.set_aside < 0)
		return found.is_log;
	bool no_client = reports(o) || options_listener(o);
	bool restored = no_client && dup2(found.set_aside, STDERR_FILENO) >= 0;
	closefrom(found.first_unused);
	return restored;
}

static noreturn void report_and_exit(const struct options *o)
{
	int status = EX_OK;
	struct error e;
	char library[128];

	if (o->help)
		options_help();
	else if (o->version)
		printf("pgssl %s (%s)\n", VERSION, tls_library(library, sizeof library));
	else if (o->check)
		status = check_run(o);
	else if (!check_sessions(o->sessions, &e))
		die(e.status, "%s", e.text);
	errno = 0;
	if (fflush(stdout) != 0 || ferror(stdout) != 0)
		die(EX_IOERR, "could not write to standard output: %s",
		    errno != 0 ? strerror(errno) : "an earlier line was lost");
	exit(status);
}

static void read_options(struct session *s, int argc, char **argv, struct found_stderr found)
{
	struct options *o = &s->options;
	struct error usage = {.status = 0};
	const char *why;

	s->started_ms = deadline_in(0);
	bool ok = options_parse(o, argc, argv, listen_inherited(), &usage);
	bool use_stderr = settle_stderr(found, o);
	int fd = o->log == NULL ? -1 : path_append(o->log, &why);
	log_open(fd, use_stderr, o->service, o->debug);
	if (o->log != NULL && fd < 0) {
		listen_turn_one_away();
		die(EX_CANTCREAT, "could not open log file \"%s\": %s", o->log, why);
	}
	if (!ok || !address_check(o->connect, &usage)) {
		listen_turn_one_away();
		die(usage.status, "%s", usage.text);
	}
	if (reports(o))
		report_and_exit(o);
	if (!options_listener(o) && isatty(STDIN_FILENO))
		die(EX_USAGE,
		    "standard input is a terminal: start pgssl from xinetd, inetd or systemd, or "
		    "with -d to listen on a port (see --help)");
	s->deadline = deadline_in((int64_t)o->handshake_timeout * 1000);
	s->mode = o->client ? &session_client_mode : &session_server_mode;
}

/* ---- 2: greet ---- */

/* This parses nothing. With --gss and --proxy-protocol something else may come first. */
static bool take_waiting_request(const struct options *o)
{
	return !o->client && !o->gss && !o->proxy_protocol &&
	       sock_take_if(STDIN_FILENO, startup_ssl_request, sizeof startup_ssl_request);
}

/* A client that already asked for TLS builds its ClientHello while OpenSSL starts here. */
static void greet(struct session *s)
{
	session_take_client(s);
	if (take_waiting_request(&s->options))
		session_promise_tls(s);
}

/* ---- 3: certificate and key, authorities, map ---- */

/* Log a fault of this installation. A client that asks for TLS gets an alert. */
static noreturn void fail_here(struct session *s, const struct error *e)
{
	struct stream *client = &s->client_socket.stream;

	log_peer_line(LOG_ERR, "%s", e->text);
	if (!s->promised_tls &&
	    stream_wait(client, IO_WANT_READ, deadline_in(LATE_REQUEST_MS)) == IO_DONE &&
	    take_waiting_request(&s->options))
		s->promised_tls = startup_answer(client, 'S', s->deadline) == IO_DONE;
	if (s->promised_tls) {
		/* libpq drops what arrives together with the 'S': wait for the ClientHello. */
		(void)!stream_wait(client, IO_WANT_READ, deadline_in(LATE_REQUEST_MS));
		tls_send_internal_error(client, deadline_in(SESSION_LAST_WORDS_MS));
	}
	session_leave(s, e->status);
}

static void open_tls(struct session *s)
{
	struct error e;

	if (session_load(&s->options, &s->tls, &s->map, &e))
		return;
	if (!s->options.client || e.status == EX_OSERR) /* without memory no step can follow */
		fail_here(s, &e);
	log_peer_line(LOG_ERR, "%s", e.text);
	s->tls_error = e; /* the client gets it in step 7, when it can read an answer */
}

/* ---- 4: look-ups. If that of -r fails, step 8 logs it and tells the client. ---- */

static void look_up(struct session *s)
{
	struct error e;

	if (!session_look_up_backend(s, &s->backend_error) && s->backend_error.status == EX_USAGE)
		fail_here(s, &s->backend_error);
	if (!sandbox_find_user(s->options.user, s->options.group, &s->who, &e))
		fail_here(s, &e);
}

/* ---- 5: sandbox ---- */

/* Step 8 reports a failure, as it does one of step 4. */
static void open_sockets(struct session *s)
{
	if (s->backend_error.status == 0)
		(void)!backend_open(&s->connector, &s->addresses, &s->options, &s->backend_error);
}

/*
 * A packet filter by user sees the user who created a socket. So the final user creates them,
 * except with -T, which needs a capability that root loses here.
 */
static void drop_privileges(struct session *s)
{
	struct error e;

	if (s->options.transparent)
		open_sockets(s);
	if (!sandbox_drop_privileges(&s->who, &e))
		fail_here(s, &e);
	listen_tie_child();
	if (!s->options.transparent)
		open_sockets(s);
}

static void enter_sandbox(struct session *s)
{
	const struct options *o = &s->options;
	struct sock_name local;
	struct error e;
	char danger[256];

	if (address_peer_danger(&s->addresses, s->who.uid, danger, sizeof danger))
		log_peer_line(LOG_WARNING, "%s", danger);
	drop_privileges(s);
	sock_local(STDIN_FILENO, &local);
	if (!s->from_listener && o->pidfile != NULL &&
	    !pidfile_create(o->pidfile, local.host, local.port, &e))
		log_peer_line(LOG_WARNING, "%s", e.text);
	atexit(pidfile_delete);
	bool ready = s->backend_error.status == 0;
	struct sandbox_needs needs = {
	    .remove_in = pidfile_directory(),
	    .tcp_port = ready ? address_tcp_port(&s->addresses) : 0,
	    .unix_connect = ready && address_is_unix(&s->addresses),
	    .bind = o->transparent,
	    .yield = o->spin > 0,
	    .log_to_file = log_is_file(),
	    .syslog = log_syslog_socket(),
	};
	/* Also wipes the arguments and the environment, of which libbsd made copies. */
	setproctitle("startup %s", s->peer.host);
	if (!sandbox_enter(&needs, &e))
		fail_here(s, &e);
}

/* ---- 9 and 10: relay and end ---- */

static void describe_session(const struct session *s, struct log_session *line)
{
	static struct tls_peer peer;
	static struct sock_name local;

	sock_local(s->connector.fd, &local);
	*line = (struct log_session){
	    .user = s->startup.user,
	    .database = s->startup.database,
	    .application_name = s->startup.application_name,
	    .backend_port = local.port[0] != '\0' ? local.port : NULL,
	    .tls = s->gss ? "gss" : tls_version(s->tls),
	    .cipher = s->gss ? NULL : tls_cipher(s->tls),
	    .group = s->gss ? NULL : tls_group(s->tls),
	    .started_ms = s->started_ms,
	};
	if (tls_peer(s->tls, &peer)) {
		line->subject = peer.subject;
		line->issuer = peer.issuer;
		line->serial = peer.serial;
		line->of_server = s->options.client;
	}
}

static void relay_session(struct session *s, struct log_session *line)
{
	describe_session(s, line);
	log_authorized(line);
	s->splice = (struct splice){
	    .client = s->client,
	    .backend = s->backend,
	    .idle_ms = s->options.idle_timeout * 1000,
	    .spin_us = s->options.spin,
	    .until = certauth_until(&s->options, s->tls),
	    .received = s->startup.len,
	};
	splice_run(&s->splice);
}

static noreturn void finish_session(struct session *s, struct log_session *line)
{
	line->received = s->splice.received;
	line->sent = s->splice.sent;
	line->reason = splice_reason(s->splice.end);
	log_disconnection(line, deadline_in(0));
	if (s->options.client) /* close_notify */
		(void)!stream_shut_all(s->backend, deadline_in(SESSION_LAST_WORDS_MS));
	close(s->connector.fd); /* the backend need not wait until the client acknowledges */
	const char *tls_error = s->gss ? "" : tls_failure(s->tls);
	if (tls_error[0] != '\0')
		log_peer_line(LOG_INFO, "TLS failed: %s", tls_error);
	else if (s->splice.end == SPLICE_CLIENT_RESET) /* no alert is on its way to the client */
		exit(EX_OK);
	bool here = s->splice.end == SPLICE_NO_MEMORY || s->splice.end == SPLICE_BACKEND_UNREACHED;
	session_leave(s, here ? EX_OSERR : EX_OK);
}

int main(int argc, char **argv, char **envp)
{
	static struct session s;
	struct log_session line;

	struct found_stderr found = prepare_process(argc, argv, envp); /* 0 */
	read_options(&s, argc, argv, found);                           /* 1 */
	if (options_listener(&s.options))
		listen_run(&s); /* 3 and 4, once; returns in each child */
	greet(&s);              /* 2 */
	if (!s.from_listener) {
		open_tls(&s); /* 3 */
		look_up(&s);  /* 4 */
	}
	enter_sandbox(&s);       /* 5: from here on client bytes are parsed */
	s.mode->negotiate(&s);   /* 6 */
	s.mode->shake_hands(&s); /* 7 */
	s.mode->admit(&s);       /* 8 */
	listen_admitted();
	relay_session(&s, &line);  /* 9 */
	finish_session(&s, &line); /* 10 */
}
