/* SPDX-License-Identifier: ISC
 *
 * backend.h - the connection to PostgreSQL: address syntax, name look-up, sockets, connect.
 *
 * All that reads a file or makes a socket happens in backend_prepare (step 4); backend_start and backend_finish only connect what was prepared. Never
 * reads or writes data.
 */
#ifndef PGSSL_BACKEND_H
#define PGSSL_BACKEND_H

#include <stdbool.h>
#include <sys/socket.h>

#include "log.h"
#include "stream.h"

#define BACKEND_ADDRESSES 8 /* of a name with more the first ones are tried */

struct backend_address {
	struct sockaddr_storage sa, local; /* local: what -I means for this family */
	socklen_t len, local_len;          /* local_len 0: any */
	int fd;                            /* prepared socket */
};

/* An address as it was written, taken apart. */
struct backend_parts {
	char host[256]; /* "" if only a port was given; a path for a Unix socket */
	char port[64];
};

struct backend {
	struct backend_address addresses[BACKEND_ADDRESSES];
	unsigned count;
	unsigned at; /* the one being tried */
	int fd;      /* connected, or -1 */
	bool pending; /* the one at `at` is connecting */
	int timeout_ms;
	deadline when;
	char name[300];   /* for people: "127.0.0.1:5432", or the path of a socket */
	char reason[128]; /* why the first address failed */
};

/* How to make the sockets. */
struct backend_options {
	const char *address; /* [HOST:]PORT, [v6]:PORT, a service name, or PATH[:PORT] of a Unix socket or its folder */
	const char *local;   /* connect from this address, or NULL */
	int timeout;         /* seconds for connecting, all addresses together */
	int keepalive;       /* as sock_keepalive takes it */
	bool transparent;    /* the client's own address will be the source: backend_set_source */
};

/* Step 1: is this an address, as far as that can be said without asking anybody? Fails with EX_USAGE. */
bool backend_check_syntax(const char *address, struct error *e) MUST_USE;

/* The host in an address that backend_check_syntax accepts: "localhost" for a bare port, "" for a Unix socket. */
void backend_host(const char *address, char *host, size_t size);
/* Take `text` apart; `option` stands in the error, EX_USAGE. */
bool backend_split(const char *option, const char *text, struct backend_parts *p, struct error *e) MUST_USE;

/*
 * Look up the address, and -I's. May block as long as the resolver does, and loads what the resolver needs. Fails with EX_USAGE (syntax) or EX_NOHOST
 * (unknown name). The parent of -d does only this, once.
 */
bool backend_resolve(struct backend *b, const struct backend_options *o, struct error *e) MUST_USE;

/*
 * Make a socket for each address that backend_resolve found, with -I and --transparent set. Never blocks. Fails with EX_OSERR or EX_NOPERM. The
 * sockets belong to `b` and live as long as the process, or until backend_close.
 */
bool backend_open(struct backend *b, const struct backend_options *o, struct error *e) MUST_USE;

/* Both. */
bool backend_prepare(struct backend *b, const struct backend_options *o, struct error *e) MUST_USE;

/* Close the prepared sockets: the parent of -d only tried whether they can be had. */
void backend_close(struct backend *b);

/*
 * --transparent: connect from the client's address `source`, port of the kernel's choice. Addresses of the other family are dropped. Fails with
 * EX_UNAVAILABLE if none is left.
 */
bool backend_set_source(struct backend *b, const struct sockaddr_storage *source, struct error *e) MUST_USE;

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

/* The TCP ports that connect() will go to, in host order, for step 5. `ports` has room for BACKEND_ADDRESSES. Returns how many. */
unsigned backend_tcp_ports(const struct backend *b, uint16_t *ports);

/* True if the address is a Unix socket. */
bool backend_is_unix(const struct backend *b);

/* True if the address is a Unix socket and a session runs as `uid` whom a `peer` line of pg_hba.conf takes for the superuser: then every client is. `text` says so. */
bool backend_peer_danger(const struct backend *b, uid_t uid, char *text, size_t size);

/* True if an address is none of this machine's: what goes there is in clear on the network. Before backend_finish. */
bool backend_is_remote(const struct backend *b);

#endif
