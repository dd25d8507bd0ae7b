/* SPDX-License-Identifier: ISC
 *
 * net/address.c - the addresses of -r, -d and -I (steps 1 and 4).
 */
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "net/sock.h"

#define DEFAULT_PORT "5432"

/* The parts of an address as given. */
struct address_parts {
	const char *text; /* all of it */
	char host[256];   /* "" for a bare port; a path for a Unix socket */
	char port[64];    /* a number, or a service's name */
};

static bool split_address(const char *option, const char *text, struct address_parts *p,
			  struct error *e)
{
	const char *slash = strrchr(text, '/'), *colon = strrchr(slash != NULL ? slash : text, ':');
	const char *host = text, *end = colon == NULL ? text : colon;
	const char *port = colon == NULL ? text : colon + 1;

	if (text[0] == '/' && colon == NULL) {
		end = text + strlen(text);
		port = DEFAULT_PORT;
	} else if (host[0] == '[' && end > host + 1 && end[-1] == ']') {
		host++;
		end--;
	} else if (text[0] != '/' && memchr(host, ':', (size_t)(end - host)) != NULL) {
		return fail(e, EX_USAGE,
			    "%s %s: an IPv6 address must be in brackets: [ADDRESS]:PORT", option,
			    text);
	}
	if ((size_t)(end - host) >= sizeof p->host || strlen(port) >= sizeof p->port ||
	    port[0] == '\0')
		return fail(e, EX_USAGE, "%s %s: expected PORT, HOST:PORT, [ADDRESS]:PORT or /PATH",
			    option, text);
	p->text = text;
	snprintf(p->host, sizeof p->host, "%.*s", (int)(end - host), host);
	snprintf(p->port, sizeof p->port, "%s", port);
	return true;
}

/* strtonum() also takes blanks and signs. */
static bool is_number(const char *text)
{
	return text[strspn(text, "0123456789")] == '\0';
}

/* The number of -r's port. */
static bool find_port(const struct address_parts *p, uint16_t *port, struct error *e)
{
	const char *problem;

	if (is_number(p->port)) {
		*port = (uint16_t)strtonum(p->port, 1, 65535, &problem);
		return problem == NULL ||
		       fail(e, EX_USAGE, "-r %s: port %s is not between 1 and 65535", p->text,
			    p->port);
	}
	const struct servent *service = getservbyname(p->port, "tcp");
	if (service == NULL)
		return fail(e, EX_NOHOST,
			    "%s: unknown service \"%s\" (see services(5), or use a port number)",
			    p->text, p->port);
	*port = ntohs((uint16_t)service->s_port);
	return true;
}

bool address_check(const char *text, struct error *e)
{
	struct address_parts p;
	uint16_t port;

	return split_address("-r", text, &p, e) && (!is_number(p.port) || find_port(&p, &port, e));
}

void address_host(const char *text, char *host, size_t size)
{
	struct address_parts p;
	struct error e;

	host[0] = '\0';
	if (split_address("-r", text, &p, &e) && p.host[0] != '/')
		address_bare_name(p.host[0] != '\0' ? p.host : "localhost", host, size);
}

void address_bare_name(const char *host, char *name, size_t size)
{
	size_t len = strlen(host);

	snprintf(name, size, "%.*s", (int)(len > 1 && host[len - 1] == '.' ? len - 1 : len), host);
}

bool address_is_number(const char *host, char *number, size_t size)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *found;
	struct sock_name name;
	char bare[256];

	address_bare_name(host, bare, sizeof bare);
	bare[strcspn(bare, "%")] = '\0'; /* the interface may be missing */
	number[0] = '\0';
	/* with a port, since 0.0.0.0 without one means an unknown client to sock_format */
	int status = getaddrinfo(bare, DEFAULT_PORT, &hints, &found);
	if (status != 0) {
		errno = status == EAI_MEMORY ? ENOMEM : 0;
		return false;
	}
	sock_format(found->ai_addr, found->ai_addrlen, &name);
	freeaddrinfo(found);
	snprintf(number, size, "%s", name.host);
	return true;
}

