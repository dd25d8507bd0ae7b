/* SPDX-License-Identifier: ISC
 *
 * listen/children.c - the sessions of a listener: which clients are served, refused or closed.
 *
 * A session is half-open until its step 8 is done. Anyone can open such sessions without end, so
 * they must not keep others out: at the limit, a half-open session is ended for a new client. It is
 * one of the source that has most of them, so that a source harms itself first.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "listen/internal.h"
#include "listen/listen.h"

/* A source as heavy as any other must have waited this long before one of its sessions goes. */
#define YOUNG_MS 1000
/* Places for processes that were ended but not yet waited for; descriptors for the rest. */
#define SPARE 64

/* Clients that count as one. */
struct source {
	struct in6_addr network; /* IPv4-mapped, or the upper half of an IPv6 address; or UNIX */
	unsigned half_open, serving, refused;
};

enum state { HALF_OPEN, ADMITTED, REFUSED, ENDED };

struct child {
	pid_t pid;
	enum state state;
	int pipe; /* the session writes a byte when its step 8 is done; -1: closed */
	unsigned source;
	deadline young_until;
};

static struct child *children;
static struct source *sources;
static struct pollfd *polled;                      /* for update_half_open */
static unsigned child_count, capacity, source_end; /* no source is used from source_end on */
static unsigned serving, refused;                  /* HALF_OPEN and ADMITTED; REFUSED */
static const struct options *options;
static int admitted_pipe = -1; /* in a child */

/* ---- sources ---- */

/* All Unix sockets: a multicast address, which no client has. */
static bool is_unix_network(const struct in6_addr *network)
{
	return IN6_IS_ADDR_MULTICAST(network);
}

static struct in6_addr network_of(const struct sockaddr_storage *sa)
{
	struct in6_addr network = {{{0}}};

	if (sa->ss_family == AF_UNIX) {
		network.s6_addr[0] = 0xff;
	} else if (sa->ss_family == AF_INET) {
		network.s6_addr[10] = network.s6_addr[11] = 0xff;
		memcpy(network.s6_addr + 12, &((const struct sockaddr_in *)sa)->sin_addr, 4);
	} else if (sa->ss_family == AF_INET6) {
		network = ((const struct sockaddr_in6 *)sa)->sin6_addr;
		if (!IN6_IS_ADDR_V4MAPPED(&network))
			memset(network.s6_addr + 8, 0, 8);
	}
	return network;
}

static bool is_used(const struct source *s)
{
	return s->serving + s->refused > 0;
}

/* The source of a client, new or known. There is room: each has a child, or is the new one. */
static unsigned find_source(const struct sockaddr_storage *sa)
{
	struct in6_addr network = network_of(sa);

	while (source_end > 0 && !is_used(&sources[source_end - 1]))
		source_end--;
	unsigned unused = source_end;
	for (unsigned i = 0; i < source_end; i++) {
		if (!is_used(&sources[i]))
			unused = i;
		else if (memcmp(&sources[i].network, &network, sizeof network) == 0)
			return i;
	}
	if (unused == source_end)
		source_end++;
	sources[unused] = (struct source){.network = network};
	return unused;
}

/* ---- states ---- */

static void count_child(const struct child *c, int by)
{
	struct source *s = &sources[c->source];

	if (c->state == HALF_OPEN)
		s->half_open += (unsigned)by;
	if (c->state == HALF_OPEN || c->state == ADMITTED) {
		s->serving += (unsigned)by;
		serving += (unsigned)by;
	} else if (c->state == REFUSED) {
		s->refused += (unsigned)by;
		refused += (unsigned)by;
	}
}

static void close_pipe(struct child *c)
{
	if (c->pipe >= 0)
		close(c->pipe);
	c->pipe = -1;
}

static void set_state(struct child *c, enum state state)
{
	count_child(c, -1);
	c->state = state;
	count_child(c, 1);
	close_pipe(c);
}

static bool note_admitted(struct child *c)
{
	char byte;

	if (read(c->pipe, &byte, 1) != 1)
		return false;
	set_state(c, ADMITTED);
	return true;
}

/* Learn which sessions have been admitted since the last time. Does not block. */
static void update_half_open(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < child_count; i++)
		if (children[i].state == HALF_OPEN)
			polled[n++] = (struct pollfd){.fd = children[i].pipe, .events = POLLIN};
	if (n == 0 || poll(polled, n, 0) <= 0)
		return;
	n = 0;
	for (unsigned i = 0; i < child_count; i++) {
		struct child *c = &children[i];
		if (c->state == HALF_OPEN && (polled[n++].revents & POLLIN) != 0)
			(void)note_admitted(c);
	}
}

/* ---- limits ---- */

/* The oldest half-open session among the sources that have most of them; NULL: there is none. */
static struct child *find_victim(void)
{
	struct child *victim = NULL;
	unsigned most = 0;

	for (unsigned i = 0; i < child_count; i++) {
		struct child *c = &children[i];
		unsigned n = sources[c->source].half_open;
		if (c->state != HALF_OPEN || n < most)
			continue;
		if (n > most || c->young_until < victim->young_until)
			victim = c;
		most = n;
	}
	return victim;
}

