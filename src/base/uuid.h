/* SPDX-License-Identifier: Apache-2.0
 *
 * 16 byte identities (RFC 4122, version 4) and their text "6f1c9f0e-3b1d-4a52-9d5e-0123456789ab". All zeros
 * means "none".
 */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include <string.h>

#include "base/base.h"

#define UUID_TEXT_SIZE 37 /* with the final NUL */

struct uuid {
    uint8_t bytes[16];
};

/* Makes a uuid of two random words. */
struct uuid uuid_make(uint64_t random_a, uint64_t random_b);
/* Writes the text form and returns `text`. */
const char *uuid_format(const struct uuid *uuid, char text[UUID_TEXT_SIZE]);

static inline bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static inline bool uuid_is_zero(const struct uuid *uuid)
{
    static const struct uuid zero;
    return uuid_equal(uuid, &zero);
}

#endif
