/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing and printing sizes.
 */
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

/* Reads the digits at *text and moves it past them. */
static int text_parse_digits(const char **text, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (**text < '0' || **text > '9')
        return -ERR_INVALID;
    for (; **text >= '0' && **text <= '9'; (*text)++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(**text - '0'), &value))
            return -ERR_RANGE;
    }
    *ret_value = value;
    return 0;
}

int text_parse_u64(const char *text, uint64_t *ret_value)
{
    uint64_t value;
    int result = text_parse_digits(&text, &value);

    if (result)
        return result;
    if (*text)
        return -ERR_INVALID;
    *ret_value = value;
    return 0;
}

int text_parse_size(const char *text, uint64_t *ret_bytes)
{
    static const char units[] = "kmgtp";
    uint64_t value;
    int result = text_parse_digits(&text, &value);

    if (result)
        return result;
    const char *unit = *text ? strchr(units, *text | 0x20) : NULL;
    if (unit) {
        uint32_t shift = 10 * (uint32_t)(unit - units + 1);
        if (value > UINT64_MAX >> shift)
            return -ERR_RANGE;
        value <<= shift;
        text++;
        if (text[0] == 'i' && text[1] == 'B')
            text++;
    }
    if (*text == 'B')
        text++;
    if (*text)
        return -ERR_INVALID;
    *ret_bytes = value;
    return 0;
}

const char *text_format_size(uint64_t bytes, char text[TEXT_SIZE_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    uint32_t unit = 0;

    while (unit + 1 < ARRAY_LEN(units) && bytes >> (10 * (unit + 1)))
        unit++;
    uint64_t whole = bytes >> (10 * unit);
    uint64_t rest = unit ? (bytes >> (10 * (unit - 1))) & 1023 : 0;
    uint64_t tenths = (rest * 10 + 512) / 1024;
    whole += tenths / 10;
    tenths %= 10;
    if (tenths)
        snprintf(text, TEXT_SIZE_MAX, "%llu.%llu %s", (unsigned long long)whole, (unsigned long long)tenths,
                 units[unit]);
    else
        snprintf(text, TEXT_SIZE_MAX, "%llu %s", (unsigned long long)whole, units[unit]);
    return text;
}

int text_copy(char *to, size_t to_size, const char *from)
{
    size_t len = strlen(from);

    if (len >= to_size) {
        if (to_size)
            *to = 0;
        return -ERR_TOO_LARGE;
    }
    memcpy(to, from, len + 1);
    return 0;
}
