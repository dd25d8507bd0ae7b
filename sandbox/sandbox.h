/* SPDX-License-Identifier: ISC
 *
 * sandbox/sandbox.h - step 5: nothing to rob.
 *
 * Owns privileges, resource limits, Landlock and seccomp. After sandbox_enter the process
 * reads and writes the descriptors that it has, connects the prepared sockets, allocates memory, and exits. There is no switch that
 * turns it off.
 */
#ifndef PGSSL_SANDBOX_SANDBOX_H
#define PGSSL_SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "log.h"

/* The most slots that a caller may give to poll() after step 5: with more than RLIMIT_NOFILE poll() fails with EINVAL. */
#define SANDBOX_POLL_SLOTS 8

/* Who to be from step 5 on; looked up before, since look-ups read files. */
struct sandbox_user {
	uid_t uid;
	gid_t gid;
	bool change; /* false: stay what we are */
};

/*
 * Find what `user` and `group` (names or numbers, either may be NULL) mean. No user: stay, but root becomes nobody. `user` alone takes
 * that user's own group. Reads the user database; may block as long as that does. Fails with EX_NOUSER and the name in `e`, or
 * EX_NOPERM when a change is asked for and we are not root.
 */
bool sandbox_find_user(const char *user, const char *group, struct sandbox_user *who,
		       struct error *e) MUST_USE;

/*
 * Give up root for good: groups, gid, uid, read all back, then insist that root cannot be had again. Called before the pid file is
 * written, which must belong to the final user. With `-s root` uid 0 stays, and loses its capabilities in sandbox_enter.
 */
bool sandbox_drop_privileges(const struct sandbox_user *who, struct error *e) MUST_USE;

/* What this process may still need after step 5. */
struct sandbox_needs {
	const char *remove_in; /* folder in which the pid file will be removed, or NULL */
	uint16_t tcp_port;     /* the only one that connect() may go to, or 0; in host order */
	bool unix_connect;     /* the backend is a Unix socket */
	bool bind;             /* -T: bind() once before the connect */
	bool yield;            /* --spin: sched_yield() */
	bool
	    log_to_file; /* no RLIMIT_FSIZE 0; that descriptors 1 and 2 are files is seen without being told */
};

/*
 * Limits, empty environment (its strings are wiped: keep no pointer from getenv), no capabilities, not dumpable, no_new_privs, Landlock,
 * seccomp. Neither tcp_port nor unix_connect: no connect() at all. A kernel without Landlock or seccomp is told of in one log line and
 * the rest still applies; one that has them and refuses is an error. Never blocks, but for that line.
 */
bool sandbox_enter(const struct sandbox_needs *needs, struct error *e) MUST_USE;

/* PostgreSQL is connected: connect() and bind() go from the filter too. After a sandbox_enter without seccomp it does nothing. */
bool sandbox_connected(struct error *e) MUST_USE;

/*
 * What the parent of `-d` needs for itself and for its children, whose own sandbox lies inside its one. User look-ups, name look-ups
 * (they load libraries) and the passphrase command come before.
 */
struct sandbox_parent_needs {
	const char *const *
	    read_again; /* certificate, key, CA, CRL and map files: the folders of their names, and those where links end */
	unsigned read_count;
	const char *pid_folder; /* where its pid file, which is written, will be removed, or NULL */
	uint16_t tcp_port;
	bool bind; /* -T or -I: children bind() */
};

/*
 * Confine the parent: it may accept, fork, wait, signal its children, read what is named, make sockets, change its user, and enter a
 * child's sandbox. It cannot execute a program, load code, or write outside the pid folder; what is not allowed fails with EPERM (a service must
 * not die of a library's curiosity; a child's filter kills). The environment and a root parent's capabilities stay, since
 * children need them. Fails as sandbox_enter.
 */
bool sandbox_enter_parent(const struct sandbox_parent_needs *needs, struct error *e) MUST_USE;

/*
 * The layers, for sandbox.c only. A layer that the kernel lacks is noted in `missing`, and is not an error. None of
 * these blocks. Landlock comes before seccomp, which no longer allows it.
 */
enum sandbox_layer { SANDBOX_LANDLOCK = 1, SANDBOX_SECCOMP = 2 };

bool sandbox_landlock(const struct sandbox_needs *needs, unsigned *missing,
		      struct error *e) MUST_USE;
bool sandbox_landlock_parent(const struct sandbox_parent_needs *needs, unsigned *missing,
			     struct error *e) MUST_USE;
bool sandbox_seccomp(const struct sandbox_needs *needs, unsigned *missing,
		     struct error *e) MUST_USE;
bool sandbox_seccomp_parent(unsigned *missing, struct error *e) MUST_USE;
bool sandbox_seccomp_connected(struct error *e) MUST_USE;

#endif
