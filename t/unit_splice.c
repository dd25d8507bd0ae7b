/* SPDX-License-Identifier: ISC
 *
 * t/unit_splice.c - the relay between two streams in memory: half-closes, broken connections,
 * TLS reads that must write and the reverse, back pressure, and the reason for the end.
 *
 * sabotage: net/splice.c s/up->ended ? SPLICE_CLIENT_CLOSED : SPLICE_BACKEND_CLOSED/SPLICE_BACKEND_CLOSED/
 * sabotage: net/splice.c s/d->read_wants_write = true;/;/
 * sabotage: net/splice.c s/while (more \&\& d->len < BUFFER_SIZE)/if (more)/
 * sabotage: net/splice.c s/d->write_wants_read = io == IO_WANT_READ;/d->write_wants_read = false;/
 * sabotage: net/splice.c s/\*d->count += n;/;/
 * sabotage: net/splice.c s/if (data_buffered(up, down)) {$/if (false) {/
 * sabotage: net/splice.c s/((source_done(in) \&\& empty(in)) ||/(source_done(in) ||/
 * sabotage: net/splice.c s/d->lost |= .*;/;/
 * sabotage: net/splice.c s/d->lost |= .*;/d->lost = true;/
 * sabotage: net/splice.c s/if (!d->sink_failed) /if (true) /
 * sabotage: net/splice.c s/d->sink_failed = d->lost = true;/d->sink_failed = true;/
 * sabotage: net/splice.c s/return up->give_up;/return DEADLINE_NEVER;/
 * sabotage: net/splice.c s/d->shut = io != IO_WANT_WRITE;/d->shut = true; return;/
 * sabotage: net/splice.c s/d->no_memory |= .*;/;/
 * sabotage: net/splice.c s/out->lost |= unsent(out->sink);/;/
 * sabotage: net/splice.c s/all_delivered ? SPLICE_CLIENT_CLOSED : SPLICE_CLIENT_RESET/SPLICE_CLIENT_RESET/
 * sabotage: net/splice.c s/ || (down->readable \&\& empty(down))//
 * sabotage: net/splice.c s/(up->readable \&\& empty(up)) ||/up->readable ||/
 * sabotage: net/splice.c s/(up->source_failed \&\& empty(up)) ||/up->source_failed ||/
 */
#include "net/splice.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "memstream.h"
#include "tap.h"

static struct memstream client, backend;
static const char asked[] = "what the client asks",
		  told[] = "what the backend answers, which is longer";

/* ---- streams in memory that behave like TLS ---- */

/*
 * read_waits reads answer IO_WANT_WRITE. Writes answer IO_WANT_READ until write_waits reads have
 * been made, or with half_only forever.
 */
static unsigned read_waits, write_waits, writes_refused;
static bool half_only;

static enum io_status odd_read(struct stream *s, void *buf, size_t size, size_t *got)
{
	if (read_waits > 0) {
		read_waits--;
		s->rfd = -1; /* must not be polled for reading */
		return IO_WANT_WRITE;
	}
	if (write_waits > 0 && --write_waits > 0)
		return IO_WANT_READ;
	return memstream_verbs.read(s, buf, size, got);
}

/* TLS accepts and buffers bytes; sending them fails. */
static enum io_status held_write(struct stream *s, const void *buf, size_t size, size_t *put)
{
	if (size == 0)
		return IO_FAILED;
	return memstream_verbs.write(s, buf, size, put);
}

static const struct stream_verbs held_verbs = {memstream_read, held_write, memstream_pending,
					       memstream_shut};

static enum io_status odd_write(struct stream *s, const void *buf, size_t size, size_t *put)
{
	if (size > 0 && (write_waits > 0 || half_only)) {
		writes_refused++;
		return IO_WANT_READ;
	}
	return memstream_verbs.write(s, buf, size, put);
}

static unsigned no_pending(struct stream *s)
{
	(void)s;
	return 0;
}

static const struct stream_verbs odd_verbs = {odd_read, odd_write, no_pending, memstream_shut};

/* At the third write TLS has taken the bytes when it finds out that the connection is broken. */
static enum io_status taking_write(struct stream *s, const void *buf, size_t size, size_t *put)
{
	if (((struct memstream *)s)->writes < 2)
		return memstream_write(s, buf, size, put);
	*put = size;
	return IO_FAILED;
}

