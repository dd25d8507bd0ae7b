/* SPDX-License-Identifier: ISC
 *
 * session/client.h - steps 6 to 8 of client mode (-c). Each returns when its step is done, or ends the process with the client told why.
 */
#ifndef PGSSL_SESSION_CLIENT_H
#define PGSSL_SESSION_CLIENT_H

#include "session/session.h"

/* 6: answer the local client's requests for encryption with N and read its startup packet or cancel request. Waits until s->deadline. */
void client_negotiate(struct session *s);

/* 7: connect to the server, ask it for TLS, and shake hands as its client. Waits until s->deadline, and --connect-timeout for connecting. */
void client_shake_hands(struct session *s);

/* 8: hand on the startup packet, and relay the server's first words as startup_relay_authentication does; a cancel request is carried from here. */
void client_admit(struct session *s);

#endif
