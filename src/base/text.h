/* SPDX-License-Identifier: Apache-2.0
 *
 * Small text helpers: sizes and numbers as people write them, bounded copies.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/base.h"

#define TEXT_SIZE_MAX 24 /* room for what text_format_size() writes */

/* A decimal number and nothing else. ERR_INVALID, ERR_RANGE when it does not fit. */
MUST_CHECK int text_parse_u64(const char *text, uint64_t *ret_value);
/* A size: a decimal number, then nothing, "B", or one of k M G T P (powers of 1024) in either case, which may
 * be followed by "B" or "iB": "4096", "128k", "4G", "2TiB". ERR_INVALID, ERR_RANGE. */
MUST_CHECK int text_parse_size(const char *text, uint64_t *ret_bytes);
/* "4 GiB", "1.5 MiB", "512 B": the largest unit, at most one decimal (rounded). Returns `text`. */
const char *text_format_size(uint64_t bytes, char text[TEXT_SIZE_MAX]);
/* Copies the string with its NUL. ERR_TOO_LARGE (and `to` holds the empty string) when it does not fit. */
MUST_CHECK int text_copy(char *to, size_t to_size, const char *from);

#endif
