/* SPDX-License-Identifier: ISC
 *
 * t/proofs/request.c - startup_read: each request in each place, with each length, cut anywhere.
 * Nothing is read past the packet, whatever its length word says. For each packet of up to 96 bytes
 * (STARTUP_MAX is lowered); t/proofs/parameters.c has what a StartupMessage contains.
 *
 * cbmc: --nondet-static --unwind 98
 * edit: /#define STARTUP_MAX/s/10004/96/ wire/startup.h
 * edit: s/^\t\tparse_parameters(st);/\t\tparsed = true;/ wire/startup.c
 * sabotage: s/len < 8 || len > STARTUP_MAX/len < 8 || len > STARTUP_MAX + 1/ wire/startup.c
 * sabotage: s/len < 8 || len > STARTUP_MAX/len < 4 || len > STARTUP_MAX/ wire/startup.c
 * sabotage: s/read_packet(st, s, len, when) \&\&/read_packet(st, s, len + 1, when) \&\&/ wire/startup.c
 * sabotage: s/len < r->min || len > r->max/len < r->min/ wire/startup.c
 * sabotage: s/if (first \&\& st->packet/if (st->packet/ wire/startup.c
 */
#define INPUT 96
#include "proof.h"

static bool parsed;

#define snprintf print
static int print(char *to, size_t size, const char *format, ...);

#include "wire/startup.c"

static bool first;
static enum startup_place place;
static struct startup st;

static int print(char *to, size_t size, const char *format, ...)
{
	(void)format;
	prove(to == st.detail && size == sizeof st.detail, "only the detail is printed");
	to[any_size(0, size - 1)] = '\0';
	return nondet_int();
}

size_t strlcpy(char *to, const char *from, size_t size)
{
	(void)from;
	prove(to == st.detail && size == sizeof st.detail, "only the detail is printed");
	to[any_size(0, size - 1)] = '\0';
	return nondet_size();
}

static uint32_t length(void)
{
	return get_be32(input);
}

/* Which kind of packet is allowed here, and of how many bytes? */
static enum startup_kind kind_here(void)
{
	uint32_t code = get_be32(input + 4);
	bool negotiated = place == STARTUP_NEGOTIATED;

	if (length() < 8 || length() > 96)
		return STARTUP_REFUSED;
	if (code == 80877102)
		return length() >= 16 ? STARTUP_CANCEL : STARTUP_REFUSED;
	if (code == 80877103)
		return length() == 8 && !negotiated ? STARTUP_SSL_REQUEST : STARTUP_REFUSED;
	if (code == 80877104)
		return length() == 8 && !negotiated ? STARTUP_GSS_REQUEST : STARTUP_REFUSED;
	return code >> 16 == 3 && place != STARTUP_CLEAR ? STARTUP_SESSION : STARTUP_REFUSED;
}

static bool is_repeated(enum startup_kind kind, unsigned seen)
{
	return (kind == STARTUP_SSL_REQUEST || kind == STARTUP_GSS_REQUEST) &&
	       (seen & 1u << kind) != 0;
}

static size_t packet_end(void)
{
	if (taken == 0 || (first && input[0] == 0x16))
		return 1;
	if (taken < 4)
		return 4;
	return length() < 8 || length() > 96 ? 4 : taken < 8 ? 8 : length();
}

static void check_kind(unsigned seen)
{
	enum startup_kind kind = kind_here();

	if (is_repeated(kind, seen))
		kind = STARTUP_REFUSED;
	if (arrived < taken) {
		bool gone = st.io == IO_END || st.io == IO_FAILED;
		prove(st.io != IO_DONE, "a cut packet has a reason");
		prove(st.kind == (arrived == 0 && gone ? STARTUP_NOTHING : STARTUP_BROKEN), "cut");
		possible(arrived == 95);
	} else if (first && input[0] == 0x16) {
		prove(st.kind == STARTUP_DIRECT_TLS && taken == 1, "direct TLS");
		possible(true);
	} else {
		prove(st.kind == kind, "the kind is the one that is allowed");
		prove(kind == STARTUP_REFUSED || taken == length(), "all of it is read");
		prove(parsed == (kind == STARTUP_SESSION), "a StartupMessage is parsed");
		prove(kind != STARTUP_SESSION || place != STARTUP_CLEAR, "none in clear");
		possible(kind == STARTUP_SESSION && taken == 96);
		possible(kind == STARTUP_CANCEL && place == STARTUP_CLEAR);
		possible(kind == STARTUP_GSS_REQUEST && seen == 1u << STARTUP_SSL_REQUEST);
		possible(kind == STARTUP_REFUSED && length() == 0xffffffff);
	}
}

int main(void)
{
	struct stream s;
	unsigned seen = st.seen;
	size_t some = any_size(0, INPUT - 1);

	taken = arrived = 0;
	buffer = NULL;
	finished = parsed = false;
	place = 1u << any_size(0, 3);
	startup_read(&st, &s, place, first, 0);
	check_kind(seen);
	prove(st.len == arrived, "the length is what arrived");
	prove(some >= arrived || st.packet[some] == input[some], "the packet is the client's");
	return 0;
}
