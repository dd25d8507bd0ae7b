/* SPDX-License-Identifier: ISC
 *
 * listen/listen.h - -d: a parent that binds, accepts, forks and waits, instead of a super-server.
 *
 * The parent does steps 0, 1, 3 and the look-ups of 4 once; each child continues at step 2 as under
 * inetd. The parent never reads a byte from a client.
 */
#ifndef PGSSL_LISTEN_LISTEN_H
#define PGSSL_LISTEN_LISTEN_H

#include "session/session.h"

/*
 * Serve s->options.listen. Returns only in children, with a client on descriptors 0 and 1; s->tls,
 * s->map, s->who and s->addresses are ready, and the client's deadline is set. The parent exits:
 * EX_OK after SIGTERM, else with the reason why it could not start. Without -f the process that was
 * started exits when everything is ready, or with the error on its standard error.
 */
void listen_run(struct session *s);

/*
 * In a child with its final user (a change of user would undo it): end when the parent ends. Does
 * nothing in a process that is not a child of listen_run.
 */
void listen_tie_child(void);

#endif
