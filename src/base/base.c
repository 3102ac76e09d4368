/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of a failed assertion: the one place below the programs that prints, because nothing can be relied
 * on any more.
 */
#include "base/base.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATIENCE_MS 100

/* A pipe that nobody empties would keep the process, and with it its device, for ever. One that is writable
 * has room for the line. */
void assert_failed(const char *condition, const char *file, int line, const char *function)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    char text[1024];
    int len = snprintf(text, sizeof(text), "BUG: %s:%d: %s: assertion failed: %s\n", file, line, function,
                       condition);

    if (poll(&out, 1, PATIENCE_MS) != 0)
        (void)!write(STDERR_FILENO, text, (size_t)MIN(len, (int)sizeof(text) - 1));
    abort();
}
