/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of errors: unique numbers, names that look up, answers for any number.
 */
#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "tests/tap.h"

static void rows_are_found(void)
{
    CHECK(strcmp(error_name(0), "OK") == 0);
    CHECK_EQ(error_errno(0), 0);
    CHECK(strcmp(error_name(-ERR_TIMEOUT), "ERR_TIMEOUT") == 0);
    CHECK(strcmp(error_text(-ERR_TIMEOUT), "timed out") == 0);
    CHECK_EQ(error_errno(-ERR_TIMEOUT), ETIMEDOUT);
#define X(name, number, class, text)                                                                         \
    CHECK(strcmp(error_name(-(number)), #name) == 0);                                                        \
    CHECK_EQ(error_errno(-(number)), class);
    ERROR_TABLE(X)
#undef X
}

static void numbers_are_unique(void)
{
    bool seen[256] = {false};
#define X(name, number, class, text)                                                                         \
    CHECK((number) > 0 && (number) < 256 && !seen[number]);                                                  \
    seen[number] = true;
    ERROR_TABLE(X)
#undef X
}

static void any_number_has_an_answer(void)
{
    static const int odd[] = {1, 43, -9999, INT_MIN, INT_MAX, -255};

    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        CHECK(strcmp(error_name(odd[i]), "ERR_UNKNOWN") == 0);
        CHECK(error_errno(odd[i]) > 0);
        CHECK(error_text(odd[i]) != NULL);
    }
}

static void errno_maps(void)
{
    CHECK_EQ(error_from_errno(0), 0);
    CHECK_EQ(error_from_errno(ENOSPC), -ERR_NO_SPACE);
    CHECK_EQ(error_from_errno(ECONNREFUSED), -ERR_UNREACHABLE);
    CHECK_EQ(error_from_errno(EIO), -ERR_IO);
    CHECK_EQ(error_from_errno(12345), -ERR_IO);
    for (int e = 1; e < 200; e++)
        CHECK(error_from_errno(e) < 0);
}

int main(void)
{
    TEST(rows_are_found);
    TEST(numbers_are_unique);
    TEST(any_number_has_an_answer);
    TEST(errno_maps);
    return tap_done();
}
