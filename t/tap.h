/* SPDX-License-Identifier: ISC
 *
 * t/tap.h - the Test Anything Protocol for unit tests in C: ok(), done_testing().
 *
 * Print with ok() and note() only, and end main with `return done_testing();`.
 */
#ifndef PGSSL_TAP_H
#define PGSSL_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static unsigned tap_count, tap_failed;

/* Report one test. Returns `good`, for `if (!ok(...)) note(...)`. */
__attribute__((format(printf, 2, 3))) static inline bool ok(bool good, const char *fmt, ...)
{
	va_list args;

	printf("%sok %u - ", good ? "" : "not ", ++tap_count);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	if (!good)
		tap_failed++;
	return good;
}

/* Report a test that cannot run on this machine, with the reason. */
static inline void skip(const char *why)
{
	printf("ok %u # SKIP %s\n", ++tap_count, why);
}

/* Print a diagnostic line. */
__attribute__((format(printf, 1, 2))) static inline void note(const char *fmt, ...)
{
	va_list args;

	fputs("# ", stdout);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
}

static inline int done_testing(void)
{
	printf("1..%u\n", tap_count);
	return tap_failed == 0 && tap_count > 0 ? 0 : 1;
}

#endif
