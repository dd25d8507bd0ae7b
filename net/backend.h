/* SPDX-License-Identifier: ISC
 *
 * net/backend.h - the connection to PostgreSQL: sockets and connect.
 *
 * backend_open (step 4) makes the sockets; after step 5 they are only connected. Never reads or
 * writes data.
 */
#ifndef PGSSL_NET_BACKEND_H
#define PGSSL_NET_BACKEND_H

#include <stdbool.h>

#include "net/address.h"
#include "log.h"
#include "options.h"
#include "net/stream.h"

/* A prepared socket, and where it will be connected to. */
struct backend_socket {
	const struct address *to;
	int fd;
};

struct backend {
	const struct address_list *list; /* the caller's; its name stands in errors */
	struct backend_socket sockets[ADDRESS_MAX];
	unsigned count;
	unsigned at;  /* the one being tried */
	int fd;       /* connected, or -1 */
	bool pending; /* the one at `at` is connecting */
	int timeout_ms;
	deadline when;
	char reason[128]; /* why the first address failed */
};

/*
 * Make a socket for each address of `list`, with -I and --transparent set; one of several is enough.
 * Never blocks. Fails with EX_OSERR or EX_NOPERM. The sockets live as long as the process, or until
 * backend_close.
 */
bool backend_open(struct backend *b, const struct address_list *list, const struct options *o,
		  struct error *e) MUST_USE;

/* Close the prepared sockets: the parent of -d only tried whether they can be had. */
void backend_close(struct backend *b);

/*
 * --transparent: connect from the client's address `source`, port of the kernel's choice. Addresses of the other family are dropped. Fails with
 * EX_UNAVAILABLE if none is left.
 */
bool backend_set_source(struct backend *b, const struct sockaddr_storage *source,
			struct error *e) MUST_USE;

/* Begin to connect. Does not wait (a Unix socket with a full backlog excepted). What goes wrong is told by backend_finish. */
void backend_start(struct backend *b);

/*
 * Wait until PostgreSQL is connected, address after address, at most `timeout` seconds from
 * backend_start, or from now if that was not called. On success b->fd is the socket and the others
 * are closed. Fails with EX_UNAVAILABLE and a text that begins with the address.
 */
bool backend_finish(struct backend *b, struct error *e) MUST_USE;

/* True if PostgreSQL has closed the connection already without a word. */
bool backend_closed(const struct backend *b);

/* The TCP port that PostgreSQL sees as the client's, "" for a Unix socket. Returns `buf`. */
const char *backend_port(const struct backend *b, char *buf, size_t size);

#endif