static const struct stream_verbs taking_verbs = {memstream_read, taking_write, memstream_pending,
						 memstream_shut};

/* ---- runs ---- */

static void begin(void)
{
	memstream_init(&client, asked, sizeof asked);
	memstream_init(&backend, told, sizeof told);
	read_waits = write_waits = writes_refused = 0;
	half_only = false;
}

/* Run with a deadline in `ms`. */
static struct splice run(int64_t ms)
{
	struct splice sp = {
	    .client = &client.stream, .backend = &backend.stream, .until = deadline_in(ms)};

	splice_run(&sp);
	return sp;
}

static bool up_arrived(void)
{
	return backend.out_len == sizeof asked && memcmp(backend.out, asked, sizeof asked) == 0;
}

static bool down_arrived(void)
{
	return client.out_len == sizeof told && memcmp(client.out, told, sizeof told) == 0;
}

static void ended(const struct splice *sp, enum splice_end end, const char *what)
{
	if (!ok(sp->end == end, "%s: %s", what, splice_reason(end)))
		note("got: %s", splice_reason(sp->end));
}

/* ---- orderly ends ---- */

static void test_both_ways(void)
{
	static const struct {
		const char *name;
		size_t chunk, write_chunk;
		bool stutter, hold, buffered;
	} ways[] = {{"at once", 0, 0, false, false, false},
		    {"bytewise", 1, 1, false, false, false},
		    {"with pauses", 3, 2, true, false, false},
		    {"held back", 5, 0, false, true, false},
		    {"in records", 5, 0, false, false, true}};

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		begin();
		client.chunk = backend.chunk = ways[i].chunk;
		client.write_chunk = backend.write_chunk = ways[i].write_chunk;
		client.stutter = backend.stutter = ways[i].stutter;
		client.hold = ways[i].hold;
		client.buffered = backend.buffered = ways[i].buffered;
		struct splice sp = run(5000);
		ok(up_arrived() && down_arrived(), "%s: everything arrives, both ways",
		   ways[i].name);
		ok(sp.received == sizeof asked && sp.sent == sizeof told, "%s: counted",
		   ways[i].name);
		ok(client.unsent == 0, "%s: nothing stays buffered", ways[i].name);
		ok(!ways[i].buffered || (client.writes == 1 && backend.writes == 1),
		   "%s: what several reads give leaves in one write", ways[i].name);
		ok(!client.shut, "%s: the client's stream is not shut", ways[i].name);
		ended(&sp, SPLICE_CLIENT_CLOSED, ways[i].name);
	}
}

static void test_client_half_closes(void)
{
	begin();
	backend.after = IO_WANT_READ; /* the backend goes on */
	struct splice sp = run(50);
	ok(up_arrived() && backend.shut,
	   "the client's end reaches the backend after the last byte");
	ended(&sp, SPLICE_EXPIRED, "the session goes on until the deadline");
}

static void test_backend_ends(void)
{
	begin();
	client.in_len = 0;
	client.after = IO_WANT_READ;
	struct splice sp = run(5000);
	ok(down_arrived(), "the backend ends: the client gets everything");
	ok(!backend.shut, "the backend is not shut");
	ended(&sp, SPLICE_BACKEND_CLOSED, "the backend ends");
}

static void test_silence(void)
{
	begin();
	client.after = backend.after = IO_WANT_READ;
	struct splice sp = {.client = &client.stream,
			    .backend = &backend.stream,
			    .until = DEADLINE_NEVER,
			    .idle_ms = 20};
	splice_run(&sp);
	ok(up_arrived() && down_arrived(), "silence: everything has arrived");
	ended(&sp, SPLICE_IDLE, "silence");
}

/* ---- broken connections ---- */

