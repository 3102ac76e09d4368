/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests print TAP. A test program is a main() of TEST(...) calls on functions that use CHECK; it ends with
 * `return tap_done();`. A failed CHECK names its place and lets the function go on. With TESTS=TEXT in the
 * environment only functions are called whose names contain that text.
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int tap_tests, tap_failed;
static bool tap_ok;
static const char *tap_test = "";
/* One failure is all that is asked for: the program ends with it, at once. */
static bool tap_one_failure __attribute__((unused));

#define CHECK(cond)                                                                                               \
    ((cond) ? (void)0                                                                                             \
            : (printf("# %s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #cond), tap_check_failed()))

#define CHECK_EQ(a, b)                                                                                            \
    do {                                                                                                          \
        long long tap_a_ = (long long)(a), tap_b_ = (long long)(b);                                               \
        if (tap_a_ != tap_b_) {                                                                                   \
            printf("# %s:%d: %s: %s is %lld, %s is %lld\n", __FILE__, __LINE__, __func__, #a, tap_a_, #b, tap_b_);\
            tap_check_failed();                                                                                   \
        }                                                                                                         \
    } while (0)

#define TEST(function)                                                                                            \
    do {                                                                                                          \
        if (!tap_is_wanted(#function))                                                                            \
            break;                                                                                                \
        tap_ok = true;                                                                                            \
        tap_test = #function;                                                                                     \
        function();                                                                                               \
        tap_tests++;                                                                                              \
        if (!tap_ok)                                                                                              \
            tap_failed++;                                                                                         \
        printf("%s %d - %s\n", tap_ok ? "ok" : "not ok", tap_tests, #function);                                   \
        fflush(stdout);                                                                                           \
        if (!tap_ok && tap_one_failure)                                                                           \
            exit(1);                                                                                              \
    } while (0)

static inline void tap_check_failed(void)
{
    tap_ok = false;
    if (!tap_one_failure)
        return;
    printf("not ok %d - %s\n", tap_tests + 1, tap_test);
    fflush(stdout);
    _exit(1); /* what is still allocated is nobody's business */
}

static inline bool tap_is_wanted(const char *name)
{
    const char *text = getenv("TESTS");

    return !text || strstr(name, text);
}

static inline int tap_done(void)
{
    const char *text = getenv("TESTS");

    printf("1..%d\n", tap_tests);
    if (text && !tap_tests)
        printf("# no test here has %s in its name\n", text);
    /* Where a failure is expected a wrong name must not pass for one. */
    return tap_failed || (text && !tap_tests && !tap_one_failure) ? 1 : 0;
}

#endif
