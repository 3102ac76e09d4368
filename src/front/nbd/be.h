/* SPDX-License-Identifier: Apache-2.0
 *
 * Big-endian loads and stores at any alignment, as NBD has them.
 */
#ifndef FRONT_NBD_BE_H
#define FRONT_NBD_BE_H

#include <endian.h>
#include <string.h>

#include "base/base.h"

static inline uint16_t be_load_u16(const void *from)
{
    uint16_t v;
    memcpy(&v, from, sizeof(v));
    return be16toh(v);
}

static inline uint32_t be_load_u32(const void *from)
{
    uint32_t v;
    memcpy(&v, from, sizeof(v));
    return be32toh(v);
}

static inline uint64_t be_load_u64(const void *from)
{
    uint64_t v;
    memcpy(&v, from, sizeof(v));
    return be64toh(v);
}

/* Each returns the place behind what it wrote. */
static inline uint8_t *be_put_u16(uint8_t *to, uint16_t v)
{
    v = htobe16(v);
    memcpy(to, &v, sizeof(v));
    return to + sizeof(v);
}

static inline uint8_t *be_put_u32(uint8_t *to, uint32_t v)
{
    v = htobe32(v);
    memcpy(to, &v, sizeof(v));
    return to + sizeof(v);
}

static inline uint8_t *be_put_u64(uint8_t *to, uint64_t v)
{
    v = htobe64(v);
    memcpy(to, &v, sizeof(v));
    return to + sizeof(v);
}

#endif
