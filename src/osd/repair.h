/* SPDX-License-Identifier: Apache-2.0
 *
 * Damaged blocks: taken from another replica and written anew here.
 *
 * A block whose page is readable has a known checksum. Data from a replica that has exactly that checksum is
 * right if the object there is at least as new as the page here, on which the block stands: equal checksums
 * alone prove nothing (5.36), and a replica that was away may have an older block with the same. An object
 * with blocks whose checksum is not known, as its page is unreadable, is copied whole, and only from a
 * replica that has applied everything that we know to be committed. If no replica has all of it, a copy that
 * lacks less than what is here is better than nothing.
 */
#ifndef OSD_REPAIR_H
#define OSD_REPAIR_H

#include "osd/pg.h"

/* Repairs what `read` found damaged (the caller's until the op is done). `parent` waits for it: 0;
 * ERR_DAMAGED when no replica could help; ERR_RETRY when one was to help, and here or there was no memory or
 * no room in the ring for it, or too much to do. If `read` has its ret_data still, blocks that came with the
 * checksum that it asked for are put there, too, and leave its ret_damaged: the medium may be one that never
 * gives back what is written. */
void repair_start(struct pg *pg, struct store_read *read, struct op *parent);

#endif
