/* SPDX-License-Identifier: ISC
 *
 * net/sock.c - socket options, and the addresses of the ends of a socket (steps 2 and 4).
 *
 * Errors of setsockopt() are ignored: the descriptor may be a pipe or a Unix socket.
 */
#include "net/sock.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROBES         6
#define PROBE_INTERVAL 10     /* seconds */
#define RTO_MAX_MS     120000 /* the kernel's default and maximum */

static void set_option(int fd, int level, int option, int value)
{
	(void)setsockopt(fd, level, option, &value, sizeof value);
}

void sock_nodelay(int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

void sock_keepalive(int fd, int seconds)
{
	int rto_max = (seconds + PROBES * PROBE_INTERVAL) * 1000 / 12;

	if (seconds == 0)
		return;
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, PROBE_INTERVAL);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	/*
	 * There are no probes while data is unacknowledged. The kernel resends it 15 times
	 * (net.ipv4.tcp_retries2) at growing intervals; with this limit on the interval that takes
	 * about as long. Not TCP_USER_TIMEOUT: it ends a live peer that does not read (tcp(7)).
	 */
	set_option(fd, IPPROTO_TCP, TCP_RTO_MAX_MS, rto_max < RTO_MAX_MS ? rto_max : RTO_MAX_MS);
}

void sock_orphan(int fd, int seconds)
{
	/* Linux drops an orphaned socket once the interval is at its limit (tcp_orphan_retries). */
	if (seconds != 0)
		set_option(fd, IPPROTO_TCP, TCP_RTO_MAX_MS, RTO_MAX_MS);
}

int sock_bind(const struct sockaddr_storage *sa, socklen_t len)
{
	int fd = socket(sa->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (sa->ss_family == AF_INET6) /* IPv4 has its own socket */
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (bind(fd, (const struct sockaddr *)sa, len) == 0)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

bool sock_take_if(int fd, const unsigned char *bytes, size_t size)
{
	unsigned char waiting[16];

	if (size > sizeof waiting ||
	    recv(fd, waiting, size, MSG_PEEK | MSG_DONTWAIT) != (ssize_t)size)
		return false;
	return memcmp(waiting, bytes, size) == 0 &&
	       recv(fd, waiting, size, MSG_DONTWAIT) == (ssize_t)size;
}

void sock_unmap(struct sockaddr_storage *sa)
{
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)sa;
	struct sockaddr_in v4 = {.sin_family = AF_INET};

	if (sa->ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		return;
	v4.sin_port = v6->sin6_port;
	memcpy(&v4.sin_addr, v6->sin6_addr.s6_addr + 12, sizeof v4.sin_addr);
	memcpy(sa, &v4, sizeof v4);
}

/* systemd sets REMOTE_ADDR and REMOTE_PORT, xinetd REMOTE_HOST; both write numbers. */
static bool address_from_environment(struct sockaddr_storage *sa)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
	const char *host = getenv("REMOTE_ADDR"), *port = getenv("REMOTE_PORT");

	hints.ai_socktype = SOCK_STREAM;
	if (host == NULL)
		host = getenv("REMOTE_HOST");
	if (host == NULL || getaddrinfo(host, port, &hints, &found) != 0)
		return false;
	memcpy(sa, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return true;
}

void sock_client(int fd, struct sockaddr_storage *sa)
{
	socklen_t len = sizeof *sa;

	*sa = (struct sockaddr_storage){.ss_family = AF_UNSPEC};
	if (getpeername(fd, (struct sockaddr *)sa, &len) == 0 || errno != ENOTCONN)
		return;
	len = sizeof *sa;
	if (getsockname(fd, (struct sockaddr *)sa, &len) != 0 || sa->ss_family == AF_UNIX ||
	    address_from_environment(sa))
		return;
	*sa = (struct sockaddr_storage){.ss_family = AF_INET};
}

/* What sock_client returns for a TCP client that has reset the connection. */
static bool is_unknown(const struct sockaddr_in *in)
{
	return in->sin_family == AF_INET && in->sin_addr.s_addr == INADDR_ANY && in->sin_port == 0;
}

void sock_format(const struct sockaddr *sa, socklen_t len, struct sock_name *name)
{
	struct sockaddr_storage copy = {0};

	*name = (struct sock_name){.host = "[local]"};
	if (len > sizeof copy || (sa->sa_family != AF_INET && sa->sa_family != AF_INET6))
		return;
	memcpy(&copy, sa, len);
	sock_unmap(&copy);
	if (is_unknown((const struct sockaddr_in *)&copy) ||
	    getnameinfo((struct sockaddr *)&copy, sizeof copy, name->host, sizeof name->host,
			name->port, sizeof name->port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		*name = (struct sock_name){.host = "[unknown]"};
}

static void format_end(int fd, int (*end)(int, struct sockaddr *, socklen_t *),
		       struct sock_name *name)
{
	struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof sa;

	(void)end(fd, (struct sockaddr *)&sa, &len);
	sock_format((struct sockaddr *)&sa, len, name);
}

void sock_peer(int fd, struct sock_name *name)
{
	format_end(fd, getpeername, name);
}

void sock_local(int fd, struct sock_name *name)
{
	format_end(fd, getsockname, name);
}
