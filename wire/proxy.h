/* SPDX-License-Identifier: ISC
 *
 * wire/proxy.h - step 6: PROXY protocol headers, versions 1 and 2 (haproxy's proxy-protocol.txt).
 *
 * Reads exactly the header, never a byte after it. Trusts no length in it.
 */
#ifndef PGSSL_WIRE_PROXY_H
#define PGSSL_WIRE_PROXY_H

#include <sys/socket.h>

#include "log.h"
#include "net/stream.h"

/* The client as the header describes it. */
struct proxy_client {
	bool spoke; /* a byte arrived; set on failure too: probes often send nothing */
	bool given; /* false for LOCAL, UNKNOWN, UNSPEC and UNIX: use the socket's own address */
	struct sockaddr_storage address; /* AF_INET or AF_INET6, perhaps IPv4-mapped; and port */
};

/*
 * Read a header, which must be the first thing on `s`. Blocks until `when` at most. Fails with
 * EX_PROTOCOL (EX_TEMPFAIL for SIGTERM, EX_OK if the peer left without a byte) and a text that says
 * what was wrong. Send nothing to a peer without a valid header: it is not our load balancer.
 */
bool proxy_read(struct stream *s, struct proxy_client *client, deadline when,
		struct error *e) MUST_USE;

#endif
