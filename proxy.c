/* SPDX-License-Identifier: ISC
 *
 * proxy.c - PROXY protocol headers, versions 1 and 2, of step 6.
 *
 * Every byte is a stranger's. Behind the header come bytes that belong to PostgreSQL's startup or to TLS, so no read here asks for more than
 * what the header must still have; that is why version 1, which has no length, is read two bytes at a time.
 */
#include "proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/un.h>

#define CURE "connect through the load balancer, or start pgssl without --proxy-protocol"

enum {
	V1_SHORTEST = 15, /* "PROXY UNKNOWN\r\n" */
	V1_LONGEST = 107, /* the document's worst case, CRLF included */
	V2_FIXED = 16,
	/* The document lets a length say 64 KiB but wants headers in one segment of 536 bytes; certificate names can make one longer. nginx stops here too. */
	V2_LONGEST = 4096,
	TLV_CRC32C = 3,
};

static const unsigned char v2_signature[12] = {'\r', '\n', '\r', '\n', '\0', '\r',
					       '\n', 'Q',  'U',  'I',  'T',  '\n'};

/* Why a read did not happen. */
static bool fail_read(struct error *e, enum io io, bool spoke)
{
	if (io == IO_TERMINATED)
		return fail(e, EX_TEMPFAIL, "terminated while waiting for the PROXY header");
	if (io == IO_TIMEOUT && !spoke)
		return fail(e, EX_PROTOCOL, "no PROXY header came in time, nor any other byte: " CURE);
	if (io == IO_TIMEOUT)
		return fail(e, EX_PROTOCOL, "the PROXY header began but did not end in time: " CURE);
	if (io == IO_END && !spoke)
		return fail(e, EX_PROTOCOL, "connection ended before any byte of a PROXY header");
	if (io == IO_END)
		return fail(e, EX_PROTOCOL, "connection ended within the PROXY header");
	return fail(e, EX_PROTOCOL, "connection broke before the PROXY header was read");
}

/* What was read so far. */
struct header {
	struct stream *stream;
	deadline when;
	size_t len;
	unsigned char bytes[V2_LONGEST];
};

/* Read `n` more bytes. The caller has seen to it that they fit. */
static bool more(struct header *h, size_t n, struct error *e)
{
	size_t got = 0;
	enum io io = stream_read_exactly(h->stream, h->bytes + h->len, n, &got, h->when);

	h->len += got;
	return io == IO_DONE || fail_read(e, io, h->len > 0);
}

/* A cursor that remembers failure: past the end it gives zeros, and the one question comes last. */
struct cursor {
	const unsigned char *at, *end;
	bool bad;
};

static const unsigned char *take(struct cursor *c, size_t n)
{
	static const unsigned char nothing[sizeof(struct sockaddr_storage)];
	const unsigned char *here = c->at;

	if (c->bad || (size_t)(c->end - c->at) < n) {
		c->bad = true;
		return nothing;
	}
	c->at += n;
	return here;
}

static unsigned take_u8(struct cursor *c)
{
	return *take(c, 1);
}

static unsigned take_u16(struct cursor *c)
{
	const unsigned char *p = take(c, 2);

	return (unsigned)p[0] << 8 | p[1];
}

/* Version 1 */

/* Does the line read so far end? Sets *bad where a CR or LF stands that is not the CRLF at its very end. */
static bool v1_ended(const struct header *h, bool *bad)
{
	size_t body = h->len;
	bool ended = h->bytes[h->len - 2] == '\r' && h->bytes[h->len - 1] == '\n';

	if (ended)
		body -= 2;
	else if (h->bytes[h->len - 1] == '\r')
		body -= 1;
	*bad = memchr(h->bytes, '\r', body) != NULL || memchr(h->bytes, '\n', body) != NULL;
	return ended;
}

/* Read to the CRLF. As long as no CR is there at least two bytes must still come. */
static bool v1_read_line(struct header *h, struct error *e)
{
	bool bad = false;

	if (!more(h, V1_SHORTEST - h->len, e))
		return false;
	if (memcmp(h->bytes, "PROXY ", 6) != 0)
		return fail(e, EX_PROTOCOL, "no PROXY header: " CURE);
	while (!v1_ended(h, &bad) && !bad) {
		size_t missing = h->bytes[h->len - 1] == '\r' ? 1 : 2;
		if (h->len + missing > V1_LONGEST)
			return fail(e, EX_PROTOCOL, "PROXY header has no line end in its first 107 bytes");
		if (!more(h, missing, e))
			return false;
	}
	if (bad)
		return fail(e, EX_PROTOCOL, "PROXY header has a CR or LF that is not a CRLF at its end");
	return true;
}

