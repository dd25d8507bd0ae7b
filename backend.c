/* SPDX-License-Identifier: ISC
 *
 * backend.c - the connection to PostgreSQL (steps 4 and 7).
 *
 * Assumes that every socket made here is ours alone, so that TCP sockets may be non-blocking for connect(). A Unix socket's connect() waits only when the
 * backlog is full, and then SO_SNDTIMEO bounds it; without blocking it would have to be tried again and again.
 */
#include "backend.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sock.h"

#define LEAST_SHARE_MS 1000 /* for an address, when the time is nearly over */

/* Without a port: IP_BIND_ADDRESS_NO_PORT lets connect() choose one that is free towards this very server. */
static bool bind_to(int fd, const struct sockaddr_storage *sa, socklen_t len)
{
	int yes = 1;

	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
	return bind(fd, (const struct sockaddr *)sa, len) == 0;
}

/* May be bound to an address that is not this machine's. Needs CAP_NET_ADMIN now, and nothing when it is bound. */
static bool make_transparent(const struct backend_address *a, struct error *e)
{
	int yes = 1;
	bool v6 = a->sa.ss_family == AF_INET6;

	(void)setsockopt(a->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes); /* step 5 shuts setsockopt */
	if (setsockopt(a->fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &yes,
		       sizeof yes) < 0)
		return fail(e, EX_NOPERM, "--transparent: %s (start as root, or with CAP_NET_ADMIN)", strerror(errno));
	return true;
}

static bool make_socket(struct backend_address *a, const struct backend_options *o, struct error *e)
{
	bool tcp = a->sa.ss_family != AF_UNIX;
	struct timeval patience = {.tv_sec = o->timeout};

	a->fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (tcp ? SOCK_NONBLOCK : 0), 0);
	if (a->fd < 0)
		return fail(e, EX_OSERR, "could not create a socket for PostgreSQL: %s", strerror(errno));
	if (!tcp) {
		(void)setsockopt(a->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
		return true;
	}
	sock_nodelay(a->fd);
	sock_keepalive(a->fd, o->keepalive);
	return true;
}

static bool set_up(struct backend_address *a, const struct backend_options *o, struct error *e)
{
	if (!make_socket(a, o, e))
		return false;
	if (o->transparent && !make_transparent(a, e)) {
		close(a->fd);
		return false;
	}
	if (a->local_len == 0 || bind_to(a->fd, &a->local, a->local_len))
		return true;
	fail(e, EX_OSERR, "-I %s: %s", o->local, strerror(errno));
	close(a->fd);
	return false;
}

/* A machine without IPv6 has no socket for ::1; one socket of several is enough. */
bool backend_open(struct backend *b, const struct backend_options *o, struct error *e)
{
	unsigned made = 0;

	for (unsigned i = 0; i < b->count; i++)
		if (set_up(&b->addresses[i], o, e))
			b->addresses[made++] = b->addresses[i];
	b->count = made;
	if (made > 0)
		e->status = 0;
	return made > 0;
}

void backend_close(struct backend *b)
{
	for (unsigned i = 0; i < b->count; i++)
		close(b->addresses[i].fd);
	b->count = 0;
}

bool backend_prepare(struct backend *b, const struct backend_options *o, struct error *e)
{
	return backend_resolve(b, o, e) && backend_open(b, o, e);
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
		return fail(e, EX_UNAVAILABLE, "%s from the client's address: that is no host's", b->name);
	}
	for (unsigned i = 0; i < b->count; i++) {
		struct backend_address *a = &b->addresses[i];

		if (a->sa.ss_family == sa.ss_family && bind(a->fd, (struct sockaddr *)&sa, a->len) == 0) {
			b->addresses[bound++] = *a;
			continue;
		}
		if (a->sa.ss_family == sa.ss_family)
			why = strerror(errno);
		close(a->fd);
	}
	b->count = bound;
	return bound > 0 || fail(e, EX_UNAVAILABLE, "%s from the client's address: %s", b->name, why);
}

static void note_failure(struct backend *b, int error)
{
	if (b->reason[0] == '\0') /* the first address's: that is the one people mean */
		snprintf(b->reason, sizeof b->reason, "%s", error == EAGAIN ? "timed out" : strerror(error));
}

