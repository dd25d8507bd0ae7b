/* SPDX-License-Identifier: ISC
 *
 * check/report.c - the report of --check.
 *
 * Every line is written out at once, so that it stands where it belongs among the lines of the log, and is there if the next trial hangs.
 */
#include "check/report.h"

#include <stdio.h>

static const char *const words[] = {
    [FOUND_OK] = "ok", [FOUND_NOTE] = "note", [FOUND_WARNING] = "WARNING", [FOUND_ERROR] = "ERROR"};
static unsigned counts[FOUND_ERROR + 1];

void report(enum finding found, const char *fmt, ...)
{
	va_list args;

	counts[found]++;
	printf("%-8s ", words[found]);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

static const char *plural(unsigned n)
{
	return n == 1 ? "" : "s";
}

int report_end(void)
{
	unsigned errors = counts[FOUND_ERROR], warnings = counts[FOUND_WARNING];

	printf("%u error%s, %u warning%s%s\n", errors, plural(errors), warnings, plural(warnings),
	       errors > 0     ? ": connections will fail until the errors are cured"
	       : warnings > 0 ? ": connections work, but see the warnings"
			      : "");
	return fflush(stdout) == 0 && errors == 0 ? EX_OK : EX_CONFIG;
}
