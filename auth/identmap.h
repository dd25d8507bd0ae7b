/* SPDX-License-Identifier: ISC
 *
 * auth/identmap.h - pg_ident.conf maps: which PostgreSQL user may a certificate's name be?
 *
 * The dialect is PostgreSQL 15's (Client Authentication, User Name Maps; src/backend/libpq/hba.c): comments, quoting, line continuation, a regular
 * expression on the certificate's side after a slash, \1 once on the other. Regular expressions are POSIX extended ones (regcomp(3)) in the C
 * locale, in which a character is a byte; what PostgreSQL's would read otherwise is refused, and so is @FILE.
 * All of the file is read and compiled by identmap_load (step 3), so that nothing opens a file later.
 */
#ifndef PGSSL_AUTH_IDENTMAP_H
#define PGSSL_AUTH_IDENTMAP_H

#include "log.h"

struct identmap;

/*
 * Read the lines of map `name` from `file`. Every line of whatever map is checked; a file without a line of `name` is an error. The result is the
 * caller's, for identmap_free; on failure there is none. Blocks as long as reading a file does. Fails with EX_NOINPUT (cannot be read) or
 * EX_CONFIG; `e` names file and line number.
 */
bool identmap_load(const char *file, const char *name, struct identmap **map,
		   struct error *e) MUST_USE;

/*
 * May whoever the certificate calls `identity` be the PostgreSQL user `user`? Case counts; the first line that fits decides. An empty name or an
 * identity of more than 1024 bytes never matches. Never blocks, opens nothing; may allocate, and refuses when it cannot.
 */
bool identmap_allows(const struct identmap *map, const char *identity, const char *user) MUST_USE;

/* NULL is fine. */
void identmap_free(struct identmap *map);

#endif
