/* SPDX-License-Identifier: ISC
 *
 * pidfile.h - pid files on libbsd's pidfile(3), safe in directories that everybody may write to.
 *
 * One pid file per process, created with the final user (step 5). Nothing here blocks.
 */
#ifndef PGSSL_PIDFILE_H
#define PGSSL_PIDFILE_H

#include "log.h"

/*
 * Write the pid file of a session. `where` is a directory (it ends in '/' or is one), for
 * pgssl.HOST.PORT.PID.pid, or a file name, where the process id is put before ".pid". Fails with
 * EX_CANTCREAT: a warning, not the end of the session.
 */
bool pidfile_create(const char *where, const char *host, const char *port,
		    struct error *e) MUST_USE;

/*
 * Write that of the parent of -d: pgssl.HOST.PORT.pid in a directory, or `where` itself. Fails with
 * EX_TEMPFAIL if the file belongs to others (to another process, which is named, or to another
 * user), or with EX_CANTCREAT.
 */
bool pidfile_create_parent(const char *where, const char *host, const char *port,
			   struct error *e) MUST_USE;

/* In a child of that parent: close the copy; there is no pid file from here on. */
void pidfile_close_copy(void);

/* The directory of the pid file, for the sandbox to leave it removable; NULL without a file. */
const char *pidfile_directory(void);

/* Remove the pid file if this process made it. */
void pidfile_delete(void);

#endif
