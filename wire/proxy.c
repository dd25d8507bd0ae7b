/* SPDX-License-Identifier: ISC
 *
 * wire/proxy.c - PROXY protocol headers (step 6).
 *
 * Every byte is untrusted. The bytes after the header belong to PostgreSQL or TLS, so no read
 * asks for more than the header must still have. Version 1 has no length and is read two bytes at a
 * time.
 */
#include "wire/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CURE "connect through the load balancer, or start pgssl without --proxy-protocol"

enum {
	V1_SHORTEST = 15, /* "PROXY UNKNOWN\r\n" */
	V1_LONGEST = 107, /* the specification's worst case, CRLF included */
	V2_FIXED = 16,
	/* The length field allows 64 KiB, and TLVs may be long. nginx has this limit too. */
	V2_LONGEST = 4096,
};

/* The high half of version 2's 14th byte is the address family, the low half the transport. */
enum { V2_UNSPEC, V2_INET, V2_INET6, V2_UNIX };
enum { V2_STREAM = 1, V2_DGRAM };

static const unsigned char v2_signature[12] = {'\r', '\n', '\r', '\n', '\0', '\r',
					       '\n', 'Q',  'U',  'I',  'T',  '\n'};

/* The header as read so far; version 1's cursor remembers failure: check `bad` at the end. */
struct header {
	struct stream *stream;
	deadline when;
	size_t len;     /* bytes read */
	size_t at, end; /* bytes[at..end) are still to be parsed */
	bool bad;
	unsigned char bytes[V2_LONGEST];
};

static bool fail_read(const struct header *h, enum io_status io, struct error *e)
{
	bool spoke = h->len > 0;

	if (io == IO_TERMINATED)
		return fail(e, EX_TEMPFAIL,
			    "terminated by SIGTERM while waiting for the PROXY header");
	if (io == IO_NO_MEMORY)
		return fail(e, EX_OSERR, "out of memory");
	if (io == IO_TIMEOUT)
		return fail(e, EX_PROTOCOL, "%s: " CURE,
			    spoke ? "the PROXY header was not complete in time"
				  : "no byte of a PROXY header arrived in time");
	return fail(e, spoke ? EX_PROTOCOL : EX_OK, "connection %s %s",
		    io == IO_END ? "ended" : "broke",
		    spoke ? "within the PROXY header" : "before any byte of a PROXY header");
}

/* Read `n` more bytes. The caller ensures that they fit. */
static bool read_header_bytes(struct header *h, size_t n, struct error *e)
{
	size_t got = 0;
	enum io_status io = stream_read_exactly(h->stream, h->bytes + h->len, n, &got, h->when);

	h->len += got;
	return io == IO_DONE || fail_read(h, io, e);
}

