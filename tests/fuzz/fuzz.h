/* SPDX-License-Identifier: Apache-2.0
 *
 * A fuzz target is a file that defines the two functions below. It is built twice: with tests/fuzz/driver.c,
 * whose main() mutates the target's own seeds in a deterministic way for a fixed number of inputs (part of
 * the test run), and, where clang has it, as a libFuzzer program that takes inputs from a corpus.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* One input. Must not crash, hang or leak, whatever it is; breaks of other properties abort. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes the n-th valid input, at most `cap` bytes, and returns its length. */
size_t fuzz_seed(uint64_t n, uint8_t *dst, size_t cap);

#endif
