/* SPDX-License-Identifier: ISC
 *
 * listen/listen.c - -d: bind, accept, fork, wait for children.
 *
 * Signal handlers only set flags. Signals are let in only while the parent waits, so a child can
 * neither miss one nor act on its parent's.
 */
#include "listen/listen.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "listen/internal.h"
#include "pidfile.h"

#define SHORTAGE_MS   500  /* the pause when processes, memory or descriptors are short */
#define LAST_WORDS_MS 5000 /* how long a session may take to end after SIGTERM */

static struct pollfd listeners[ADDRESS_MAX];
static unsigned listener_count;

static pid_t parent_pid; /* 0: not a process of -d */
static pid_t *children;
static unsigned child_count;

static volatile sig_atomic_t stop_signals, hup_signals;

/* ---- the sockets ---- */

static int bind_one(const struct address *a)
{
	int yes = 1, fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (a->sa.ss_family == AF_INET6) /* IPv4 has a socket of its own */
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
	/* The kernel cuts the backlog to net.core.somaxconn. */
	if (bind(fd, (const struct sockaddr *)&a->sa, a->len) == 0 && listen(fd, INT_MAX) == 0)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* One of several kinds of address may be missing on this machine. A port in use is fatal. */
static void add_listener(const struct address *a, bool last)
{
	struct sock_name name;
	int fd = bind_one(a);

	sock_format((const struct sockaddr *)&a->sa, a->len, &name);
	if (fd >= 0)
		listeners[listener_count++] = (struct pollfd){.fd = fd, .events = POLLIN};
	else if ((errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL) || (last && listener_count == 0))
		die(EX_UNAVAILABLE, "could not listen on address %s, port %s: %s", name.host,
		    name.port, strerror(errno));
}

/* Lock the pid file first: a second parent then learns which process has the port. */
static void bind_all(const struct session *s)
{
	const struct options *o = &s->options;
	struct address_list list;
	struct sock_name name;
	struct error e;
	char host[256];

	if (!address_look_up_listen(&list, o, &e))
		die(e.status, "%s", e.text);
	address_host(o->listen, host, sizeof host);
	sock_format((struct sockaddr *)&list.all[0].sa, list.all[0].len, &name);
	if (o->pidfile != NULL && !pidfile_create_parent(o->pidfile, host, name.port, &e))
		die(e.status, "%s", e.text);
	atexit(pidfile_delete);
	for (unsigned i = 0; i < list.count; i++)
		add_listener(&list.all[i], i + 1 == list.count);
}

static void announce_listeners(void)
{
	struct sock_name name;

	for (unsigned i = 0; i < listener_count; i++) {
		sock_local(listeners[i].fd, &name);
		log_line(LOG_NOTICE, "listening on %s address \"%s\", port %s",
			 strchr(name.host, ':') != NULL ? "IPv6" : "IPv4", name.host, name.port);
	}
	setproctitle("listening on port %s", name.port);
}

static void close_listeners(void)
{
	for (unsigned i = 0; i < listener_count; i++)
		close(listeners[i].fd);
	listener_count = 0;
}

/* ---- what all children need ---- */

static void load_for_children(struct session *s)
{
	struct backend sockets;
	struct error e;

	tls_keep_passphrase();
	if (!sandbox_find_user(s->options.user, s->options.group, &s->who, &e) ||
	    !reload_first(s, &e) || !session_look_up_backend(s, &e) ||
	    !backend_open(&sockets, &s->addresses, &s->options, &e)) /* as -T and -I ask */
		die(e.status, "%s", e.text);
	backend_close(&sockets);
	children = calloc((size_t)s->options.max_connections * 2, sizeof *children);
	if (children == NULL)
		die(EX_OSERR, "out of memory");
}

static void confine_parent(const struct session *s)
{
	const char *files[SESSION_FILES];
	struct error e;
	struct sandbox_needs needs = {
	    .read_again = files,
	    .read_count = session_files(&s->options, files),
	    .remove_in = pidfile_directory(),
	    .tcp_port = address_tcp_port(&s->addresses),
	    .bind = s->options.transparent || s->options.local != NULL,
	};

	if (!sandbox_enter_parent(&needs, &e))
		die(e.status, "%s", e.text);
}

/* ---- signals ---- */

static void note_signal(int sig)
{
	if (sig == SIGHUP)
		hup_signals = 1;
	else if (sig != SIGCHLD) /* which only wakes ppoll() */
		stop_signals++;
}

static void catch_signals(void)
{
	static const int signals[] = {SIGCHLD, SIGHUP, SIGINT, SIGTERM};
	struct sigaction sa = {.sa_handler = note_signal};
	sigset_t set;

	sigemptyset(&sa.sa_mask);
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		sigaction(signals[i], &sa, NULL);
}

/* In a child. A terminal's Ctrl-C reaches it too, but the parent decides when it ends. */
static void restore_signals(void)
{
	sigset_t term;

	signal(SIGCHLD, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	/* SIGTERM stays blocked throughout: one that arrives now is taken in the first ppoll(). */
	stream_catch_sigterm();
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_SETMASK, &term, NULL);
}

/* Wait for a client (unless `clients` is false), a signal, or until `when`. */
static void wait_event(bool clients, deadline when)
{
	int left = deadline_left(when);
	struct timespec ts = {left / 1000, (long)(left % 1000) * 1000000};
	sigset_t none;

	sigemptyset(&none);
	if (ppoll(listeners, clients ? listener_count : 0, left < 0 ? NULL : &ts, &none) <= 0 ||
	    !clients)
		for (unsigned i = 0; i < listener_count; i++)
			listeners[i].revents = 0;
}

/* ---- children ---- */

static void reap_children(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned i = 0; i < child_count; i++)
			if (children[i] == pid)
				children[i] = children[--child_count];
		if (WIFSIGNALED(status))
			log_line(LOG_ERR, "session process %d was terminated by signal %d: %s",
				 (int)pid, WTERMSIG(status), strsignal(WTERMSIG(status)));
	}
}

