/* SPDX-License-Identifier: ISC
 *
 * net/sock.h - socket options, and the addresses of the two ends of a socket.
 *
 * Nothing here blocks, and only sock_bind fails. Pipes and Unix sockets are left alone: standard
 * input and output need not be a TCP socket.
 */
#ifndef PGSSL_NET_SOCK_H
#define PGSSL_NET_SOCK_H

#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44 /* Linux 6.15; older kernels refuse it */
#endif

/* A host and port as numbers; "[local]" and "" if it is no TCP socket, "[unknown]" and "" for a TCP
 * client that reset the connection before its address was asked for. */
struct sock_name {
	char host[108]; /* an IPv4-mapped IPv6 address is given as IPv4 */
	char port[8];
};

/* TCP_NODELAY: without it, small pieces wait 40 ms for a delayed acknowledgement. */
void sock_nodelay(int fd);

/*
 * TCP keepalive: 6 probes 10 s apart after `seconds` of silence. Where the kernel can (Linux 6.15),
 * unacknowledged data is given up after about the same total. A peer that acknowledges but does not
 * read keeps its connection. 0: leave everything as it is.
 */
void sock_keepalive(int fd, int seconds);

/* Before exit with data in transit: undo what makes the kernel drop it early. Same `seconds`. */
void sock_orphan(int fd, int seconds);

/* Make a socket with the address `sa`, for listen(). -1 and errno if it cannot be had. */
int sock_bind(const struct sockaddr_storage *sa, socklen_t len);

/*
 * The address of the client on `fd`. The kernel forgets it when the client resets the connection;
 * then it is the one that the super-server put into the environment, or AF_INET with port 0, which
 * means an unknown TCP client. AF_UNSPEC if `fd` is no socket.
 */
void sock_client(int fd, struct sockaddr_storage *sa);

/* The remote and the local end of a connection. */
void sock_peer(int fd, struct sock_name *name);
void sock_local(int fd, struct sock_name *name);

/*
 * If the next `size` bytes (at most 16) waiting on `fd` are `bytes`, consume exactly them and
 * return true; otherwise consume nothing. A constant comparison, no parsing.
 */
bool sock_take_if(int fd, const unsigned char *bytes, size_t size);

/* Turn ::ffff:192.0.2.7 into 192.0.2.7; leave other addresses alone. */
void sock_unmap(struct sockaddr_storage *sa);

/* Format any address. */
void sock_format(const struct sockaddr *sa, socklen_t len, struct sock_name *name);

#endif
