/* SPDX-License-Identifier: ISC
 *
 * t/memstream.h - a stream in memory, for unit tests of code that gets a stream.
 *
 * It feeds the given bytes and records what is written:
 *
 *	struct memstream m;
 *	memstream_init(&m, bytes, length);
 *	m.chunk = 1;             a read gives at most 1 byte (0: as many as asked for)
 *	m.stutter = true;        every other read and write first answers IO_WANT_READ or _WRITE
 *	m.after = IO_WANT_READ;  silence after the input (default IO_END; IO_FAILED: a reset)
 *	m.write_chunk = 3;       a write accepts at most 3 bytes (0: all)
 *	m.out_room = 100;        the sink accepts 100 bytes in all (at most MEMSTREAM_OUT), then
 *	                         answers m.out_after (IO_WANT_WRITE: full, IO_FAILED: gone)
 *	m.hold = true;           written bytes stay buffered, as in a TLS library, until a write of
 *	                         size 0: pending() says STREAM_UNSENT
 *	m.buffered = true;       pending() says STREAM_READABLE while input is left, like a TLS
 *	                         library that has decrypted it
 *	code_under_test(&m.stream, ...);
 *	memstream_left(&m)       bytes of the input that were not read
 *	m.out, m.out_len, m.shut what was written, and whether our direction was ended
 *	m.writes                 how many writes accepted something
 *	memstream_again(&m, bytes, length);
 *	                         the same as memstream_init, but cheaper; `m` is open or zeroed
 *	memstream_close(&m);
 *
 * For poll() the descriptor is /dev/null, which is always ready. A stream that is silent or full
 * has descriptor -1, which is never ready, so that waiting for it lasts until the deadline: use
 * deadline_in(0) to save the time.
 */
#ifndef PGSSL_MEMSTREAM_H
#define PGSSL_MEMSTREAM_H

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/stream.h"

enum { MEMSTREAM_OUT = 1 << 16 };

struct memstream {
	struct stream stream; /* first: a stream is cast to its memstream */
	const unsigned char *in;
	size_t in_len, in_at;
	size_t chunk, write_chunk;
	bool stutter, hold, buffered;
	enum io_status after, out_after;
	size_t out_room;
	size_t out_len, unsent;
	unsigned writes;
	bool shut;
	int null_fd;
	bool read_stuttered, write_stuttered;
	unsigned char out[MEMSTREAM_OUT]; /* last: it is not cleared */
};

static inline size_t memstream_min(size_t size, size_t limit)
{
	return limit == 0 || size < limit ? size : limit;
}

static inline enum io_status memstream_read(struct stream *s, void *buf, size_t size, size_t *got)
{
	struct memstream *m = (struct memstream *)s;
	size_t left = m->in_len - m->in_at;

	s->rfd = m->null_fd;
	if (m->stutter && (m->read_stuttered = !m->read_stuttered))
		return IO_WANT_READ;
	if (left == 0) {
		if (m->after == IO_WANT_READ)
			s->rfd = -1;
		return m->after;
	}
	size = memstream_min(size, m->chunk);
	*got = size < left ? size : left;
	memcpy(buf, m->in + m->in_at, *got);
	m->in_at += *got;
	return IO_DONE;
}

static inline enum io_status memstream_write(struct stream *s, const void *buf, size_t size,
					     size_t *put)
{
	struct memstream *m = (struct memstream *)s;

	s->wfd = m->null_fd;
	if (m->stutter && (m->write_stuttered = !m->write_stuttered))
		return IO_WANT_WRITE;
	if (size == 0) {
		m->unsent = 0;
		*put = 0;
		return IO_DONE;
	}
	if (m->shut || m->out_len >= m->out_room) {
		if (m->out_after == IO_WANT_WRITE)
			s->wfd = -1;
		return m->shut ? IO_FAILED : m->out_after;
	}
	size = memstream_min(size, m->write_chunk);
	*put = memstream_min(size, m->out_room - m->out_len);
	memcpy(m->out + m->out_len, buf, *put);
	m->out_len += *put;
	m->writes++;
	if (m->hold)
		m->unsent += *put;
	return IO_DONE;
}

static inline unsigned memstream_pending(struct stream *s)
{
	struct memstream *m = (struct memstream *)s;

	return (m->buffered && m->in_at < m->in_len ? STREAM_READABLE : 0u) |
	       (m->unsent > 0 ? STREAM_UNSENT : 0u);
}

static inline enum io_status memstream_shut(struct stream *s)
{
	((struct memstream *)s)->shut = true;
	return IO_DONE;
}

static const struct stream_verbs memstream_verbs = {memstream_read, memstream_write,
						    memstream_pending, memstream_shut};

/* Make `m`, which is open or zeroed, a stream that yields the `len` bytes at `in` and then ends.
 * `in` must outlive it. */
static inline void memstream_again(struct memstream *m, const void *in, size_t len)
{
	int fd = m->null_fd > 0 ? m->null_fd : open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		abort();
	memset(m, 0, offsetof(struct memstream, out));
	m->stream.verbs = &memstream_verbs;
	m->stream.rfd = m->stream.wfd = m->null_fd = fd;
	m->in = in;
	m->in_len = len;
	m->after = IO_END;
	m->out_after = IO_WANT_WRITE;
	m->out_room = MEMSTREAM_OUT;
}

/* The same for a new one. */
static inline void memstream_init(struct memstream *m, const void *in, size_t len)
{
	m->null_fd = 0;
	memstream_again(m, in, len);
}

static inline size_t memstream_left(const struct memstream *m)
{
	return m->in_len - m->in_at;
}

static inline void memstream_close(struct memstream *m)
{
	close(m->null_fd);
}

#endif
