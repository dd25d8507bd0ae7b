/* SPDX-License-Identifier: ISC
 *
 * t/fuzz/proxy.c - fuzz target: PROXY headers, against a model of haproxy's proxy-protocol.txt.
 *
 * The input's first byte says how the bytes arrive; the rest is what the load balancer sends.
 *
 * sabotage: s/V1_LONGEST = 107/V1_LONGEST = 106/ wire/proxy.c
 * sabotage: s/port > 65535/port > 65536/ wire/proxy.c
 * sabotage: s/(word.0. == '0' .. word.1. != '.0')/false/ wire/proxy.c
 * sabotage: s|h->at == h->end; .*blank at the end.*|false;| wire/proxy.c
 * sabotage: s/V2_FIXED + 2 . size + 4)/V2_FIXED + 2 * size)/ wire/proxy.c
 * sabotage: s/get_be16(h->bytes + V2_FIXED + 2 . size)/get_be16(h->bytes + V2_FIXED + 2 * size + 2)/ wire/proxy.c
 * sabotage: s/version != 2 || command > 1/version != 2 || command > 2/ wire/proxy.c
 * sabotage: s/bytes.h->len - 1. == '.r' ? 1 : 2;/bytes[h->len - 1] == '\\r' ? 1 : 3;/ wire/proxy.c
 */
#include "wire/proxy.h"

#include <arpa/inet.h>

#include "fuzz.h"
#include "memstream.h"

/* A header: its length, 0 if it is not valid; and the client, if it has one. */
struct header_model {
	size_t len;
	int family;
	unsigned char host[16];
	unsigned port;
};

/* Read the line loosely, write it again in the one form that is allowed, and compare. */
static bool v1_addresses(struct header_model *h, const char *line)
{
	char source[46], destination[46], again[128], ignored[16];
	unsigned port, to;
	int v;

	if (sscanf(line, "PROXY TCP%1d %45s %45s %5u %5u", &v, source, destination, &port, &to) !=
	    5)
		return false;
	snprintf(again, sizeof again, "PROXY TCP%d %s %s %u %u", v, source, destination, port, to);
	h->family = v == 4 ? AF_INET : AF_INET6;
	h->port = port;
	return (v == 4 || v == 6) && port < 65536 && to < 65536 && strcmp(line, again) == 0 &&
	       inet_pton(h->family, source, h->host) == 1 &&
	       inet_pton(h->family, destination, ignored) == 1;
}

static void v1(struct header_model *h, const unsigned char *in, size_t len)
{
	char line[108] = "";
	const unsigned char *end = memmem(in, len < 107 ? len : 107, "\r\n", 2);

	if (end == NULL || memchr(in, '\r', (size_t)(end - in)) != NULL ||
	    memchr(in, '\n', (size_t)(end - in)) != NULL)
		return;
	memcpy(line, in, (size_t)(end - in));
	size_t size = (size_t)(end - in) + 2;
	if (memcmp(line, "PROXY UNKNOWN", 13) == 0 && (size == 15 || line[13] == ' '))
		h->len = size;
	else if (strlen(line) + 2 == size && v1_addresses(h, line))
		h->len = size;
	else
		h->family = 0;
}

static void v2(struct header_model *h, const unsigned char *in, size_t len)
{
	size_t rest = len < 16 ? 0 : (size_t)in[14] << 8 | in[15], size = 16 + rest;

	if (len < size || size > 4096 || (in[12] != 0x20 && in[12] != 0x21))
		return;
	h->len = size;
	if (in[12] == 0x20 || in[13] == 0x00 || in[13] == 0x31) /* LOCAL, UNSPEC, a Unix socket */
		return;
	if (in[13] == 0x11 && rest >= 12) {
		h->family = AF_INET;
		memcpy(h->host, in + 16, 4);
		h->port = (unsigned)in[24] << 8 | in[25];
	} else if (in[13] == 0x21 && rest >= 36) {
		h->family = AF_INET6;
		memcpy(h->host, in + 16, 16);
		h->port = (unsigned)in[48] << 8 | in[49];
	} else if ((in[13] & 15) != 0 && (in[13] >> 4) != 0) {
		h->len = 0; /* datagrams, unknown, or too short */
	} else if ((in[13] & 15) > 2 || in[13] >> 4 > 3) {
		h->len = 0; /* unspecified in part, but unknown in the other */
	}
}

static struct header_model read_model(const unsigned char *in, size_t len)
{
	struct header_model h = {0};

	if (len >= 6 && memcmp(in, "PROXY ", 6) == 0)
		v1(&h, in, len);
	else if (len >= 16 && memcmp(in, "\r\n\r\n\0\r\nQUIT\n", 12) == 0)
		v2(&h, in, len);
	return h;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static struct memstream m;
	struct proxy_client c;
	struct error e = {.text = ""};

	if (size == 0)
		return 0;
	memstream_again(&m, data + 1, size - 1);
	m.chunk = data[0] & 15;
	m.stutter = (data[0] & 16) != 0 && size < 200; /* a pause is a call */
	struct header_model h = read_model(data + 1, size - 1);
	bool good = proxy_read(&m.stream, &c, DEADLINE_NEVER, &e);
	CHECK(good == (h.len > 0));
	CHECK(c.spoke == (size > 1) && c.given == (h.family != 0));
	CHECK(good ? m.in_at == h.len : e.text[0] != '\0');
	if (!c.given)
		return 0;
	const struct sockaddr_in *in = (const struct sockaddr_in *)&c.address;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&c.address;
	CHECK(c.address.ss_family == h.family && ntohs(in->sin_port) == h.port);
	CHECK(h.family == AF_INET ? memcmp(&in->sin_addr, h.host, 4) == 0
				  : memcmp(&in6->sin6_addr, h.host, 16) == 0);
	return 0;
}
