/* SPDX-License-Identifier: Apache-2.0
 *
 * The two halves of bench-memory: the store's private header does not go together with the osd's.
 */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

/* Prints a line: bytes of one, how many, together. */
void memory_row(const char *what, double each_bytes, double count);
/* The store's part. */
void memory_store(void);

#endif
