/* SPDX-License-Identifier: Apache-2.0
 *
 * A failed assertion: it says so, and ends the process whoever reads that.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "tests/tap.h"

static bool ends_with(int error_fd)
{
    int status = 0;

    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(error_fd, STDERR_FILENO);
        alarm(20); /* not by SIGABRT */
        ASSERT(error_fd < 0);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void it_says_what_failed(void)
{
    char text[512] = "";
    int fds[2];

    CHECK_EQ(pipe(fds), 0);
    CHECK(ends_with(fds[1]));
    CHECK(read(fds[0], text, sizeof(text) - 1) > 0);
    CHECK(strstr(text, "BUG: ") && strstr(text, "ends_with: assertion failed: error_fd < 0\n"));
    close(fds[0]);
    close(fds[1]);
}

static void a_full_pipe_keeps_nobody(void)
{
    char bytes[4096] = "";
    int fds[2];

    CHECK_EQ(pipe2(fds, O_NONBLOCK), 0);
    while (write(fds[1], bytes, sizeof(bytes)) > 0)
        ;
    CHECK_EQ(fcntl(fds[1], F_SETFL, 0), 0);
    CHECK(ends_with(fds[1]));
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    TEST(it_says_what_failed);
    TEST(a_full_pipe_keeps_nobody);
    return tap_done();
}
