/* SPDX-License-Identifier: ISC
 *
 * t/proofs/proxy2.c - proxy_read accepts exactly the headers of version 2 of the PROXY protocol,
 * takes the client's address and port from where they stand, and reads no byte behind the header.
 * A first byte of neither version is the only one that is read. For each header of up to V2_LONGEST
 * bytes, lowered to 112, and the fixed part of each longer one. (t/proofs/proxy1.c has version 1.)
 *
 * cbmc: --nondet-static --unwind 114
 * edit: /V2_LONGEST =/s/4096/112/ wire/proxy.c
 * edit: s/good = v1_read(&h, client, e);/good = version_1(\&h);/ wire/proxy.c
 * sabotage: s/h->len < V2_FIXED + 2 \* size + 4/h->len < V2_FIXED + 2 * size + 3/ wire/proxy.c
 * sabotage: s/get_be16(h->bytes + V2_FIXED + 2 \* size)/get_be16(h->bytes + V2_FIXED + size)/ wire/proxy.c
 * sabotage: s/rest > V2_LONGEST - V2_FIXED/rest > V2_LONGEST/ wire/proxy.c
 * sabotage: s/V2_FIXED - h->len, e/V2_FIXED, e/ wire/proxy.c
 * sabotage: s/command == 0 ||/command != 0 ||/ wire/proxy.c
 */
#define INPUT 112
#include "proof.h"

struct header;
static bool version_1(const struct header *h);

#include "wire/proxy.c"

static size_t packet_end(void)
{
	if (taken == 0 || input[0] != '\r')
		return 1;
	return taken < 16 ? 16 : 16 + ((size_t)input[14] << 8 | input[15]);
}

static bool version_1(const struct header *h)
{
	prove(input[0] == 'P' && taken == 1 && arrived == 1, "a first byte of version 1");
	prove(h->len == 1 && h->bytes[0] == 'P' && buffer == h->bytes, "is read, and no more");
	possible(true);
	given(false);
	return false;
}

/* Is this a header? With a client, its family and port. */
static bool is_header(int *family, unsigned *port)
{
	static const unsigned char signature[] = "\r\n\r\n\0\r\nQUIT\n";
	size_t rest = (size_t)input[14] << 8 | input[15], ports = 16 + (input[13] == 0x11 ? 8 : 32);

	if (memcmp(input, signature, 12) != 0 || rest > V2_LONGEST - 16)
		return false;
	if (input[12] == 0x20) /* LOCAL */
		return true;
	if (input[12] != 0x21 || (input[13] & 15) > 2 || input[13] >> 4 > 3)
		return false;
	if ((input[13] & 15) == 0 || input[13] >> 4 == 0 || input[13] == 0x31)
		return true; /* unspecified, UNIX */
	if ((input[13] & 15) == 2 || 16 + rest < ports + 4)
		return false;
	*family = input[13] == 0x11 ? AF_INET : AF_INET6;
	*port = (unsigned)input[ports] << 8 | input[ports + 1];
	return true;
}

static void check_client(const struct proxy_client *client, int family, unsigned port)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)&client->address;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&client->address;

	prove(client->given == (family != 0), "a client is given if the header has one");
	if (family == 0)
		return;
	prove(client->address.ss_family == family, "its family");
	prove(ntohs(in->sin_port) == port, "its port");
	prove(family == AF_INET ? memcmp(&in->sin_addr, input + 16, 4) == 0
				: memcmp(&in6->sin6_addr, input + 16, 16) == 0,
	      "its address");
	possible(family == AF_INET && taken == 28);
	possible(family == AF_INET6 && taken == INPUT);
}

int main(void)
{
	struct stream s;
	struct proxy_client client;
	struct error e;
	int family = 0;
	unsigned port = 0;

	taken = arrived = 0;
	buffer = NULL;
	finished = false;
	bool good = proxy_read(&s, &client, 0, &e);
	prove(client.spoke == (arrived > 0),
	      "a peer that sent a byte is told from one that did not");
	prove(!good || arrived == packet_end(), "the whole header was read");
	prove(good == (arrived == taken && is_header(&family, &port)),
	      "accepted if it is a header");
	if (good)
		check_client(&client, family, port);
	else
		prove(!client.given, "a bad header has no client");
	possible(good && family == 0);
	possible(!good && arrived == 111);
	return 0;
}