static void test_broken(void)
{
	begin();
	client.after = IO_FAILED;
	backend.after = IO_WANT_READ;
	struct splice sp = run(5000);
	ended(&sp, SPLICE_CLIENT_RESET, "reset by the client");

	begin();
	client.after = IO_WANT_READ;
	backend.after = IO_FAILED;
	sp = run(5000);
	ok(down_arrived(), "reset by the backend: what came before arrives");
	ended(&sp, SPLICE_BACKEND_RESET, "reset by the backend");

	begin();
	client.after = backend.after = IO_WANT_READ;
	client.out_room = 5;
	client.out_after = IO_FAILED;
	sp = run(5000);
	ended(&sp, SPLICE_CLIENT_RESET, "the client accepts no more");

	begin();
	client.out_room = 5;
	client.out_after = IO_FAILED;
	backend.chunk = 1; /* the client's end is read first */
	sp = run(5000);
	ended(&sp, SPLICE_CLIENT_RESET, "the client accepts no more and closes: the rest is lost");

	begin();
	client.hold = true;
	client.stream.verbs = &held_verbs;
	backend.after = IO_WANT_READ;
	sp = run(5000);
	ended(&sp, SPLICE_CLIENT_RESET,
	      "the client accepts no more and closes: what TLS buffers is lost too");

	begin();
	client.after = IO_NO_MEMORY;
	backend.after = IO_WANT_READ;
	sp = run(5000);
	ended(&sp, SPLICE_NO_MEMORY, "no memory to read from the client");

	begin();
	client.after = backend.after = IO_WANT_READ;
	client.out_room = 5;
	client.out_after = IO_NO_MEMORY;
	sp = run(5000);
	ended(&sp, SPLICE_NO_MEMORY, "no memory to write to the client");

	begin();
	backend.out_room = 5;
	backend.out_after = IO_FAILED;
	sp = run(5000);
	ok(down_arrived(), "the backend accepts no more: its last message still arrives");
	ok(memstream_left(&client) == 0, "the client is still read, and its bytes are discarded");
}

/* It was reported as closed, as if it had got everything. */
static void test_taken_and_lost(void)
{
	begin();
	client.stream.verbs = &taking_verbs;
	backend.chunk = 1; /* the client's end is read first */
	struct splice sp = run(5000);
	ended(&sp, SPLICE_CLIENT_RESET, "the client closes, and what TLS has taken is lost");
}

/*
 * send() to the backend failed for want of kernel memory, or TLS could not encrypt: the backend
 * knows nothing of it, and waited forever, as did the client.
 */
static enum io_status shut_fails(struct stream *s)
{
	(void)s;
	return IO_FAILED;
}

static void test_unreached(bool end)
{
	static const struct stream_verbs no_end = {memstream_read, memstream_write,
						   memstream_pending, shut_fails};
	const char *what = end ? "the client's end cannot be sent" : "a write fails here";

	begin();
	client.after = end ? IO_END : IO_WANT_READ;
	backend.after = IO_WANT_READ;
	backend.out_room = end ? sizeof asked : 5;
	backend.out_after = IO_FAILED;
	backend.stream.verbs = end ? &no_end : &memstream_verbs;
	struct splice sp = run(20000);
	ok(down_arrived(), "%s: what the backend has sent arrives", what);
	ended(&sp, SPLICE_BACKEND_UNREACHED, what);
}

/* ---- back pressure ---- */

static void test_back_pressure(void)
{
	static unsigned char much[MEMSTREAM_OUT];

	begin();
	memstream_close(&backend);
	memstream_init(&backend, much, sizeof much);
	client.after = backend.after = IO_WANT_READ;
	backend.chunk = 1000;
	client.out_room = 2500;
	struct splice sp = {
	    .client = &client.stream, .backend = &backend.stream, .until = deadline_in(20)};
	deadline start = deadline_in(0);
	splice_run(&sp);
	ok(memstream_left(&backend) == sizeof much - 3000,
	   "a full client: only one buffer is read from the backend");
	ok(up_arrived(), "a full client: the other direction goes on");
	ended(&sp, SPLICE_EXPIRED, "a full client: the deadline ends it");
	ok(deadline_in(0) - start < 10000, "the final delivery is limited");
}

/* ---- TLS reads that must write, and the reverse ---- */

static void test_read_wants_write(void)
{
	begin();
	client.stream.verbs = &odd_verbs;
	backend.after = IO_WANT_READ;
	read_waits = 3;
	struct splice sp = run(100);
	ok(up_arrived() && down_arrived(), "reads that must write first: everything arrives");
	ended(&sp, SPLICE_EXPIRED, "reads that must write first");
}

