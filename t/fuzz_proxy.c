/* SPDX-License-Identifier: ISC
 *
 * t/fuzz_proxy.c - libFuzzer entry point for proxy_read. The first byte sets the size of reads.
 */
#include "wire/proxy.h"

#include "memstream.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static struct memstream m;
	struct proxy_client client;
	struct error e;

	if (size == 0)
		return 0;
	memstream_init(&m, data + 1, size - 1);
	m.chunk = data[0] & 15;
	if (!proxy_read(&m.stream, &client, deadline_in(60000), &e) && client.given)
		abort();
	memstream_close(&m);
	return 0;
}
