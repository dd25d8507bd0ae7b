/* SPDX-License-Identifier: ISC
 *
 * listen/internal.h - the parts of the listener: reload.c and background.c, for listen.c.
 */
#ifndef PGSSL_LISTEN_INTERNAL_H
#define PGSSL_LISTEN_INTERNAL_H

#include "session/session.h"

/* Load s->tls and s->map the first time. Fails and blocks as session_load. */
bool reload_first(struct session *s, struct error *e) MUST_USE;

/*
 * Before each fork: if a file has changed (device, inode, size or times), or with `force`, load
 * s->tls and s->map again. If that fails the old ones stay, the log says why, and it is tried again
 * when a file changes, or at the first call after some seconds. Blocks as session_load.
 */
void reload_if_changed(struct session *s, bool force);

/*
 * Without -f: fork. Returns in the process that stays, a session leader that keeps the starter's
 * standard error for now. The starter waits, and exits with EX_OK after background_ready, or with
 * the status of the other process.
 */
void background_begin(void);

/*
 * Everything is ready: put /dev/null on descriptors 0, 1 and 2, and let the starter exit. Does
 * nothing without background_begin.
 */
void background_ready(void);

#endif
