/* SPDX-License-Identifier: Apache-2.0
 *
 * Placement functions from shared objects (include/fastblock/placement.h), for the monitor.
 */
#ifndef CMD_PLACEMENT_PLUGIN_H
#define CMD_PLACEMENT_PLUGIN_H

#include "mon/placement.h"

/* Loads it for the rest of the process. NULL: ret_message says why not. */
const struct placement_chooser *placement_plugin_load(const char *path, char *ret_message, size_t len);

#endif