/* Begin with the first address from `at` on that does not fail at once. */
static void try_next(struct backend *b)
{
	for (; b->at < b->count; b->at++) {
		struct backend_address *a = &b->addresses[b->at];

		if (connect(a->fd, (struct sockaddr *)&a->sa, a->len) == 0) {
			b->fd = a->fd;
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
	int fd = b->addresses[b->at].fd, error = 0;
	socklen_t len = sizeof error;
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	/* Of what time is left each address gets its share, or a silent one would starve the others. */
	int left = deadline_left(b->when) / (int)(b->count - b->at);
	/* The first ones' time may have passed while the client wrote its startup packet: the last ones get a second each all the same. */
	deadline share = deadline_in(left > LEAST_SHARE_MS ? left : LEAST_SHARE_MS);
	enum io io = stream_poll(&p, 1, share);

	b->pending = false;
	if (io == IO_DONE && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0) {
		b->fd = fd;
		return true;
	}
	note_failure(b, io == IO_TERMINATED ? EINTR : io == IO_TIMEOUT ? ETIMEDOUT : error != 0 ? error : errno);
	if (io == IO_TERMINATED)
		return false;
	b->at++;
	try_next(b);
	return b->at < b->count;
}

static void close_others(struct backend *b)
{
	for (unsigned i = 0; i < b->count; i++)
		if (b->addresses[i].fd != b->fd)
			close(b->addresses[i].fd);
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
		return fail(e, EX_UNAVAILABLE, "%s: %s", b->name, b->reason);
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

unsigned backend_tcp_ports(const struct backend *b, uint16_t *ports)
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->count; i++) {
		const struct sockaddr_storage *sa = &b->addresses[i].sa;

		if (sa->ss_family == AF_INET)
			ports[n++] = ntohs(((const struct sockaddr_in *)sa)->sin_port);
		else if (sa->ss_family == AF_INET6)
			ports[n++] = ntohs(((const struct sockaddr_in6 *)sa)->sin6_port);
	}
	return n;
}

bool backend_is_unix(const struct backend *b)
{
	return b->addresses[0].sa.ss_family == AF_UNIX;
}

bool backend_peer_danger(const struct backend *b, uid_t uid, char *text, size_t size)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&b->addresses[0].sa;
	const struct passwd *pw;
	struct stat st;

	if (!backend_is_unix(b))
		return false;
	/* initdb names the superuser after who runs PostgreSQL, and that is who owns the socket. */
	bool owner = stat(un->sun_path, &st) == 0 && st.st_uid == uid;
	if (!owner && uid != 0 && ((pw = getpwuid(uid)) == NULL || strcmp(pw->pw_name, "postgres") != 0))
		return false;
	snprintf(
	    text, size,
	    "-r is a Unix socket and sessions run as %s: a line with peer in pg_hba.conf then lets every client in as "
	    "PostgreSQL's superuser; run as another user (-s)",
	    uid == 0 ? "root" : "the user that runs PostgreSQL");
	return true;
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return memcmp(&((const struct sockaddr_in *)a)->sin_addr, &((const struct sockaddr_in *)b)->sin_addr,
			      sizeof(struct in_addr)) == 0;
	return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr,
		      sizeof(struct in6_addr)) == 0;
}

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return sa->sa_family == AF_UNIX || IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)sa)->sin6_addr);
}

static bool is_interface(const struct sockaddr *sa, const struct ifaddrs *list)
{
	for (; list != NULL; list = list->ifa_next)
		if (list->ifa_addr != NULL && same_address(sa, list->ifa_addr))
			return true;
	return false;
}

bool backend_is_remote(const struct backend *b)
{
	struct ifaddrs *list = NULL;
	bool remote = false;

	for (unsigned i = 0; i < b->count && !remote; i++) {
		const struct sockaddr *sa = (const struct sockaddr *)&b->addresses[i].sa;

		if (is_loopback(sa))
			continue;
		if (list == NULL && getifaddrs(&list) != 0) /* ten system calls: not for the usual case */
			return false;
		remote = !is_interface(sa, list);
	}
	freeifaddrs(list);
	return remote;
}
