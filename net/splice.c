/* SPDX-License-Identifier: ISC
 *
 * net/splice.c - step 9: relay both directions.
 *
 * Each direction has a buffer, a source and a sink. The top of the loop computes what each waits
 * for and polls for exactly that; then each buffer is filled and drained at once. A small query
 * thus costs one poll, one read and one write, and bulk data a few per full buffer.
 */
#include "net/splice.h"

#include <malloc.h>
#include <poll.h>
#include <stdalign.h>
#include <string.h>
#include <sys/mman.h>

#define BUFFER_SIZE 65536
#define BULK        8192 /* PostgreSQL's buffer: if this much was read, read again before poll() */
#define ROUNDS_MAX  16   /* without poll(), which looks for SIGTERM and the deadline */
#define RELEASE_MS  500  /* of silence, before memory that only bulk data needs is released */
#define DELIVER_MS  5000 /* for the rest of the data when the session is ended from here */

struct direction {
	struct stream *source, *sink;
	unsigned char *buf;
	size_t at, len; /* buf[at..len) is still to be written */
	uint64_t *count;
	bool readable;         /* a read may succeed */
	bool read_wants_write; /* TLS must write before it can read */
	bool write_wants_read; /* TLS must read before it can write: half a message arrived */
	bool hung_up;          /* poll() reported a hang-up, and would again and again */
	bool ended;            /* the source ended its direction */
	bool source_failed, sink_failed;
	bool no_memory;   /* ... for want of it */
	bool lost;        /* bytes that the sink did not accept were discarded */
	bool forward_end; /* half-close the sink too; the client gets its end in step 10 */
	bool shut;        /* that was done */
	bool grown;       /* bulk data arrived since memory was last released */
	deadline give_up; /* the sink failed, and its side does not end the session until then */
};

static bool empty(const struct direction *d)
{
	return d->at == d->len;
}

static bool unsent(struct stream *s)
{
	return (s->verbs->pending(s) & STREAM_UNSENT) != 0;
}

static bool source_done(const struct direction *d)
{
	return d->ended || d->source_failed;
}

static bool failed(struct direction *d, enum io_status io)
{
	d->no_memory |= io == IO_NO_MEMORY;
	return io == IO_FAILED || io == IO_NO_MEMORY;
}

/* Record the result of a read; return true if another read may succeed at once. */
static bool note_read(struct direction *d, enum io_status io, size_t n)
{
	switch (io) {
	case IO_DONE:
		d->len += n;
		*d->count += n;
		return (d->source->verbs->pending(d->source) & STREAM_READABLE) != 0;
	case IO_WANT_READ:
		break;
	case IO_WANT_WRITE:
		d->read_wants_write = true;
		break;
	case IO_END:
		d->ended = true;
		break;
	default:
		d->source_failed = failed(d, io);
	}
	return false;
}

/* Take all the records that the TLS library has buffered, so that they leave in one write. */
static void fill_buffer(struct direction *d)
{
	bool more = true;

	d->at = d->len = 0;
	while (more && d->len < BUFFER_SIZE) {
		size_t n = 0;
		enum io_status io =
		    d->source->verbs->read(d->source, d->buf + d->len, BUFFER_SIZE - d->len, &n);
		more = note_read(d, io, n);
	}
	d->readable = more || (d->len >= BULK && !source_done(d) && !d->read_wants_write);
	d->grown |= d->len >= BULK;
}

static void drain_buffer(struct direction *d)
{
	while (!empty(d) && !d->sink_failed) {
		size_t n = 0;
		enum io_status io =
		    d->sink->verbs->write(d->sink, d->buf + d->at, d->len - d->at, &n);

		d->write_wants_read = io == IO_WANT_READ;
		if (io == IO_WANT_WRITE || io == IO_WANT_READ)
			return;
		d->sink_failed = failed(d, io) || io == IO_END;
		if (!d->sink_failed) /* else what TLS has taken is lost too */
			d->at += n;
	}
	if (d->sink_failed) { /* go on reading the source, and discard what it sends */
		d->lost |= !empty(d);
		d->at = d->len;
	} else if (d->ended && d->forward_end && !d->shut) {
		enum io_status io = d->sink->verbs->shut(d->sink);

		d->shut = io != IO_WANT_WRITE;
		d->sink_failed = failed(d, io);
	}
}

/* Send what the sink accepted but still buffers. */
static void flush_sink(struct direction *d)
{
	size_t none;

	if (failed(d, d->sink->verbs->write(d->sink, d->buf, 0, &none)))
		d->sink_failed = d->lost = true;
}

