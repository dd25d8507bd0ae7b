/* SPDX-License-Identifier: ISC
 *
 * auth/identregex.h - the common dialect of POSIX extended regular expressions (regcomp(3), C locale) and PostgreSQL's advanced ones.
 */
#ifndef PGSSL_AUTH_IDENTREGEX_H
#define PGSSL_AUTH_IDENTREGEX_H

#include <stdbool.h>

/*
 * What in `regex` has another meaning to PostgreSQL, as a constant text, or NULL: regcomp(3) takes \d for d, reads .*? as greedy and \1 as a
 * back-reference; a map that was copied from PostgreSQL must not quietly let in others here. `captures`: what the first group matches is used.
 */
const char *identregex_ambiguous(const char *regex, bool captures);

#endif
