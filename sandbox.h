/* SPDX-License-Identifier: ISC
 *
 * sandbox.h - step 5: nothing to rob.
 *
 * Owns privileges, resource limits, Landlock and seccomp; the only file with #if for other systems. After sandbox_enter the process reads and
 * writes the descriptors that it has, connects the prepared sockets, allocates memory, and exits. There is no switch that turns it off.
 */
#ifndef PGSSL_SANDBOX_H
#define PGSSL_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "log.h"

/* Who to be from step 5 on; looked up before, since look-ups read files. */
struct sandbox_user {
	uid_t uid;
	gid_t gid;
	bool change; /* false: stay what we are */
};

/*
 * Find what `user` and `group` (names or numbers, either may be NULL) mean. No user: stay, but root becomes nobody. `user` alone takes
 * that user's own group. Reads the user database; may block as long as that does. Fails with EX_NOUSER and the name in `e`, or EX_NOPERM when
 * a change is asked for and we are not root.
 */
bool sandbox_find_user(const char *user, const char *group, struct sandbox_user *who, struct error *e) MUST_USE;

/*
 * Give up root for good: groups, gid, uid, read all back, then insist that root cannot be had again. Called before the pid file is written, which must
 * belong to the final user.
 */
bool sandbox_drop_privileges(const struct sandbox_user *who, struct error *e) MUST_USE;

/* What this process may still need after step 5. */
struct sandbox_needs {
	const char *remove_in; /* folder in which the pid file will be removed, or NULL */
	const uint16_t *tcp_ports; /* ports that connect() may go to until sandbox_connected; host order */
	unsigned tcp_port_count;
	bool unix_connect;     /* the backend is a Unix socket */
	bool bind;             /* -T: bind() once before the connect */
	bool log_to_file;      /* no RLIMIT_FSIZE 0 */
};

/*
 * Limits, empty environment, not dumpable, no_new_privs, Landlock, seccomp, in this order. A kernel without Landlock or seccomp is told of in one log line and
 * the rest still applies; one that has them and refuses is an error. Never blocks.
 */
bool sandbox_enter(const struct sandbox_needs *needs, struct error *e) MUST_USE;

/* PostgreSQL is connected: connect() and bind() go from the filter too. */
bool sandbox_connected(struct error *e) MUST_USE;

#endif
