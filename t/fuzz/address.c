/* SPDX-License-Identifier: ISC
 *
 * t/fuzz/address.c - fuzz target: the addresses of -r, -d and -I.
 *
 * The input is the argument of -r, a NUL, that of -d, a NUL, and that of -I. The linker replaces
 * what asks the resolver: only numbers are known, and one service.
 *
 * sabotage: s/end > host + 1 ../end > host + 4 \&\&/ net/address.c
 * sabotage: s/p->port, 1, 65535/p->port, 0, 65535/ net/address.c
 * sabotage: s/len > 1 .. host.len - 1. == '.'/len > 1 \&\& host[len - 1] == 'x'/ net/address.c
 * sabotage: s/sock_unmap(&a->sa);/;/ net/address.c
 * sabotage: s/^\t\tset_name(list);/\t\t;/ net/address.c
 * sabotage: s/getaddrinfo(bare, DEFAULT_PORT/getaddrinfo(bare, NULL/ net/address.c
 * sabotage: s/? ".%s.:%s"/? "%s:%s"/ net/address.c
 */
#include "net/address.h"

#include <arpa/inet.h>
#include <netdb.h>

#include "fuzz.h"

int __real_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		       struct addrinfo **found);
int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		       struct addrinfo **found);
struct servent *__wrap_getservbyname(const char *name, const char *protocol);

static bool digits(const char *text)
{
	return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		       struct addrinfo **found)
{
	struct addrinfo numbers = *hints;

	numbers.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
	if (service != NULL && strcmp(service, "postgresql") == 0)
		service = "5432";
	if (service != NULL && !digits(service))
		return EAI_SERVICE;
	return __real_getaddrinfo(host, service, &numbers, found);
}

struct servent *__wrap_getservbyname(const char *name, const char *protocol)
{
	static struct servent postgresql;

	(void)protocol;
	postgresql.s_port = htons(5432);
	return strcmp(name, "postgresql") == 0 ? &postgresql : NULL;
}

/* PORT, HOST:PORT, [ADDRESS]:PORT, /PATH or /PATH:PORT. */
struct parts {
	bool valid;
	char host[1024], port[1024];
};

static struct parts split(const char *text)
{
	struct parts p = {.port = "5432"};
	size_t len = strlen(text), colon = len;

	while (colon > 0 && text[colon - 1] != ':' && text[colon - 1] != '/')
		colon--;
	bool has_port = colon > 0 && text[colon - 1] == ':';
	bool path = text[0] == '/';
	snprintf(p.host, sizeof p.host, "%.*s", (int)(has_port ? colon - 1 : path ? len : 0), text);
	if (has_port || !path)
		snprintf(p.port, sizeof p.port, "%s", has_port ? text + colon : text);
	size_t n = strlen(p.host);
	bool brackets = n > 1 && p.host[0] == '[' && p.host[n - 1] == ']';
	if (brackets) {
		memmove(p.host, p.host + 1, n - 2);
		p.host[n - 2] = '\0';
	}
	p.valid = p.port[0] != '\0' && strlen(p.port) < 64 && strlen(p.host) < 256 &&
		  (path || brackets || strchr(p.host, ':') == NULL);
	return p;
}

/* Do a[0..count) and the host agree, which inet_pton() knows? */
static void check_number(const struct address_list *list, const char *host)
{
	static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
	const struct sockaddr_in *in = (const struct sockaddr_in *)&list->all[0].sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&list->all[0].sa;
	unsigned char bytes[16];

	if (inet_pton(AF_INET, host, bytes) == 1)
		CHECK(in->sin_family == AF_INET && memcmp(&in->sin_addr, bytes, 4) == 0);
	else if (inet_pton(AF_INET6, host, bytes) == 1 && memcmp(bytes, mapped, 12) == 0)
		CHECK(in->sin_family == AF_INET && memcmp(&in->sin_addr, bytes + 12, 4) == 0);
	else if (inet_pton(AF_INET6, host, bytes) == 1)
		CHECK(in6->sin6_family == AF_INET6 && memcmp(&in6->sin6_addr, bytes, 16) == 0);
}

/* The name in messages can be given to -r, and means the same. */
static void check_name(const struct address_list *list, const char *host)
{
	static struct address_list again;
	struct options o = {.connect = list->name};
	struct error e;

	if (host[0] == '/' && strchr(list->name, ':') != NULL)
		return; /* a path with a colon can be given as it is only if no port follows */
	if (strchr(list->name, '%') != NULL)
		return;
	CHECK(address_look_up(&again, &o, &e));
	CHECK(strcmp(again.name, list->name) == 0 && again.all[0].len == list->all[0].len &&
	      memcmp(&again.all[0].sa, &list->all[0].sa, again.all[0].len) == 0);
}

static void test_connect(const char *text, const char *local)
{
	static struct address_list list;
	struct options o = {.connect = text, .local = local[0] != '\0' ? local : NULL};
	struct parts p = split(text);
	unsigned long port = digits(p.port) ? strtoul(p.port, NULL, 10) : 0;
	struct error e = {.text = ""};
	char host[256];

	bool good = address_check(text, &e);
	CHECK(good == (p.valid && (!digits(p.port) || (port >= 1 && port <= 65535))));
	address_host(text, host, sizeof host);
	size_t len = strlen(p.host);
	if (len > 1 && p.host[len - 1] == '.')
		len--;
	if (!p.valid || p.host[0] == '/')
		CHECK(host[0] == '\0');
	else
		CHECK(len == 0 ? strcmp(host, "localhost") == 0
			       : strlen(host) == len && strncmp(host, p.host, len) == 0);
	if (!good)
		return;
	list.count = 0;
	if (!address_look_up(&list, &o, &e)) {
		CHECK(e.text[0] != '\0');
		return;
	}
	CHECK(list.count >= 1 && list.count <= ADDRESS_MAX);
	CHECK(address_is_unix(&list) == (p.host[0] == '/'));
	if (!address_is_unix(&list))
		CHECK(address_tcp_port(&list) == (digits(p.port) ? port : 5432));
	check_number(&list, p.host);
	check_name(&list, p.host);
	for (unsigned i = 0; i < list.count && o.local != NULL; i++)
		CHECK(list.all[i].local.ss_family == list.all[i].sa.ss_family);
}

static void test_listen(const char *text)
{
	static struct address_list list;
	struct options o = {.listen = text};
	struct parts p = split(text);
	struct error e = {.text = ""};

	if (!address_look_up_listen(&list, &o, &e)) {
		CHECK(e.text[0] != '\0');
		return;
	}
	CHECK(p.valid && list.count >= 1 && list.count <= ADDRESS_MAX);
	CHECK(address_tcp_port(&list) ==
	      (digits(p.port) ? strtoul(p.port, NULL, 10) & 0xffff : 5432));
	check_number(&list, p.host);
}

/* The usual form of a number is its own usual form. */
static void test_number(const char *text)
{
	char number[64], again[64];

	if (!address_is_number(text, number, sizeof number)) {
		CHECK(number[0] == '\0');
		return;
	}
	CHECK(address_is_number(number, again, sizeof again) && strcmp(number, again) == 0);
	CHECK(strspn(number, "0123456789abcdef.:") == strlen(number));
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct input in = {data, size};
	char connect[512], listen[512], local[128];

	input_string(&in, connect, sizeof connect);
	input_string(&in, listen, sizeof listen);
	input_string(&in, local, sizeof local);
	test_connect(connect, local);
	test_listen(listen);
	test_number(local);
	return 0;
}
