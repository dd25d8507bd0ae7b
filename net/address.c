/* SPDX-License-Identifier: ISC
 *
 * net/address.c - the addresses of -r, -d and -I (steps 1 and 4).
 */
#include "net/address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "net/sock.h"

#define DEFAULT_PORT "5432"

/* An address as it was written, taken apart. */
struct parts {
	char host[256]; /* "" if only a port was given; a path for a Unix socket */
	char port[64];
};

static bool split(const char *option, const char *text, struct parts *p, struct error *e)
{
	const char *slash = strrchr(text, '/'), *colon = strrchr(slash != NULL ? slash : text, ':'),
		   *port = colon == NULL ? text : colon + 1;
	const char *host = text, *host_end = colon == NULL ? text : colon;

	if (text[0] == '/' && colon == NULL) {
		host_end = text + strlen(text);
		port = DEFAULT_PORT;
	} else if (host[0] == '[' && host_end > host + 1 && host_end[-1] == ']') {
		host++;
		host_end--;
	} else if (text[0] != '/' && memchr(host, ':', (size_t)(host_end - host)) != NULL) {
		return fail(e, EX_USAGE,
			    "%s %s: an IPv6 address stands in brackets: [ADDRESS]:PORT", option,
			    text);
	}
	if ((size_t)(host_end - host) >= sizeof p->host || strlen(port) >= sizeof p->port ||
	    port[0] == '\0')
		return fail(e, EX_USAGE, "%s %s: expected PORT, HOST:PORT, [ADDRESS]:PORT or /PATH",
			    option, text);
	snprintf(p->host, sizeof p->host, "%.*s", (int)(host_end - host), host);
	snprintf(p->port, sizeof p->port, "%s", port);
	return true;
}

/* A port's number; false with status EX_USAGE if it is none that can be, with status 0 if it is a name. */
static bool parse_port(const char *text, in_port_t *port, struct error *e)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	e->status = 0;
	if (strspn(text, "0123456789") == 0 || *end != '\0')
		return false;
	if (number < 1 || number > 65535)
		return fail(e, EX_USAGE, "-r: port %s is not between 1 and 65535", text);
	*port = htons((in_port_t)number);
	return true;
}

static bool find_port(const char *text, in_port_t *port, struct error *e)
{
	if (parse_port(text, port, e))
		return true;
	if (e->status != 0)
		return false;
	struct servent *service = getservbyname(text, "tcp");
	if (service == NULL)
		return fail(
		    e, EX_NOHOST,
		    "-r: unknown service \"%s\" (see services(5), or give the port's number)",
		    text);
	*port = (in_port_t)service->s_port;
	return true;
}

bool address_check(const char *text, struct error *e)
{
	struct parts p;
	in_port_t port;

	if (!split("-r", text, &p, e))
		return false;
	return parse_port(p.port, &port, e) || e->status == 0;
}

void address_host(const char *text, char *host, size_t size)
{
	struct parts p;
	struct error e;

	host[0] = '\0';
	if (split("-r", text, &p, &e) && p.host[0] != '/')
		snprintf(host, size, "%s", p.host[0] != '\0' ? p.host : "localhost");
}

static void add(struct address_list *list, const void *sa, socklen_t len)
{
	struct address *a = &list->all[list->count];

	if (list->count == ADDRESS_MAX || len > sizeof a->sa)
		return;
	memcpy(&a->sa, sa, len);
	a->len = len;
	list->count++;
}

static void add_found(struct address_list *list, struct addrinfo *found)
{
	for (const struct addrinfo *ai = found; ai != NULL; ai = ai->ai_next)
		add(list, ai->ai_addr, ai->ai_addrlen);
	freeaddrinfo(found);
}

/* libpq takes a folder for a Unix socket's place, people give the socket's path: both are understood. */
static bool find_unix(struct address_list *list, const struct parts *p, struct error *e)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct stat st;
	bool folder = stat(p->host, &st) == 0 && S_ISDIR(st.st_mode);
	int n = snprintf(un.sun_path, sizeof un.sun_path, folder ? "%s/.s.PGSQL.%s" : "%s", p->host,
			 p->port);

	if (n < 0 || (size_t)n >= sizeof un.sun_path)
		return fail(e, EX_USAGE, "-r %s: the path of a Unix socket has at most %zu bytes",
			    p->host, sizeof un.sun_path - 1);
	snprintf(list->name, sizeof list->name, "%s", un.sun_path);
	add(list, &un, sizeof un);
	return true;
}

