/* SPDX-License-Identifier: ISC
 *
 * backend_address.c - what an address of PostgreSQL means: its syntax, and the names in it (steps 1 and 4).
 *
 * The only part of backend.h that asks the resolver and reads files; it makes no socket.
 */
#include "backend.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "sock.h"

#define DEFAULT_PORT "5432"

bool backend_split(const char *option, const char *text, struct backend_parts *p, struct error *e)
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
		return fail(e, EX_USAGE, "%s %s: an IPv6 address stands in brackets: [ADDRESS]:PORT", option, text);
	}
	if ((size_t)(host_end - host) >= sizeof p->host || strlen(port) >= sizeof p->port || port[0] == '\0')
		return fail(e, EX_USAGE, "%s %s: expected PORT, HOST:PORT, [ADDRESS]:PORT or /PATH", option, text);
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
		return fail(e, EX_NOHOST, "-r: unknown service \"%s\" (see services(5), or give the port's number)",
			    text);
	*port = (in_port_t)service->s_port;
	return true;
}

bool backend_check_syntax(const char *address, struct error *e)
{
	struct backend_parts p;
	in_port_t port;

	if (!backend_split("-r", address, &p, e))
		return false;
	return parse_port(p.port, &port, e) || e->status == 0;
}

void backend_host(const char *address, char *host, size_t size)
{
	struct backend_parts p;
	struct error e;

	host[0] = '\0';
	if (backend_split("-r", address, &p, &e) && p.host[0] != '/')
		snprintf(host, size, "%s", p.host[0] != '\0' ? p.host : "localhost");
}

static bool add(struct backend *b, const void *sa, socklen_t len)
{
	struct backend_address *a = &b->addresses[b->count];

	if (b->count == BACKEND_ADDRESSES || len > sizeof a->sa)
		return false;
	memcpy(&a->sa, sa, len);
	a->len = len;
	a->fd = -1;
	b->count++;
	return true;
}

/* libpq takes a folder for a Unix socket's place, people give the socket's path: both are understood. */
static bool find_unix(struct backend *b, const struct backend_parts *p, struct error *e)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct stat st;
	bool folder = stat(p->host, &st) == 0 && S_ISDIR(st.st_mode);
	int n = snprintf(un.sun_path, sizeof un.sun_path, folder ? "%s/.s.PGSQL.%s" : "%s", p->host, p->port);

	if (n < 0 || (size_t)n >= sizeof un.sun_path)
		return fail(e, EX_USAGE, "-r %s: the path of a Unix socket has at most %zu bytes", p->host,
			    sizeof un.sun_path - 1);
	snprintf(b->name, sizeof b->name, "%s", un.sun_path);
	add(b, &un, sizeof un);
	return true;
}

/* A bare port is this machine: 127.0.0.1 first, as the old command lines mean it, then ::1. */
static void find_loopback(struct backend *b, in_port_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

	add(b, &v4, sizeof v4);
	add(b, &v6, sizeof v6);
}

static bool find_host(struct backend *b, const char *host, in_port_t port, struct error *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list;
	char number[8];

	snprintf(number, sizeof number, "%u", ntohs(port));
	int status = getaddrinfo(host, number, &hints, &list);
	if (status != 0)
		return fail(e, EX_NOHOST, "%s:%s: could not look up the host: %s", host, number, gai_strerror(status));
	for (struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next)
		if (!add(b, ai->ai_addr, ai->ai_addrlen))
			break;
	freeaddrinfo(list);
	return true;
}

static bool find_tcp(struct backend *b, const struct backend_parts *p, struct error *e)
{
	in_port_t port = 0;
	struct sock_name name;

	if (!find_port(p->port, &port, e))
		return false;
	if (p->host[0] == '\0')
		find_loopback(b, port);
	else if (!find_host(b, p->host, port, e))
		return false;
	sock_format((struct sockaddr *)&b->addresses[0].sa, b->addresses[0].len, &name);
	snprintf(b->name, sizeof b->name, strchr(name.host, ':') != NULL ? "[%s]:%s" : "%s:%s", name.host, name.port);
	return true;
}

/* -I: connect from this address. Only a socket of the same family can be bound to it. */
static bool find_local(struct backend_address *a, const char *local, struct error *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = a->sa.ss_family}, *list;

	int status = getaddrinfo(local, NULL, &hints, &list);
	if (status != 0)
		return fail(e, EX_NOHOST, "-I %s: %s (an address of this machine and of -r's kind is needed)", local,
			    gai_strerror(status));
	memcpy(&a->local, list->ai_addr, list->ai_addrlen);
	a->local_len = list->ai_addrlen;
	freeaddrinfo(list);
	return true;
}

/* Addresses of the other family are no use with -I; one that fits is enough. */
static bool find_locals(struct backend *b, const char *local, struct error *e)
{
	unsigned found = 0;

	if (local == NULL)
		return true;
	if (backend_is_unix(b))
		return fail(e, EX_USAGE, "-I %s: makes no sense with a Unix socket (-r %s)", local, b->name);
	for (unsigned i = 0; i < b->count; i++)
		if (find_local(&b->addresses[i], local, e))
			b->addresses[found++] = b->addresses[i];
	b->count = found;
	if (found > 0)
		e->status = 0; /* what is wrong with the others does not matter */
	return found > 0;
}

bool backend_resolve(struct backend *b, const struct backend_options *o, struct error *e)
{
	struct backend_parts p;

	*b = (struct backend){.fd = -1, .timeout_ms = o->timeout * 1000};
	if (!backend_split("-r", o->address, &p, e))
		return false;
	if (p.host[0] == '/' ? !find_unix(b, &p, e) : !find_tcp(b, &p, e))
		return false;
	if (backend_is_unix(b) && o->transparent)
		return fail(e, EX_USAGE, "--transparent: makes no sense with a Unix socket (-r %s)", o->address);
	return find_locals(b, o->local, e);
}
