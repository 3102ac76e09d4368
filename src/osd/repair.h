/* SPDX-License-Identifier: Apache-2.0
 *
 * Damaged blocks: taken from another replica and written anew here.
 *
 * A block whose page is readable has a known checksum: data from any replica that has exactly that checksum
 * is right, and the store checks it. An object with blocks whose checksum is not known, as its page is
 * unreadable, is copied whole, and only from a replica that has applied everything that we know to be
 * committed. If no replica has all of it, a copy that lacks less than what is here is better than nothing.
 */
#ifndef OSD_REPAIR_H
#define OSD_REPAIR_H

#include "osd/pg.h"

/* Repairs what `read` found damaged (the caller's until the op is done; its ret_damaged is copied). `parent`
 * waits for it: 0, or ERR_DAMAGED when no replica could help. */
void repair_start(struct pg *pg, const struct store_read *read, struct op *parent);

#endif
