/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a fuzz target without a fuzzer: takes a seed, mutates it a few times, feeds it, for a given number of
 * inputs. Input number N is always the same, and its number is printed if the target crashes:
 *
 *     fuzz-wire [inputs [first]]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MAX      (256u << 10)
#define INPUTS_DEFAULT 100000

static volatile uint64_t current;

static void crashed(int signal_number)
{
    char line[64];
    int len = snprintf(line, sizeof(line), "# input %llu\nnot ok 1\n", (unsigned long long)current);

    if (write(STDOUT_FILENO, line, (size_t)len) < 0)
        _exit(2);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static uint64_t draw(uint64_t *random)
{
    *random += 0x9e3779b97f4a7c15ull;
    return hash_u64(*random);
}

static size_t below(uint64_t *random, size_t n)
{
    return n ? (size_t)(draw(random) % n) : 0;
}

/* Values that decoders get wrong. */
static uint8_t odd_byte(uint64_t *random)
{
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, 0x0a, 0x12, 0x4a, 0xfe};
    return odd[below(random, sizeof(odd))];
}

static size_t mutate(uint8_t *data, size_t size, uint64_t *random)
{
    size_t at = below(random, size), len = 1 + below(random, 16), to;

    switch (draw(random) % 8) {
    case 0: /* a bit */
        if (size)
            data[at] ^= (uint8_t)(1u << below(random, 8));
        break;
    case 1:
        if (size)
            data[at] = (uint8_t)draw(random);
        break;
    case 2:
        if (size)
            data[at] = odd_byte(random);
        break;
    case 3: /* cut off */
        size = at;
        break;
    case 4: /* take out */
        if (at + len < size) {
            memmove(data + at, data + at + len, size - at - len);
            size -= len;
        }
        break;
    case 5: /* put in */
        if (size + len <= INPUT_MAX) {
            memmove(data + at + len, data + at, size - at);
            for (size_t i = 0; i < len; i++)
                data[at + i] = draw(random) & 1 ? odd_byte(random) : (uint8_t)draw(random);
            size += len;
        }
        break;
    case 6: /* copy within */
        to = below(random, size);
        if (at + len <= size && to + len <= size)
            memmove(data + to, data + at, len);
        break;
    case 7: /* repeat a part behind the end */
        len = below(random, size - at + 1);
        if (size + len <= INPUT_MAX) {
            memcpy(data + size, data + at, len);
            size += len;
        }
        break;
    }
    return size;
}

static size_t make_input(uint64_t number, uint8_t *data)
{
    uint64_t random = hash_u64(number + 1);
    size_t size = fuzz_seed(draw(&random) % 256, data, INPUT_MAX);

    for (uint64_t i = draw(&random) % 6; i > 0; i--)
        size = mutate(data, size, &random);
    return size;
}

int main(int argc, char **argv)
{
    uint64_t inputs = argc > 1 ? strtoull(argv[1], NULL, 10) : INPUTS_DEFAULT;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    uint8_t *data = malloc(INPUT_MAX);

    signal(SIGABRT, crashed);
    signal(SIGSEGV, crashed);
    for (uint64_t n = first; n < first + inputs; n++) {
        current = n;
        size_t size = make_input(n, data);
        /* A block of exactly that size, so that the sanitizer sees a read beyond it. */
        uint8_t *exact = malloc(size ? size : 1);
        memcpy(exact, data, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    free(data);
    printf("ok 1 - %llu inputs\n1..1\n", (unsigned long long)inputs);
    return 0;
}
