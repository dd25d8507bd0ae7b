/* SPDX-License-Identifier: ISC
 *
 * unit_splice.c - the pump between two streams in memory: every byte in order whatever the streams do, back pressure, half close, and each way to end.
 *
 * sabotage: splice.c s/& STREAM_READABLE) != 0;/\& 0) != 0;/
 * sabotage: splice.c s/if (!empty(down) || unsent(down->to))/if (!empty(down))/
 * sabotage: splice.c s/h->read_wants_write = true;/;/
 * sabotage: splice.c s/if (h->readable \&\& empty(h) \&\&/if (h->readable \&\&/
 */
#include "../splice.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

#include "memstream.h"
#include "tap.h"

#define BUFFER 32768 /* of splice.c: the most that one direction may hold */
#define BIG    100000

/* A memstream that keeps silent until it may speak, and sees how much the pump holds. */
struct end {
	struct memstream m; /* first, so that its stream is also this */
	struct end *other;
	bool (*may_speak)(const struct end *); /* NULL: at once */
	bool read_wants_write;                 /* every other read wants the descriptor writable */
	bool wanted;
	size_t room, written;
	size_t held; /* the most that was read here and not written there */
};

static struct end client, server;
static unsigned char up[BIG], down[BIG];
static unsigned char got_up[BIG], got_down[BIG]; /* what was written */

static enum io end_read(struct stream *s, void *buf, size_t size, size_t *got)
{
	struct end *e = (struct end *)s;

	s->rfd = e->m.null_fd;
	if (e->may_speak != NULL && !e->may_speak(e))
		return IO_WANT_READ;
	if (e->read_wants_write && (e->wanted = !e->wanted)) {
		s->rfd = -1; /* being readable is not what it waits for */
		return IO_WANT_WRITE;
	}
	enum io io = memstream_read(s, buf, size, got);
	if (io == IO_DONE && e->m.in_at - e->other->written > e->held)
		e->held = e->m.in_at - e->other->written;
	return io;
}

/* As memstream_write, whose own record is too short. */
static enum io end_write(struct stream *s, const void *buf, size_t size, size_t *put)
{
	struct end *e = (struct end *)s;
	size_t room = e->room - e->written;

	e->m.out_len = 0;
	e->m.out_room = room < MEMSTREAM_OUT ? room : MEMSTREAM_OUT;
	enum io io = memstream_write(s, buf, size, put);
	memcpy((e == &server ? got_up : got_down) + e->written, e->m.out, e->m.out_len);
	e->written += e->m.out_len;
	return io;
}

static const struct stream_verbs end_verbs = {end_read, end_write, memstream_pending, memstream_shut};

static void begin(size_t up_len, size_t down_len)
{
	memset(&client, 0, sizeof client);
	memset(&server, 0, sizeof server);
	memstream_init(&client.m, up, up_len);
	memstream_init(&server.m, down, down_len);
	client.m.stream.verbs = server.m.stream.verbs = &end_verbs;
	client.room = server.room = BIG;
	client.other = &server;
	server.other = &client;
}

static struct splice run(int idle_ms, deadline until)
{
	struct splice sp = {.client = &client.m.stream,
			    .server = &server.m.stream,
			    .idle_ms = idle_ms,
			    .until = until,
			    .received = 1000,
			    .sent = 2000};

	splice_run(&sp);
	memstream_close(&client.m);
	memstream_close(&server.m);
	return sp;
}

/* Did both get exactly that much, in order, and was it counted? */
static bool carried(const struct splice *sp, size_t up_len, size_t down_len)
{
	bool good = server.written == up_len && client.written == down_len && memcmp(got_up, up, up_len) == 0 &&
		    memcmp(got_down, down, down_len) == 0 && sp->received == 1000 + client.m.in_at &&
		    sp->sent == 2000 + server.m.in_at && client.m.unsent == 0 &&
		    (client.held <= BUFFER || server.room < BIG) && server.held <= BUFFER;

	if (!good)
		note("%zu of %zu up, %zu of %zu down, held %zu and %zu, unsent %zu, end %d", server.written, up_len,
		     client.written, down_len, client.held, server.held, client.m.unsent, sp->end);
	return good;
}

static bool heard_the_end(const struct end *e)
{
	return e->m.shut;
}

static bool heard_all(const struct end *e)
{
	return memstream_left(&e->other->m) == 0;
}

/* ---- the data ---- */

static const struct nature {
	const char *name;
	size_t chunk, write_chunk;
	bool stutter, hold, buffered, read_wants_write;
} natures[] = {
    {.name = "plain"},
    {.name = "reads of 1000 bytes", .chunk = 1000},
    {.name = "writes of 7 bytes", .write_chunk = 7},
    {.name = "one byte a read", .chunk = 1},
    {.name = "pauses", .chunk = 5000, .write_chunk = 3000, .stutter = true},
    {.name = "sinks that hold what they took", .hold = true},
    {.name = "sinks that hold, and pauses", .write_chunk = 999, .stutter = true, .hold = true},
    {.name = "sources that have it inside", .chunk = 100, .buffered = true},
    {.name = "reads that want to write", .chunk = 3000, .read_wants_write = true},
    {.name = "all of it",
     .chunk = 100,
     .write_chunk = 70,
     .stutter = true,
     .hold = true,
     .buffered = true,
     .read_wants_write = true},
};

static void become(struct end *e, const struct nature *n)
{
	e->m.chunk = n->chunk;
	e->m.write_chunk = n->write_chunk;
	e->m.stutter = n->stutter;
	e->m.hold = n->hold;
	e->m.buffered = n->buffered;
	e->read_wants_write = n->read_wants_write;
}