static void test_write_wants_read(void)
{
	begin();
	client.stream.verbs = &odd_verbs;
	client.after = IO_WANT_READ;
	write_waits = 4;
	struct splice sp = run(5000);
	ok(down_arrived(), "writes that must read first: everything arrives");
	ok(writes_refused <= 6, "they are not repeated needlessly (%u times)", writes_refused);
	ended(&sp, SPLICE_BACKEND_CLOSED, "writes that must read first");
}

/* The client closes in the middle of a TLS message. */
static void test_stuck(void)
{
	begin();
	client.stream.verbs = &odd_verbs;
	client.in_len = 0;
	backend.after = IO_WANT_READ;
	write_waits = 3;
	half_only = true;
	struct splice sp = run(100);
	ended(&sp, SPLICE_CLIENT_RESET, "half a message, then the end");
	ok(client.out_len == 0, "nothing could be written");
}

/* The TLS library has more data buffered than is relayed without poll(); its socket is silent. */
static size_t inside, carried;

static enum io_status inside_read(struct stream *s, void *buf, size_t size, size_t *got)
{
	(void)s;
	if (inside == 0)
		return IO_WANT_READ;
	*got = size < inside ? size : inside;
	memset(buf, 'x', *got);
	inside -= *got;
	return IO_DONE;
}

static enum io_status counting_write(struct stream *s, const void *buf, size_t size, size_t *put)
{
	(void)s;
	(void)buf;
	carried += size;
	*put = size;
	return IO_DONE;
}

static enum io_status silent_read(struct stream *s, void *buf, size_t size, size_t *got)
{
	(void)s;
	(void)buf;
	(void)size;
	(void)got;
	return IO_WANT_READ;
}

static unsigned inside_pending(struct stream *s)
{
	(void)s;
	return inside > 0 ? STREAM_READABLE : 0;
}

static unsigned refusals;

static enum io_status refusing_write(struct stream *s, const void *buf, size_t size, size_t *put)
{
	(void)s;
	(void)buf;
	(void)size;
	(void)put;
	refusals++;
	return IO_WANT_WRITE;
}

static enum io_status shut(struct stream *s)
{
	(void)s;
	return IO_DONE;
}

static const struct stream_verbs full_verbs = {inside_read, counting_write, inside_pending, shut};
static const struct stream_verbs silent_verbs = {silent_read, counting_write, no_pending, shut};
static const struct stream_verbs refusing_verbs = {silent_read, refusing_write, no_pending, shut};

/* TLS on the connection of the client or, as in client mode, of the backend. */
static void test_inside(bool from_backend)
{
	struct stream full = {.verbs = &full_verbs, .rfd = -1, .wfd = -1},
		      silent = {.verbs = &silent_verbs, .rfd = -1, .wfd = -1};
	const size_t all = 40 * 65536 + 100;
	struct splice sp = {.client = from_backend ? &silent : &full,
			    .backend = from_backend ? &full : &silent,
			    .until = deadline_in(1000)};

	inside = all;
	carried = 0;
	splice_run(&sp);
	ok(carried == all, "%zu of %zu buffered bytes are relayed although the socket is silent",
	   carried, all);
	ended(&sp, SPLICE_EXPIRED, "and the deadline ends it");
}

static void test_inside_behind_back_pressure(void)
{
	struct stream full = {.verbs = &full_verbs, .rfd = -1, .wfd = -1},
		      refusing = {.verbs = &refusing_verbs, .rfd = -1, .wfd = -1};
	struct splice sp = {.client = &full, .backend = &refusing, .until = deadline_in(100)};

	inside = 10 * 65536;
	splice_run(&sp);
	ok(inside == 9 * 65536, "the backend does not read: one buffer is filled");
	ok(refusals < 20, "no busy loop: %u tries in 100 ms", refusals);
}

/* Reads `words` once, then answers `behind`; pending() always says that more is buffered. */
static const char *words;
static bool said_all;
static enum io_status behind;

static enum io_status say_once(struct stream *s, void *buf, size_t size, size_t *got)
{
	size_t len = strlen(words) + 1;

