/* SPDX-License-Identifier: ISC
 *
 * net/stream.h - bytes in two directions, with four verbs: read, write, pending, shut.
 *
 * startup.c and splice.c get streams and cannot know whether TLS lies below. Nothing here blocks but the functions that take a
 * deadline. A stream over descriptors never sets O_NONBLOCK: the file description may be shared with a shell or a super-server.
 */
#ifndef PGSSL_NET_STREAM_H
#define PGSSL_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"

enum io_status {
	IO_DONE,       /* it happened */
	IO_WANT_READ,  /* not until the descriptor is readable */
	IO_WANT_WRITE, /* not until the descriptor is writable */
	IO_END,        /* the other side ended its direction in order */
	IO_FAILED,     /* the connection is broken; errno or the stream's own words say how */
	IO_TIMEOUT,    /* the deadline passed */
	IO_TERMINATED, /* SIGTERM came */
};

/* What pending() answers, or-ed together. */
enum {
	STREAM_READABLE = 1, /* a read may succeed although poll() says nothing */
	STREAM_UNSENT =
	    2, /* bytes that write() took are still inside: poll for writing, then write nothing to push them on */
};

struct stream;

struct stream_verbs {
	/* Read 1 to `size` bytes into `buf`; *got is set on IO_DONE only. */
	enum io_status (*read)(struct stream *, void *buf, size_t size, size_t *got);
	/* Take up to `size` bytes; *put is set on IO_DONE only. With size 0: push on what is inside. */
	enum io_status (*write)(struct stream *, const void *buf, size_t size, size_t *put);
	/* STREAM_READABLE | STREAM_UNSENT. */
	unsigned (*pending)(struct stream *);
	/* End our direction; the other goes on. IO_DONE, IO_WANT_WRITE (call again) or IO_FAILED. */
	enum io_status (*shut)(struct stream *);
};

struct stream {
	const struct stream_verbs *verbs;
	int rfd; /* what to poll for reading; -1 for a stream in memory */
	int wfd; /* what to poll for writing; may be the same */
};

/* A stream over one descriptor or two: sockets, pipes, terminals, files. */
struct fd_stream {
	struct stream stream;
	bool rsocket, wsocket; /* recv() and send() work on them */
	bool unread_full;
	unsigned char unread; /* one byte that was read and put back */
};

/* Make `fs` a stream that reads `rfd` and writes `wfd`, both owned by the caller. Never fails. */
void fd_stream_init(struct fd_stream *fs, int rfd, int wfd);

/* Put back one byte that was just read; the next read gives it first. */
void fd_stream_unread(struct fd_stream *fs, unsigned char byte);

/* A point in time: milliseconds of CLOCK_MONOTONIC. DEADLINE_NEVER waits for ever. */
typedef int64_t deadline;
#define DEADLINE_NEVER INT64_MAX

/* `ms` milliseconds from now; with 0: now. */
deadline deadline_in(int64_t ms);

/* Milliseconds left, 0 if it has passed, as poll() takes them (-1 for DEADLINE_NEVER). */
int deadline_left(deadline when);

/* The earlier one. */
deadline deadline_min(deadline a, deadline b);

/*
 * SIGTERM: step 0 blocks it and sets this flag in its handler; stream_poll lets it in while it waits, so that it is never missed and never
 * interrupts anything but waiting.
 */
void stream_catch_sigterm(void);
bool stream_terminated(void);

/*
 * poll(2) with a deadline and SIGTERM let in. IO_DONE when a descriptor is ready, IO_TIMEOUT, IO_TERMINATED (once: whoever is told may then
 * wait for what is left to deliver), or IO_FAILED.
 */
struct pollfd;
enum io_status stream_poll(struct pollfd *fds, unsigned n, deadline when) MUST_USE;

/*
 * Before a stream_poll: return when a descriptor is ready or `us` microseconds have passed, without sleeping, since waking up costs more than a small query does.
 * Whoever else wants the processor gets it between two looks.
 */
void stream_spin(struct pollfd *fds, unsigned n, int us);

/* Wait until `s` can go on after it answered `want` (IO_WANT_READ or IO_WANT_WRITE). Answers as stream_poll. */
enum io_status stream_wait(struct stream *s, enum io_status want, deadline when) MUST_USE;

/* Read exactly `size` bytes, never one more. IO_DONE, IO_END (*got says how many came before), IO_FAILED, IO_TIMEOUT, IO_TERMINATED. */
enum io_status stream_read_exactly(struct stream *s, void *buf, size_t size, size_t *got,
				   deadline when) MUST_USE;

/* Write all of `buf` and push it out of the stream. IO_DONE, IO_FAILED, IO_TIMEOUT, IO_TERMINATED. */
enum io_status stream_write_all(struct stream *s, const void *buf, size_t size,
				deadline when) MUST_USE;

/* shut(), waited for. */
enum io_status stream_shut_all(struct stream *s, deadline when) MUST_USE;

/*
 * End a connection without losing what was said last: shut the socket `wfd` for writing, throw away what comes on `rfd` until the peer
 * closes or has acknowledged all (SIOCOUTQ), or `when` has passed. A socket that is closed with unread data resets the connection, and
 * the reset can overtake and destroy the last message. On pipes nothing of this is needed and it returns at once. SIGTERM ends the wait.
 */
void stream_linger(int rfd, int wfd, deadline when);

#endif