static uint16_t get_be16(const unsigned char *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void set_client(struct proxy_client *client, int family, const unsigned char *host,
		       uint16_t port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&client->address;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&client->address;

	client->given = true;
	client->address.ss_family = (sa_family_t)family;
	in->sin_port = htons(port); /* at the same place in both */
	if (family == AF_INET)
		memcpy(&in->sin_addr, host, sizeof in->sin_addr);
	else
		memcpy(&in6->sin6_addr, host, sizeof in6->sin6_addr);
}

/* Version 1 */

/* Has the line ended? Sets *bad if it has a CR or LF other than the CRLF at its end. */
static bool v1_line_ended(const struct header *h, bool *bad)
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

/* Read up to the CRLF. At least two more bytes must come unless the last one is CR. */
static bool v1_read_line(struct header *h, struct error *e)
{
	bool bad = false;

	if (!read_header_bytes(h, V1_SHORTEST - h->len, e))
		return false;
	if (memcmp(h->bytes, "PROXY ", 6) != 0)
		return fail(e, EX_PROTOCOL, "no PROXY header: " CURE);
	while (!v1_line_ended(h, &bad) && !bad) {
		size_t missing = h->bytes[h->len - 1] == '\r' ? 1 : 2;
		if (h->len + missing > V1_LONGEST)
			return fail(e, EX_PROTOCOL,
				    "PROXY header has no line end in its first 107 bytes");
		if (!read_header_bytes(h, missing, e))
			return false;
	}
	if (bad)
		return fail(e, EX_PROTOCOL, "PROXY header has a CR or LF before its end");
	return true;
}

/* Take the next word, which a blank or the end of the line ends, and the blank. */
static void take_word(struct header *h, char *word, size_t size)
{
	size_t left = h->end - h->at;
	const unsigned char *start = h->bytes + h->at, *blank = memchr(start, ' ', left);
	size_t len = blank == NULL ? left : (size_t)(blank - start);

	word[0] = '\0';
	if (len == 0 || len >= size || memchr(start, '\0', len) != NULL) {
		h->bad = true;
		return;
	}
	memcpy(word, start, len);
	word[len] = '\0';
	h->at += len + (blank != NULL);
	h->bad |= blank != NULL && h->at == h->end; /* a blank at the end of the line */
}

/* inet_pton() refuses leading zeros and everything but the canonical forms. */
static void take_address(struct header *h, int family, void *address)
{
	char word[INET6_ADDRSTRLEN];

	take_word(h, word, sizeof word);
	h->bad |= inet_pton(family, word, address) != 1;
}

/* Not strtonum(): it takes signs, blanks and leading zeros. */
static uint16_t take_port(struct header *h)
{
	char word[sizeof "65535"];

	take_word(h, word, sizeof word);
	unsigned long port = strtoul(word, NULL, 10);
	h->bad |= word[strspn(word, "0123456789")] != '\0' || port > 65535 ||
		  (word[0] == '0' && word[1] != '\0');
	return (uint16_t)port;
}

/* The destination's address and port are checked and ignored. */
static bool v1_read(struct header *h, struct proxy_client *client, struct error *e)
{
	unsigned char source[sizeof(struct in6_addr)], destination[sizeof source];
	char protocol[sizeof "UNKNOWN"];

	if (!v1_read_line(h, e))
		return false;
	h->at = sizeof "PROXY " - 1;
	h->end = h->len - 2;
	take_word(h, protocol, sizeof protocol);
	if (strcmp(protocol, "UNKNOWN") == 0)
		return true; /* the rest of the line must be ignored */
	if (strcmp(protocol, "TCP4") != 0 && strcmp(protocol, "TCP6") != 0)
		return fail(e, EX_PROTOCOL,
			    "PROXY header names a protocol that is not TCP4, TCP6 or UNKNOWN");
	int family = protocol[3] == '4' ? AF_INET : AF_INET6;
	take_address(h, family, source);
	take_address(h, family, destination);
	uint16_t port = take_port(h);
	(void)take_port(h);
	if (h->bad || h->at != h->end)
		return fail(e, EX_PROTOCOL,
			    "PROXY header has a malformed address, port or blank after %s",
			    protocol);
	set_client(client, family, source, port);
	return true;
}

/* Version 2 */

/* The whole header has been read and its first 13 bytes are valid. TLVs are ignored. */
static bool v2_parse(const struct header *h, struct proxy_client *client, struct error *e)
{
	unsigned family = h->bytes[13] >> 4, transport = h->bytes[13] & 15;
	size_t size = family == V2_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);

	if (family > V2_UNIX || transport > V2_DGRAM)
		return fail(e, EX_PROTOCOL,
			    "PROXY header has the unknown family and transport 0x%02x",
			    h->bytes[13]);
	if (family == V2_UNSPEC || transport < V2_STREAM)
		return true; /* like UNKNOWN */
	if (transport == V2_DGRAM)
		return fail(e, EX_PROTOCOL,
			    "PROXY header is for datagrams, not for a TCP connection");
	if (family == V2_UNIX)
		return true; /* the path of a socket does not identify a client */
	/* Source address, destination address, source port, destination port. */
	if (h->len < V2_FIXED + 2 * size + 4)
		return fail(e, EX_PROTOCOL, "PROXY header is too short for its addresses");
	set_client(client, family == V2_INET ? AF_INET : AF_INET6, h->bytes + V2_FIXED,
		   get_be16(h->bytes + V2_FIXED + 2 * size));
	return true;
}

static bool v2_read(struct header *h, struct proxy_client *client, struct error *e)
{
	if (!read_header_bytes(h, V2_FIXED - h->len, e))
		return false;
	if (memcmp(h->bytes, v2_signature, sizeof v2_signature) != 0)
		return fail(e, EX_PROTOCOL, "no PROXY header: " CURE);
	unsigned version = h->bytes[12] >> 4, command = h->bytes[12] & 15;
	if (version != 2 || command > 1)
		return fail(e, EX_PROTOCOL,
			    "PROXY header has the unknown version or command 0x%02x", h->bytes[12]);
	size_t rest = get_be16(h->bytes + 14);
	if (rest > V2_LONGEST - V2_FIXED)
		return fail(e, EX_PROTOCOL,
			    "PROXY header is longer than %d bytes: configure the load balancer to "
			    "send fewer TLVs",
			    V2_LONGEST);
	if (!read_header_bytes(h, rest, e))
		return false;
	/* LOCAL: the load balancer's own connection, whatever the rest says. */
	return command == 0 || v2_parse(h, client, e);
}

bool proxy_read(struct stream *s, struct proxy_client *client, deadline when, struct error *e)
{
	struct header h = {.stream = s, .when = when};

	*client = (struct proxy_client){0};
	/* One byte first: a client without a header sends 8 bytes and waits; refuse it at once. */
	bool good = read_header_bytes(&h, 1, e);
	if (good && h.bytes[0] == 'P')
		good = v1_read(&h, client, e);
	else if (good && h.bytes[0] == v2_signature[0])
		good = v2_read(&h, client, e);
	else if (good)
		good = fail(e, EX_PROTOCOL, "no PROXY header: " CURE);
	client->spoke = h.len > 0;
	return good;
}
