/* SPDX-License-Identifier: ISC
 *
 * error.h - the one error idiom of the program: struct error for the caller, die() and bug() for the end.
 */
#ifndef PGSSL_ERROR_H
#define PGSSL_ERROR_H

#include <stdbool.h>
#include <stdnoreturn.h>
#include <sysexits.h>

/* A value that must be used: every function that can fail returns one. */
#define MUST_USE                __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* What went wrong, for a caller who decides what to do about it. `status` is a sysexits(3) value, `text` names cause and cure. */
struct error {
	int status;
	char text[512];
};

/* Fill in `e` and return false, so that a function that fails ends in `return fail(e, EX_..., "...")`. Never blocks. */
bool fail(struct error *e, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The world's fault: log one line and exit with `status`. */
noreturn void die(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Our fault: log "bug: ..." and exit EX_SOFTWARE. */
noreturn void bug(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
