/* SPDX-License-Identifier: ISC
 *
 * net/sock.h - what is told to the kernel about a socket, and who is at its ends.
 *
 * Every function here is harmless on a pipe: standard input and output are not always one socket.
 */
#ifndef PGSSL_NET_SOCK_H
#define PGSSL_NET_SOCK_H

#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44 /* Linux 6.15; older ones say no */
#endif

/* A host and a port in numbers. "[local]" and "" for a Unix socket or what is no socket. */
struct sock_name {
	char host
	    [108]; /* of a Unix socket its path would fit; IPv4 addresses mapped into IPv6 are given as IPv4 */
	char port[8];
};

/* TCP_NODELAY: a relay that passes small pieces without it waits for delayed acknowledgements, 40 ms each. */
void sock_nodelay(int fd);

/*
 * TCP keepalive: after `seconds` of silence 6 probes 10 s apart; where the kernel can (Linux 6.15), unacknowledged data is given up after about the same total,
 * a quarter of an hour at most. An end that answers and does not read is waited for. 0: leave all as it is.
 */
void sock_keepalive(int fd, int seconds);

/* Before the process ends with data under way: undo of sock_keepalive, given the same `seconds`, what would make the kernel drop it early. */
void sock_orphan(int fd, int seconds);

/* The other end and this end of a connection. */
void sock_peer(int fd, struct sock_name *name);
void sock_local(int fd, struct sock_name *name);

/*
 * If the next `size` bytes (16 at most) that wait on socket `fd` are `bytes`, take exactly them and return true; else take nothing. A constant comparison, no
 * parsing. Never waits.
 */
bool sock_take_if(int fd, const unsigned char *bytes, size_t size);

/* Make ::ffff:192.0.2.7 192.0.2.7; other addresses stay. */
void sock_unmap(struct sockaddr_storage *sa, socklen_t *len);

/* Any address in numbers. */
void sock_format(const struct sockaddr *sa, socklen_t len, struct sock_name *name);

#endif
