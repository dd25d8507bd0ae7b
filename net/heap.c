/* SPDX-License-Identifier: ISC
 *
 * net/heap.c - fewer brk() calls and page faults at the start, less memory while a session is idle (steps 0 and 9).
 */
#include "net/heap.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define STEP (512 * 1024) /* by which the heap grows */
#define USED                                                                                       \
	(320 *                                                                                     \
	 1024) /* what OpenSSL has set up when the handshake is done: 80 page faults, in one call */

void heap_prepare(void)
{
	mallopt(M_TOP_PAD, STEP);
	mallopt(M_TRIM_THRESHOLD, STEP);
	void *first = malloc(1);
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE),
		  next = ((uintptr_t)first + page - 1) & ~(page - 1);

	if (first != NULL) /* kernels before 5.14 say no, and the pages come one by one */
		(void)madvise((void *)next, USED, MADV_POPULATE_WRITE);
	free(first);
}

void heap_tidy(void)
{
	(void)malloc_trim(0);
}
