/* SPDX-License-Identifier: Apache-2.0
 *
 * Uuids to and from text.
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

static int uuid_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool uuid_dash_before(int byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

int uuid_parse(const char *text, struct uuid *ret_uuid)
{
    struct uuid uuid;

    for (int i = 0; i < 16; i++) {
        if (uuid_dash_before(i) && *text++ != '-')
            return -ERR_INVALID;
        int high = uuid_digit(text[0]);
        int low = high < 0 ? -1 : uuid_digit(text[1]);
        if (low < 0)
            return -ERR_INVALID;
        uuid.bytes[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text)
        return -ERR_INVALID;
    *ret_uuid = uuid;
    return 0;
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
