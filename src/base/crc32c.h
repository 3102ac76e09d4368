/* SPDX-License-Identifier: Apache-2.0
 *
 * CRC-32C (Castagnoli), the checksum of every block, header and page.
 */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include "base/base.h"

/* crc32c() of one block of zeros. */
#define CRC32C_ZERO_BLOCK 0x98f94189u

/* The checksum of what `crc` was the checksum of (0: nothing) followed by these bytes. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);

/* The same on processors without AVX-512: for them, and for tests. */
uint32_t crc32c_narrow(uint32_t crc, const void *bytes, size_t len);

/* The same without special instructions: for machines that lack them, and for tests. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t len);

#endif
