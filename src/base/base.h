/* SPDX-License-Identifier: Apache-2.0
 *
 * base: leaf helpers that every room may use and that use no room themselves.
 *
 * This header holds what is too small for a header of its own: the sizes that the whole
 * project is built on, alignment, container_of, and asserts. Asserts state what must hold
 * if the program has no bug; they stay on in release builds and no input can reach one.
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The block is the unit of checksums, of the log and of the client's data path; the chunk is the unit of
 * allocation on the device; the object is the unit that an image is cut into and that is placed in a PG. */
#define BLOCK_SIZE        4096u
#define BLOCK_SHIFT       12
#define CHUNK_SIZE        65536u
#define OBJECT_SIZE       (2u << 20)
#define BLOCKS_PER_CHUNK  (CHUNK_SIZE / BLOCK_SIZE)
#define BLOCKS_PER_OBJECT (OBJECT_SIZE / BLOCK_SIZE)
#define CHUNKS_PER_OBJECT (OBJECT_SIZE / CHUNK_SIZE)

/* One client request, and so one log entry, carries at most this much data. */
#define IO_SIZE_MAX  (1u << 20)
#define IO_BLOCKS_MAX (IO_SIZE_MAX / BLOCK_SIZE)

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

#define MUST_CHECK       __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN         __attribute__((noreturn))
#define LIKELY(x)        __builtin_expect(!!(x), 1)
#define UNLIKELY(x)      __builtin_expect(!!(x), 0)
/* Fetches the cache line of the byte so far behind `at` ahead of its use; any address will do. */
#define PREFETCH(at, bytes) __builtin_prefetch((const void *)((uintptr_t)(at) + (bytes)))

#define ARRAY_LEN(a)  (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)     ((a) < (b) ? (a) : (b))
#define MAX(a, b)     ((a) > (b) ? (a) : (b))
#define DIV_UP(n, d)  (((n) + (d)-1) / (d))
/* `a` is a power of two. */
#define ALIGN_UP(n, a)   (((n) + ((a)-1)) & ~((__typeof__(n))(a)-1))
#define ALIGN_DOWN(n, a) ((n) & ~((__typeof__(n))(a)-1))
#define IS_ALIGNED(n, a) (((n) & ((a)-1)) == 0)

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Ends the process with a line on stderr that names the condition and the place. */
void assert_failed(const char *condition, const char *file, int line, const char *function) NORETURN;

#define ASSERT(cond) (LIKELY(cond) ? (void)0 : assert_failed(#cond, __FILE__, __LINE__, __func__))
#define UNREACHABLE() assert_failed("unreachable", __FILE__, __LINE__, __func__)

#endif