static void add_address(struct address_list *list, const void *sa, socklen_t len)
{
	struct address *a = &list->all[list->count];

	if (list->count == ADDRESS_MAX || len > sizeof a->sa)
		return;
	memcpy(&a->sa, sa, len);
	sock_unmap(&a->sa);
	a->len = a->sa.ss_family == AF_INET ? sizeof(struct sockaddr_in) : len;
	list->count++;
}

/* Add the addresses that getaddrinfo() finds; return its status. */
static int add_resolved(struct address_list *list, const char *host, const char *port, int flags)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags}, *found;
	char bare[256];
	int status = getaddrinfo(host, port, &hints, &found);

	/* A dot at the end means something to DNS, but not to /etc/hosts. */
	if (status != 0 && host != NULL) {
		address_bare_name(host, bare, sizeof bare);
		if (strcmp(bare, host) != 0)
			status = getaddrinfo(bare, port, &hints, &found);
	}
	if (status != 0)
		return status;
	for (const struct addrinfo *ai = found; ai != NULL; ai = ai->ai_next)
		add_address(list, ai->ai_addr, ai->ai_addrlen);
	freeaddrinfo(found);
	return 0;
}

/* libpq takes the directory of a Unix socket, other programs its path: accept both. */
static bool find_unix(struct address_list *list, const struct address_parts *p, struct error *e)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct stat st;
	bool directory = stat(p->host, &st) == 0 && S_ISDIR(st.st_mode);
	uint16_t port = 0;

	if (directory && !find_port(p, &port, e))
		return false;
	int n = snprintf(un.sun_path, sizeof un.sun_path, directory ? "%s/.s.PGSQL.%u" : "%s",
			 p->host, port);
	if (n < 0 || (size_t)n >= sizeof un.sun_path)
		return fail(e, EX_USAGE,
			    "-r %s: the path of a Unix socket can have at most %zu bytes", p->host,
			    sizeof un.sun_path - 1);
	snprintf(list->name, sizeof list->name, "%s", un.sun_path);
	add_address(list, &un, sizeof un);
	return true;
}

/* For messages: the address that is tried first. */
static void set_name(struct address_list *list)
{
	struct sock_name name;

	sock_format((struct sockaddr *)&list->all[0].sa, list->all[0].len, &name);
	snprintf(list->name, sizeof list->name,
		 strchr(name.host, ':') != NULL ? "[%s]:%s" : "%s:%s", name.host, name.port);
}

/* A bare port means this machine: 127.0.0.1 first, as classic command lines expect, then ::1. */
static bool find_tcp(struct address_list *list, const struct address_parts *p, struct error *e)
{
	char number[8];
	uint16_t port = 0;
	bool here = p->host[0] == '\0';
	const char *host = here ? "127.0.0.1" : p->host;

	if (!find_port(p, &port, e))
		return false;
	snprintf(number, sizeof number, "%u", port);
	int status = add_resolved(list, host, number, AI_NUMERICSERV);
	if (status != 0)
		return fail(e, status == EAI_MEMORY ? EX_OSERR : EX_NOHOST,
			    "%s:%s: could not look up the host: %s", host, number,
			    status == EAI_MEMORY ? "out of memory" : gai_strerror(status));
	if (here)
		(void)add_resolved(list, "::1", number, AI_NUMERICSERV);
	set_name(list);
	return true;
}

/* -I: only an address of the same family can be bound. Drop the others; one must remain. */
static bool find_local(struct address_list *list, const char *local, struct error *e)
{
	static struct address_list locals;
	unsigned kept = 0;

	if (address_is_unix(list))
		return fail(e, EX_USAGE, "-I %s: cannot be used with a Unix socket (-r %s)", local,
			    list->name);
	locals.count = 0;
	int status = add_resolved(&locals, local, NULL, 0);
	if (status == EAI_MEMORY)
		return fail(e, EX_OSERR, "-I %s: out of memory", local);
	for (unsigned i = 0; i < list->count; i++) {
		struct address *a = &list->all[i];
		unsigned k = 0;

		while (k < locals.count && locals.all[k].sa.ss_family != a->sa.ss_family)
			k++;
		if (k == locals.count)
			continue;
		a->local = locals.all[k].sa;
		a->local_len = locals.all[k].len;
		list->all[kept++] = *a;
	}
	list->count = kept;
	if (kept > 0)
		set_name(list);
	return kept > 0 ||
	       fail(e, EX_NOHOST,
		    "%s: -I %s: %s (expected an address of this machine, IPv4 or IPv6 as that of "
		    "-r)",
		    list->name, local, gai_strerror(status != 0 ? status : EAI_ADDRFAMILY));
}

