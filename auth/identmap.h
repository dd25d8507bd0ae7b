/* SPDX-License-Identifier: ISC
 *
 * auth/identmap.h - pg_ident.conf maps: which PostgreSQL users may a certificate's name be?
 *
 * The dialect is that of PostgreSQL 16 to 18 (User Name Maps; src/backend/libpq/hba.c): comments,
 * quoting, line continuation, a regular expression after a slash in both names, \1 once in the
 * user's, and `all` for every user. Expressions are POSIX extended ones (regcomp(3)) in the C
 * locale, where a character is a byte. What PostgreSQL would read differently is refused, and so
 * are +role, @FILE and include.
 */
#ifndef PGSSL_AUTH_IDENTMAP_H
#define PGSSL_AUTH_IDENTMAP_H

#include "log.h"

struct identmap;

/*
 * Read map `name` from `file`; nothing opens a file later. The lines of other maps are checked too;
 * a file without a line of `name` is an error. The caller frees the result with identmap_free.
 * Fails with EX_NOINPUT (cannot be read) or EX_CONFIG; `e` names file and line. Blocks on reading
 * the file. Without `compile` the regular expressions are compiled, and those of this map only,
 * when identmap_allows needs them: regcomp() of glibc frees twice when it runs out of memory.
 */
bool identmap_load(const char *file, const char *name, bool compile, struct identmap **map,
		   struct error *e) MUST_USE;

/* The same in a process of its own, to check the map. */
bool identmap_try(const char *file, const char *name, struct error *e) MUST_USE;

/*
 * May the certificate's name `identity` be the PostgreSQL user `user`? Case counts; the first line
 * that matches decides. An empty name or an identity of more than 1024 bytes never matches. Never
 * blocks; may allocate, and answers false if it cannot.
 */
bool identmap_allows(const struct identmap *map, const char *identity, const char *user) MUST_USE;

/* `map` may be NULL. */
void identmap_free(struct identmap *map);

#endif
