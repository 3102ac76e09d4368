/* SPDX-License-Identifier: Apache-2.0
 *
 * What a test makes of the real store under a shard. (Its insides and those of the osd room have names in
 * common, so no file can know both.)
 */
#ifndef TESTS_OSD_REAL_STORE_H
#define TESTS_OSD_REAL_STORE_H

#include "store/store.h"

/* Chunks are taken, as if another pool had them, until so much is left; returns how many. */
uint32_t real_store_take(struct store *s, uint64_t left_bytes);
void real_store_give_back(struct store *s, uint32_t chunks);
/* The slice has been formatted for so many image records more than there are; returns for how many it was. */
uint32_t real_store_limit_records(struct store *s, uint32_t left);
void real_store_set_records(struct store *s, uint32_t images_max);
/* As when a write has failed. */
void real_store_fail(struct store *s);
/* The object's page is found damaged. */
void real_store_lose_page(struct store_pg *sp, uint64_t image, uint64_t object);

#endif