bool address_look_up(struct address_list *list, const struct options *o, struct error *e)
{
	struct address_parts p;

	list->count = 0;
	if (!split_address("-r", o->connect, &p, e))
		return false;
	if (p.host[0] == '/' ? !find_unix(list, &p, e) : !find_tcp(list, &p, e))
		return false;
	if (address_is_unix(list) && o->transparent)
		return fail(e, EX_USAGE, "--transparent: cannot be used with a Unix socket (-r %s)",
			    o->connect);
	return o->local == NULL || find_local(list, o->local, e);
}

bool address_look_up_listen(struct address_list *list, const struct options *o, struct error *e)
{
	struct address_parts p;

	list->count = 0;
	if (!split_address("-d", o->listen, &p, e))
		return false;
	int status = add_resolved(list, p.host[0] != '\0' ? p.host : NULL, p.port,
				  o->client ? 0 : AI_PASSIVE);
	if (status != 0)
		return fail(e, status == EAI_MEMORY ? EX_OSERR : EX_NOHOST, "-d %s: %s", o->listen,
			    status == EAI_MEMORY ? "out of memory" : gai_strerror(status));
	if (address_tcp_port(list) == 0)
		return fail(e, EX_USAGE,
			    "-d %s: the port must be a number from 1 to 65535, or a service name",
			    o->listen);
	return true;
}

uint16_t address_tcp_port(const struct address_list *list)
{
	const struct sockaddr_storage *sa = &list->all[0].sa;

	if (sa->ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)sa)->sin_port);
	if (sa->ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)sa)->sin6_port);
	return 0;
}

bool address_is_unix(const struct address_list *list)
{
	return list->all[0].sa.ss_family == AF_UNIX;
}

bool address_peer_danger(const struct address_list *list, uid_t uid, char *text, size_t size)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&list->all[0].sa;
	const struct passwd *pw;
	struct stat st;

	if (!address_is_unix(list))
		return false;
	/* initdb names the superuser after the user who runs PostgreSQL and owns the socket. */
	bool owner = stat(un->sun_path, &st) == 0 && st.st_uid == uid;
	if (!owner && uid != 0 &&
	    ((pw = getpwuid(uid)) == NULL || strcmp(pw->pw_name, "postgres") != 0))
		return false;
	snprintf(text, size,
		 "-r is a Unix socket and sessions run as %s: a peer line in pg_hba.conf would let "
		 "every client in as PostgreSQL's superuser; run as another user (-s)",
		 uid == 0 ? "root" : "the user that runs PostgreSQL");
	return true;
}

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr) >> 24 ==
		       IN_LOOPBACKNET;
	return sa->sa_family == AF_UNIX ||
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)sa)->sin6_addr);
}

/* Is `sa` the address of one of these network interfaces? */
static bool is_interface(const struct sockaddr *sa, const struct ifaddrs *list)
{
	bool v4 = sa->sa_family == AF_INET;
	size_t at =
	    v4 ? offsetof(struct sockaddr_in, sin_addr) : offsetof(struct sockaddr_in6, sin6_addr);
	size_t size = v4 ? sizeof(struct in_addr) : sizeof(struct in6_addr);

	for (; list != NULL; list = list->ifa_next)
		if (list->ifa_addr != NULL && list->ifa_addr->sa_family == sa->sa_family &&
		    memcmp((const char *)sa + at, (const char *)list->ifa_addr + at, size) == 0)
			return true;
	return false;
}

bool address_is_remote(const struct address_list *list)
{
	struct ifaddrs *interfaces = NULL;
	bool remote = false;

	for (unsigned i = 0; i < list->count && !remote; i++) {
		const struct sockaddr *sa = (const struct sockaddr *)&list->all[i].sa;

		if (is_loopback(sa)) /* the usual case saves the ten system calls of getifaddrs() */
			continue;
		if (interfaces == NULL && getifaddrs(&interfaces) != 0)
			return false;
		remote = !is_interface(sa, interfaces);
	}
	freeifaddrs(interfaces);
	return remote;
}
