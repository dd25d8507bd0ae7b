/* SPDX-License-Identifier: ISC
 *
 * net/heap.h - how malloc() takes memory from the system and gives it back.
 *
 * Only speed and size depend on it.
 */
#ifndef PGSSL_NET_HEAP_H
#define PGSSL_NET_HEAP_H

/* Step 0: take in one step what a session needs anyway, and give nothing back in the midst of a transfer. Never fails. */
void heap_prepare(void);

/* A session is idle: what is free in the heap goes back to the system. Some microseconds. Never fails. */
void heap_tidy(void);

#endif
