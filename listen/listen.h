/* SPDX-License-Identifier: ISC
 *
 * listen/listen.h - the listener: a parent that accepts, forks and waits.
 *
 * With -d it binds its own sockets; under a super-server whose service waits it gets them. The
 * parent does steps 0, 1, 3 and the look-ups of 4 once; each child continues at step 2 as if a
 * super-server had started it. The parent never reads a byte from a client.
 */
#ifndef PGSSL_LISTEN_LISTEN_H
#define PGSSL_LISTEN_LISTEN_H

#include "session/session.h"

/*
 * Step 0: find the listening sockets of a super-server, on standard input or by systemd's protocol
 * (sd_listen_fds(3)), whose variables are removed from the environment. Returns the first
 * descriptor that is not one of them, 3 or more. listen_inherited: are there any?
 */
int listen_inherit(void);
bool listen_inherited(void);

/*
 * Before an exit without an error to a client: close one that waits at an inherited socket, if any.
 * Otherwise the super-server would start this program again and again for it.
 */
void listen_turn_one_away(void);

/*
 * Serve s->options.listen or the inherited sockets. Returns only in children, with a client on
 * descriptors 0 and 1; s->from_listener is set, s->tls, s->map, s->who and s->addresses are ready,
 * and the client's deadline is set. The parent exits: EX_OK after SIGTERM or --idle-exit, else with
 * the reason why it could not start. Without -f the process that was started exits when everything
 * is ready, or with the error on its standard error.
 *
 * If it cannot start with inherited sockets, one waiting client is put on descriptors 0 and 1, and
 * it returns without s->from_listener: the session then fails in the same way, and its client gets
 * the error as with one process per connection.
 */
void listen_run(struct session *s);

/*
 * In a child with its final user (a change of user would undo it): end when the parent ends. Does
 * nothing in a process that is not a child of listen_run.
 */
void listen_tie_child(void);

/* In a child: step 8 is done. Otherwise the listener may end the session to make room. */
void listen_admitted(void);

#endif