/* The next word, which a blank or the end of the line ends, as a string of at most `size` - 1 bytes. */
static void take_word(struct cursor *c, char *word, size_t size)
{
	size_t left = (size_t)(c->end - c->at);
	const unsigned char *blank = memchr(c->at, ' ', left);
	size_t len = blank == NULL ? left : (size_t)(blank - c->at);

	word[0] = '\0';
	if (len == 0 || len >= size || memchr(c->at, '\0', len) != NULL) {
		c->bad = true;
		return;
	}
	memcpy(word, take(c, len), len);
	word[len] = '\0';
	if (blank == NULL)
		return;
	take(c, 1);
	if (c->at == c->end) /* a blank, but nothing behind it */
		c->bad = true;
}

/* inet_pton refuses leading zeros and anything but the canonical forms. */
static void take_address(struct cursor *c, int family, void *address)
{
	char word[INET6_ADDRSTRLEN];

	take_word(c, word, sizeof word);
	if (inet_pton(family, word, address) != 1)
		c->bad = true;
}

/* strtol and its like would take signs, blanks and leading zeros. */
static in_port_t take_port(struct cursor *c)
{
	char word[sizeof "65535"];
	unsigned port = 0;

	take_word(c, word, sizeof word);
	for (const char *p = word; *p != '\0'; p++) {
		if (*p < '0' || *p > '9')
			c->bad = true;
		port = port * 10 + (unsigned)(*p - '0');
	}
	if (port > 65535 || (word[0] == '0' && word[1] != '\0'))
		c->bad = true;
	return htons((uint16_t)port);
}

/* What comes behind "PROXY TCP4 " or "PROXY TCP6 ": two addresses, two ports. Where the client went to is checked and forgotten. */
static void v1_addresses(struct cursor *c, int family, struct sockaddr_storage *address)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	unsigned char destination[sizeof in6.sin6_addr];

	take_address(c, family, family == AF_INET ? (void *)&in.sin_addr : (void *)&in6.sin6_addr);
	take_address(c, family, destination);
	in.sin_port = in6.sin6_port = take_port(c);
	(void)take_port(c);
	if (c->at != c->end)
		c->bad = true;
	if (family == AF_INET)
		memcpy(address, &in, sizeof in);
	else
		memcpy(address, &in6, sizeof in6);
}

static bool v1_read(struct header *h, struct proxy_client *client, struct error *e)
{
	struct sockaddr_storage address = {0};
	char protocol[sizeof "UNKNOWN"];

	if (!v1_read_line(h, e))
		return false;
	struct cursor c = {.at = h->bytes + 6, .end = h->bytes + h->len - 2};
	if (c.end - c.at == 7 && memcmp(c.at, "UNKNOWN", 7) == 0)
		return true;
	if (c.end - c.at > 7 && memcmp(c.at, "UNKNOWN ", 8) == 0)
		return true; /* and the rest of the line must be ignored */
	take_word(&c, protocol, sizeof protocol);
	if (strcmp(protocol, "TCP4") != 0 && strcmp(protocol, "TCP6") != 0)
		return fail(e, EX_PROTOCOL, "PROXY header names a protocol that is not TCP4, TCP6 or UNKNOWN");
	v1_addresses(&c, protocol[3] == '4' ? AF_INET : AF_INET6, &address);
	if (c.bad)
		return fail(e, EX_PROTOCOL, "PROXY header has a malformed address, port or blank behind %s", protocol);
	client->given = true;
	client->address = address;
	return true;
}

/* Version 2 */

/* CRC32c (RFC 4960, appendix B) over the header with the four bytes at `sum`, its checksum, taken for zeros. */
static uint32_t crc32c(const unsigned char *p, const unsigned char *end, const unsigned char *sum)
{
	uint32_t crc = UINT32_MAX;

	for (; p < end; p++) {
		crc ^= p >= sum && p < sum + 4 ? 0 : *p;
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (UINT32_C(0x82F63B78) & (0 - (crc & 1)));
	}
	return ~crc;
}

/* Walk through the vectors to the end of the header; all but the checksum are passed over. Two checksums: one of them lies. */
static bool v2_check_vectors(struct cursor *c, const unsigned char *start, struct error *e)
{
	const unsigned char *sum = NULL;

	while (c->at < c->end && !c->bad) {
		unsigned type = take_u8(c);
		unsigned len = take_u16(c);
		const unsigned char *value = take(c, len);

		if (type != TLV_CRC32C || c->bad)
			continue;
		if (len != 4 || sum != NULL)
			return fail(e, EX_PROTOCOL, "PROXY header has a malformed or second checksum");
		sum = value;
	}
	if (c->bad)
		return fail(e, EX_PROTOCOL, "PROXY header has a vector (TLV) that goes beyond its end");
	if (sum == NULL)
		return true;
	uint32_t said = (uint32_t)sum[0] << 24 | (uint32_t)sum[1] << 16 | (uint32_t)sum[2] << 8 | sum[3];
	if (said != crc32c(start, c->end, sum))
		return fail(e, EX_PROTOCOL, "PROXY header has a wrong checksum");
	return true;
}