/*
 * Fill in one stream's two entries of the poll set: `in` reads the stream and `out` writes it. With
 * one descriptor for both, the second entry stays unused.
 */
static void request_events(struct pollfd set[2], const struct direction *in,
			   const struct direction *out)
{
	struct stream *s = in->source;
	bool one = s->rfd == s->wfd, ended = source_done(in);
	bool read = !ended && empty(in) && (!in->read_wants_write || out->write_wants_read);
	bool write =
	    !out->sink_failed && ((!empty(out) && !out->write_wants_read) || in->read_wants_write ||
				  unsent(s) || (out->ended && out->forward_end && !out->shut));
	bool done = ended && (!one || out->sink_failed || out->shut);
	bool idle = in->hung_up && !read && !(one && write);

	/* A socket without events still reports a reset. A pipe, or a socket whose two directions
	 * have ended, would report its end forever. */
	set[0] = (struct pollfd){.fd = done || idle ? -1 : s->rfd, .events = read ? POLLIN : 0};
	set[1] = (struct pollfd){.fd = one || out->sink_failed ? -1 : s->wfd,
				 .events = write ? POLLOUT : 0};
	if (one && write)
		set[0].events |= POLLOUT;
}

static void take_events(const struct pollfd set[2], struct direction *in, struct direction *out)
{
	short r = set[0].revents, w = set[1].fd < 0 ? r : set[1].revents;
	bool hang_up = (r & (POLLHUP | POLLERR)) != 0;

	in->readable |= (r & POLLIN) != 0 || (hang_up && !source_done(in));
	in->hung_up |= hang_up;
	if ((w & POLLERR) != 0 ||
	    ((w & POLLHUP) != 0 && ((source_done(in) && empty(in)) || set[1].fd >= 0))) {
		out->sink_failed = true;
		out->lost |= unsent(out->sink);
	}
	if ((w & POLLOUT) == 0)
		return;
	in->readable |= in->read_wants_write;
	in->read_wants_write = false;
	if (unsent(in->source))
		flush_sink(out);
}

static void relay(struct direction *d)
{
	if (d->readable && empty(d) && !source_done(d))
		fill_buffer(d);
	drain_buffer(d);
}

/* Is the session over? Sets the reason. `up` is the direction from the client to the backend. */
static bool session_over(struct splice *sp, const struct direction *up,
			 const struct direction *down)
{
	/* TLS waits for the rest of a message, which can no longer come or no longer matters. */
	bool stuck = down->write_wants_read && (up->ended || down->ended);
	/* After the client's end, with everything delivered, a broken connection is no failure. */
	bool all_delivered = up->ended && empty(up) && empty(down) && !down->lost;

	if ((up->source_failed && empty(up)) || down->sink_failed || stuck) {
		sp->end = all_delivered ? SPLICE_CLIENT_CLOSED : SPLICE_CLIENT_RESET;
		return true;
	}
	if (!empty(down) || unsent(down->sink))
		return false;
	if (down->ended)
		sp->end = up->ended ? SPLICE_CLIENT_CLOSED : SPLICE_BACKEND_CLOSED;
	else if (down->source_failed)
		sp->end = SPLICE_BACKEND_RESET;
	return down->ended || down->source_failed;
}

/*
 * Nothing more can be sent to the backend. It ends the session with its last words if its
 * connection broke. If the failure is ours alone, it knows nothing of it and waits, as the client
 * does.
 */
static deadline sink_deadline(struct direction *up, const struct direction *down)
{
	if (!up->sink_failed || down->hung_up)
		return DEADLINE_NEVER;
	if (up->give_up == 0)
		up->give_up = deadline_in(DELIVER_MS);
	return up->give_up;
}

/* End the session from here: deliver what the backend has sent. */
static void end_session(struct splice *sp, struct direction *up, const struct direction *down,
			enum io_status why)
{
	bool gave_up = deadline_left(sink_deadline(up, down)) == 0;

	sp->end = why == IO_TERMINATED            ? SPLICE_TERMINATED
		  : failed(up, why)               ? SPLICE_BACKEND_RESET
		  : gave_up                       ? SPLICE_BACKEND_UNREACHED
		  : deadline_left(sp->until) == 0 ? SPLICE_EXPIRED
						  : SPLICE_IDLE;
	if (stream_write_all(down->sink, down->buf + down->at, down->len - down->at,
			     deadline_in(gave_up ? 0 : DELIVER_MS)) != IO_DONE)
		log_peer_line(LOG_INFO, "the client did not read all of its data in time");
}