/* At most one line a second: clients decide how many there are. */
static void log_ended(const struct child *c)
{
	static deadline next;
	static unsigned n;
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_addr = sources[c->source].network};
	struct sock_name name;

	n++;
	if (deadline_left(next) > 0)
		return;
	if (is_unix_network(&sa.sin6_addr))
		sa.sin6_family = AF_UNIX;
	sock_format((struct sockaddr *)&sa, sizeof sa, &name);
	log_line(LOG_WARNING,
		 "ended %u session%s that had not completed login, the last from %s, to make room "
		 "for new clients (--max-connections=%d)",
		 n, n == 1 ? "" : "s", name.host, options->max_connections);
	n = 0;
	next = deadline_in(1000);
}

/* End a half-open session to make room for a client of `source`. */
static bool make_room(unsigned source)
{
	struct child *c;

	do /* it may have been admitted a moment ago */
		c = find_victim();
	while (c != NULL && note_admitted(c));
	if (c == NULL)
		return false;
	if (sources[c->source].half_open <= sources[source].half_open + 1 &&
	    deadline_left(c->young_until) > 0)
		return false;
	/* Not a signal that can be put off: the session may be stopped, or busy. */
	if (kill(c->pid, SIGKILL) != 0)
		return false;
	log_ended(c);
	set_state(c, ENDED);
	return true;
}

static enum refusal find_excess(unsigned source)
{
	bool full = serving >= (unsigned)options->max_connections;

	if (!is_unix_network(&sources[source].network) &&
	    sources[source].serving >= (unsigned)options->max_per_source)
		return full ? REFUSE_TOO_MANY : REFUSE_TOO_MANY_OF_SOURCE;
	return !full || make_room(source) ? REFUSE_NONE : REFUSE_TOO_MANY;
}

bool children_place(const struct sockaddr_storage *from, struct child_place *place)
{
	update_half_open();
	place->source = find_source(from);
	if (child_count == capacity)
		return false;
	place->excess = find_excess(place->source);
	/* A refusal takes a process and a handshake, so refusals have limits too. */
	return place->excess == REFUSE_NONE ||
	       (refused < (unsigned)options->max_connections &&
		sources[place->source].refused < (unsigned)options->max_per_source);
}

/* ---- processes ---- */

bool children_init(const struct options *o)
{
	struct rlimit r;

	options = o;
	capacity = 2 * (unsigned)o->max_connections + SPARE;
	children = calloc(capacity, sizeof *children);
	sources = calloc(capacity + 1, sizeof *sources);
	polled = calloc(capacity, sizeof *polled);
	/* A descriptor for each half-open session; systemd's soft limit is 1024. */
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)!setrlimit(RLIMIT_NOFILE, &r);
		if (r.rlim_max < (rlim_t)o->max_connections + SPARE)
			log_line(LOG_WARNING,
				 "--max-connections=%d needs %d open files, but the limit is %llu: "
				 "raise it (ulimit -Hn, LimitNOFILE=) or lower --max-connections",
				 o->max_connections, o->max_connections + SPARE,
				 (unsigned long long)r.rlim_max);
	}
	return children != NULL && sources != NULL && polled != NULL;
}

/* In a child. */
static void forget_siblings(int pipe)
{
	for (unsigned i = 0; i < child_count; i++)
		close_pipe(&children[i]);
	child_count = 0;
	admitted_pipe = pipe;
}

static void add_child(const struct child_place *place, pid_t pid, int pipe)
{
	struct child *c = &children[child_count++];

	*c = (struct child){
	    .pid = pid,
	    .state = place->excess == REFUSE_NONE ? HALF_OPEN : REFUSED,
	    .pipe = pipe,
	    .source = place->source,
	    .young_until = deadline_in(YOUNG_MS),
	};
	count_child(c, 1);
	if (c->state == REFUSED)
		close_pipe(c);
}

pid_t children_fork(const struct child_place *place)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[0]);
		forget_siblings(ends[1]);
		return 0;
	}
	int saved = errno;
	close(ends[1]);
	if (pid > 0)
		add_child(place, pid, ends[0]);
	else
		close(ends[0]);
	errno = saved;
	return pid;
}

void listen_admitted(void)
{
	if (admitted_pipe < 0)
		return;
	(void)!write(admitted_pipe, "", 1);
	close(admitted_pipe);
	admitted_pipe = -1;
}

static void log_signal(pid_t pid, int sig)
{
	log_line(LOG_ERR, "session process %d was terminated by signal %d: %s", (int)pid, sig,
		 strsignal(sig));
}

void children_ended(pid_t pid, int status)
{
	for (unsigned i = 0; i < child_count; i++) {
		if (children[i].pid != pid)
			continue;
		if (WIFSIGNALED(status) && children[i].state != ENDED)
			log_signal(pid, WTERMSIG(status));
		set_state(&children[i], ENDED);
		children[i] = children[--child_count];
		return;
	}
}

void children_signal(int sig)
{
	for (unsigned i = 0; i < child_count; i++)
		(void)kill(children[i].pid, sig);
}

unsigned children_count(void)
{
	return child_count;
}
