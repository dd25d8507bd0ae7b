/* SPDX-License-Identifier: ISC
 *
 * pidfile.h - pid files on libbsd's pidfile(3), safe in folders that all may write to.
 *
 * One pid file a process. Called after privileges were given up (step 5), so that the file belongs to the final user.
 */
#ifndef PGSSL_PIDFILE_H
#define PGSSL_PIDFILE_H

#include "log.h"

/*
 * Write the pid file of this process. `where` is a folder (it ends in '/' or is one), in which the file is called pgssl.HOST.PORT.PID.pid, or
 * a file's name, in which the process id goes before ".pid". Fails with EX_CANTCREAT and the reason: a warning, not the end of the session.
 */
bool pidfile_create(const char *where, const char *host, const char *port,
		    struct error *e) MUST_USE;

/*
 * The same for the parent of -d: the file is pgssl.HOST.PORT.pid in a folder, or `where` itself. Fails with EX_TEMPFAIL if another process holds it, and names that.
 */
bool pidfile_create_parent(const char *where, const char *host, const char *port,
			   struct error *e) MUST_USE;

/* In a child of it: close the copy of what the parent holds; from here on there is no pid file. */
void pidfile_close_copy(void);

/* The folder of the file that was written, for step 5 to leave removable; NULL if there is none. */
const char *pidfile_folder(void);

/* Remove the file if this very process made it. Does nothing otherwise. */
void pidfile_delete(void);

/* --sessions: print a line for each pid file in `folder` whose process lives: its id and title. Fails with EX_NOINPUT. */
bool pidfile_list(const char *folder, struct error *e) MUST_USE;

#endif
