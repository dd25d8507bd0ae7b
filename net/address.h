/* SPDX-License-Identifier: ISC
 *
 * net/address.h - the addresses of -r, -d and -I: their syntax, and looking them up.
 *
 * Asks the resolver and reads files, so look-ups come before step 5. Makes no socket.
 */
#ifndef PGSSL_NET_ADDRESS_H
#define PGSSL_NET_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "log.h"
#include "options.h"

#define ADDRESS_MAX 8 /* of a name with more addresses the first ones are used */

struct address {
	struct sockaddr_storage sa, local; /* local: what -I means for this family */
	socklen_t len, local_len;          /* local_len 0: any */
};

struct address_list {
	struct address all[ADDRESS_MAX];
	unsigned count;
	char name[300]; /* for people: "127.0.0.1:5432", or the path of a Unix socket */
};

/* Step 1: is `text`, given with -r, an address? Asks nobody. Fails with EX_USAGE. */
bool address_check(const char *text, struct error *e) MUST_USE;

/* The host in a valid address: "localhost" for a bare port, "" for a Unix socket. */
void address_host(const char *text, char *host, size_t size);

/*
 * Look up -r, and -I for each of its addresses. Blocks as long as the resolver does. Fails with
 * EX_USAGE (the options do not fit together) or EX_NOHOST (an unknown name).
 */
bool address_look_up(struct address_list *list, const struct options *o, struct error *e) MUST_USE;

/*
 * Look up where to listen, -d. Without a host that is every address of this machine, or in client
 * mode its loopback addresses. Blocks and fails as address_look_up.
 */
bool address_look_up_listen(struct address_list *list, const struct options *o,
			    struct error *e) MUST_USE;

/* The TCP port, in host order, which all addresses of a list share; 0 for a Unix socket. */
uint16_t address_tcp_port(const struct address_list *list);

bool address_is_unix(const struct address_list *list);

/* Is an address none of this machine's? What goes there is in clear on the network. */
bool address_is_remote(const struct address_list *list);

/*
 * Is it a Unix socket, and would a `peer` line of pg_hba.conf take a session that runs as `uid`, and
 * so every client, for PostgreSQL's superuser? Then `text` says so.
 */
bool address_peer_danger(const struct address_list *list, uid_t uid, char *text, size_t size);

#endif
