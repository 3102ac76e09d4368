/* SPDX-License-Identifier: Apache-2.0
 *
 * The store in memory, and what tests can do to it.
 */
#ifndef TESTS_OSD_FAKE_STORE_H
#define TESTS_OSD_FAKE_STORE_H

#include "store/store.h"

#define FAKE_PGS_MAX     8
#define FAKE_LOG_MAX     1280
#define FAKE_LOG_KEEP    32
#define FAKE_OBJECTS_MAX 256
#define FAKE_IMAGES_MAX  4200

/* All devices are new. */
void fake_store_forget_all(void);
/* The device fails. */
void fake_store_fail(struct store *store);
/* There is no room in the log ring, until there is. */
void fake_store_refuse(struct store *store, bool refuse);
/* The same for one PG. */
void fake_store_refuse_pg(struct store *store, uint64_t pg, bool refuse);
/* Is there room for another PG, and for copies of objects? */
void fake_store_set_room(struct store *store, bool room);
/* Records of PGs that are written from now on are on their way to the device, until this is taken back. */
void fake_store_hold_records(struct store *store, bool hold);
/* Blobs cannot be written, for want of buffers. */
void fake_store_refuse_blobs(struct store *store, bool refuse);
/* A split is found to have no room when it is carried out. */
void fake_store_refuse_splits(struct store *store, bool refuse);
/* Nothing is destaged but by store_destage_soon(), where until now all was at once. */
void fake_store_be_lazy(struct store *store, bool lazy);
/* No copy of an object begins, as while the ring is short; and there is no memory to repair a block. */
void fake_store_refuse_copies(struct store *store, bool refuse);
/* What store_space() says is free from now on. */
void fake_store_set_free(struct store *store, uint64_t free_bytes);
/* While the OSD is down: its log cannot be proven whole, and entries that were not applied are lost. */
void fake_store_damage_log(const uint8_t *uuid, uint64_t pg, uint32_t keep);
/* The same, and nothing shows it. */
void fake_store_lose_log(const uint8_t *uuid, uint64_t pg);
/* While the OSD is down: an image that it had once is there again, with one empty object, as of `index`; or
 * the object alone. */
void fake_store_resurrect(const uint8_t *uuid, uint64_t pg, uint64_t image, uint64_t index, bool record);
/* While the OSD is down: a replica, or the blob, is gone without a trace. */
void fake_store_lose_pg(const uint8_t *uuid, uint64_t pg);
void fake_store_lose_map(const uint8_t *uuid);
/* One bit of a block changes; or the object's page becomes unreadable. */
void fake_store_damage_block(struct store *store, uint64_t pg, uint64_t image, uint64_t object,
                             uint32_t block, bool page);
/* The same, with this content. */
void fake_store_set_block(struct store *store, uint64_t pg, uint64_t image, uint64_t object, uint32_t block,
                          const uint8_t *data);
/* The object's page knows no content of the block, as after a copy from one that had not got it. */
void fake_store_lose_block(struct store *store, uint64_t pg, uint64_t image, uint64_t object, uint32_t block);
/* The object is gone without a trace. */
void fake_store_drop_object(struct store *store, uint64_t pg, uint64_t image, uint64_t object);
/* How long a read takes from now on; 0: as usual. */
void fake_store_set_read_ns(struct store *store, uint64_t read_ns);
/* What a read finds is from now on what there is when it begins. */
void fake_store_read_early(struct store *store);
/* What repairs write from now on is damaged again at once, as on a medium that is worn out. */
void fake_store_forget_repairs(struct store *store);
/* A block is another one, with the right checksum: what must never happen. */
void fake_store_change_block(struct store *store, uint64_t pg, uint64_t image, uint64_t object,
                             uint32_t block);

#endif