static void v2_inet(struct cursor *c, struct sockaddr_storage *address)
{
	struct sockaddr_in in = {.sin_family = AF_INET};

	memcpy(&in.sin_addr, take(c, 4), 4);
	take(c, 4);
	in.sin_port = htons((uint16_t)take_u16(c));
	take(c, 2);
	memcpy(address, &in, sizeof in);
}

static void v2_inet6(struct cursor *c, struct sockaddr_storage *address)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	memcpy(&in6.sin6_addr, take(c, 16), 16);
	take(c, 16);
	in6.sin6_port = htons((uint16_t)take_u16(c));
	take(c, 2);
	memcpy(address, &in6, sizeof in6);
}

static void v2_unix(struct cursor *c, struct sockaddr_storage *address)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	_Static_assert(sizeof un.sun_path == 108, "the document's size is Linux's");
	memcpy(un.sun_path, take(c, 108), 108);
	take(c, 108);
	memcpy(address, &un, sizeof un);
}

/* By the high half of the 14th byte; 0 is AF_UNSPEC. */
static void (*const v2_families[])(struct cursor *, struct sockaddr_storage *) = {NULL, v2_inet, v2_inet6, v2_unix};

/* All of the header is there; the first 13 bytes are judged. */
static bool v2_parse(const struct header *h, struct proxy_client *client, struct error *e)
{
	struct sockaddr_storage address = {0};
	unsigned family = h->bytes[13] >> 4, transport = h->bytes[13] & 15;
	struct cursor c = {.at = h->bytes + V2_FIXED, .end = h->bytes + h->len};

	if (family >= sizeof v2_families / sizeof *v2_families || transport > 2)
		return fail(e, EX_PROTOCOL, "PROXY header has the unknown family and transport 0x%02x", h->bytes[13]);
	if (family == 0 || transport == 0)
		return true; /* like UNKNOWN. What follows has no known layout, so no vectors are looked for. */
	if (transport == 2)
		return fail(e, EX_PROTOCOL, "PROXY header says that the client came by datagrams");
	v2_families[family](&c, &address);
	if (c.bad)
		return fail(e, EX_PROTOCOL, "PROXY header is too short for its addresses");
	if (!v2_check_vectors(&c, h->bytes, e))
		return false;
	client->given = true;
	client->address = address;
	return true;
}

static bool v2_read(struct header *h, struct proxy_client *client, struct error *e)
{
	if (!more(h, V2_FIXED - h->len, e))
		return false;
	if (memcmp(h->bytes, v2_signature, sizeof v2_signature) != 0)
		return fail(e, EX_PROTOCOL, "no PROXY header: " CURE);
	unsigned version = h->bytes[12] >> 4, command = h->bytes[12] & 15;
	if (version != 2 || command > 1)
		return fail(e, EX_PROTOCOL, "PROXY header has the unknown version or command 0x%02x", h->bytes[12]);
	size_t rest = (size_t)h->bytes[14] << 8 | h->bytes[15];
	if (rest > V2_LONGEST - V2_FIXED)
		return fail(e, EX_PROTOCOL, "PROXY header longer than %d bytes: let the load balancer send fewer TLVs",
			    V2_LONGEST);
	if (!more(h, rest, e))
		return false;
	/* LOCAL: the load balancer speaks for itself, whatever the rest says, its family included. */
	return command == 0 || v2_parse(h, client, e);
}

bool proxy_read(struct stream *s, struct proxy_client *client, deadline when, struct error *e)
{
	struct header h;
	bool good;

	h.stream = s;
	h.when = when;
	h.len = 0;
	*client = (struct proxy_client){0};
	/* One byte first: a client that speaks PostgreSQL or TLS sends 8 bytes and waits; it is to be told at once, not at the deadline. */
	good = more(&h, 1, e);
	if (good && h.bytes[0] == 'P')
		good = v1_read(&h, client, e);
	else if (good && h.bytes[0] == v2_signature[0])
		good = v2_read(&h, client, e);
	else if (good)
		good = fail(e, EX_PROTOCOL, "no PROXY header: " CURE);
	client->spoke = h.len > 0;
	return good;
}