/* A bare port is this machine: 127.0.0.1 first, as the old command lines mean it, then ::1. */
static void find_loopback(struct address_list *list, in_port_t port)
{
	struct sockaddr_in v4 = {
	    .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {
	    .sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

	add(list, &v4, sizeof v4);
	add(list, &v6, sizeof v6);
}

static bool find_host(struct address_list *list, const char *host, in_port_t port, struct error *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
	char number[8];

	snprintf(number, sizeof number, "%u", ntohs(port));
	int status = getaddrinfo(host, number, &hints, &found);
	if (status != 0)
		return fail(e, EX_NOHOST, "%s:%s: could not look up the host: %s", host, number,
			    gai_strerror(status));
	add_found(list, found);
	return true;
}

static bool find_tcp(struct address_list *list, const struct parts *p, struct error *e)
{
	in_port_t port = 0;
	struct sock_name name;

	if (!find_port(p->port, &port, e))
		return false;
	if (p->host[0] == '\0')
		find_loopback(list, port);
	else if (!find_host(list, p->host, port, e))
		return false;
	sock_format((struct sockaddr *)&list->all[0].sa, list->all[0].len, &name);
	snprintf(list->name, sizeof list->name,
		 strchr(name.host, ':') != NULL ? "[%s]:%s" : "%s:%s", name.host, name.port);
	return true;
}

/* -I: connect from this address. Only a socket of the same family can be bound to it. */
static bool find_local(struct address *a, const char *local, struct error *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = a->sa.ss_family}, *found;

	int status = getaddrinfo(local, NULL, &hints, &found);
	if (status != 0)
		return fail(e, EX_NOHOST,
			    "-I %s: %s (an address of this machine and of -r's kind is needed)",
			    local, gai_strerror(status));
	memcpy(&a->local, found->ai_addr, found->ai_addrlen);
	a->local_len = found->ai_addrlen;
	freeaddrinfo(found);
	return true;
}

/* Addresses of the other family are no use with -I; one that fits is enough. */
static bool find_locals(struct address_list *list, const char *local, struct error *e)
{
	unsigned found = 0;

	if (local == NULL)
		return true;
	if (address_is_unix(list))
		return fail(e, EX_USAGE, "-I %s: makes no sense with a Unix socket (-r %s)", local,
			    list->name);
	for (unsigned i = 0; i < list->count; i++)
		if (find_local(&list->all[i], local, e))
			list->all[found++] = list->all[i];
	list->count = found;
	if (found > 0)
		e->status = 0; /* what is wrong with the others does not matter */
	return found > 0;
}

bool address_look_up(struct address_list *list, const struct options *o, struct error *e)
{
	struct parts p;

	list->count = 0;
	if (!split("-r", o->connect, &p, e))
		return false;
	if (p.host[0] == '/' ? !find_unix(list, &p, e) : !find_tcp(list, &p, e))
		return false;
	if (address_is_unix(list) && o->transparent)
		return fail(e, EX_USAGE, "--transparent: makes no sense with a Unix socket (-r %s)",
			    o->connect);
	return find_locals(list, o->local, e);
}

bool address_look_up_listen(struct address_list *list, const struct options *o, struct error *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = o->client ? 0 : AI_PASSIVE},
			*found;
	struct parts p;

	list->count = 0;
	if (!split("-d", o->listen, &p, e))
		return false;
	int status = getaddrinfo(p.host[0] != '\0' ? p.host : NULL, p.port, &hints, &found);
	if (status != 0)
		return fail(e, EX_NOHOST, "-d %s: %s", o->listen, gai_strerror(status));
	add_found(list, found);
	if (address_tcp_port(list) == 0)
		return fail(e, EX_USAGE,
			    "-d %s: the port is a number from 1 to 65535, or a service's name",
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
	/* initdb names the superuser after who runs PostgreSQL, and that is who owns the socket. */
	bool owner = stat(un->sun_path, &st) == 0 && st.st_uid == uid;
	if (!owner && uid != 0 &&
	    ((pw = getpwuid(uid)) == NULL || strcmp(pw->pw_name, "postgres") != 0))
		return false;
	snprintf(text, size,
		 "-r is a Unix socket and sessions run as %s: a line with peer in pg_hba.conf then "
		 "lets every client in as "
		 "PostgreSQL's superuser; run as another user (-s)",
		 uid == 0 ? "root" : "the user that runs PostgreSQL");
	return true;
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return memcmp(&((const struct sockaddr_in *)a)->sin_addr,
			      &((const struct sockaddr_in *)b)->sin_addr,
			      sizeof(struct in_addr)) == 0;
	return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
		      &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr) >> 24 ==
		       IN_LOOPBACKNET;
	return sa->sa_family == AF_UNIX ||
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)sa)->sin6_addr);
}

static bool is_interface(const struct sockaddr *sa, const struct ifaddrs *list)
{
	for (; list != NULL; list = list->ifa_next)
		if (list->ifa_addr != NULL && same_address(sa, list->ifa_addr))
			return true;
	return false;
}

bool address_is_remote(const struct address_list *list)
{
	struct ifaddrs *interfaces = NULL;
	bool remote = false;

	for (unsigned i = 0; i < list->count && !remote; i++) {
		const struct sockaddr *sa = (const struct sockaddr *)&list->all[i].sa;

		if (is_loopback(sa))
			continue;
		if (interfaces == NULL &&
		    getifaddrs(&interfaces) != 0) /* ten system calls: not for the usual case */
			return false;
		remote = !is_interface(sa, interfaces);
	}
	freeifaddrs(interfaces);
	return remote;
}
