/* SPDX-License-Identifier: ISC
 *
 * t/pump_world.h - for t/unit_pump.c: a machine in memory with a clock, random numbers, and the two
 * connections of a session. A connection is a TCP or Unix socket, or two pipes.
 *
 * The linker replaces ppoll(), poll() and clock_gettime(), so net/stream.c is used as it is, and a
 * schedule takes no time. ppoll() lets the peers act, and lets the clock jump when none can.
 */
#ifndef PGSSL_PUMP_WORLD_H
#define PGSSL_PUMP_WORLD_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "net/stream.h"

int __wrap_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask);
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __real_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask);

/* ---- failure and chance ---- */

/* The schedule failed: its process says why and ends. */
__attribute__((format(printf, 1, 2))) static inline noreturn void broken(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	_exit(1);
}

static uint64_t chance_state;

static inline uint64_t chance(void) /* splitmix64 */
{
	uint64_t z = chance_state += 0x9e3779b97f4a7c15U;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

static inline bool one_in(unsigned n)
{
	return chance() % n == 0;
}

/* 1 to `most`; small numbers as often as large ones. */
static inline size_t size_up_to(size_t most)
{
	unsigned bits = 0;

	while (bits < 40 && (size_t)1 << bits <= most)
		bits++;
	size_t limit = (size_t)1 << (1 + chance() % bits), n = 1 + chance() % limit;
	return n < most ? n : most;
}

/* ---- the two directions of a connection ---- */

enum { QUEUE_ROOM = 1 << 17 };

struct queue {
	unsigned char bytes[QUEUE_ROOM];
	size_t at, len, room; /* bytes[at .. at + len) */
	bool fin;             /* nothing follows */
};

static inline void queue_put(struct queue *q, const void *bytes, size_t n)
{
	if (q->at + q->len + n > sizeof q->bytes) {
		memmove(q->bytes, q->bytes + q->at, q->len);
		q->at = 0;
	}
	if (q->len + n > sizeof q->bytes)
		broken("a queue of the test is too short");
	memcpy(q->bytes + q->at + q->len, bytes, n);
	q->len += n;
}

static inline void queue_drop(struct queue *q, size_t n)
{
	q->len -= n;
	q->at = q->len > 0 ? q->at + n : 0;
}

static inline size_t queue_free(const struct queue *q)
{
	return q->len < q->room ? q->room - q->len : 0;
}

enum link_kind { LINK_TCP, LINK_UNIX, LINK_PIPES };

struct link {
	struct stream stream; /* first: what the pump, or TLS for it, reads and writes */
	enum link_kind kind;
	struct queue in, out; /* towards the pump, and from it */
	bool reset, gone;     /* the peer broke the connection; it has closed its end */
	bool error_taken;     /* a call has returned the error of the reset */
};

/* What has been done by the pump or to it: a poll() that leads to none of it was needless. */
static uint64_t progress;

static inline enum io_status link_read(struct stream *s, void *buf, size_t size, size_t *got)
{
	struct link *l = (struct link *)s;

	if (l->in.len == 0 && l->reset) {
		l->error_taken = true;
		progress++;
		return IO_FAILED;
	}
	if (l->in.len == 0 && !l->in.fin)
		return IO_WANT_READ;
	progress++;
	if (l->in.len == 0)
		return IO_END;
	if (one_in(50)) /* a signal, say */
		return IO_WANT_READ;
	*got = l->in.len < size ? l->in.len : size;
	if (one_in(3))
		*got = size_up_to(*got);
	memcpy(buf, l->in.bytes + l->in.at, *got);
	queue_drop(&l->in, *got);
	return IO_DONE;
}

static inline enum io_status link_write(struct stream *s, const void *buf, size_t size, size_t *put)
{
	struct link *l = (struct link *)s;

	*put = 0;
	if (size == 0)
		return IO_DONE;
	if (l->reset || l->gone || l->out.fin) {
		if (l->kind == LINK_TCP && l->gone)
			l->reset = true;
		l->error_taken = true;
		progress++;
		return IO_FAILED;
	}
	if (queue_free(&l->out) == 0)
		return IO_WANT_WRITE;
	progress++;
	if (one_in(50))
		return IO_WANT_WRITE;
	*put = queue_free(&l->out) < size ? queue_free(&l->out) : size;
	if (one_in(3))
		*put = size_up_to(*put);
	queue_put(&l->out, buf, *put);
	return IO_DONE;
}

static inline unsigned link_pending(struct stream *s)
{
	(void)s;
	return 0;
}

static inline enum io_status link_shut(struct stream *s)
{
	progress++;
	((struct link *)s)->out.fin = true;
	return IO_DONE;
}

static const struct stream_verbs link_verbs = {link_read, link_write, link_pending, link_shut};

static struct link links[2]; /* of the client and of the backend */

static inline void link_open(struct link *l, enum link_kind kind)
{
	int fd = 1000 + 2 * (int)(l - links);

	l->stream = (struct stream){&link_verbs, fd, kind == LINK_PIPES ? fd + 1 : fd};
	l->kind = kind;
	l->in.room = size_up_to(65536);
	l->out.room = size_up_to(65536);
}

/* ---- poll ---- */

static inline bool link_writable(const struct link *l)
{
	return l->reset || l->gone || queue_free(&l->out) * 3 >= l->out.room; /* as Linux */
}

static inline short link_events(const struct link *l, int fd)
{
	bool reads = fd == l->stream.rfd, writes = fd == l->stream.wfd;
	bool both_ended = l->in.fin && (l->out.fin || (l->kind == LINK_UNIX && l->gone));
	short events = 0;

	if (l->kind == LINK_PIPES && reads)
		return (short)((l->in.len > 0 ? POLLIN : 0) | (l->in.fin ? POLLHUP : 0));
	if (l->kind == LINK_PIPES)
		return (short)((link_writable(l) ? POLLOUT : 0) | (l->gone ? POLLERR : 0));
	if (reads && (l->in.len > 0 || l->in.fin || l->reset))
		events |= POLLIN;
	if (writes && link_writable(l))
		events |= POLLOUT;
	if (l->reset && !l->error_taken)
		events |= POLLERR;
	if (l->reset || both_ended)
		events |= POLLHUP;
	return events;
}

static inline struct link *link_of(int fd)
{
	return fd < 1000 ? NULL : &links[(fd - 1000) / 2];
}

static inline int ready(struct pollfd *fds, nfds_t n)
{
	int count = 0;

	for (nfds_t i = 0; i < n; i++) {
		short asked = (short)(fds[i].events | POLLHUP | POLLERR);
		fds[i].revents = 0;
		if (link_of(fds[i].fd) != NULL)
			fds[i].revents = link_events(link_of(fds[i].fd), fds[i].fd) & asked;
		count += fds[i].revents != 0;
	}
	return count;
}

/* ---- time ---- */

static bool relaying; /* the handshake is done, and the session is not over */
static int64_t now_ms = 1000000;
static int64_t signal_at = INT64_MAX; /* when SIGTERM comes */

/* The peers: one random action, false if none can act; and when one will wake up. */
static bool world_act(void);
static int64_t world_wakes(void);
/* What the test checks when only time can help. */
static void world_is_quiet(nfds_t n);

static bool signal_pending;

static inline void send_signal(void)
{
	if (now_ms < signal_at)
		return;
	signal_at = INT64_MAX;
	signal_pending = true;
	raise(SIGTERM);
}

/* SIGTERM is blocked but in ppoll(). */
static inline bool take_signal(void)
{
	sigset_t none;

	if (!signal_pending)
		return false;
	signal_pending = false;
	sigemptyset(&none);
	(void)__real_ppoll(NULL, 0, NULL, &none);
	return true;
}

static inline int wait_ready(struct pollfd *fds, nfds_t n, int64_t until)
{
	for (unsigned tries = chance() % 8; tries > 0; tries--)
		(void)world_act();
	now_ms += one_in(4);
	for (;;) {
		int count = ready(fds, n);
		send_signal();
		if (count == 0 && take_signal()) {
			errno = EINTR;
			return -1;
		}
		if (count > 0 || now_ms >= until)
			return count;
		if (world_act())
			continue;
		if (n > 0)
			world_is_quiet(n);
		int64_t next = world_wakes() < signal_at ? world_wakes() : signal_at;
		if (next == INT64_MAX && until == INT64_MAX)
			broken("it waits forever");
		now_ms = next < until ? next : until;
	}
}

int __wrap_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
	int64_t ms = ts == NULL ? 0 : (int64_t)ts->tv_sec * 1000 + ts->tv_nsec / 1000000;

	(void)mask;
	return wait_ready(fds, n, ts == NULL ? INT64_MAX : now_ms + ms);
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int ms)
{
	(void)ms; /* 0: stream_spin */
	now_ms++;
	return ready(fds, n);
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	(void)id;
	*ts = (struct timespec){now_ms / 1000, now_ms % 1000 * 1000000};
	return 0;
}

#endif