/* --idle-timeout counts from the last byte relayed; wake-ups for other reasons do not matter. */
static deadline idle_deadline(struct splice *sp)
{
	if (sp->idle_ms == 0)
		return DEADLINE_NEVER;
	if (sp->idle_count != sp->received + sp->sent) {
		sp->idle_count = sp->received + sp->sent;
		sp->idle_at = deadline_in(sp->idle_ms);
	}
	return sp->idle_at;
}

static enum io_status poll_streams(struct splice *sp, struct direction *up, struct direction *down,
				   deadline when)
{
	struct pollfd set[4];

	request_events(&set[0], up, down);
	request_events(&set[2], down, up);
	if (sp->spin_us > 0)
		stream_spin(set, 4, sp->spin_us);
	enum io_status io = stream_poll(set, 4, when);
	if (io == IO_DONE) {
		take_events(&set[0], up, down);
		take_events(&set[2], down, up);
	}
	return io;
}

/* There may be many idle sessions: release the memory that is needed only while data flows. */
static void release_buffer(struct direction *d)
{
	if (empty(d))
		(void)madvise(d->buf, BUFFER_SIZE, MADV_DONTNEED);
	d->grown = false;
}

/* Can data be relayed that poll() does not see, because a library has buffered it? */
static bool data_buffered(const struct direction *up, const struct direction *down)
{
	return (up->readable && empty(up)) || (down->readable && empty(down));
}

static enum io_status wait_for_more(struct splice *sp, struct direction *up, struct direction *down)
{
	deadline when =
	    deadline_min(deadline_min(idle_deadline(sp), sp->until), sink_deadline(up, down));

	if (data_buffered(up, down)) {
		enum io_status io = poll_streams(sp, up, down, deadline_min(deadline_in(1), when));
		return io == IO_TIMEOUT && deadline_left(when) != 0 ? IO_DONE : io;
	}
	if (up->grown || down->grown) {
		deadline soon = deadline_in(RELEASE_MS);
		enum io_status io = poll_streams(sp, up, down, deadline_min(soon, when));
		if (io != IO_TIMEOUT || when <= soon)
			return io;
		release_buffer(up);
		release_buffer(down);
		(void)malloc_trim(0); /* free memory goes back to the system */
	}
	return poll_streams(sp, up, down, when);
}

static void run(struct splice *sp, struct direction *up, struct direction *down)
{
	for (unsigned rounds = 0;; rounds++) {
		relay(down); /* first: if both ended, the backend did so first */
		relay(up);
		if (session_over(sp, up, down))
			return;
		if (rounds < ROUNDS_MAX && data_buffered(up, down))
			continue;
		rounds = 0;
		enum io_status io = wait_for_more(sp, up, down);
		if (io != IO_DONE) {
			end_session(sp, up, down, io);
			return;
		}
	}
}

void splice_run(struct splice *sp)
{
	static alignas(4096) unsigned char buffers[2][BUFFER_SIZE];
	struct direction up = {.source = sp->client,
			       .sink = sp->backend,
			       .buf = buffers[0],
			       .forward_end = true,
			       .count = &sp->received};
	/* Grown from the start: the handshake has left more to release than bulk data does. */
	struct direction down = {.source = sp->backend,
				 .sink = sp->client,
				 .buf = buffers[1],
				 .count = &sp->sent,
				 .grown = true};

	sp->idle_count = UINT64_MAX; /* idle_deadline begins to count */
	/* The TLS library may already have buffered the first bytes. */
	up.readable = (sp->client->verbs->pending(sp->client) & STREAM_READABLE) != 0;
	down.readable = (sp->backend->verbs->pending(sp->backend) & STREAM_READABLE) != 0;
	run(sp, &up, &down);
	if (up.no_memory || down.no_memory)
		sp->end = SPLICE_NO_MEMORY;
}

const char *splice_reason(enum splice_end end)
{
	static const char *const words[] = {
	    [SPLICE_CLIENT_CLOSED] = "client closed",
	    [SPLICE_CLIENT_RESET] = "connection to client lost",
	    [SPLICE_BACKEND_CLOSED] = "server closed",
	    [SPLICE_BACKEND_RESET] = "connection to server lost",
	    [SPLICE_BACKEND_UNREACHED] = "could not send to server",
	    [SPLICE_NO_MEMORY] = "out of memory",
	    [SPLICE_IDLE] = "idle timeout",
	    [SPLICE_EXPIRED] = "client certificate expired",
	    [SPLICE_TERMINATED] = "terminated",
	};

	return words[end];
}
