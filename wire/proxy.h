/* SPDX-License-Identifier: ISC
 *
 * wire/proxy.h - PROXY protocol headers, versions 1 and 2 (haproxy's doc/proxy-protocol.txt), step 6.
 *
 * Reads exactly the header and never a byte of what follows it; trusts no length in it. Knows nothing of sockets: it gets a stream.
 */
#ifndef PGSSL_WIRE_PROXY_H
#define PGSSL_WIRE_PROXY_H

#include <sys/socket.h>

#include "log.h"
#include "net/stream.h"

/* The client as the header names it. */
struct proxy_client {
	bool
	    spoke; /* set on failure too: false if not one byte came, as with a load balancer's probes all day */
	bool
	    given; /* false for LOCAL, UNKNOWN, UNSPEC and UNIX: the connection's own address counts */
	/* AF_INET or AF_INET6, with the port; an IPv4 address may be a mapped one. */
	struct sockaddr_storage address;
};

/*
 * Read one header from `s`, which must be the first thing on it; blocks until `when` at most. On success fills in `client`. Fails with a text
 * that says what was wrong and EX_PROTOCOL (EX_TEMPFAIL for SIGTERM), and nothing may be answered then: who speaks without a header is
 * no load balancer of ours, and nothing that it said is known to come from a client.
 */
bool proxy_read(struct stream *s, struct proxy_client *client, deadline when,
		struct error *e) MUST_USE;

#endif
