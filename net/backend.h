/* SPDX-License-Identifier: ISC
 *
 * net/backend.h - the connection to the backend: sockets and connect.
 *
 * backend_open makes the sockets in step 5, after which they are only bound and connected. Never
 * reads or writes data.
 */
#ifndef PGSSL_NET_BACKEND_H
#define PGSSL_NET_BACKEND_H

#include <stdbool.h>

#include "net/address.h"
#include "log.h"
#include "options.h"
#include "net/stream.h"

/* A prepared socket and its destination. */
struct backend_socket {
	const struct address *to;
	int fd;
};

struct backend {
	const struct address_list *list; /* owned by the caller; its name is used in errors */
	struct backend_socket sockets[ADDRESS_MAX];
	unsigned count;
	unsigned at;    /* the socket being tried */
	int fd;         /* the connected socket, or -1 */
	bool pending;   /* the socket at `at` is connecting */
	int timeout_ms; /* --connect-timeout */
	deadline when;
	char reason[128]; /* why the first address failed */
};

/*
 * Make a socket for each address of `list`, with the options of -I and --transparent. One that can
 * be made is enough: without IPv6 there is none for ::1. Never blocks. Fails with EX_OSERR or
 * EX_NOPERM. The sockets live until backend_finish or backend_close.
 */
bool backend_open(struct backend *b, const struct address_list *list, const struct options *o,
		  struct error *e) MUST_USE;

/* Close the prepared sockets. */
void backend_close(struct backend *b);

/*
 * --transparent: connect from the client's address `source`, with a port that the kernel chooses.
 * Drops addresses of the other family. Fails with EX_UNAVAILABLE if none is left.
 */
bool backend_set_source(struct backend *b, const struct sockaddr_storage *source,
			struct error *e) MUST_USE;

/*
 * Begin to connect. backend_finish reports failures. Blocks only for a Unix socket with a full
 * backlog, at most --connect-timeout.
 */
void backend_start(struct backend *b);

/*
 * Connect to one address after the other, until --connect-timeout after backend_start, which need
 * not have been called. On success b->fd is the socket and the others are closed. Fails with
 * EX_UNAVAILABLE and a text that begins with the address.
 */
bool backend_finish(struct backend *b, struct error *e) MUST_USE;

/* Has the backend already closed the connection without sending anything? */
bool backend_closed(const struct backend *b);

#endif
