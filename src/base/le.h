/* SPDX-License-Identifier: Apache-2.0
 *
 * Little-endian loads and stores at any alignment: the byte order of everything on disk and on the wire.
 */
#ifndef BASE_LE_H
#define BASE_LE_H

#include <string.h>

#include "base/base.h"

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LE_SWAP_16(v) (v)
#define LE_SWAP_32(v) (v)
#define LE_SWAP_64(v) (v)
#else
#define LE_SWAP_16(v) __builtin_bswap16(v)
#define LE_SWAP_32(v) __builtin_bswap32(v)
#define LE_SWAP_64(v) __builtin_bswap64(v)
#endif

#define LE_ACCESS(bits)                                                                                      \
    static inline uint##bits##_t le_load_u##bits(const void *from)                                           \
    {                                                                                                        \
        uint##bits##_t v;                                                                                    \
        memcpy(&v, from, sizeof(v));                                                                         \
        return LE_SWAP_##bits(v);                                                                            \
    }                                                                                                        \
    static inline void le_store_u##bits(void *to, uint##bits##_t v)                                          \
    {                                                                                                        \
        v = LE_SWAP_##bits(v);                                                                               \
        memcpy(to, &v, sizeof(v));                                                                           \
    }

LE_ACCESS(16)
LE_ACCESS(32)
LE_ACCESS(64)
#undef LE_ACCESS

#endif
