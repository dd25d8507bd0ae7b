/* SPDX-License-Identifier: ISC
 *
 * listen/reload.h - step 3 for the parent of -d: certificate and key, loaded once, and afresh when a file has changed.
 */
#ifndef PGSSL_LISTEN_RELOAD_H
#define PGSSL_LISTEN_RELOAD_H

#include "session/session.h"

/* Load s->tls the first time. Fails as session_load. */
bool reload_first(struct session *s, struct error *e) MUST_USE;

/*
 * Before each fork: if a file is another one than it was (device, inode, size, times), or `force`, load s->tls afresh. If that fails the old ones stay, the log says
 * why, and it is tried again when a file changes once more, or at the first look after some seconds. Blocks as tls_open does.
 */
void reload_look(struct session *s, bool force);

#endif
