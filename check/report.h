/* SPDX-License-Identifier: ISC
 *
 * check/report.h - the report of --check: a line a finding on standard output, and what they come to.
 *
 * Only --check uses it: in a session standard output is the client.
 */
#ifndef PGSSL_CHECK_REPORT_H
#define PGSSL_CHECK_REPORT_H

#include "log.h"

enum finding {
	FOUND_OK,
	FOUND_NOTE,    /* right for some, wrong for others */
	FOUND_WARNING, /* connections work, but something should be done */
	FOUND_ERROR,   /* connections fail, all of them or those of clients that look */
};

/* One line: "WARNING  certificate ...". The text names the cause, and the cure if one is needed. */
void report(enum finding found, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The last line, and the exit status: EX_CONFIG if there was an error, else EX_OK. */
int report_end(void);

#endif
