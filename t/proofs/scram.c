/* SPDX-License-Identifier: ISC
 *
 * t/proofs/scram.c - startup_relay_scram holds back a client's answer exactly if it says that the
 * client misses channel binding. Each other one is forwarded byte by byte, and nothing is read past
 * it. For each message of up to RELAY_MAX bytes, lowered to 96, and the head of each longer one.
 *
 * cbmc: --nondet-static --unwind 98
 * edit: /#define RELAY_MAX/s/8192/96/ wire/startup.c
 * sabotage: s/len > flag \&\&/true \&\&/ wire/startup.c
 * sabotage: s/SCRAM, sizeof SCRAM) == 0/SCRAM, sizeof SCRAM - 1) == 0/ wire/startup.c
 * sabotage: s/stream_write_all(backend, m, len, when)/stream_write_all(backend, m, len + 1, when)/ wire/startup.c
 */
#define INPUT 96
#include "proof.h"

#include "wire/startup.c"

static bool written;
static size_t some; /* what is proved for this place holds for all */

static bool is_whole(void)
{
	return get_be32(input + 1) >= 4 && get_be32(input + 1) < RELAY_MAX;
}

static size_t packet_end(void)
{
	return taken >= 5 && is_whole() ? (size_t)get_be32(input + 1) + 1 : 5;
}

/* RFC 5802: the mechanism, the length of the response, and its first byte. */
static bool misses_binding(void)
{
	return input[0] == 'p' && is_whole() && packet_end() > 5 + 14 + 4 &&
	       memcmp(input + 5, "SCRAM-SHA-256", 14) == 0 && input[5 + 14 + 4] == 'y';
}

enum io_status stream_write_all(struct stream *s, const void *buf, size_t size, deadline when)
{
	const unsigned char *m = buf;

	(void)s, (void)when;
	prove(!written && size == arrived, "all that arrived is forwarded, once");
	prove(some >= size || m[some] == input[some], "each byte is the client's");
	written = true;
	possible(size == INPUT);
	return nondet_bool() ? IO_DONE : IO_FAILED;
}

int main(void)
{
	struct stream client, backend;
	enum io_status result;

	taken = arrived = 0;
	buffer = NULL;
	finished = written = false;
	bool forwarded = startup_relay_scram(&client, &backend, &result, 0);
	prove(forwarded == written, "the result says whether it was forwarded");
	prove(!forwarded || result == IO_DONE, "a backend that is gone is left to the relay");
	prove(forwarded == !(arrived == taken && misses_binding()),
	      "held back if, and only if, it misses");
	possible(!forwarded);
	return 0;
}
