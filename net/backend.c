/* SPDX-License-Identifier: ISC
 *
 * net/backend.c - the connection to PostgreSQL (steps 4 and 7).
 *
 * Assumes that every socket made here is ours alone, so that TCP sockets may be non-blocking for connect(). A Unix socket's connect() waits only when the
 * backlog is full, and then SO_SNDTIMEO bounds it; without blocking it would have to be tried again and again.
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

#define LEAST_SHARE_MS 1000 /* for an address, when the time is nearly over */

/* Without a port: IP_BIND_ADDRESS_NO_PORT lets connect() choose one that is free towards this very server. */
static bool bind_to(int fd, const struct sockaddr_storage *sa, socklen_t len)
{
	int yes = 1;

	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
	return bind(fd, (const struct sockaddr *)sa, len) == 0;
}

/* May be bound to an address that is not this machine's. Needs CAP_NET_ADMIN now, and nothing when it is bound. */
static bool make_transparent(const struct backend_socket *s, struct error *e)
{
	int yes = 1;
	bool v6 = s->to->sa.ss_family == AF_INET6;

	(void)setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes,
			 sizeof yes); /* step 5 shuts setsockopt */
	if (setsockopt(s->fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
		       v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &yes, sizeof yes) < 0)
		return fail(e, EX_NOPERM,
			    "--transparent: %s (start as root, or with CAP_NET_ADMIN)",
			    strerror(errno));
	return true;
}

static bool make_socket(struct backend_socket *s, const struct options *o, struct error *e)
{
	bool tcp = s->to->sa.ss_family != AF_UNIX;
	struct timeval patience = {.tv_sec = o->connect_timeout};

	s->fd =
	    socket(s->to->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (tcp ? SOCK_NONBLOCK : 0), 0);
	if (s->fd < 0)
		return fail(e, EX_OSERR, "could not create a socket for PostgreSQL: %s",
			    strerror(errno));
	if (!tcp) {
		(void)setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
		return true;
	}
	sock_nodelay(s->fd);
	sock_keepalive(s->fd, o->keepalive);
	return true;
}

static bool set_up(struct backend_socket *s, const struct options *o, struct error *e)
{
	if (!make_socket(s, o, e))
		return false;
	if (o->transparent && !make_transparent(s, e)) {
		close(s->fd);
		return false;
	}
	if (s->to->local_len == 0 || bind_to(s->fd, &s->to->local, s->to->local_len))
		return true;
	fail(e, EX_OSERR, "-I %s: %s", o->local, strerror(errno));
	close(s->fd);
	return false;
}

/* A machine without IPv6 has no socket for ::1; one socket of several is enough. */
bool backend_open(struct backend *b, const struct address_list *list, const struct options *o,
		  struct error *e)
{
	*b = (struct backend){.list = list, .fd = -1, .timeout_ms = o->connect_timeout * 1000};
	for (unsigned i = 0; i < list->count; i++) {
		struct backend_socket s = {.to = &list->all[i]};

		if (set_up(&s, o, e))
			b->sockets[b->count++] = s;
	}
	if (b->count > 0)
		e->status = 0;
	return b->count > 0;
}

void backend_close(struct backend *b)
{
	for (unsigned i = 0; i < b->count; i++)
		close(b->sockets[i].fd);
	b->count = 0;
}

/* bind() takes each of these for "any": PostgreSQL would then see an address of this machine, and its lines for 127.0.0.1 would match. */
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
	const char *why = "it has no address of the client's kind (IPv4, IPv6)";

	/* Not the client's port: its own socket may hold that, or a connection of its that has just ended, and below 1024 it takes root. */
	if (sa.ss_family == AF_INET)
		((struct sockaddr_in *)&sa)->sin_port = 0;
	else if (sa.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&sa)->sin6_port = 0;
	if (is_no_host(&sa)) {
		backend_close(b);
		return fail(e, EX_UNAVAILABLE, "%s from the client's address: that is no host's",
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

static void note_failure(struct backend *b, int error)
{
	if (b->reason[0] == '\0') /* the first address's: that is the one people mean */
		snprintf(b->reason, sizeof b->reason, "%s",
			 error == EAGAIN ? "timed out" : strerror(error));
}

/* Begin with the first address from `at` on that does not fail at once. */
static void try_next(struct backend *b)
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
		note_failure(b, errno);
	}
}

void backend_start(struct backend *b)
{
	b->when = deadline_in(b->timeout_ms);
	try_next(b);
}

/* Wait for the address at hand; false when the time is over for all. */
static bool await_pending(struct backend *b)
{
	int fd = b->sockets[b->at].fd, error = 0;
	socklen_t len = sizeof error;
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	/* Of what time is left each address gets its share, or a silent one would starve the others. */
	int left = deadline_left(b->when) / (int)(b->count - b->at);
	/* The first ones' time may have passed while the client wrote its startup packet: the last ones get a second each all the same. */
	deadline share = deadline_in(left > LEAST_SHARE_MS ? left : LEAST_SHARE_MS);
	enum io_status io = stream_poll(&p, 1, share);

	b->pending = false;
	if (io == IO_DONE && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 &&
	    error == 0) {
		b->fd = fd;
		return true;
	}
	note_failure(b, io == IO_TERMINATED ? EINTR
			: io == IO_TIMEOUT  ? ETIMEDOUT
			: error != 0        ? error
					    : errno);
	if (io == IO_TERMINATED)
		return false;
	b->at++;
	try_next(b);
	return b->at < b->count;
}

static void close_others(struct backend *b)
{
	for (unsigned i = 0; i < b->count; i++)
		if (b->sockets[i].fd != b->fd)
			close(b->sockets[i].fd);
	b->count = 0;
}

bool backend_finish(struct backend *b, struct error *e)
{
	if (b->fd < 0 && !b->pending)
		backend_start(b);
	while (b->fd < 0 && b->pending)
		if (!await_pending(b))
			break;
	if (b->fd < 0)
		return fail(e, EX_UNAVAILABLE, "%s: %s", b->list->name, b->reason);
	close_others(b);
	return true;
}

bool backend_closed(const struct backend *b)
{
	char byte;

	return recv(b->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

const char *backend_port(const struct backend *b, char *buf, size_t size)
{
	struct sock_name name;

	sock_local(b->fd, &name);
	snprintf(buf, size, "%s", name.port);
	return buf;
}
