/* SPDX-License-Identifier: ISC
 *
 * listen/listen.h - -d: a parent that binds, accepts, forks and reaps, in the place of a super-server.
 *
 * The parent does steps 0, 1, 3 and 4's look-ups once for all; each child goes on from step 2 as under inetd. The parent never reads a byte of a client.
 */
#ifndef PGSSL_LISTEN_LISTEN_H
#define PGSSL_LISTEN_LISTEN_H

#include "session/session.h"

/*
 * Serve s->options.listen. Returns in children only, with a client on descriptors 0 and 1, s->tls, s->who and s->backend's addresses ready, and the deadline of
 * the client set. The parent exits: EX_OK after SIGTERM, else with why it could not begin. Without -f the process that was started ends when all is
 * ready, with EX_OK, or with the error on its standard error.
 */
void listen_run(struct session *s);

/*
 * In a child, as soon as it has the user that it will keep (a change of user undoes it): end with the parent, whatever ends that. Nothing in a process
 * that is no child of listen_run.
 */
void listen_tie_child(void);

#endif
