/* SPDX-License-Identifier: ISC
 *
 * check/report.c - the lines of the report, and its result.
 */
#include "check/check.h"

#include <stdarg.h>
#include <stdio.h>

static unsigned line_counts[LOG_DEBUG];

/* Flushes each line: it keeps its place among the log's, and is there if the next trial hangs. */
void check_line(int level, const char *fmt, ...)
{
	static const char *const words[] = {"ERROR", "WARNING", "note", "ok"};
	va_list args;

	line_counts[level]++;
	printf("%-8s ", words[level - LOG_ERR]);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

int check_end(void)
{
	unsigned errors = line_counts[LOG_ERR], warnings = line_counts[LOG_WARNING];

	printf("%u error%s, %u warning%s%s\n", errors, errors == 1 ? "" : "s", warnings,
	       warnings == 1 ? "" : "s",
	       errors > 0     ? ": connections will fail until the errors are corrected"
	       : warnings > 0 ? ": connections work, but see the warnings"
			      : "");
	return errors == 0 ? EX_OK : EX_CONFIG;
}
