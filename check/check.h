/* SPDX-License-Identifier: ISC
 *
 * check/check.h - --check: examine all that a connection would use, and say what is wrong.
 *
 * Does the steps 3 to 7 of a connection in their order, but without a client, and with the sandbox last: files are read as the starting user, PostgreSQL is reached
 * as the final user. Nothing is left behind but lines in PostgreSQL's log.
 */
#ifndef PGSSL_CHECK_CHECK_H
#define PGSSL_CHECK_CHECK_H

#include "options.h"

/*
 * Print a report to standard output, a line a finding. Gives up privileges for good: the caller can only exit with what is returned, EX_OK or EX_CONFIG. May block
 * for the passphrase command, the resolver, and --connect-timeout for each of three connections to PostgreSQL.
 */
int check_run(const struct options *o) MUST_USE;

#endif
