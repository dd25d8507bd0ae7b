/* SPDX-License-Identifier: ISC
 *
 * net/address.h - the addresses of -r, -d and -I: syntax and look-up.
 *
 * Asks the resolver and reads files, so all look-ups precede step 5. Makes no socket.
 */
#ifndef PGSSL_NET_ADDRESS_H
#define PGSSL_NET_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "log.h"
#include "options.h"

#define ADDRESS_MAX 8 /* the further addresses of a name are ignored */

struct address {
	struct sockaddr_storage sa, local; /* local: the address of -I, of the same family */
	socklen_t len, local_len;          /* local_len is 0 without -I */
};

struct address_list {
	struct address all[ADDRESS_MAX];
	unsigned count;
	char name[300]; /* for messages: "127.0.0.1:5432", or the path of a Unix socket */
};

/* Step 1: check the syntax of `text`, the argument of -r. Never blocks. Fails with EX_USAGE. */
bool address_check(const char *text, struct error *e) MUST_USE;

/*
 * Copy the host of a valid address, without a dot at its end: "localhost" for a bare port, "" for a
 * Unix socket.
 */
void address_host(const char *text, char *host, size_t size);

/* Copy `host` without a dot at its end. */
void address_bare_name(const char *host, char *name, size_t size);

/*
 * Is `host` an address, not a name? If so, `number` gets its usual form: without a zone, and IPv4
 * instead of IPv4-mapped IPv6. Never blocks. If it returns false, errno is ENOMEM when there was
 * no memory to find out, and otherwise 0.
 */
bool address_is_number(const char *host, char *number, size_t size);

/*
 * Look up -r, and -I for each of its addresses. Blocks as long as the resolver does. Fails with
 * EX_USAGE (the options contradict each other) or EX_NOHOST (an unknown name).
 */
bool address_look_up(struct address_list *list, const struct options *o, struct error *e) MUST_USE;

/*
 * Look up -d. Without a host it means all addresses of this machine, or in client mode the loopback
 * addresses. Blocks and fails as address_look_up does.
 */
bool address_look_up_listen(struct address_list *list, const struct options *o,
			    struct error *e) MUST_USE;

/* The TCP port that all addresses of a list share, in host byte order; 0 for a Unix socket. */
uint16_t address_tcp_port(const struct address_list *list);

bool address_is_unix(const struct address_list *list);

/* Does an address belong to another machine? Then the connection crosses the network in clear. */
bool address_is_remote(const struct address_list *list);

/*
 * Would a `peer` line of pg_hba.conf let every client in as PostgreSQL's superuser, because -r is a
 * Unix socket and sessions run as `uid`? If so, `text` gets a warning for the log.
 */
bool address_peer_danger(const struct address_list *list, uid_t uid, char *text, size_t size);

#endif
