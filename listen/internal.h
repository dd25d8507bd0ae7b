/* SPDX-License-Identifier: ISC
 *
 * listen/internal.h - the parts of the listener, for listen.c. None blocks, except the start and
 * reload_if_changed.
 */
#ifndef PGSSL_LISTEN_INTERNAL_H
#define PGSSL_LISTEN_INTERNAL_H

#include "session/session.h"

/* ---- inherit.c: sockets of a super-server ---- */

/*
 * The inherited sockets, as descriptors from 3 on; at most `max`. Fails with EX_USAGE if one of
 * them is not a listening stream socket.
 */
bool inherit_sockets(int *fds, unsigned max, unsigned *count, struct error *e) MUST_USE;

/* ---- reload.c: files that change ---- */

/* Load s->tls and s->map the first time. Fails and blocks as session_load. */
bool reload_first(struct session *s, struct error *e) MUST_USE;

/* Free them, keys wiped, if they are loaded. */
void reload_discard(struct session *s);

/*
 * Before each fork: if a file has changed (device, inode, size or times), or with `force`, load
 * s->tls and s->map again. If that fails the old ones stay, the log says why, and it is tried again
 * when a file changes, or at the first call after some seconds. Blocks as session_load.
 */
void reload_if_changed(struct session *s, bool force);

/* ---- resolver.c: the host of -r ---- */

/*
 * If -r has a name to look up, fork the process that does it, as user s->who. It must not inherit a
 * private key, so this comes before reload_first. Fails with EX_OSERR.
 */
bool resolver_start(struct session *s, struct error *e) MUST_USE;

/* To poll for an answer; -1 if nothing is to be looked up. */
int resolver_descriptor(void);

/* Want a look-up that begins after this call: there is one at a time, and one a second. */
void resolver_ask(void);

/* Send the question if it is time. Returns when to call again. */
deadline resolver_send(void);

/* Take an answer: set s->addresses, or `e`. */
enum resolver_answer { RESOLVER_PENDING, RESOLVER_FOUND, RESOLVER_FAILED };
enum resolver_answer resolver_take(struct session *s, struct error *e) MUST_USE;

/* The same while serving: log what has changed. After a failure the old addresses stay. */
void resolver_update(struct session *s);

/* In a child. */
void resolver_close(void);

/* ---- children.c: sessions and their limits ---- */

/* What children_place decided. */
struct child_place {
	enum refusal excess; /* why the client is refused; REFUSE_NONE: it is served */
	unsigned source;
};

/* Allocate for the limits of `o`, which is kept. False: out of memory. */
bool children_init(const struct options *o) MUST_USE;

/*
 * Find a place for a client. May end a half-open session for it. False: close its connection; it
 * does not even get a process that refuses it.
 */
bool children_place(const struct sockaddr_storage *from, struct child_place *place) MUST_USE;

/* fork(2) for that client. In the child only its own descriptors are left of this module. */
pid_t children_fork(const struct child_place *place) MUST_USE;

/* A process has ended with that status of waitpid(2). Ignored if it is not one of these. */
void children_ended(pid_t pid, int status);

/* Send a signal to all. */
void children_signal(int sig);

unsigned children_count(void);

/* ---- background.c: -d without -f ---- */

/*
 * Fork. Returns in the process that stays, a session leader that keeps the starter's standard error
 * for now. The starter waits, and exits with EX_OK after background_ready, or with the status of
 * the other process.
 */
void background_begin(void);

/*
 * Everything is ready: put /dev/null on descriptors 0, 1 and 2, and let the starter exit. Does
 * nothing without background_begin.
 */
void background_ready(void);

#endif
