/* SPDX-License-Identifier: ISC
 *
 * t/proofs/refuse.c - startup_refuse sends one whole ErrorResponse: its length is right, each field
 * and the message end with a NUL, and nothing is cut or read behind the text, whatever the detail
 * is. One of protocol 2 is a text. For each refusal.
 *
 * snprintf() is what its manual promises: only lengths are known.
 *
 * cbmc: --nondet-static --unwind 256
 * sabotage: s/why == REFUSE_VERSION_2 ? 1 : MESSAGE_HEAD/MESSAGE_HEAD/ wire/startup.c
 * sabotage: s/text\[1024\], message\[2048\]/text[1900], message[2048]/ wire/startup.c
 * sabotage: s/put_be32((unsigned char \*)message + 1, len);/put_be32((unsigned char *)message + 1, len + 1);/ wire/startup.c
 * sabotage: s/stream_write_all(s, message, len + 1, when)/stream_write_all(s, message, len, when)/ wire/startup.c
 * sabotage: s/unsupported frontend protocol %s: server/unsupported frontend protocol %s.%s: server/ wire/startup.c
 */
#include "proof.h"

#include <stdarg.h>
#include <stdio.h>

#define snprintf print
static int print(char *to, size_t size, const char *format, ...);

#include "wire/startup.c"

static enum refusal why;
static char detail[64], *message;
static const char *text;
static size_t text_len, end; /* of the fields so far: there is a NUL */
static bool written;

static size_t length_of(const char *constant)
{
	return __CPROVER_OBJECT_SIZE(constant) - 1;
}

/* The text of a refusal is a format with the detail, or with nothing. */
static void check_text(const char *format)
{
	size_t gaps = 0;

	prove(format == refusals[why].message, "the message of the refusal");
	for (size_t i = 0; i < length_of(format); i++) {
		gaps += format[i] == '%';
		prove(format[i] != '%' || format[i + 1] == 's', "a gap takes a string");
	}
	prove(gaps <= 1, "and there is one detail");
}

/* The length of these fields, of which there are two sets, and the text of protocol 2. */
static size_t fields(const char *format, va_list args)
{
	if (strcmp(format, "%s") == 0) {
		prove(va_arg(args, const char *) == text, "the text");
		return text_len;
	}
	if (strcmp(format, "H%s%c") == 0) {
		const char *hint = va_arg(args, const char *);
		prove(hint == refusals[why].hint && va_arg(args, int) == 0, "the hint");
		return 1 + length_of(hint) + 1;
	}
	prove(strcmp(format, "SFATAL%cVFATAL%cC%s%cM%s%c") == 0, "severity, SQLSTATE, message");
	prove(va_arg(args, int) == 0 && va_arg(args, int) == 0, "FATAL");
	prove(va_arg(args, const char *) == refusals[why].sqlstate, "SQLSTATE");
	prove(length_of(refusals[why].sqlstate) == 5 && va_arg(args, int) == 0, "of five bytes");
	prove(va_arg(args, const char *) == text && va_arg(args, int) == 0, "the message");
	return 7 + 7 + 1 + 5 + 1 + 1 + text_len + 1;
}

static int print(char *to, size_t size, const char *format, ...)
{
	va_list args;
	size_t len;

	prove(__CPROVER_w_ok(to, size), "written inside the buffer");
	va_start(args, format);
	if (text == NULL) {
		check_text(format);
		prove(va_arg(args, const char *) == detail, "the detail");
		text = to;
		len = text_len = any_size(0, size - 1);
	} else {
		if (message == NULL) {
			end = why == REFUSE_VERSION_2 ? 1 : 5;
			message = to - end;
		}
		prove(to == message + end, "behind the last field");
		len = fields(format, args);
		prove(len < size, "nothing is cut");
		end += len;
	}
	va_end(args);
	return (int)len;
}

enum io_status stream_write_all(struct stream *s, const void *buf, size_t size, deadline when)
{
	const unsigned char *m = buf;

	(void)s, (void)when;
	prove(!written && buf == message && m[0] == 'E', "one message");
	prove(size == end + 1, "all of it, and the NUL of the last snprintf()");
	prove(why == REFUSE_VERSION_2 || get_be32(m + 1) == size - 1, "its length");
	written = true;
	possible(why == REFUSE_VERSION_2);
	possible(refusals[why].hint != NULL && text_len == 1023);
	return nondet_bool() ? IO_DONE : IO_FAILED;
}

int main(void)
{
	struct stream s;

	for (why = REFUSE_NONE + 1; why <= REFUSE_TOO_MANY_OF_SOURCE; why++) {
		text = message = NULL;
		written = false;
		(void)startup_refuse(&s, why, detail, 0);
		prove(written, "an error is sent");
	}
	return 0;
}