/* Leave `client` where inetd would. */
static void become_child(struct session *s, int client)
{
	restore_signals();
	close_listeners();
	pidfile_close_copy();
	tls_forget_passphrase();
	if (dup2(client, STDIN_FILENO) < 0 || dup2(client, STDOUT_FILENO) < 0)
		die(EX_OSERR, "could not put the client on standard input: %s", strerror(errno));
	close(client);
	setproctitle("starting");
	s->too_many = child_count >= (unsigned)s->options.max_connections;
	s->started_ms = deadline_in(0);
	s->deadline = deadline_in((int64_t)s->options.handshake_timeout * 1000);
}

void listen_tie_child(void)
{
	if (parent_pid == 0)
		return;
	if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0)
		die(EX_OSERR, "could not ask for a signal when the parent ends: %s",
		    strerror(errno));
	if (getppid() != parent_pid) /* it has already ended */
		exit(EX_TEMPFAIL);
}

/* Log what is short, and return when to accept again. */
static deadline pause_after(const char *what)
{
	log_line(LOG_ERR, "%s: %s; trying again shortly", what, strerror(errno));
	return deadline_in(SHORTAGE_MS);
}

/* Beyond twice --max-connections. At most one line a second: they may be thousands. */
static void turn_away(const struct session *s, int client)
{
	static deadline next;
	static unsigned n;

	close(client);
	n++;
	if (deadline_left(next) > 0)
		return;
	log_line(LOG_WARNING,
		 "closed %u new connection%s: there are %u sessions, twice --max-connections=%d", n,
		 n == 1 ? "" : "s", child_count, s->options.max_connections);
	n = 0;
	next = deadline_in(1000);
}

/* Accept one client. True in the child that serves it. *pause is set after a shortage. */
static bool accept_one(struct session *s, int listener, deadline *pause)
{
	int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (client < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			*pause = pause_after("could not accept a connection");
		return false; /* or the client is gone */
	}
	if (child_count >= 2 * (unsigned)s->options.max_connections) {
		turn_away(s, client);
		return false;
	}
	reload_if_changed(s, false);
	pid_t pid = fork();
	if (pid == 0) {
		become_child(s, client);
		return true;
	}
	if (pid > 0)
		children[child_count++] = pid;
	else
		*pause = pause_after("could not start a process for a connection");
	close(client);
	return false;
}

/* ---- the end ---- */

static void await_children(deadline when, int max_signals)
{
	while (child_count > 0 && deadline_left(when) != 0 && stop_signals < max_signals) {
		wait_event(false, when);
		reap_children();
	}
}

static void signal_children(int sig)
{
	for (unsigned i = 0; i < child_count; i++)
		(void)kill(children[i], sig);
}

/* A second SIGTERM ends the grace period. */
static noreturn void stop_listening(const struct session *s)
{
	int grace = s->options.grace;

	close_listeners();
	log_line(LOG_NOTICE, "stopping: no new connections, and %u sessions have %d s to end",
		 child_count, grace);
	await_children(deadline_in((int64_t)grace * 1000), 2);
	signal_children(SIGTERM);
	await_children(deadline_in(LAST_WORDS_MS), INT_MAX);
	signal_children(SIGKILL);
	await_children(DEADLINE_NEVER, INT_MAX);
	log_line(LOG_NOTICE, "stopped");
	exit(EX_OK);
}

/* ---- the parent ---- */

static void start_listening(struct session *s)
{
	const struct options *o = &s->options;
	struct sock_name name;

	sock_peer(STDIN_FILENO, &name);
	if (name.port[0] != '\0')
		die(EX_USAGE,
		    "-d: standard input is a connection: a super-server starts pgssl without -d");
	if (!o->foreground)
		background_begin();
	parent_pid = getpid();
	catch_signals();
	bind_all(s);
	load_for_children(s);
	confine_parent(s);
	if (!o->foreground)
		log_leave_stderr();
	announce_listeners();
	background_ready();
}

void listen_run(struct session *s)
{
	deadline pause = 0;

	start_listening(s);
	for (;;) {
		bool paused = deadline_left(pause) > 0;

		wait_event(!paused, paused ? pause : DEADLINE_NEVER);
		reap_children();
		if (stop_signals > 0)
			stop_listening(s);
		if (hup_signals > 0) {
			hup_signals = 0;
			reload_if_changed(s, true);
		}
		for (unsigned i = 0; i < listener_count; i++)
			if (listeners[i].revents != 0 && accept_one(s, listeners[i].fd, &pause))
				return;
	}
}