static void test_natures(void)
{
	for (size_t c = 0; c < sizeof natures / sizeof natures[0]; c++) {
		for (size_t s = 0; s < sizeof natures / sizeof natures[0]; s++) {
			begin(BIG, BIG);
			become(&client, &natures[c]);
			become(&server, &natures[s]);
			client.m.after = IO_WANT_READ;
			server.may_speak = heard_all;
			struct splice sp = run(0, deadline_in(60000));
			ok(carried(&sp, BIG, BIG) && sp.end == SPLICE_SERVER_CLOSED, "client: %s; server: %s",
			   natures[c].name, natures[s].name);
		}
	}
}

/* Bytes that TLS has decrypted already wake no poll(). */
static void test_inside(void)
{
	begin(5000, 10);
	client.m.buffered = true;
	client.m.chunk = 100;
	client.m.stream.rfd = -1;
	client.m.after = IO_WANT_READ;
	server.may_speak = heard_all;
	struct splice sp = run(0, deadline_in(2000));
	ok(carried(&sp, 5000, 10) && sp.end == SPLICE_SERVER_CLOSED, "the client's first bytes are inside the stream");
}

/* ---- the ends ---- */

static void test_client_ends(void)
{
	begin(BIG, BIG);
	server.may_speak = heard_the_end;
	struct splice sp = run(0, deadline_in(60000));
	ok(carried(&sp, BIG, BIG) && sp.end == SPLICE_CLIENT_CLOSED && server.m.shut && !client.m.shut,
	   "the client ends: the server hears it behind the last byte, and its answer is carried");
	begin(0, 0);
	server.may_speak = heard_the_end;
	sp = run(0, deadline_in(60000));
	ok(carried(&sp, 0, 0) && sp.end == SPLICE_CLIENT_CLOSED && server.m.shut, "the client ends at once");
}

static void test_server_ends(void)
{
	begin(0, BIG);
	client.m.after = IO_WANT_READ;
	struct splice sp = run(0, deadline_in(60000));
	ok(carried(&sp, 0, BIG) && sp.end == SPLICE_SERVER_CLOSED && !server.m.shut && !client.m.shut,
	   "the server ends: its last byte is delivered, and the client is left to the caller");
	begin(0, 0);
	sp = run(0, deadline_in(60000));
	ok(sp.end == SPLICE_SERVER_CLOSED || sp.end == SPLICE_CLIENT_CLOSED, "both end at once");
}

static void test_resets(void)
{
	begin(100, 0);
	client.m.after = IO_FAILED;
	server.m.after = IO_WANT_READ;
	struct splice sp = run(0, deadline_in(60000));
	ok(sp.end == SPLICE_CLIENT_RESET && !server.m.shut,
	   "the client's connection breaks: no half close, which would let the command go on");

	begin(0, BIG);
	client.m.after = IO_WANT_READ;
	client.room = 10;
	client.m.out_after = IO_FAILED;
	sp = run(0, deadline_in(60000));
	ok(sp.end == SPLICE_CLIENT_RESET && server.m.in_at <= BUFFER,
	   "the client takes no more: nothing more is read for it");

	begin(0, BIG);
	client.m.after = IO_WANT_READ;
	server.m.after = IO_FAILED;
	client.m.write_chunk = 100;
	client.m.hold = true;
	sp = run(0, deadline_in(60000));
	ok(carried(&sp, 0, BIG) && sp.end == SPLICE_SERVER_RESET,
	   "the server's connection breaks: what came before is delivered");

	begin(BIG, 30);
	client.m.after = IO_WANT_READ;
	server.room = 5;
	server.m.out_after = IO_FAILED;
	server.may_speak = heard_all;
	sp = run(0, deadline_in(60000));
	ok(carried(&sp, 5, 30) && sp.end == SPLICE_SERVER_CLOSED,
	   "the server takes no more: its last words are read all the same");
}

static void test_times(void)
{
	begin(10, 10);
	client.m.after = server.m.after = IO_WANT_READ;
	struct splice sp = run(1, DEADLINE_NEVER);
	ok(carried(&sp, 10, 10) && sp.end == SPLICE_IDLE, "idle");
	begin(10, 10);
	client.m.after = server.m.after = IO_WANT_READ;
	sp = run(0, deadline_in(20));
	ok(carried(&sp, 10, 10) && sp.end == SPLICE_EXPIRED, "the deadline");
	begin(10, 10);
	client.m.after = server.m.after = IO_WANT_READ;
	sp = run(60000, deadline_in(20));
	ok(sp.end == SPLICE_EXPIRED, "the deadline is before the idle time");
}

static void test_sigterm(void)
{
	stream_catch_sigterm();
	begin(0, BIG);
	client.m.after = server.m.after = IO_WANT_READ;
	raise(SIGTERM);
	struct splice sp = run(0, DEADLINE_NEVER);
	ok(sp.end == SPLICE_TERMINATED && client.written == server.m.in_at, "SIGTERM: what was received is delivered");
}

static void test_reasons(void)
{
	bool good = true;

	for (enum splice_end end = SPLICE_CLIENT_CLOSED; end <= SPLICE_TERMINATED; end++)
		good &= splice_reason(end) != NULL && splice_reason(end)[0] != '\0';
	ok(good, "every end has its words");
}

int main(void)
{
	for (size_t i = 0; i < BIG; i++) {
		up[i] = (unsigned char)(i * 7 + i / 251);
		down[i] = (unsigned char)(i * 11 + i / 241);
	}
	alarm(60);
	test_natures();
	test_inside();
	test_client_ends();
	test_server_ends();
	test_resets();
	test_times();
	test_reasons();
	test_sigterm();
	return done_testing();
}
