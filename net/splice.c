/* SPDX-License-Identifier: ISC
 *
 * net/splice.c - step 9: the pump.
 *
 * Two halves, each with a buffer, a source and a sink. At the top of the loop every half says what it waits for; poll() waits for exactly that; then each half is
 * filled and drained at once, so that a small query costs one poll, one read and one write, and bulk a few for a full buffer.
 */
#include "net/splice.h"

#include <malloc.h>
#include <poll.h>
#include <stdalign.h>
#include <string.h>
#include <sys/mman.h>


#define BUFFER_SIZE 65536
#define BULK                                                                                       \
	8192 /* what PostgreSQL sends at a time: more follows, so another read is tried before poll() */
#define ROUNDS_MAX 16   /* without poll(), which looks for SIGTERM and the deadline */
#define TIDY_MS    500  /* of silence, until memory that only bulk needs is given back */
#define DELIVER_MS 5000 /* for what is left to deliver when a session is ended from here */

struct half {
	struct stream *from, *to;
	unsigned char *buf;
	size_t at, len;        /* what is still to be written: buf[at..len) */
	bool readable;         /* reading is worth a try */
	bool read_wants_write; /* TLS below cannot read before it has written */
	bool
	    write_wants_read; /* TLS below cannot write before it has read: the peer sent half a handshake message */
	bool
	    hung; /* poll() told of the source's hang-up, and would for ever: not asked again until it is read */
	bool ended; /* the source gave its end */
	bool source_failed, sink_failed;
	bool lost; /* bytes that the sink did not take were thrown away */
	bool
	    tell_end; /* the sink is to hear of the source's end (the client does in step 10, after the last byte) */
	bool shut;   /* it was told */
	bool untidy; /* bulk was carried since memory was given back */
	uint64_t *count;
};

/* One stream's two slots for poll(); the second is idle where both directions are one descriptor. */
struct side {
	struct pollfd *r, *w;
};

static bool empty(const struct half *h)
{
	return h->at == h->len;
}

static bool unsent(struct stream *s)
{
	return (s->verbs->pending(s) & STREAM_UNSENT) != 0;
}

/* What a read came to. True if another one is worth a try at once. */
static bool took(struct half *h, enum io_status io, size_t n)
{
	switch (io) {
	case IO_DONE:
		h->len += n;
		*h->count += n;
		return (h->from->verbs->pending(h->from) & STREAM_READABLE) != 0;
	case IO_WANT_READ:
		break;
	case IO_WANT_WRITE:
		h->read_wants_write = true;
		break;
	case IO_END:
		h->ended = true;
		break;
	default:
		h->source_failed = true;
	}
	return false;
}

/* As many records as lie inside the TLS library, so that they leave in one write. */
static void fill(struct half *h)
{
	bool more = true;

	h->at = h->len = 0;
	while (more && h->len < BUFFER_SIZE) {
		size_t n = 0;
		enum io_status io =
		    h->from->verbs->read(h->from, h->buf + h->len, BUFFER_SIZE - h->len, &n);
		more = took(h, io, n);
	}
	h->readable =
	    more || (h->len >= BULK && !h->ended && !h->source_failed && !h->read_wants_write);
	h->untidy |= h->len >= BULK;
}

static void drain(struct half *h)
{
	while (!empty(h) && !h->sink_failed) {
		size_t n = 0;
		enum io_status io = h->to->verbs->write(h->to, h->buf + h->at, h->len - h->at, &n);

		h->write_wants_read = io == IO_WANT_READ;
		if (io == IO_WANT_WRITE || io == IO_WANT_READ)
			return;
		if (io != IO_DONE)
			h->sink_failed = true;
		h->at += n;
	}
	if (h->sink_failed) { /* nobody is left to take it; the source is read on and thrown away */
		h->lost |= !empty(h);
		h->at = h->len;
	} else if (h->ended && h->tell_end && !h->shut)
		h->shut = h->to->verbs->shut(h->to) != IO_WANT_WRITE;
}

