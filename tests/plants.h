/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tests: a program built with -DFASTBLOCK_PLANT takes the names of planted bugs (base/plant.h)
 * as arguments, and something must fail then: the first failure ends it.
 */
#ifndef TESTS_PLANTS_H
#define TESTS_PLANTS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "tests/tap.h"

/* Switches the named bugs on; ends the program at a name that there is not, as success: that is noticed where
 * a failure is expected. */
static inline void plants_take(int argc, char **argv)
{
#ifdef FASTBLOCK_PLANT
    static const char *const names[] = {
#define X(name, text) #name,
        PLANT_TABLE(X)
#undef X
    };

    tap_one_failure = argc > 1;
    for (int a = 1; a < argc; a++) {
        int i = 0;
        while (i < PLANT_COUNT && strcmp(argv[a], names[i]) != 0)
            i++;
        if (i == PLANT_COUNT) {
            printf("no planted bug is called %s\n", argv[a]);
            exit(0);
        }
        plants_set[i] = true;
    }
#else
    (void)argc;
    (void)argv;
#endif
}

#endif
