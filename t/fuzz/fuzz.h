/* SPDX-License-Identifier: ISC
 *
 * t/fuzz/fuzz.h - what the fuzz targets share.
 *
 * A target t/fuzz/NAME.c defines LLVMFuzzerTestOneInput(), which gives one input to a parser and
 * compares what it makes of it with a model. `make fuzz` links it with libFuzzer; `make check`
 * links it with replay.c, which runs it on the files in t/corpus/NAME.
 */
#ifndef PGSSL_FUZZ_H
#define PGSSL_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* End the process, so that libFuzzer keeps the input, unless the condition holds. */
#define CHECK(good) ((good) ? (void)0 : fuzz_failed(__FILE__, __LINE__, #good))

static inline void fuzz_failed(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

/* The rest of the input. */
struct input {
	const unsigned char *at;
	size_t left;
};

/* The next byte, 0 at the end. */
static inline unsigned input_byte(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

/* The bytes up to the next NUL or the end, cut to `size`. Returns `buf`. */
static inline char *input_string(struct input *in, char *buf, size_t size)
{
	size_t len = strnlen((const char *)in->at, in->left), kept = len < size ? len : size - 1;

	memcpy(buf, in->at, kept);
	buf[kept] = '\0';
	in->at += len + (len < in->left);
	in->left -= len + (len < in->left);
	return buf;
}

static inline uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* NULL equals only NULL. */
static inline bool same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

#endif
