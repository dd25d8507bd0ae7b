/* SPDX-License-Identifier: ISC
 *
 * t/fuzz_identmap.c - libFuzzer entry point for ident maps. The input is the file; its first 16
 * bytes are also the identity.
 */
#include "auth/identmap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	char path[64], name[17] = "";
	int fd = memfd_create("map", 0);
	struct identmap *map;
	struct error e;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	memcpy(name, data, size < 16 ? size : 16);
	if (identmap_load(path, "m", true, &map, &e)) {
		(void)!identmap_allows(map, name, "b");
		identmap_free(map);
	}
	close(fd);
	return 0;
}
