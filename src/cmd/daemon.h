/* SPDX-License-Identifier: Apache-2.0
 *
 * What the daemons fastblock-mon and fastblock-osd share: messages, values of options, addresses.
 *
 * Exit codes of the daemons: 0 stopped in order; 1 could not start, or failed; 2 wrong usage; 3 refused by
 * the cluster (the device belongs to another one, is a copy, or runs elsewhere): starting it again will not
 * help.
 */
#ifndef CMD_DAEMON_H
#define CMD_DAEMON_H

#include "base/base.h"
#include "rt/core.h"

enum { DAEMON_OK = 0, DAEMON_FAILED = 1, DAEMON_USAGE = 2, DAEMON_REFUSED = 3 };

#define DAEMON_MONITORS_MAX 8
#define DAEMON_ADDRESS_SIZE 64

/* "PROGRAM: MESSAGE" on stderr. Return DAEMON_FAILED and DAEMON_USAGE. */
int daemon_fail(const char *format, ...) PRINTF_LIKE(1, 2);
int daemon_usage(const char *format, ...) PRINTF_LIKE(1, 2);
int daemon_usage_hint(void); /* only says where the usage is told */

/* A connection is an open file, and there is one to every shard: as many as this process may have. For the
 * other programs, too. */
void daemon_raise_files(void);

/* "error", "warn", "info", "debug"; prints an error and answers false. */
MUST_CHECK bool daemon_log_level(const char *text, enum log_level *ret_level);
MUST_CHECK bool daemon_number(const char *option, const char *text, uint64_t min, uint64_t max,
                              uint64_t *ret);
MUST_CHECK bool daemon_size(const char *option, const char *text, uint64_t *ret_bytes);

/* "HOST:PORT" with a name or a number for HOST, made numeric. Prints an error and answers false. */
MUST_CHECK bool daemon_address(const char *text, char ret_address[DAEMON_ADDRESS_SIZE]);

/* The same for a list with commas: --mon, or what api_monitors() finds when `text` is NULL. */
struct daemon_monitors {
    char text[DAEMON_MONITORS_MAX][DAEMON_ADDRESS_SIZE];
    const char *address[DAEMON_MONITORS_MAX];
    uint32_t count;
};
MUST_CHECK bool daemon_monitors(const char *text, struct daemon_monitors *ret);

/* Puts the options of a section of the configuration file in front of those of the command line, as
 * --NAME=VALUE; without a file nothing changes. `*argv` is the program's for good. Prints an error and
 * answers false. */
#define DAEMON_CONFIG_MAX 64
MUST_CHECK bool daemon_config(const char *section, int *argc, char ***argv);

/* This machine's address as the one at `peer` would see it, "10.0.0.1" or "[fd00::1]"; false when there is no
 * way to it. */
MUST_CHECK bool daemon_own_host(const char *peer, char ret_host[DAEMON_ADDRESS_SIZE]);

#endif
