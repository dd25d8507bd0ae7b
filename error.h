/* SPDX-License-Identifier: ISC
 *
 * error.h - the program's errors: struct error for a caller that can handle them, die() and bug()
 * to end the process.
 */
#ifndef PGSSL_ERROR_H
#define PGSSL_ERROR_H

#include <stdbool.h>
#include <stdnoreturn.h>
#include <sysexits.h>

#define MUST_USE                __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* What went wrong. `status` is a sysexits(3) value, `text` names cause and cure. */
struct error {
	int status;
	char text[512];
};

/* Fill in `e`, and return false, so that a function can end with `return fail(e, ...)`. */
bool fail(struct error *e, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The world's fault: log one line and exit with `status`. */
noreturn void die(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Our fault: log "bug: ..." and exit with EX_SOFTWARE. */
noreturn void bug(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
