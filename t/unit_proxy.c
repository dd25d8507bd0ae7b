/* SPDX-License-Identifier: ISC
 *
 * t/unit_proxy.c - read PROXY headers from memory, whole and in pieces; valid ones also cut at
 * every byte.
 *
 * sabotage: wire/proxy.c s/? 1 : 2;/? 1 : 3;/
 */
#include "wire/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "memstream.h"
#include "tap.h"

/* A string literal that may contain NULs, and its length. */
#define B(literal)   literal, sizeof(literal) - 1
#define COUNT(table) (sizeof(table) / sizeof *(table))
#define SIG          "\r\n\r\n\0\r\nQUIT\n"
#define X10(s)       s s s s s s s s s s
#define X100(s)      X10(X10(s))
/* 10.1.2.3:0x1234 to 10.0.0.1:5432, and the same in IPv6. */
#define INET      "\x0a\1\2\3\x0a\0\0\1\x12\x34\x15\x38"
#define A16(last) "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0" last
#define INET6     A16("\7") A16("\1") "\xff\xff\x15\x38"
#define NO_HEADER                                                                                  \
	"no PROXY header: connect through the load balancer, or start pgssl without "              \
	"--proxy-protocol"

static const struct good {
	const char *name, *bytes;
	size_t len;
	const char *from; /* NULL: use the connection's own address */
} good[] = {
    {"v1 TCP4", B("PROXY TCP4 192.0.2.7 192.0.2.1 51234 5432\r\n"), "192.0.2.7 51234"},
    {"v1 TCP4 as haproxy sends it", B("PROXY TCP4 127.0.0.1 127.0.0.1 55996 43359\r\n"),
     "127.0.0.1 55996"},
    {"v1 TCP4, shortest", B("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0 0"},
    {"v1 TCP4, longest", B("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
     "255.255.255.255 65535"},
    {"v1 TCP6", B("PROXY TCP6 2001:db8::7 2001:db8::1 51234 5432\r\n"), "2001:db8::7 51234"},
    {"v1 TCP6, shortest", B("PROXY TCP6 :: :: 1 1\r\n"), ":: 1"},
    {"v1 TCP6, upper case", B("PROXY TCP6 2001:DB8::AB ::1 9 9\r\n"), "2001:db8::ab 9"},
    {"v1 TCP6, IPv4-mapped", B("PROXY TCP6 ::ffff:192.0.2.7 ::1 9 9\r\n"), "::ffff:192.0.2.7 9"},
    {"v1 TCP6, longest",
     B("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
       "65535 65535\r\n"),
     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535"},
    {"v1 UNKNOWN, short", B("PROXY UNKNOWN\r\n"), NULL},
    {"v1 UNKNOWN with a blank", B("PROXY UNKNOWN \r\n"), NULL},
    {"v1 UNKNOWN with one byte", B("PROXY UNKNOWN x\r\n"), NULL},
    {"v1 UNKNOWN with NULs and blanks", B("PROXY UNKNOWN  \0\0  \xff\r\n"), NULL},
    {"v1 UNKNOWN, longest: 107 bytes",
     B("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     NULL},
    {"v2 TCP over IPv4", B(SIG "\x21\x11\0\x0c" INET), "10.1.2.3 4660"},
    {"v2 as haproxy sends it", B(SIG "\x21\x11\0\x0c\x7f\0\0\1\x7f\0\0\1\xd2\xda\xdc\x69"),
     "127.0.0.1 53978"},
    {"v2 as haproxy sends it with checksum and unique id",
     B(SIG "\x21\x11\0\x1c\x7f\0\0\1\x7f\0\0\1\xcd\xc0\xe3\xbf\3\0\4\x22\x3b\x94\x34\5\0\6id6620"),
     "127.0.0.1 52672"},
    {"v2 LOCAL as haproxy sends it with checksum", B(SIG "\x20\0\0\7\3\0\4\xa9\xb8\x7e\x8f"), NULL},
    {"v2 TCP over IPv6", B(SIG "\x21\x21\0\x24" INET6), "2001:db8::7 65535"},
    {"v2 Unix: skipped",
     B(SIG "\x21\x31\0\xd8/run/x" X100("\0") "\0\0" X100("\0") "\0\0\0\0\0\0\0\0"), NULL},
    {"v2 Unix, path without NUL: skipped",
     B(SIG "\x21\x31\0\xd8" X100("u") "12345678" X100("\0") "\0\0\0\0\0\0\0\0"), NULL},
    {"v2 Unix, one byte short: skipped",
     B(SIG "\x21\x31\0\xd7" X100("/") X100("\0") "0123456789abcde"), NULL},
    {"v2 LOCAL, empty", B(SIG "\x20\0\0\0"), NULL},
    {"v2 LOCAL, with addresses", B(SIG "\x20\x11\0\x0c" INET), NULL},
    {"v2 LOCAL, invalid family", B(SIG "\x20\xff\0\1x"), NULL},
    {"v2 LOCAL, malformed TLVs", B(SIG "\x20\x11\0\x0e" INET "\3\0"), NULL},
    {"v2 unspecified, empty", B(SIG "\x21\0\0\0"), NULL},
    {"v2 unspecified, not empty", B(SIG "\x21\0\0\3abc"), NULL},
    {"v2 unspecified family", B(SIG "\x21\1\0\0"), NULL},
    {"v2 unspecified transport", B(SIG "\x21\x10\0\x0c" INET), NULL},
    {"v2 empty TLV", B(SIG "\x21\x11\0\x0f" INET "\4\0\0"), "10.1.2.3 4660"},
    {"v2 unknown TLVs", B(SIG "\x21\x11\0\x17" INET "\xee\0\2xy\x20\0\3\xff\0\xff"),
     "10.1.2.3 4660"},
    /* Everything after the addresses is skipped. */
    {"v2 TLV of one byte", B(SIG "\x21\x11\0\x0d" INET "\4"), "10.1.2.3 4660"},
    {"v2 TLV of two bytes", B(SIG "\x21\x11\0\x0e" INET "\4\0"), "10.1.2.3 4660"},
    {"v2 TLV too long by one", B(SIG "\x21\x11\0\x10" INET "\4\0\2x"), "10.1.2.3 4660"},
    {"v2 TLV of 64 KiB", B(SIG "\x21\x11\0\x10" INET "\4\xff\xffx"), "10.1.2.3 4660"},
    {"v2 second TLV too long", B(SIG "\x21\x11\0\x12" INET "\4\0\0\4\0\1"), "10.1.2.3 4660"},
    {"v2 wrong checksum",
     B(SIG "\x21\x11\0\x1c\x7f\0\0\1\x7f\0\0\1\xcd\xc0\xe3\xbf\3\0\4\x22\x3b\x94\x35\5\0\6id6620"),
     "127.0.0.1 52672"},
    {"v2 two checksums", B(SIG "\x21\x11\0\x1a" INET "\3\0\4abcd\3\0\4abcd"), "10.1.2.3 4660"},
    {"v2 TLV of 300 bytes", B(SIG "\x21\x11\1\x3b" INET "\4\1\x2c" X100("n") X100("n") X100("n")),
     "10.1.2.3 4660"},
};

static const struct bad {
	const char *name, *bytes;
	size_t len;
	const char *says;
} bad[] = {
    {"SSLRequest", B("\0\0\0\x08\x04\xd2\x16\x2f"), NO_HEADER},
    {"ClientHello", B("\x16\3\1\2\0"), NO_HEADER},
    {"another protocol that begins with P", B("POST / HTTP/1.1\r\n\r\n"), NO_HEADER},
    {"v1 in lower case", B("Proxy TCP4 192.0.2.7 192.0.2.1 51234 5432\r\n"), NO_HEADER},
    {"v1 without a blank", B("PROXYTCP4 192.0.2.7 192.0.2.1 51234 5432\r\n"), NO_HEADER},
    {"v1 tab instead of a blank", B("PROXY\tTCP4 192.0.2.7 192.0.2.1 51234 5432\r\n"), NO_HEADER},
    {"v1 leading blank", B(" PROXY TCP4 192.0.2.7 192.0.2.1 51234 5432\r\n"), NO_HEADER},
    {"v1 two blanks after PROXY", B("PROXY  TCP4 192.0.2.7 192.0.2.1 51234 5432\r\n"),
     "protocol that is not"},
    {"v1 two blanks before the address", B("PROXY TCP4  192.0.2.7 192.0.2.1 51234 5432\r\n"),
     "malformed"},
    {"v1 two blanks before the port", B("PROXY TCP4 192.0.2.7 192.0.2.1  51234 5432\r\n"),
     "malformed"},
    {"v1 trailing blank", B("PROXY TCP4 192.0.2.7 192.0.2.1 51234 5432 \r\n"), "malformed"},
    {"v1 extra word", B("PROXY TCP4 192.0.2.7 192.0.2.1 51234 5432 1\r\n"), "malformed"},
    {"v1 missing word", B("PROXY TCP4 192.0.2.7 192.0.2.1 51234\r\n"), "malformed"},
    {"v1 nothing after TCP4", B("PROXY TCP4      \r\n"), "malformed"},
    {"v1 UDP4", B("PROXY UDP4 192.0.2.7 192.0.2.1 51234 5432\r\n"), "protocol that is not"},
    {"v1 TCP5", B("PROXY TCP5 192.0.2.7 192.0.2.1 51234 5432\r\n"), "protocol that is not"},
    {"v1 tcp4", B("PROXY tcp4 192.0.2.7 192.0.2.1 51234 5432\r\n"), "protocol that is not"},
    {"v1 UNKNOWNX", B("PROXY UNKNOWNX\r\n"), "protocol that is not"},
    {"v1 UNKNOW", B("PROXY UNKNOW x\r\n"), "protocol that is not"},
    {"v1 IPv6 under TCP4", B("PROXY TCP4 ::1 ::1 51234 5432\r\n"), "malformed"},
    {"v1 IPv4 under TCP6", B("PROXY TCP6 192.0.2.7 192.0.2.1 51234 5432\r\n"), "malformed"},
    {"v1 IPv4 to IPv6", B("PROXY TCP4 192.0.2.7 ::1 51234 5432\r\n"), "malformed"},
    {"v1 address with leading zero", B("PROXY TCP4 192.0.2.07 192.0.2.1 51234 5432\r\n"),
     "malformed"},
    {"v1 address of three numbers", B("PROXY TCP4 192.0.2 192.0.2.1 51234 5432\r\n"), "malformed"},
    {"v1 address with 256", B("PROXY TCP4 192.0.2.256 192.0.2.1 51234 5432\r\n"), "malformed"},
    {"v1 address with NUL", B("PROXY TCP4 192.0.2.7\0 192.0.2.1 51234 5432\r\n"), "malformed"},
    {"v1 address is a name", B("PROXY TCP4 localhost 192.0.2.1 51234 5432\r\n"), "malformed"},
    {"v1 address with zone", B("PROXY TCP6 fe80::1%eth0 ::1 51234 5432\r\n"), "malformed"},
    {"v1 two double colons", B("PROXY TCP6 1::2::3 ::1 51234 5432\r\n"), "malformed"},
    {"v1 bad destination", B("PROXY TCP4 192.0.2.7 x 51234 5432\r\n"), "malformed"},
    {"v1 port 65536", B("PROXY TCP4 192.0.2.7 192.0.2.1 65536 5432\r\n"), "malformed"},
    {"v1 port 99999", B("PROXY TCP4 192.0.2.7 192.0.2.1 99999 5432\r\n"), "malformed"},
    {"v1 port 4294967297", B("PROXY TCP4 192.0.2.7 192.0.2.1 4294967297 5432\r\n"), "malformed"},
    {"v1 port with leading zero", B("PROXY TCP4 192.0.2.7 192.0.2.1 051 5432\r\n"), "malformed"},
    {"v1 port 00", B("PROXY TCP4 192.0.2.7 192.0.2.1 00 5432\r\n"), "malformed"},
    {"v1 port +5", B("PROXY TCP4 192.0.2.7 192.0.2.1 +5 5432\r\n"), "malformed"},
    {"v1 port -5", B("PROXY TCP4 192.0.2.7 192.0.2.1 -5 5432\r\n"), "malformed"},
    {"v1 port 5x", B("PROXY TCP4 192.0.2.7 192.0.2.1 5x 5432\r\n"), "malformed"},
    {"v1 port with NUL", B("PROXY TCP4 192.0.2.7 192.0.2.1 5\0 5432\r\n"), "malformed"},
    {"v1 bad destination port", B("PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n"), "malformed"},
    {"v1 only LF", B("PROXY TCP4 192.0.2.7 192.0.2.1 51234 5432\nmore\r\n"), "CR or LF"},
    {"v1 only CR", B("PROXY TCP4 192.0.2.7 192.0.2.1 51234 5432\rmore\r\n"), "CR or LF"},
    {"v1 LF CR", B("PROXY TCP4 192.0.2.7 192.0.2.1 51234 5432\n\r\n"), "CR or LF"},
    {"v1 CR CR LF", B("PROXY TCP4 192.0.2.7 192.0.2.1 51234 5432\r\r\n"), "CR or LF"},
    {"v1 CRLF too early", B("PROXY TCP4\r\n192.0.2.7 192.0.2.1 51234 5432\r\n"), "CR or LF"},
    {"v1 UNKNOWN with CR", B("PROXY UNKNOWN a\rb\r\n"), "CR or LF"},
    {"v1 UNKNOWN of 108 bytes", B("PROXY UNKNOWN " X10("123456789") "12\r\n"), "107 bytes"},
    {"v1 CR at 107", B("PROXY UNKNOWN " X10("123456789") "12\r"), "107 bytes"},
    {"v1 without CRLF", B("PROXY UNKNOWN " X100("1") X100("1")), "107 bytes"},
    {"v2 broken signature, last byte", B("\r\n\r\n\0\r\nQUIT\r\x21\x11\0\x0c" INET), NO_HEADER},
    {"v2 broken signature, NUL", B("\r\n\r\n0\r\nQUIT\n\x21\x11\0\x0c" INET), NO_HEADER},
    {"v2 version 1", B(SIG "\x11\x11\0\x0c" INET), "version or command 0x11"},
    {"v2 version 3", B(SIG "\x31\x11\0\x0c" INET), "version or command 0x31"},
    {"v2 command 2", B(SIG "\x22\x11\0\x0c" INET), "version or command 0x22"},
    {"v2 family 4", B(SIG "\x21\x41\0\x0c" INET), "family and transport 0x41"},
    {"v2 family 15", B(SIG "\x21\xf1\0\x0c" INET), "family and transport 0xf1"},
    {"v2 transport 3", B(SIG "\x21\x13\0\x0c" INET), "family and transport 0x13"},
    {"v2 unspecified family, transport 3", B(SIG "\x21\3\0\0"), "family and transport 0x03"},
    {"v2 UDP over IPv4", B(SIG "\x21\x12\0\x0c" INET), "datagrams"},
    {"v2 UDP over IPv6", B(SIG "\x21\x22\0\x24" INET6), "datagrams"},
    {"v2 Unix datagrams", B(SIG "\x21\x32\0\0"), "datagrams"},
    {"v2 IPv4 without addresses", B(SIG "\x21\x11\0\0"), "too short"},
    {"v2 IPv4, one byte short", B(SIG "\x21\x11\0\x0b" INET), "too short"},
    {"v2 IPv6 with the length of IPv4", B(SIG "\x21\x21\0\x0c" INET), "too short"},
    {"v2 4097 bytes", B(SIG "\x21\x11\x0f\xf1" INET), "longer than 4096 bytes"},
    {"v2 64 KiB", B(SIG "\x21\x11\xff\xff" INET), "longer than 4096 bytes"},
    {"v2 LOCAL of 64 KiB", B(SIG "\x20\0\xff\xff"), "longer than 4096 bytes"},
};

/* How the bytes arrive. */
static const struct packaging {
	size_t chunk;
	bool stutter;
} packagings[] = {{0, false}, {1, false},  {2, false}, {3, true},
		  {1, true},  {13, false}, {16, true}};

static const char *name_of(const struct proxy_client *client, char *buf, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "?";
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (client->address.ss_family == AF_INET) {
		memcpy(&in, &client->address, sizeof in);
		inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
		snprintf(buf, size, "%s %u", host, ntohs(in.sin_port));
	} else {
		memcpy(&in6, &client->address, sizeof in6);
		inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host);
		snprintf(buf, size, "%s %u", host, ntohs(in6.sin6_port));
	}
	return buf;
}

/* Is `row` read correctly, without any byte of the startup packet after it? */
static bool reads(const struct good *row, const struct packaging *how)
{
	static const char behind[] = "\0\0\0\x08\x04\xd2\x16\x2f";
	static struct memstream m;
	unsigned char bytes[1024];
	char name[128];
	struct proxy_client client;
	struct error e = {0};

	memcpy(bytes, row->bytes, row->len);
	memcpy(bytes + row->len, behind, sizeof behind);
	memstream_init(&m, bytes, row->len + sizeof behind);
	m.chunk = how->chunk;
	m.stutter = how->stutter;
	bool done = proxy_read(&m.stream, &client, deadline_in(60000), &e);
	memstream_close(&m);
	if (!done)
		note("%s", e.text);
	if (!done || !client.spoke || client.given != (row->from != NULL) ||
	    memstream_left(&m) != sizeof behind || m.out_len != 0)
		return false;
	return row->from == NULL || strcmp(name_of(&client, name, sizeof name), row->from) == 0;
}

/* Do these bytes fail with a text that contains `says`? `after`: what follows them. */
static bool fails(const char *bytes, size_t len, const struct packaging *how, enum io_status after,
		  const char *says)
{
	static struct memstream m;
	struct proxy_client client;
	struct error e = {0};

	memstream_init(&m, bytes, len);
	m.chunk = how->chunk;
	bool silent = after == IO_WANT_READ;
	m.stutter = how->stutter &&
		    !silent; /* the deadline has passed: there is no time to wait for input */
	m.after = after;
	bool done = proxy_read(&m.stream, &client, deadline_in(silent ? 0 : 60000), &e);
	memstream_close(&m);
	int status = len == 0 && !silent ? EX_OK : EX_PROTOCOL; /* a probe */
	if (!done && e.status == status && strstr(e.text, says) != NULL && !client.given &&
	    m.out_len == 0 && client.spoke == (len > 0))
		return true;
	note("%s (%d)", done ? "it was accepted" : e.text, e.status);
	return false;
}

static void test_rows(void)
{
	for (size_t i = 0; i < COUNT(good); i++) {
		bool all = true;
		for (size_t k = 0; k < COUNT(packagings); k++)
			all = reads(&good[i], &packagings[k]) && all;
		ok(all, "%s", good[i].name);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		bool all = true;
		for (size_t k = 0; k < COUNT(packagings); k++)
			all =
			    fails(bad[i].bytes, bad[i].len, &packagings[k], IO_END, bad[i].says) &&
			    all;
		ok(all, "refused: %s", bad[i].name);
	}
}

/* The end, silence or a reset after each prefix of a valid header. */
static void test_truncations(void)
{
	for (size_t i = 0; i < COUNT(good); i++) {
		bool all = true;
		for (size_t n = 0; n < good[i].len; n++) {
			const struct packaging *how = &packagings[n % COUNT(packagings)];
			all = fails(good[i].bytes, n, how, IO_END,
				    n == 0 ? "before any byte" : "ended within") &&
			      all;
			all = fails(good[i].bytes, n, how, IO_WANT_READ,
				    n == 0 ? "no byte of a PROXY header arrived"
					   : "was not complete in time") &&
			      all;
			all = fails(good[i].bytes, n, how, IO_FAILED, "broke") && all;
		}
		ok(all, "cut at every byte: %s", good[i].name);
	}
}

/* A client without a header waits for an answer: refuse its first byte, not at the deadline. */
static void test_refused_at_once(void)
{
	ok(fails(B("\0"), &packagings[0], IO_WANT_READ, NO_HEADER),
	   "refused after the first byte of a startup packet");
	ok(fails(B("\x16"), &packagings[0], IO_WANT_READ, NO_HEADER),
	   "refused after the first byte of TLS");
}

/* The longest header that is accepted. One byte more is a row of `bad`. */
static void test_longest(void)
{
	static char bytes[4096] = SIG "\x21\x11\x0f\xf0" INET "\4\x0f\0";
	struct good row = {"v2, 4096 bytes", bytes, sizeof bytes, "10.1.2.3 4660"};
	static struct memstream m;
	struct proxy_client client;
	struct error e = {0};
	size_t rest = 16 + 12 + 3 + 0xf00;

	bytes[rest] = 4;
	bytes[rest + 2] = (char)(sizeof bytes - rest - 3);
	memstream_init(&m, row.bytes, row.len);
	ok(proxy_read(&m.stream, &client, deadline_in(60000), &e) && client.given &&
	       memstream_left(&m) == 0,
	   "%s", row.name);
	memstream_close(&m);
}

int main(void)
{
	test_rows();
	test_truncations();
	test_refused_at_once();
	test_longest();
	return done_testing();
}
