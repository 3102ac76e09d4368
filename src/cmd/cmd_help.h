/* SPDX-License-Identifier: Apache-2.0
 *
 * The command table at work: finds the subcommand, parses its options, and prints help, the man page and
 * shell completion.
 */
#ifndef CMD_CMD_HELP_H
#define CMD_CMD_HELP_H

#include <stdio.h>

#include "cmd/cmd.h"

/* Runs the subcommand that argv names. Returns the exit code. */
int cmd_main(const char *program, const struct cmd_command *commands, size_t count, int argc, char **argv);

#endif
