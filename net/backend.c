/* SPDX-License-Identifier: ISC
 *
 * net/backend.c - the connection to the backend (steps 5 and 7).
 *
 * The sockets are ours alone, so TCP sockets may be non-blocking. connect() on a Unix socket waits
 * only while the backlog is full, bounded by SO_SNDTIMEO; a non-blocking one would get EAGAIN and
 * need retries.
 */
#include "net/backend.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "net/sock.h"

#define LEAST_SHARE_MS 1000 /* for each address, when little time is left */

/* All of it now: the filter of step 5 closes setsockopt(). */
static bool configure_tcp(int fd, const struct address *to, const struct options *o,
			  struct error *e)
{
	bool v6 = to->sa.ss_family == AF_INET6;
	int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP, yes = 1;

	sock_nodelay(fd);
	sock_keepalive(fd, o->keepalive);
	/* Let connect() choose a port that is free towards this backend, not bind(). */
	if (o->transparent || to->local_len != 0)
		(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
	if (o->transparent &&
	    setsockopt(fd, level, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &yes, sizeof yes) < 0)
		return fail(e, EX_NOPERM,
			    "--transparent: %s (start as root, or with CAP_NET_ADMIN)",
			    strerror(errno));
	if (to->local_len != 0 && bind(fd, (struct sockaddr *)&to->local, to->local_len) != 0)
		return fail(e, EX_OSERR, "-I %s: %s", o->local, strerror(errno));
	return true;
}

/* Returns the socket, or -1. */
static int prepare_socket(const struct address *to, const struct options *o, struct error *e)
{
	int family = to->sa.ss_family, nonblock = family != AF_UNIX ? SOCK_NONBLOCK : 0;
	struct timeval timeout = {.tv_sec = o->connect_timeout};
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | nonblock, 0);

	if (fd < 0) {
		fail(e, EX_OSERR, "could not create a socket: %s", strerror(errno));
	} else if (family == AF_UNIX) {
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
	} else if (!configure_tcp(fd, to, o, e)) {
		close(fd);
		return -1;
	}
	return fd;
}

bool backend_open(struct backend *b, const struct address_list *list, const struct options *o,
		  struct error *e)
{
	struct error why = {.status = 0};

	*b = (struct backend){.list = list, .fd = -1, .timeout_ms = o->connect_timeout * 1000};
	for (unsigned i = 0; i < list->count; i++) {
		int fd = prepare_socket(&list->all[i], o, &why);

		if (fd >= 0)
			b->sockets[b->count++] = (struct backend_socket){&list->all[i], fd};
	}
	e->status = 0;
	return b->count > 0 || fail(e, why.status, "%s: %s", list->name, why.text);
}

void backend_close(struct backend *b)
{
	for (unsigned i = 0; i < b->count; i++)
		close(b->sockets[i].fd);
	b->count = 0;
}

/* bind() takes these as "any address", so that lines for 127.0.0.1 in pg_hba.conf would match. */
static bool is_no_host(const struct sockaddr_storage *sa)
{
	const struct in6_addr *v6 = &((const struct sockaddr_in6 *)sa)->sin6_addr;

	if (sa->ss_family == AF_INET6)
		return IN6_IS_ADDR_UNSPECIFIED(v6) || IN6_IS_ADDR_MULTICAST(v6);
	in_addr_t v4 = ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr);
	return sa->ss_family == AF_INET && (v4 >> 24 == 0 || v4 >= 0xe0000000U);
}

bool backend_set_source(struct backend *b, const struct sockaddr_storage *source, struct error *e)
{
	struct sockaddr_storage sa = *source;
	unsigned bound = 0;
	const char *why = "-r has no address of the client's family (IPv4 or IPv6)";

	/* Not the client's port: another socket may hold it, and one below 1024 needs root. */
	if (sa.ss_family == AF_INET)
		((struct sockaddr_in *)&sa)->sin_port = 0;
	else if (sa.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&sa)->sin6_port = 0;
	if (is_no_host(&sa)) {
		backend_close(b);
		return fail(e, EX_UNAVAILABLE,
			    "%s from the client's address: it is not the address of a host",
			    b->list->name);
	}
	for (unsigned i = 0; i < b->count; i++) {
		struct backend_socket *s = &b->sockets[i];
		bool same_family = s->to->sa.ss_family == sa.ss_family;

		if (same_family && bind(s->fd, (struct sockaddr *)&sa, s->to->len) == 0) {
			b->sockets[bound++] = *s;
			continue;
		}
		if (same_family)
			why = strerror(errno);
		close(s->fd);
	}
	b->count = bound;
	return bound > 0 ||
	       fail(e, EX_UNAVAILABLE, "%s from the client's address: %s", b->list->name, why);
}

static void note_connect_failure(struct backend *b, int error)
{
	if (b->reason[0] == '\0') /* the first address is the one that people mean */
		snprintf(b->reason, sizeof b->reason, "%s",
			 error == EAGAIN  ? "timed out"
			 : error == EINTR ? "terminated by SIGTERM"
					  : strerror(error));
}

/* Start to connect to the first address, from `at` on, that does not fail immediately. */
static void connect_next(struct backend *b)
{
	for (; b->at < b->count; b->at++) {
		const struct backend_socket *s = &b->sockets[b->at];

		if (connect(s->fd, (const struct sockaddr *)&s->to->sa, s->to->len) == 0) {
			b->fd = s->fd;
			return;
		}
		if (errno == EINPROGRESS) {
			b->pending = true;
			return;
		}
		note_connect_failure(b, errno);
	}
}

void backend_start(struct backend *b)
{
	b->when = deadline_in(b->timeout_ms);
	connect_next(b);
}

/* Wait for the socket at `at`. If it fails, go on with the next one, except on SIGTERM. */
static void await_pending(struct backend *b)
{
	int fd = b->sockets[b->at].fd, error = 0;
	socklen_t len = sizeof error;
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	/*
	 * Each address gets its share of the time left, so that a silent one does not starve the
	 * others, and at least a second: a slow client may have used up the time.
	 */
	int left = deadline_left(b->when) / (int)(b->count - b->at);
	deadline share = deadline_in(left > LEAST_SHARE_MS ? left : LEAST_SHARE_MS);
	enum io_status io = stream_poll(&p, 1, share);

	b->pending = false;
	if (io == IO_DONE && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 &&
	    error == 0) {
		b->fd = fd;
		return;
	}
	note_connect_failure(b, io == IO_TERMINATED ? EINTR
				: io == IO_TIMEOUT  ? ETIMEDOUT
				: error != 0        ? error
						    : errno);
	if (io != IO_TERMINATED) {
		b->at++;
		connect_next(b);
	}
}

bool backend_finish(struct backend *b, struct error *e)
{
	if (b->fd < 0 && !b->pending)
		backend_start(b);
	while (b->pending)
		await_pending(b);
	if (b->fd < 0)
		return fail(e, EX_UNAVAILABLE, "%s: %s", b->list->name, b->reason);
	for (unsigned i = 0; i < b->count; i++)
		if (b->sockets[i].fd != b->fd)
			close(b->sockets[i].fd);
	b->count = 0;
	return true;
}

bool backend_closed(const struct backend *b)
{
	char byte;

	return recv(b->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}
