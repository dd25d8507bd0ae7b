/* SPDX-License-Identifier: ISC
 *
 * identmap.h - pg_ident.conf maps: which PostgreSQL user may a certificate's name be?
 *
 * The dialect is PostgreSQL 15's (Client Authentication, User Name Maps; src/backend/libpq/hba.c): comments, quoting, line continuation, a regular
 * expression on the certificate's side after a slash, \1 once on the other. Regular expressions are POSIX extended ones (regcomp(3)).
 * All of the file is read and compiled by identmap_load (step 3), so that nothing opens a file later.
 */
#ifndef PGSSL_IDENTMAP_H
#define PGSSL_IDENTMAP_H

#include "log.h"

struct identmap;

/*
 * Read the lines of map `name` from `file`. Every line of whatever map is checked; a file without a line of `name` is an error. The result is the caller's, for identmap_free. Fails with EX_NOINPUT (cannot be read) or EX_CONFIG; `e` names file and line number.
 */
bool identmap_load(const char *file, const char *name, struct identmap **map, struct error *e) MUST_USE;

/* May whoever the certificate calls `identity` be the PostgreSQL user `user`? Case counts. Neither is ever empty. Never blocks. */
bool identmap_allows(const struct identmap *map, const char *identity, const char *user);

void identmap_free(struct identmap *map);

#endif
