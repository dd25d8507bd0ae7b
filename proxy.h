/* SPDX-License-Identifier: ISC
 *
 * proxy.h - PROXY protocol headers, versions 1 and 2 (haproxy's doc/proxy-protocol.txt).
 *
 * Reads exactly the header and never a byte of what follows it; trusts no length in it. Knows nothing of sockets: it gets a stream.
 */
#ifndef PGSSL_PROXY_H
#define PGSSL_PROXY_H

#include <sys/socket.h>

#include "log.h"
#include "stream.h"

/* The client as the header names it. */
struct proxy_client {
	bool given;                      /* false for LOCAL and UNKNOWN: the connection's own address counts */
	struct sockaddr_storage address; /* AF_INET, AF_INET6 (with port) or AF_UNIX */
};

/*
 * Read one header from `s`, which must be the first thing on it, until `when`. On success fills in `client`. Fails with EX_PROTOCOL and a text that
 * says what was wrong, and nothing may be answered then.
 */
bool proxy_read(struct stream *s, struct proxy_client *client, deadline when, struct error *e) MUST_USE;

#endif
