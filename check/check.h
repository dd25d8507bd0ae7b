/* SPDX-License-Identifier: ISC
 *
 * check/check.h - --check: examine what a connection would use, and report what is wrong;
 * --sessions.
 */
#ifndef PGSSL_CHECK_CHECK_H
#define PGSSL_CHECK_CHECK_H

#include "options.h"

/*
 * Take steps 3 to 7 of a connection in their order, without a client and with the sandbox last, and
 * print a report to standard output. Drops privileges for good: the caller can only exit with the
 * result, EX_OK or EX_CONFIG. May block for the passphrase command, the resolver, and six times
 * for --connect-timeout.
 */
int check_run(const struct options *o) MUST_USE;

/*
 * --sessions: print a table of the live sessions whose pid files, or whose listener's pid file, are
 * in `directory`. Fails with EX_NOINPUT, with EX_IOERR if something in it cannot be read, or with
 * EX_NOPERM if there are files that this user may not read: the table is printed and incomplete.
 */
bool check_sessions(const char *directory, struct error *e) MUST_USE;

/* Print a line that names the cause, and the cure if one is needed: an error if connections fail, a
 * warning if they work, a note if only the user can judge it. */
void check_line(int level, const char *fmt, ...) PRINTF_LIKE(2, 3);
#define check_ok(...)      check_line(LOG_INFO, __VA_ARGS__)
#define check_note(...)    check_line(LOG_NOTICE, __VA_ARGS__)
#define check_warning(...) check_line(LOG_WARNING, __VA_ARGS__)
#define check_error(...)   check_line(LOG_ERR, __VA_ARGS__)

/* Print the last line. Returns EX_OK, or EX_CONFIG if there was an error. */
int check_end(void) MUST_USE;

/* Step 3: certificates, keys, authorities, revocation lists, settings, and a trial handshake. */
void check_tls(const struct options *o);

#endif
