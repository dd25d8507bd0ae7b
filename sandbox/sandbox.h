/* SPDX-License-Identifier: ISC
 *
 * sandbox/sandbox.h - step 5: privileges, resource limits, Landlock, seccomp.
 *
 * After sandbox_enter the process can read and write its descriptors, connect the prepared sockets,
 * allocate memory, and exit. There is no switch that turns this off. Nothing here blocks, except
 * the look-ups of sandbox_find_user and the write of a log line.
 */
#ifndef PGSSL_SANDBOX_SANDBOX_H
#define PGSSL_SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "log.h"

/* poll() fails with EINVAL for more slots than RLIMIT_NOFILE, which step 5 sets. */
#define SANDBOX_POLL_SLOTS 8

/* Who to be from step 5 on. */
struct sandbox_user {
	uid_t uid;
	gid_t gid;
	bool change; /* false: stay who we are */
};

/*
 * Look up `user` and `group`, names or numbers; either may be NULL. Without a user, root becomes
 * nobody and others stay. Without a group, it is the user's own. Reads the user database. Fails
 * with EX_NOUSER, or with EX_NOPERM if the user would change and we are not root.
 */
bool sandbox_find_user(const char *user, const char *group, struct sandbox_user *who,
		       struct error *e) MUST_USE;

/*
 * Drop groups, gid and uid for good, read all back, and insist that root cannot be regained. Comes
 * before the pid file is written, which must belong to the final user. With `-s root`, uid 0 stays
 * and loses its capabilities in sandbox_enter.
 */
bool sandbox_drop_privileges(const struct sandbox_user *who, struct error *e) MUST_USE;

/* What the process still needs after step 5. */
struct sandbox_needs {
	const char *remove_in; /* directory from which the pid file will be removed, or NULL */
	uint16_t tcp_port; /* in host byte order: the only one that connect() may use; 0: none */
	bool unix_connect; /* the backend is a Unix socket */
	bool bind;         /* -T: bind() before connect(); in the parent of -d also -I */
	bool yield;        /* --spin: sched_yield() */
	bool log_to_file;  /* no RLIMIT_FSIZE; files on descriptors 1 and 2 are detected */
	int syslog;        /* the only socket that may name an address in sendto(); 0: none */
	/* The parent of -d: files that it reads again, in their directories or behind links. */
	const char *const *read_again;
	unsigned read_count;
};

/*
 * Set limits, wipe the environment (keep no pointer from getenv()), drop capabilities, become not
 * dumpable, set no_new_privs, enter Landlock and seccomp. With neither tcp_port nor unix_connect,
 * connect() is closed. If the kernel lacks Landlock or seccomp, the rest still applies; if it has
 * them and refuses, that is an error.
 */
bool sandbox_enter(const struct sandbox_needs *needs, struct error *e) MUST_USE;

/* After sandbox_enter or sandbox_enter_parent: which layers the kernel lacks or a container
 * forbids, else NULL. --check and the listener report it; a session does not, since each would. */
const char *sandbox_missing(void);

/* The backend is connected: close connect() and bind(). */
bool sandbox_connected(struct error *e) MUST_USE;

/*
 * Confine the parent of -d; the sandboxes of its children lie inside. It may accept, fork, wait,
 * signal its children, read the named files, make sockets and change its user. It cannot execute
 * programs, load code, or write files. Forbidden calls fail with EPERM: a service must not die of a
 * library's curiosity. The environment and a root parent's capabilities stay for the children.
 * Look-ups of users and names, which load libraries, come before. Fails as sandbox_enter does.
 */
bool sandbox_enter_parent(const struct sandbox_needs *needs, struct error *e) MUST_USE;

/*
 * The layers, for sandbox.c only: Landlock first, since seccomp closes it. *missing is 0, or the
 * errno if the kernel does not offer the layer, which is no error.
 */
bool sandbox_landlock(const struct sandbox_needs *needs, int *missing, struct error *e) MUST_USE;
bool sandbox_seccomp(const struct sandbox_needs *needs, bool parent, int *missing,
		     struct error *e) MUST_USE;

#endif
