/* SPDX-License-Identifier: Apache-2.0
 *
 * Uuids: made, and as text.
 */
#include "base/uuid.h"

#include "base/error.h"
#include "base/le.h"

struct uuid uuid_make(uint64_t random_a, uint64_t random_b)
{
    struct uuid uuid;

    le_store_u64(uuid.bytes, random_a);
    le_store_u64(uuid.bytes + 8, random_b);
    uuid.bytes[6] = (uint8_t)((uuid.bytes[6] & 0x0f) | 0x40); /* version 4 */
    uuid.bytes[8] = (uint8_t)((uuid.bytes[8] & 0x3f) | 0x80); /* variant of RFC 4122 */
    return uuid;
}

static bool uuid_dash_before(int byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

const char *uuid_format(const struct uuid *uuid, char text[UUID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    char *at = text;

    for (int i = 0; i < 16; i++) {
        if (uuid_dash_before(i))
            *at++ = '-';
        *at++ = digits[uuid->bytes[i] >> 4];
        *at++ = digits[uuid->bytes[i] & 15];
    }
    *at = 0;
    return text;
}
