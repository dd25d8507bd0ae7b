/* SPDX-License-Identifier: ISC
 *
 * net/stream.h - streams with four operations (read, write, pending, shut), deadlines, waiting.
 *
 * wire/ and net/splice.c get streams and cannot know whether TLS lies below. Only functions that
 * take a deadline block. O_NONBLOCK is never set (DESIGN, "Decisions").
 */
#ifndef PGSSL_NET_STREAM_H
#define PGSSL_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"

enum io_status {
	IO_DONE,
	IO_WANT_READ,  /* call again when the descriptor is readable */
	IO_WANT_WRITE, /* call again when the descriptor is writable */
	IO_END,        /* the peer ended its direction in an orderly way */
	IO_FAILED,     /* the connection is broken; see errno or the owner of the stream */
	IO_NO_MEMORY,  /* this process or the kernel has none: the connection is not to blame */
	IO_TIMEOUT,    /* the deadline passed */
	IO_TERMINATED, /* SIGTERM or SIGUSR1 arrived */
};

/* Flags of pending(). */
enum {
	STREAM_READABLE = 1, /* a read may succeed although poll() reports nothing */
	STREAM_UNSENT = 2,   /* accepted bytes are still buffered: poll, then write 0 bytes */
};

struct stream;

struct stream_verbs {
	/* Read 1 to `size` bytes. *got is set on IO_DONE only. */
	enum io_status (*read)(struct stream *, void *buf, size_t size, size_t *got);
	/* Accept up to `size` bytes. *put is set on IO_DONE only. Size 0: send what is buffered. */
	enum io_status (*write)(struct stream *, const void *buf, size_t size, size_t *put);
	/* STREAM_READABLE | STREAM_UNSENT. */
	unsigned (*pending)(struct stream *);
	/* End our direction only. IO_DONE, IO_WANT_WRITE (call again), or a failure. Of the streams
	 * over descriptors only those over a socket have it: a backend's. */
	enum io_status (*shut)(struct stream *);
};

struct stream {
	const struct stream_verbs *verbs;
	int rfd; /* poll this for reading; -1 for a stream in memory */
	int wfd; /* poll this for writing; may equal rfd */
};

/* A stream over one or two descriptors: sockets, pipes, terminals, files. */
struct fd_stream {
	struct stream stream;
	bool rsocket, wsocket; /* recv() and send() work on them */
	bool unread_full;
	unsigned char unread; /* the byte that fd_stream_unread put back */
};

/* Make `fs` a stream that reads `rfd` and writes `wfd`. The caller closes both. Never fails. */
void fd_stream_init(struct fd_stream *fs, int rfd, int wfd);

/* Put back the byte that was just read; the next read returns it first. */
void fd_stream_unread(struct fd_stream *fs, unsigned char byte);

/* A point in time in milliseconds of CLOCK_MONOTONIC. */
typedef int64_t deadline;
#define DEADLINE_NEVER INT64_MAX

/* `ms` milliseconds from now. */
deadline deadline_in(int64_t ms);

/* Milliseconds left as poll() takes them: 0 if it has passed, -1 for DEADLINE_NEVER. */
int deadline_left(deadline when);

/* The earlier one. */
deadline deadline_min(deadline a, deadline b);

/*
 * Block SIGTERM and SIGUSR1, which end a session, and nothing else, and install a handler that sets
 * a flag. stream_poll unblocks the signals while it waits, so they are never missed and interrupt
 * nothing else. stream_terminated reads the flag. A session of a listener ignores SIGTERM.
 */
void stream_catch_signals(void);
bool stream_terminated(void);

/*
 * poll(2) with a deadline, and with SIGTERM and SIGUSR1 unblocked. IO_DONE when a descriptor is
 * ready, IO_TIMEOUT, a failure, or IO_TERMINATED. The latter is reported once, so that the caller
 * can still wait while it delivers what is left.
 */
struct pollfd;
enum io_status stream_poll(struct pollfd *fds, unsigned n, deadline when) MUST_USE;

/*
 * Return when a descriptor is ready or `us` microseconds have passed. Does not sleep, since waking
 * up costs more than a small query, but yields the processor between two looks.
 */
void stream_spin(struct pollfd *fds, unsigned n, int us);

/*
 * Wait, as stream_poll does, if `want` is IO_WANT_READ or IO_WANT_WRITE; else return `want`. Unsent
 * bytes are sent meanwhile, since the peer may answer only when it has them.
 */
enum io_status stream_wait(struct stream *s, enum io_status want, deadline when) MUST_USE;

/* Read exactly `size` bytes, never more. *got is set always, also on IO_END and failures. */
enum io_status stream_read_exactly(struct stream *s, void *buf, size_t size, size_t *got,
				   deadline when) MUST_USE;

/* Write all of `buf` and everything buffered. IO_DONE, a failure, IO_TIMEOUT, IO_TERMINATED. */
enum io_status stream_write_all(struct stream *s, const void *buf, size_t size,
				deadline when) MUST_USE;

/* Call shut() until it is done. */
enum io_status stream_shut_all(struct stream *s, deadline when) MUST_USE;

/*
 * End a connection without losing the last message: shut the socket `wfd` for writing, then discard
 * input from `rfd` until the peer closes, has acknowledged everything (SIOCOUTQ), or `when` passes
 * (DESIGN, "Ending"). Returns at once for pipes, and on SIGTERM.
 */
void stream_linger(int rfd, int wfd, deadline when);

#endif
