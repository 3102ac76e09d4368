/* SPDX-License-Identifier: Apache-2.0
 */
#include "tests/osd/real_store.h"

#include "store/internal.h"

uint32_t real_store_take(struct store *s, uint64_t left_bytes)
{
    uint32_t taken = 0;

    for (; store_space(s).free_bytes > left_bytes; taken++)
        s->chunks_free--;
    return taken;
}

void real_store_give_back(struct store *s, uint32_t chunks)
{
    s->chunks_free += chunks;
}

uint32_t real_store_limit_records(struct store *s, uint32_t left)
{
    uint32_t was = s->g.images_max;

    s->g.images_max = s->image_count + left;
    return was;
}

void real_store_set_records(struct store *s, uint32_t images_max)
{
    s->g.images_max = images_max;
}

void real_store_fail(struct store *s)
{
    store_fail(s, -ERR_IO, "a write has failed");
}

void real_store_lose_page(struct store_pg *sp, uint64_t image, uint64_t object)
{
    page_lose(object_find(pg_of(sp), image, object), -ERR_CHECKSUM);
}
