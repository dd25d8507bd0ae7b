/* SPDX-License-Identifier: ISC
 *
 * check/check.h - --check: examine what a connection would use, and report what is wrong.
 *
 * Takes steps 3 to 7 of a connection in their order, without a client and with the sandbox last:
 * files are read as the user that starts pgssl, PostgreSQL is asked as the final user. Nothing is
 * left behind but lines in PostgreSQL's log.
 */
#ifndef PGSSL_CHECK_CHECK_H
#define PGSSL_CHECK_CHECK_H

#include "options.h"

/*
 * Print a report to standard output, one line for each finding. Drops privileges for good: the
 * caller can only exit with the result, EX_OK or EX_CONFIG. May block for the passphrase command,
 * for the resolver, and for --connect-timeout at each of three connections to PostgreSQL.
 */
int check_run(const struct options *o) MUST_USE;

/* The other functions are for the files of check/. */

/*
 * Print one line, which names the cause, and the cure if one is needed. LOG_ERR: connections fail,
 * all of them or those of clients that verify. LOG_WARNING: they work, but something should be done.
 * LOG_NOTICE: right for some installations, wrong for others. LOG_INFO: all is well.
 */
void check_line(int level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Step 3: certificates, key, authorities, revocation lists, settings, and a trial handshake. */
void check_tls(const struct options *o);

#endif
