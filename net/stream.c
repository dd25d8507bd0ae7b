/* SPDX-License-Identifier: ISC
 *
 * net/stream.c - streams over descriptors, and waiting.
 *
 * Assumes that SIGPIPE is ignored, and that SIGTERM and SIGUSR1 are blocked (step 0). Sockets are
 * read and written with MSG_DONTWAIT. Other descriptors are used only when poll() says that they
 * will not block, and a pipe gets at most PIPE_BUF bytes at a time, which is all that poll()
 * promises.
 */
#include "net/stream.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SIGNAL_CHECK_MS 1000

static volatile sig_atomic_t terminated;
static bool termination_reported;

static bool fd_ready(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	return poll(&p, 1, 0) > 0;
}

static enum io_status status_of_errno(enum io_status again)
{
	switch (errno) {
	case EAGAIN:
	case EINTR:
		return again;
	case ENOMEM:
	case ENOBUFS:
		return IO_NO_MEMORY;
	default:
		return IO_FAILED;
	}
}

static enum io_status fd_read(struct stream *s, void *buf, size_t size, size_t *got)
{
	struct fd_stream *fs = (struct fd_stream *)s;
	ssize_t n;

	if (fs->unread_full && size > 0) {
		*(unsigned char *)buf = fs->unread;
		fs->unread_full = false;
		*got = 1;
		return IO_DONE;
	}
	if (fs->rsocket)
		n = recv(s->rfd, buf, size, MSG_DONTWAIT);
	else if (fd_ready(s->rfd, POLLIN))
		n = read(s->rfd, buf, size);
	else
		return IO_WANT_READ;
	if (n < 0)
		return status_of_errno(IO_WANT_READ);
	if (n == 0)
		return IO_END;
	*got = (size_t)n;
	return IO_DONE;
}

static enum io_status fd_write(struct stream *s, const void *buf, size_t size, size_t *put)
{
	struct fd_stream *fs = (struct fd_stream *)s;
	ssize_t n;

	if (size == 0)
		n = 0;
	else if (fs->wsocket)
		n = send(s->wfd, buf, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	else if (fd_ready(s->wfd, POLLOUT))
		n = write(s->wfd, buf, size < PIPE_BUF ? size : PIPE_BUF);
	else
		return IO_WANT_WRITE;
	if (n < 0)
		return status_of_errno(IO_WANT_WRITE);
	*put = (size_t)n;
	return IO_DONE;
}

static unsigned fd_pending(struct stream *s)
{
	return ((struct fd_stream *)s)->unread_full ? STREAM_READABLE : 0;
}

static enum io_status fd_shut(struct stream *s)
{
	return shutdown(s->wfd, SHUT_WR) == 0 || errno == ENOTCONN ? IO_DONE : IO_FAILED;
}

static const struct stream_verbs fd_verbs = {fd_read, fd_write, fd_pending, fd_shut};

void fd_stream_init(struct fd_stream *fs, int rfd, int wfd)
{
	struct stat r = {0}, w = {0};
	bool rsocket = fstat(rfd, &r) == 0 && S_ISSOCK(r.st_mode);
	bool wsocket = rfd == wfd ? rsocket : fstat(wfd, &w) == 0 && S_ISSOCK(w.st_mode);

	/* inetd passes one socket as two descriptors: treat them as one. */
	if (rsocket && wsocket && r.st_dev == w.st_dev && r.st_ino == w.st_ino)
		wfd = rfd;
	*fs = (struct fd_stream){
	    .stream = {.verbs = &fd_verbs, .rfd = rfd, .wfd = wfd},
	    .rsocket = rsocket,
	    .wsocket = wsocket,
	};
}

void fd_stream_unread(struct fd_stream *fs, unsigned char byte)
{
	fs->unread = byte;
	fs->unread_full = true;
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

deadline deadline_in(int64_t ms)
{
	return now_us() / 1000 + ms;
}

int deadline_left(deadline when)
{
	if (when == DEADLINE_NEVER)
		return -1;
	int64_t left = when - now_us() / 1000;
	if (left <= 0)
		return 0;
	return left > INT_MAX ? INT_MAX : (int)left;
}

deadline deadline_min(deadline a, deadline b)
{
	return a < b ? a : b;
}

/* SIGUSR1 is how a listener ends its sessions, which ignore SIGTERM. */
static const int end_signals[] = {SIGTERM, SIGUSR1};

static void on_end_signal(int sig)
{
	(void)sig;
	terminated = 1;
}

void stream_catch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_end_signal};
	sigset_t set;

	sigemptyset(&sa.sa_mask);
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof end_signals / sizeof *end_signals; i++) {
		sigaction(end_signals[i], &sa, NULL);
		sigaddset(&set, end_signals[i]);
	}
	sigprocmask(SIG_SETMASK, &set, NULL);
}

