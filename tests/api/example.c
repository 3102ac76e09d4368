/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs the example programs, and looks at what the shared library exports.
 *
 *     test_example HELLO HELLO_STATIC LIBFASTBLOCK
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/client/fake_process.h"
#include "tests/tap.h"

static char **arguments;

static bool runs(const char *command, const char *expected)
{
    char line[512];
    bool found = expected == NULL;
    FILE *output = popen(command, "r");

    while (output && fgets(line, sizeof(line), output)) {
        printf("# %s", line);
        found = found || (expected && strstr(line, expected));
    }
    return output && pclose(output) == 0 && found;
}

static void test_hello(void)
{
    char command[1024];

    for (int i = 1; i <= 2; i++) {
        snprintf(command, sizeof(command), "%s pool/image", arguments[i]);
        CHECK(runs(command, "read back: hello, fastblock"));
        snprintf(command, sizeof(command), "%s pool/none 2>&1", arguments[i]);
        CHECK(!runs(command, NULL));
    }
}

static void test_exports(void)
{
    char command[1024];

    snprintf(command, sizeof(command), "nm -D --defined-only %s | grep fb_connect", arguments[3]);
    CHECK(runs(command, "fb_connect"));
    snprintf(command, sizeof(command), "nm -D --defined-only %s | grep -v -e ' fb_[a-z]' -e FASTBLOCK_0$",
             arguments[3]);
    CHECK(!runs(command, NULL));
}

int main(int argc, char **argv)
{
    char monitors[128];

    if (argc != 4)
        return 2;
    arguments = argv;
    pid_t cluster = fake_process_start(monitors);
    setenv("FASTBLOCK_MON", monitors, 1);
    TEST(test_hello);
    TEST(test_exports);
    fake_process_stop(cluster);
    return tap_done();
}