/* Push on what the sink took but has not sent. */
static void push(struct half *h)
{
	size_t none;
	enum io_status io = h->to->verbs->write(h->to, h->buf, 0, &none);

	if (io == IO_FAILED)
		h->sink_failed = h->lost = true;
}

/* What `in` (which reads this stream) and `out` (which writes it) wait for. */
static void wish(struct side *side, const struct half *in, const struct half *out)
{
	struct stream *s = in->from;
	bool one = s->rfd == s->wfd, source_done = in->ended || in->source_failed;
	bool read = !source_done && empty(in) && (!in->read_wants_write || out->write_wants_read);
	bool write =
	    !out->sink_failed && ((!empty(out) && !out->write_wants_read) || in->read_wants_write ||
				  unsent(s) || (out->ended && out->tell_end && !out->shut));
	bool done = source_done && (!one || out->sink_failed || out->shut);
	bool idle = in->hung && !read && !(one && write);

	/* With nothing to wait for a socket still tells of a reset; what has ended both ways, or a pipe, would tell of its end for ever. */
	*side->r = (struct pollfd){.fd = done || idle ? -1 : s->rfd, .events = read ? POLLIN : 0};
	*side->w = (struct pollfd){.fd = one || out->sink_failed ? -1 : s->wfd,
				   .events = write ? POLLOUT : 0};
	if (one && write)
		side->r->events |= POLLOUT;
}

/* What poll() answered, and what follows. */
static void answer(const struct side *side, struct half *in, struct half *out)
{
	short r = side->r->revents, w = side->w->fd < 0 ? r : side->w->revents;
	bool source_done = in->ended || in->source_failed;

	if ((r & POLLIN) != 0 || ((r & (POLLHUP | POLLERR)) != 0 && !source_done))
		in->readable = true;
	in->hung |= (r & (POLLHUP | POLLERR)) != 0;
	if ((w & POLLERR) != 0 ||
	    ((w & POLLHUP) != 0 && ((source_done && empty(in)) || side->w->fd >= 0))) {
		out->sink_failed = true;
		out->lost |= unsent(out->to);
	}
	if ((w & POLLOUT) == 0)
		return;
	in->readable |= in->read_wants_write;
	in->read_wants_write = false;
	if (unsent(in->from))
		push(out);
}

static void move(struct half *h)
{
	if (h->readable && empty(h) && !h->ended && !h->source_failed)
		fill(h);
	drain(h);
}

/* True when the session is over; says why. `up` is client to server. */
static bool over(struct splice *sp, const struct half *up, const struct half *down)
{
	/* Half a handshake message whose rest cannot come any more, or need not be waited for: nothing can be written before it. */
	bool stuck = down->write_wants_read && (up->ended || down->ended);
	/* A failure behind the client's end, when all has been said, is none. */
	bool all_said = up->ended && empty(up) && empty(down) && !down->lost;

	if ((up->source_failed && empty(up)) || down->sink_failed || stuck) {
		sp->end = all_said ? SPLICE_CLIENT_CLOSED : SPLICE_CLIENT_RESET;
		return true;
	}
	if (!empty(down) || unsent(down->to))
		return false;
	if (down->ended)
		sp->end = up->ended ? SPLICE_CLIENT_CLOSED : SPLICE_SERVER_CLOSED;
	else if (down->source_failed)
		sp->end = SPLICE_SERVER_RESET;
	return down->ended || down->source_failed;
}

/* The session is ended from here: deliver what came from PostgreSQL. */
static void finish(struct splice *sp, const struct half *down, enum io_status why)
{
	sp->end = why == IO_TERMINATED            ? SPLICE_TERMINATED
		  : why == IO_FAILED              ? SPLICE_SERVER_RESET
		  : deadline_left(sp->until) == 0 ? SPLICE_EXPIRED
						  : SPLICE_IDLE;
	if (stream_write_all(down->to, down->buf + down->at, down->len - down->at,
			     deadline_in(DELIVER_MS)) != IO_DONE)
		log_peer_line(LOG_INFO, "the client did not take the last bytes in time");
}

