/* SPDX-License-Identifier: ISC
 *
 * t/proofs/proof.h - what the harnesses share: claims, arbitrary values, fail() and the stream.
 *
 * Reading is the contract of net/stream.h, which t/proofs/stream.c proves for all ways in which the
 * bytes may arrive. Objects of static storage begin with arbitrary values.
 */
#ifndef PGSSL_PROOFS_PROOF_H
#define PGSSL_PROOFS_PROOF_H

#include <string.h>

#include "log.h"
#include "net/stream.h"

/* What must hold; what may be taken for granted; what must be possible, or the proof is empty. */
#define prove(claim, what) __CPROVER_assert(claim, what)
#define given(fact)        __CPROVER_assume(fact)
#ifdef POSSIBLE
#define possible(situation) __CPROVER_cover(situation)
#else
#define possible(situation) (void)(situation)
#endif

bool nondet_bool(void);
int nondet_int(void);
unsigned nondet_unsigned(void);
size_t nondet_size(void);

static inline size_t any_size(size_t min, size_t max)
{
	size_t n = max < 256 ? (unsigned char)nondet_size() : nondet_size();

	given(n >= min && n <= max);
	return n;
}

bool fail(struct error *e, int status, const char *fmt, ...)
{
	(void)fmt;
	e->status = status;
	return false;
}

/* Of the peer's `input` `taken` bytes were asked for and `arrived` came, to `buffer`. */
#ifdef INPUT
static unsigned char input[INPUT], *buffer;
static size_t taken, arrived;
static bool finished; /* what the program would read next is as at the beginning */

static size_t packet_end(void); /* of the harness: the first byte that must not be read */

enum io_status stream_read_exactly(struct stream *s, void *buf, size_t size, size_t *got,
				   deadline when)
{
	enum io_status failures[] = {IO_END, IO_FAILED, IO_NO_MEMORY, IO_TIMEOUT, IO_TERMINATED};

	(void)s, (void)when;
	given(!finished);
	if (buffer == NULL)
		buffer = buf;
	prove(arrived == taken && buf == buffer + taken, "the bytes are put together");
	prove(size <= packet_end() - taken, "nothing is read past the packet");
	*got = any_size(0, size);
	taken += size;
	for (size_t i = 0; i < INPUT; i++)
		if (i >= arrived && i < arrived + *got)
			buffer[i] = input[i];
	arrived += *got;
	return *got == size ? IO_DONE : failures[any_size(0, 4)];
}
#endif

#endif
