/* SPDX-License-Identifier: Apache-2.0
 *
 * How processes of the cluster scenario begin, and how they end in good order: what their start functions
 * made is given back. Each call but the first two is made in the node's context.
 */
#ifndef SIM_CLUSTER_BOOT_H
#define SIM_CLUSTER_BOOT_H

#include "sim/cluster.h"

void osd_init(struct cluster *c, uint32_t number);
/* Its disk goes to `ghost`, which is what it was: a process at the same host, with the same label. It gets a
 * new disk, another port, and no identity. Both are down. */
void osd_ghost_init(struct cluster_osd *ghost, struct cluster_osd *osd);

/* The shard has stopped: what opened it goes. */
void osd_boot_end(struct cluster_osd *osd, uint32_t shard);

void mon_boot_stop(struct cluster *c, uint32_t i);
/* Nothing of the monitor lives any more. */
bool mon_boot_alone(const struct cluster *c, uint32_t i);
void mon_boot_end(struct cluster *c, uint32_t i);

/* Nothing is asked of the operator any more. */
bool admin_idle(const struct cluster *c);
void admin_end(struct cluster *c);

/* The client is idle (load_idle()). */
void load_end(struct cluster_client *client);

#endif
