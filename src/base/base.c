/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of a failed assertion: the one place below the programs that prints, because nothing can be relied
 * on any more.
 */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

void assert_failed(const char *condition, const char *file, int line, const char *function)
{
    fprintf(stderr, "BUG: %s:%d: %s: assertion failed: %s\n", file, line, function, condition);
    abort();
}
