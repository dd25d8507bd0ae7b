/* SPDX-License-Identifier: ISC
 *
 * t/proofs/stream.c - stream_read_exactly and stream_write_all: all bytes in order, none twice, and
 * never more than asked for, whatever amounts the stream's read() and write() take at a time and
 * however often they must be called again. For each size up to 10004.
 *
 * By induction over the loops: the first call may take any amount, so that the second one finds any
 * state that the loop can reach, and the third would find one that the second could have found.
 *
 * cbmc: --nondet-static --unwind 4 --no-unwinding-assertions
 * edit: s/^enum io_status stream_wait(/enum io_status unused_wait(/ net/stream.c
 * sabotage: s/buf + .got, size - .got, \&n/buf + *got, size, \&n/ net/stream.c
 * sabotage: s/^\t\t.got += n;/\t\t*got = n;/ net/stream.c
 * sabotage: s/buf + done, size - done, \&n/buf, size - done, \&n/ net/stream.c
 * sabotage: s/^\t\tdone += n;/\t\tdone += n + 1;/ net/stream.c
 */
#include "proof.h"

#include "net/stream.c"

enum { MOST = 10004 };

static unsigned char buf[MOST];
static size_t size, done, some;
static int calls;
static bool unsent, seen;

static void check_call(const void *at, size_t n)
{
	prove(at == buf + done && n == size - done,
	      "the next bytes, and never more than are missing");
	given(++calls <= 2);
}

static void pass(size_t n)
{
	if (some >= done && some < done + n) {
		prove(!seen, "no byte passes twice");
		seen = true;
	}
	done += n;
}

static enum io_status any_read(struct stream *s, void *at, size_t n, size_t *got)
{
	(void)s;
	check_call(at, n);
	if (nondet_bool())
		return (enum io_status)any_size(IO_WANT_READ, IO_NO_MEMORY);
	*got = any_size(1, n);
	pass(*got);
	return IO_DONE;
}

static enum io_status any_write(struct stream *s, const void *at, size_t n, size_t *put)
{
	(void)s;
	check_call(at, n);
	if (nondet_bool())
		return (enum io_status)any_size(IO_WANT_READ, IO_NO_MEMORY);
	*put = any_size(0, n);
	pass(*put);
	unsent = nondet_bool();
	return IO_DONE;
}

static unsigned any_pending(struct stream *s)
{
	(void)s;
	return (nondet_bool() ? STREAM_READABLE : 0u) | (unsent ? STREAM_UNSENT : 0u);
}

static const struct stream_verbs verbs = {any_read, any_write, any_pending, NULL};

/* Done after a wait, or any other result of stream_poll. */
enum io_status stream_wait(struct stream *s, enum io_status want, deadline when)
{
	(void)s, (void)when;
	return want != IO_WANT_READ && want != IO_WANT_WRITE ? want
	       : nondet_bool()                               ? IO_DONE
			       : (enum io_status)any_size(IO_END, IO_TERMINATED);
}

static void check_read(struct stream *s)
{
	size_t got;

	enum io_status io = stream_read_exactly(s, buf, size, &got, 0);
	prove(got == done && got <= size, "what arrived is known");
	prove((io == IO_DONE) == (got == size), "done if all of it did");
	prove(some >= got || seen, "each byte of it was read");
	possible(io == IO_DONE && calls == 2 && size == MOST);
	possible(io != IO_DONE && got > 0);
}

static void check_write(struct stream *s)
{
	enum io_status io = stream_write_all(s, buf, size, 0);

	prove(io != IO_DONE || (done == size && !unsent), "done if all was accepted and sent");
	prove(io != IO_DONE || some >= size || seen, "each byte was written");
	possible(io == IO_DONE && calls == 2 && size == MOST);
}

int main(void)
{
	struct stream s = {.verbs = &verbs};

	size = any_size(0, MOST);
	done = 0;
	calls = 0;
	seen = unsent = false;
	if (nondet_bool())
		check_read(&s);
	else
		check_write(&s);
	return 0;
}
