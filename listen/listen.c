/* SPDX-License-Identifier: ISC
 *
 * listen/listen.c - the listener: its sockets, accept, fork, wait for children.
 *
 * Signal handlers only set flags. Signals are let in only while the parent waits, so a child can
 * neither miss one nor act on its parent's.
 */
#include "listen/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "listen/internal.h"
#include "pidfile.h"

#define SHORTAGE_MS      500   /* the pause when processes, memory or descriptors are short */
#define LAST_WORDS_MS    5000  /* how long a session may take to end after SIGUSR1 */
#define FIRST_LOOK_UP_MS 60000 /* how long a start waits for DNS */
#define LISTENERS_MAX    32
#define HEAP_ROOM        (256 * 1024)

/* Slot 0 is the resolver's, the others are listening sockets. */
static struct pollfd waiting[1 + LISTENERS_MAX];
static struct pollfd *const listeners = waiting + 1;
static unsigned listener_count;

static pid_t parent_pid; /* 0: not a process of a listener */
static volatile sig_atomic_t stop_signals, hup_signals;

/* ---- the sockets ---- */

/* Clients inherit these options: six system calls less for each. */
static void add_socket(int fd, const struct options *o)
{
	sock_nodelay(fd);
	sock_keepalive(fd, o->keepalive);
	listeners[listener_count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

/*
 * One of several kinds of address may be missing on this machine. A port in use is an error; `held`
 * may know which process has it.
 */
static bool add_listener(const struct options *o, const struct address *a, bool last,
			 const struct error *held, struct error *e)
{
	struct sock_name name;
	int fd = sock_bind(&a->sa, a->len);

	/* The kernel cuts the backlog to net.core.somaxconn. */
	if (fd >= 0 && listen(fd, INT_MAX) == 0) {
		add_socket(fd, o);
		return true;
	}
	if ((errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL) && !(last && listener_count == 0))
		return true;
	sock_format((const struct sockaddr *)&a->sa, a->len, &name);
	return fail(e, EX_UNAVAILABLE, "could not listen on address %s, port %s: %s%s%s", name.host,
		    name.port, strerror(errno), held->status != 0 ? "; " : "", held->text);
}

/*
 * Only the port excludes a second listener. Another user's pid file does not, since anyone
 * could make one: the text is in `held`.
 */
static bool write_pidfile(const struct options *o, const char *host, const char *port,
			  struct error *held, struct error *e)
{
	*held = (struct error){.status = 0};
	if (o->pidfile == NULL || pidfile_create_parent(o->pidfile, host, port, held))
		return true;
	*e = *held;
	return held->status == EX_TEMPFAIL;
}

static bool bind_all(const struct options *o, struct error *e)
{
	struct address_list list;
	struct sock_name name;
	struct error held;
	char host[256];

	if (!address_look_up_listen(&list, o, e))
		return false;
	address_host(o->listen, host, sizeof host);
	sock_format((struct sockaddr *)&list.all[0].sa, list.all[0].len, &name);
	if (!write_pidfile(o, host, name.port, &held, e))
		return false;
	for (unsigned i = 0; i < list.count; i++)
		if (!add_listener(o, &list.all[i], i + 1 == list.count, &held, e))
			return false;
	if (held.status != 0)
		log_line(LOG_WARNING, "%s; running without a pid file", held.text);
	return true;
}

/* The super-server may have a short backlog, and listen(2) can be called again. */
static bool take_inherited(const struct options *o, struct error *e)
{
	int fds[LISTENERS_MAX];
	struct sock_name name;
	struct error held;
	unsigned n;

	if (!inherit_sockets(fds, LISTENERS_MAX, &n, e))
		return false;
	for (unsigned i = 0; i < n; i++) {
		add_socket(fds[i], o);
		(void)listen(fds[i], INT_MAX);
		/* A client that left must not make accept() wait for the next one. */
		(void)fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
	}
	sock_local(fds[0], &name);
	(void)!write_pidfile(o, name.host, name.port, &held, e);
	if (held.status != 0)
		log_line(LOG_WARNING, "%s; running without a pid file", held.text);
	return true;
}

/* "IPv4 address "127.0.0.1", port 9000"; the words of PostgreSQL's log */
static const char *describe_listener(int fd, char *text, size_t size)
{
	struct sockaddr_un un = {.sun_family = AF_UNSPEC};
	socklen_t len = sizeof un - 1; /* the path need not end in a NUL */
	struct sock_name name;

	if (getsockname(fd, (struct sockaddr *)&un, &len) == 0 && un.sun_family == AF_UNIX) {
		snprintf(text, size, "Unix socket \"%s\"", un.sun_path);
		return text;
	}
	sock_local(fd, &name);
	snprintf(text, size, "%s address \"%s\", port %s",
		 strchr(name.host, ':') != NULL ? "IPv6" : "IPv4", name.host, name.port);
	return text;
}

static void announce_listeners(void)
{
	char text[sizeof(struct sockaddr_un) + 32];
	struct sock_name name;

	if (sandbox_missing() != NULL)
		log_line(LOG_NOTICE, "sandbox: %s; the other layers remain", sandbox_missing());
	for (unsigned i = 0; i < listener_count; i++)
		log_line(LOG_NOTICE, "listening on %s",
			 describe_listener(listeners[i].fd, text, sizeof text));
	sock_local(listeners[0].fd, &name);
	if (name.port[0] != '\0')
		setproctitle("listening on port %s", name.port);
	else
		setproctitle("listening on a Unix socket");
}

static void close_listeners(void)
{
	for (unsigned i = 0; i < listener_count; i++)
		close(listeners[i].fd);
	listener_count = 0;
}

static bool confine_parent(const struct session *s, struct error *e)
{
	const char *files[SESSION_FILES];
	struct sandbox_needs needs = {
	    .read_again = files,
	    .read_count = session_files(&s->options, files),
	    .remove_in = pidfile_directory(),
	    .tcp_port = address_tcp_port(&s->addresses),
	    .bind = s->options.transparent || s->options.local != NULL,
	    .yield = s->options.spin > 0,
	    .syslog = log_syslog_socket(),
	};

	return sandbox_enter_parent(&needs, e);
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
	static const int signals[] = {SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
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

/*
 * In a child. A terminal's Ctrl-C and a service manager's SIGTERM reach the whole process group or
 * control group, but the parent decides when a session ends, and says so by SIGUSR1.
 */
static void restore_signals(void)
{
	/* SIGUSR1 is blocked throughout: one that arrives now is taken in the first ppoll(). */
	stream_catch_signals();
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
}

/* Wait for a client (unless `clients` is false), an answer of the resolver, a signal, or `when`. */
static void wait_event(bool clients, deadline when)
{
	unsigned count = clients ? 1 + listener_count : 1;
	int left = deadline_left(deadline_min(when, resolver_send()));
	struct timespec ts = {left / 1000, (long)(left % 1000) * 1000000};
	sigset_t none;

	sigemptyset(&none);
	for (unsigned i = 0; i < 1 + listener_count; i++)
		waiting[i].revents = 0;
	waiting[0] = (struct pollfd){.fd = resolver_descriptor(), .events = POLLIN};
	(void)ppoll(waiting, count, left < 0 ? NULL : &ts, &none);
}

/* ---- children ---- */

/* A session that could not reach PostgreSQL ends with EX_UNAVAILABLE: its name may have moved. */
static void reap_children(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (WIFEXITED(status) && WEXITSTATUS(status) == EX_UNAVAILABLE)
			resolver_ask();
		children_ended(pid, status);
	}
}

/* Leave `client` where inetd would. */
static void take_client(int client)
{
	if (dup2(client, STDIN_FILENO) < 0 || dup2(client, STDOUT_FILENO) < 0)
		die(EX_OSERR, "could not duplicate the client's socket to standard input: %s",
		    strerror(errno));
	close(client);
}

static void become_child(struct session *s, int client, const struct sockaddr_storage *from,
			 enum refusal excess)
{
	restore_signals();
	close_listeners();
	pidfile_close_copy();
	resolver_close();
	tls_forget_passphrase();
	take_client(client);
	setproctitle("starting");
	s->from_listener = true;
	s->source = *from;
	s->excess = excess;
	s->started_ms = deadline_in(0);
	s->deadline = deadline_in((int64_t)s->options.handshake_timeout * 1000);
}

void listen_tie_child(void)
{
	if (parent_pid == 0)
		return;
	if (prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0) < 0)
		die(EX_OSERR, "could not request a signal at the end of the parent process: %s",
		    strerror(errno));
	if (getppid() != parent_pid)
		die(EX_TEMPFAIL, "the listener ended before the session began");
}

/* Log what is short, and return when to accept again. */
static deadline pause_after(const char *what)
{
	log_line(LOG_ERR, "%s: %s; trying again shortly", what, strerror(errno));
	return deadline_in(SHORTAGE_MS);
}

/* At most one line a second: clients decide how many there are. */
static void turn_away(const struct options *o, int client, const struct sockaddr_storage *from)
{
	struct sock_name name;
	static deadline next;
	static unsigned n;

	close(client);
	n++;
	if (deadline_left(next) > 0)
		return;
	sock_format((const struct sockaddr *)from, sizeof *from, &name);
	log_line(LOG_WARNING,
		 "closed %u new connection%s, the last from %s: there are %u sessions "
		 "(--max-connections=%d, --max-per-source=%d)",
		 n, n == 1 ? "" : "s", name.host, children_count(), o->max_connections,
		 o->max_per_source);
	n = 0;
	next = deadline_in(1000);
}

static int accept_client(int listener, struct sockaddr_storage *from)
{
	socklen_t len = sizeof *from;

	*from = (struct sockaddr_storage){.ss_family = AF_UNSPEC};
	return accept4(listener, (struct sockaddr *)from, &len, SOCK_CLOEXEC);
}

/* Accept one client. True in the child that serves it. *pause is set after a shortage. */
static bool accept_one(struct session *s, int listener, deadline *pause)
{
	struct sockaddr_storage from;
	struct child_place place;
	int client = accept_client(listener, &from);

	if (client < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			*pause = pause_after("could not accept a connection");
		return false; /* or the client has left */
	}
	if (!children_place(&from, &place)) {
		turn_away(&s->options, client, &from);
		return false;
	}
	reload_if_changed(s, false);
	pid_t pid = children_fork(&place);
	if (pid == 0) {
		become_child(s, client, &from, place.excess);
		return true;
	}
	if (pid < 0)
		*pause = pause_after("could not start a process for a connection");
	close(client);
	return false;
}

/* ---- the end ---- */

static void await_children(deadline when, int max_signals)
{
	while (children_count() > 0 && deadline_left(when) != 0 && stop_signals < max_signals) {
		wait_event(false, when);
		reap_children();
	}
}

/* A second SIGTERM ends the grace period. */
static noreturn void stop_listening(const struct session *s)
{
	unsigned n = children_count();
	int grace = s->options.grace;

	close_listeners();
	resolver_close();
	log_line(LOG_NOTICE, "stopping: no new connections; %u session%s may continue for %d s", n,
		 n == 1 ? "" : "s", grace);
	await_children(deadline_in((int64_t)grace * 1000), 2);
	children_signal(SIGUSR1);
	await_children(deadline_in(LAST_WORDS_MS), INT_MAX);
	children_signal(SIGKILL);
	await_children(DEADLINE_NEVER, INT_MAX);
	log_line(LOG_NOTICE, "stopped");
	exit(EX_OK);
}

/* The super-server listens again; new clients wait in the kernel's queue. */
static noreturn void stop_idle(const struct session *s)
{
	log_line(LOG_INFO, "stopped after %d s without a session (--idle-exit)",
		 s->options.idle_exit);
	exit(EX_OK);
}

/* ---- the start ---- */

/* DNS may come up later than this process. */
static bool look_up_first(struct session *s, struct error *e)
{
	deadline until = deadline_in(FIRST_LOOK_UP_MS);
	bool told = false;

	if (resolver_descriptor() < 0)
		return session_look_up_backend(s, e);
	for (;;) {
		resolver_ask();
		wait_event(false, deadline_in(SHORTAGE_MS));
		if (stop_signals > 0)
			exit(EX_OK);
		enum resolver_answer answer = resolver_take(s, e);
		if (answer == RESOLVER_FOUND) {
			session_warn_remote(s);
			return true;
		}
		if (answer == RESOLVER_PENDING)
			continue;
		if (e->status != EX_NOHOST || deadline_left(until) == 0)
			return false;
		if (!told)
			log_line(LOG_WARNING, "%s; trying again for up to a minute", e->text);
		told = true;
	}
}

static bool load_for_children(struct session *s, struct error *e)
{
	struct backend sockets;

	/* Room for a child to grow into and no trimming: splice.c gives the memory back. */
	(void)mallopt(M_TOP_PAD, HEAP_ROOM);
	(void)mallopt(M_TRIM_THRESHOLD, 2 * HEAP_ROOM);
	tls_keep_passphrase();
	if (!sandbox_find_user(s->options.user, s->options.group, &s->who, e) ||
	    !resolver_start(s, e) || !reload_first(s, e) || !look_up_first(s, e) ||
	    !backend_open(&sockets, &s->addresses, &s->options, e)) /* as -T and -I ask */
		return false;
	backend_close(&sockets);
	return (tls_fetch_algorithms() && children_init(&s->options)) ||
	       fail(e, EX_OSERR, "out of memory");
}

static bool start_listening(struct session *s, struct error *e)
{
	const struct options *o = &s->options;

	parent_pid = getpid();
	catch_signals();
	atexit(pidfile_delete);
	if (o->inherited ? !take_inherited(o, e) : !bind_all(o, e))
		return false;
	return load_for_children(s, e) && confine_parent(s, e);
}

/*
 * If the listener just exited, the waiting clients would make the super-server start it again and
 * again. So serve one of them, which gets the error. There is none if the service was started by
 * hand.
 */
static void serve_one(struct session *s, const struct error *e)
{
	struct sockaddr_storage from;
	int client = -1;

	for (unsigned i = 0; i < listener_count && client < 0; i++)
		client = accept_client(listeners[i].fd, &from);
	if (client < 0) {
		listen_turn_one_away(); /* the sockets may be of the wrong kind */
		die(e->status, "%s", e->text);
	}
	s->source = from;
	close_listeners();
	resolver_close();
	pidfile_delete();
	reload_discard(s); /* the session loads its own, and wipes only that */
	tls_forget_passphrase();
	take_client(client);
	parent_pid = 0;
	restore_signals();
	stream_catch_signals(); /* SIGTERM too, as in any session of a super-server */
}

/* When the listener may end, if its last session ended at `idle_since`. */
static deadline idle_end(const struct options *o, deadline idle_since)
{
	if (children_count() > 0 || o->idle_exit == 0)
		return DEADLINE_NEVER;
	return idle_since + (deadline)o->idle_exit * 1000;
}

static void look_after(struct session *s)
{
	reap_children();
	if (stop_signals > 0)
		stop_listening(s);
	if (hup_signals > 0) {
		hup_signals = 0;
		resolver_ask();
		reload_if_changed(s, true);
	}
	if (waiting[0].revents != 0)
		resolver_update(s);
}

/* Accept from each socket that has a client. True in a child; *any tells if there was one. */
static bool accept_all(struct session *s, deadline *pause, bool *any)
{
	*any = false;
	for (unsigned i = 0; i < listener_count; i++) {
		if (listeners[i].revents == 0)
			continue;
		*any = true;
		if (accept_one(s, listeners[i].fd, pause))
			return true;
	}
	return false;
}

/* Returns in each child. */
static void serve_clients(struct session *s)
{
	deadline pause = 0, idle_since = deadline_in(0);
	bool any = false;

	for (;;) {
		bool paused = deadline_left(pause) > 0;
		deadline end = idle_end(&s->options, idle_since);

		wait_event(!paused, deadline_min(end, paused ? pause : DEADLINE_NEVER));
		look_after(s);
		if (accept_all(s, &pause, &any))
			return;
		if (!any && end != DEADLINE_NEVER && deadline_left(end) == 0)
			stop_idle(s);
		if (end == DEADLINE_NEVER)
			idle_since = deadline_in(0);
	}
}

void listen_run(struct session *s)
{
	const struct options *o = &s->options;
	struct sock_name name;
	struct error e;

	sock_peer(STDIN_FILENO, &name);
	if (o->listen != NULL && name.port[0] != '\0')
		die(EX_USAGE,
		    "-d: standard input is a connection: leave out -d under a super-server");
	if (!o->foreground && !o->inherited) {
		background_begin();
		log_open_syslog();
	}
	if (start_listening(s, &e)) {
		if (!o->foreground && !o->inherited)
			log_leave_stderr();
		announce_listeners();
		background_ready();
		serve_clients(s);
	} else if (o->inherited) {
		serve_one(s, &e);
	} else {
		die(e.status, "%s", e.text);
	}
}
