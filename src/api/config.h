/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration file; see config.c for what is in it. For the library, the commands and the daemons.
 */
#ifndef API_CONFIG_H
#define API_CONFIG_H

#include "base/base.h"

#define CONFIG_LINE_MAX 1024

/* The file that holds for daemons: /etc/fastblock.conf, or $FASTBLOCK_CONF. */
const char *config_path(void);

/* What $FASTBLOCK_CONF names, if that cannot be read (errno says why); else NULL. */
const char *config_unreadable(void);

/* Calls `take` for each `name = value` of the section, in order; "" are the lines before the first section.
 * For a line that is none, `name` is NULL and `value` what it says. What `take` answers, if it is not 0, ends
 * it and is the result. ERR_NOT_FOUND: there is no such file, or none that can be read. */
MUST_CHECK int config_each(const char *path, const char *section,
                           int (*take)(void *owner, const char *name, const char *value, uint32_t line),
                           void *owner);

/* The addresses of the monitors: `option` if it is given, else $FASTBLOCK_MON, else `mon = ...` of a
 * configuration file. ERR_NOT_FOUND; ERR_TOO_LARGE. */
MUST_CHECK int api_monitors(const char *option, char *ret_text, size_t ret_size);

#endif