bool stream_terminated(void)
{
	return terminated != 0;
}

/*
 * ppoll() returns without delivering signals if a descriptor is ready at once. A peer that always
 * has something to say must not keep the signal out, so look for it once a second.
 */
static bool end_signal_pending(void)
{
	static deadline next;
	sigset_t pending;

	if (deadline_left(next) > 0)
		return false;
	next = deadline_in(SIGNAL_CHECK_MS);
	return sigpending(&pending) == 0 &&
	       (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGUSR1) == 1);
}

enum io_status stream_poll(struct pollfd *fds, unsigned n, deadline when)
{
	sigset_t none;

	sigemptyset(&none);
	for (;;) {
		int left = deadline_left(when);
		struct timespec ts = {left / 1000, (long)(left % 1000) * 1000000};
		int ready = ppoll(fds, n, left < 0 ? NULL : &ts, &none);

		if (ready > 0 && end_signal_pending())
			terminated = 1;
		if (terminated && !termination_reported) {
			termination_reported = true;
			return IO_TERMINATED;
		}
		if (ready > 0) /* a steady flow of bytes does not put off the deadline either */
			return left == 0 ? IO_TIMEOUT : IO_DONE;
		if (ready < 0 && errno != EINTR)
			return status_of_errno(IO_FAILED);
		if (ready == 0 && deadline_left(when) == 0)
			return IO_TIMEOUT;
	}
}

void stream_spin(struct pollfd *fds, unsigned n, int us)
{
	int64_t until = now_us() + us;

	while (poll(fds, n, 0) == 0 && now_us() < until)
		sched_yield();
}

enum io_status stream_wait(struct stream *s, enum io_status want, deadline when)
{
	bool read = want == IO_WANT_READ;
	bool unsent = read && (s->verbs->pending(s) & STREAM_UNSENT) != 0;
	struct pollfd p[] = {{.fd = read ? s->rfd : -1, .events = POLLIN},
			     {.fd = read && !unsent ? -1 : s->wfd, .events = POLLOUT}};
	size_t none;

	if (!read && want != IO_WANT_WRITE)
		return want;
	want = stream_poll(p, 2, when);
	if (want == IO_DONE && unsent) /* the next read tells whether that failed */
		(void)!s->verbs->write(s, "", 0, &none);
	return want;
}

enum io_status stream_read_exactly(struct stream *s, void *buf, size_t size, size_t *got,
				   deadline when)
{
	for (*got = 0; *got < size;) {
		size_t n = 0;
		enum io_status io = s->verbs->read(s, (unsigned char *)buf + *got, size - *got, &n);

		if ((io = stream_wait(s, io, when)) != IO_DONE)
			return io;
		*got += n;
	}
	return IO_DONE;
}

enum io_status stream_write_all(struct stream *s, const void *buf, size_t size, deadline when)
{
	for (size_t done = 0; done < size || (s->verbs->pending(s) & STREAM_UNSENT) != 0;) {
		size_t n = 0;
		enum io_status io =
		    s->verbs->write(s, (const unsigned char *)buf + done, size - done, &n);

		if ((io = stream_wait(s, io, when)) != IO_DONE)
			return io;
		done += n;
	}
	return IO_DONE;
}

enum io_status stream_shut_all(struct stream *s, deadline when)
{
	enum io_status shut, io;

	do {
		shut = s->verbs->shut(s);
		io = stream_wait(s, shut, when);
	} while (io == IO_DONE && shut != IO_DONE);
	return io;
}

/* Has the peer acknowledged all that we sent, our FIN included (tcp(7), SIOCOUTQ)? */
static bool all_acknowledged(int fd)
{
	int unacknowledged = 0;

	return ioctl(fd, SIOCOUTQ, &unacknowledged) < 0 || unacknowledged == 0;
}

void stream_linger(int rfd, int wfd, deadline when)
{
	char discarded[4096];
	int pause_ms = 1; /* poll() does not report acknowledgements: look again, ever less often */

	if (rfd != wfd || shutdown(wfd, SHUT_WR) < 0)
		return;
	for (;;) {
		struct pollfd p = {.fd = rfd, .events = POLLIN};
		enum io_status io = stream_poll(&p, 1, deadline_min(when, deadline_in(pause_ms)));

		if (io == IO_DONE) {
			ssize_t n = recv(rfd, discarded, sizeof discarded, MSG_DONTWAIT);
			if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
				return;
		} else if (io != IO_TIMEOUT || all_acknowledged(wfd)) {
			return;
		}
		if (deadline_left(when) == 0)
			return;
		if (pause_ms < 100)
			pause_ms *= 2;
	}
}