/* --idle-timeout counts from the last byte that was carried: a peer that wakes us with other things is idle too. */
static deadline idle_since_last_byte(struct splice *sp)
{
	if (sp->idle_ms == 0)
		return DEADLINE_NEVER;
	if (sp->idle_count != sp->received + sp->sent) {
		sp->idle_count = sp->received + sp->sent;
		sp->idle_at = deadline_in(sp->idle_ms);
	}
	return sp->idle_at;
}

static enum io_status wait_until(struct splice *sp, struct half *up, struct half *down,
				 deadline when)
{
	struct pollfd fds[4];
	struct side client = {&fds[0], &fds[1]}, server = {&fds[2], &fds[3]};

	wish(&client, up, down);
	wish(&server, down, up);
	if (sp->spin_us > 0)
		stream_spin(fds, 4, sp->spin_us);
	enum io_status io = stream_poll(fds, 4, when);
	if (io == IO_DONE) {
		answer(&client, up, down);
		answer(&server, down, up);
	}
	return io;
}

/* Idle connections are many: what is only needed while bytes flow goes back to the system, here and in the libraries. */
static void tidy(struct half *h)
{
	if (empty(h))
		(void)madvise(h->buf, BUFFER_SIZE, MADV_DONTNEED);
	h->untidy = false;
}

/* Bytes inside a library, where poll() sees nothing, and room for them. */
static bool lies_inside(const struct half *up, const struct half *down)
{
	return (up->readable && empty(up)) || (down->readable && empty(down));
}

static enum io_status wait_for_more(struct splice *sp, struct half *up, struct half *down)
{
	deadline when = deadline_min(idle_since_last_byte(sp), sp->until);

	if (lies_inside(up, down)) {
		enum io_status io = wait_until(sp, up, down, deadline_min(deadline_in(1), when));
		return io == IO_TIMEOUT && deadline_left(when) != 0 ? IO_DONE : io;
	}
	if (up->untidy || down->untidy) {
		deadline soon = deadline_in(TIDY_MS);
		enum io_status io = wait_until(sp, up, down, deadline_min(soon, when));
		if (io != IO_TIMEOUT || when <= soon)
			return io;
		tidy(up);
		tidy(down);
		(void)malloc_trim(0); /* free memory goes back to the system */
	}
	return wait_until(sp, up, down, when);
}

void splice_run(struct splice *sp)
{
	static alignas(4096) unsigned char buffers[2][BUFFER_SIZE];
	struct half up = {.from = sp->client,
			  .to = sp->server,
			  .buf = buffers[0],
			  .tell_end = true,
			  .count = &sp->received};
	/* The handshake has left more than bulk does. */
	struct half down = {.from = sp->server,
			    .to = sp->client,
			    .buf = buffers[1],
			    .count = &sp->sent,
			    .untidy = true};

	sp->idle_count = sp->received + sp->sent;
	sp->idle_at = deadline_in(sp->idle_ms);
	/* The client's first bytes may lie inside the TLS library already. */
	up.readable = (sp->client->verbs->pending(sp->client) & STREAM_READABLE) != 0;
	down.readable = (sp->server->verbs->pending(sp->server) & STREAM_READABLE) != 0;
	for (unsigned rounds = 0;; rounds++) {
		move(
		    &down); /* first: when PostgreSQL's end and the client's come together, PostgreSQL's came first */
		move(&up);
		if (over(sp, &up, &down))
			return;
		if (rounds < ROUNDS_MAX && lies_inside(&up, &down))
			continue;
		rounds = 0;
		enum io_status io = wait_for_more(sp, &up, &down);
		if (io != IO_DONE) {
			finish(sp, &down, io);
			return;
		}
	}
}

const char *splice_reason(enum splice_end end)
{
	static const char *const words[] = {
	    [SPLICE_CLIENT_CLOSED] = "client closed",
	    [SPLICE_CLIENT_RESET] = "connection to client lost",
	    [SPLICE_SERVER_CLOSED] = "server closed",
	    [SPLICE_SERVER_RESET] = "connection to server lost",
	    [SPLICE_IDLE] = "idle timeout",
	    [SPLICE_EXPIRED] = "client certificate expired",
	    [SPLICE_TERMINATED] = "terminated",
	};

	return words[end];
}