	(void)s;
	if (said_all)
		return behind;
	said_all = true;
	*got = size < len ? size : len;
	memcpy(buf, words, *got);
	return IO_DONE;
}

static unsigned more_inside(struct stream *s)
{
	(void)s;
	return STREAM_READABLE;
}

static void will_say(const char *what, enum io_status then)
{
	words = what;
	said_all = false;
	behind = then;
}

/*
 * A client on a Unix socket sends its last bytes together with close_notify and hangs up while the
 * backend does not read. poll() reports a hang-up, which also means that nothing can be written.
 */
static int client_end = -1;

static void hang_up(void)
{
	if (client_end >= 0)
		close(client_end);
	client_end = -1;
}

static enum io_status refuse_and_hang_up(struct stream *s, const void *buf, size_t size,
					 size_t *put)
{
	(void)s;
	(void)buf;
	(void)size;
	(void)put;
	hang_up();
	return IO_WANT_WRITE;
}

static void test_hang_up_behind_back_pressure(enum io_status after, const char *what)
{
	static const struct stream_verbs tls = {say_once, counting_write, more_inside, shut};
	static const struct stream_verbs full = {silent_read, refuse_and_hang_up, no_pending, shut};
	struct stream from = {.verbs = &tls}, to = {.verbs = &full, .rfd = -1, .wfd = -1};
	int ends[2];

	if (!ok(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "a client on a Unix socket"))
		return;
	client_end = ends[1];
	from.rfd = from.wfd = ends[0];
	will_say(asked, after);
	struct splice sp = {.client = &from, .backend = &to, .until = deadline_in(50)};
	splice_run(&sp);
	ok(client_end < 0 && said_all, "it sends everything, %s, and hangs up", what);
	ended(&sp, SPLICE_EXPIRED, "the relay waits for the backend");
	close(ends[0]);
}

/* When the backend gets the client's end, the client reads its answer and closes. */
static enum io_status take_and_hang_up(struct stream *s)
{
	char answer[sizeof told];

	(void)s;
	if (client_end >= 0)
		(void)!read(client_end, answer, sizeof answer);
	hang_up();
	return IO_DONE;
}

static unsigned unsent_inside(struct stream *s)
{
	(void)s;
	return STREAM_UNSENT;
}

static void test_gone_after_its_end(bool held, enum splice_end end, const char *what)
{
	static const struct stream_verbs backend_verbs = {say_once, counting_write, more_inside,
							  take_and_hang_up};
	struct stream to = {.verbs = &backend_verbs, .rfd = -1, .wfd = -1};
	struct stream_verbs client_verbs;
	struct fd_stream from;
	int ends[2];

	if (!ok(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 &&
		    write(ends[1], asked, sizeof asked) == sizeof asked &&
		    shutdown(ends[1], SHUT_WR) == 0,
		"a client on a Unix socket"))
		return;
	client_end = ends[1];
	will_say(told, IO_WANT_READ);
	fd_stream_init(&from, ends[0], ends[0]);
	client_verbs = *from.stream.verbs;
	if (held)
		client_verbs.pending = unsent_inside;
	from.stream.verbs = &client_verbs;
	struct splice sp = {.client = &from.stream, .backend = &to, .until = deadline_in(200)};
	splice_run(&sp);
	ended(&sp, end, what);
	close(ends[0]);
}

int main(void)
{
	test_inside(false);
	test_inside(true);
	test_inside_behind_back_pressure();
	test_both_ways();
	test_client_half_closes();
	test_backend_ends();
	test_silence();
	test_broken();
	test_taken_and_lost();
	test_unreached(false);
	test_unreached(true);
	test_back_pressure();
	test_read_wants_write();
	test_write_wants_read();
	test_stuck();
	test_hang_up_behind_back_pressure(IO_END, "ends");
	test_hang_up_behind_back_pressure(IO_FAILED, "breaks");
	test_gone_after_its_end(false, SPLICE_CLIENT_CLOSED,
				"the client shuts down, gets its answer, closes: no loss");
	test_gone_after_its_end(true, SPLICE_CLIENT_RESET,
				"the client closes while its answer is buffered in TLS: a loss");
	return done_testing();
}
