/* SPDX-License-Identifier: Apache-2.0
 *
 * The checkpoint: all of the store's facts as records, in the copy that is older, or was found damaged.
 *
 * It is written while state changes. That does no harm, because records are idempotent and those of batches
 * from replay_seq on, which is taken at the beginning, come on top: whatever the checkpoint shows too early
 * or not yet is among them. Only what is durable is shown.
 */
#include <string.h>

#include "store/internal.h"

enum { PHASE_PG, PHASE_FLOOR, PHASE_IMAGES, PHASE_OBJECTS };

static int checkpoint_older(const struct store *s)
{
    return s->ckpt_number[0] <= s->ckpt_number[1] ? 0 : 1;
}

uint64_t checkpoint_place(const struct store *s)
{
    return s->g.checkpoint_block + (uint64_t)checkpoint_older(s) * s->g.checkpoint_blocks;
}

void checkpoint_begin(struct store *s)
{
    struct destage *d = &s->destage;

    /* Above that of a damaged copy, too, which this one is written over: their blocks must not mix. */
    d->ckpt_number = s->ckpt_last + 1;
    d->ckpt_replay_seq = ring_replay_seq(s);
    d->ckpt_records = d->ckpt_blocks = 0;
    d->ckpt_filled = 0;
    d->ckpt_crc = 0;
    d->ckpt_pg_order = d->ckpt_pg_key = 0;
    d->ckpt_phase = PHASE_PG;
    d->ckpt_first = true;
    d->flush.pending = false;
    d->flush.result = 0;
}

/* There may be thousands of PGs, and a million records: so it is looked for from the one that came last. */
static struct pg *pg_at_order(struct store *s, uint64_t order)
{
    const struct pg *last = pg_by_key(s, s->destage.ckpt_pg_key);
    const struct list *node = last && last->order <= order ? &last->link : s->pgs.next;

    for (; node != &s->pgs; node = node->next) {
        struct pg *pg = list_entry(node, struct pg, link);
        if (pg->order < order)
            continue;
        s->destage.ckpt_pg_key = pg->key;
        return pg;
    }
    return NULL;
}

static bool next_image(struct destage *d, const struct pg *pg, struct disk_record *ret)
{
    uint32_t from = d->ckpt_first ? 0 : image_place(pg, d->ckpt_image);

    for (uint32_t i = from; i < pg->image_count; i++) {
        const struct image *image = pg->images[i];
        if (!image->is_saved || (!d->ckpt_first && image->record.image <= d->ckpt_image))
            continue;
        *ret = image_encode(pg, &image->saved);
        ret->flags |= RECORD_IMAGE_NOW;
        d->ckpt_image = image->record.image;
        d->ckpt_first = false;
        return true;
    }
    return false;
}

static bool next_object(struct destage *d, const struct pg *pg, struct disk_record *ret)
{
    struct object *o = object_after(pg, d->ckpt_first, d->ckpt_image, d->ckpt_object);

    for (; o; o = object_after(pg, false, o->image, o->number)) {
        d->ckpt_first = false;
        d->ckpt_image = o->image;
        d->ckpt_object = o->number;
        if (!o->slot)
            continue;
        *ret = (struct disk_record){
            .type = RECORD_SLOT,
            .slot = o->slot,
            .key = pg->key,
            .image = o->image,
            .slot_of = {.object = o->number, .index = o->page_index, .version = o->version}};
        return true;
    }
    return false;
}

static bool next_record(struct store *s, struct disk_record *ret)
{
    struct destage *d = &s->destage;

    for (;;) {
        struct pg *pg = pg_at_order(s, d->ckpt_pg_order);
        if (!pg)
            return false;
        if (pg->order != d->ckpt_pg_order) {
            d->ckpt_pg_order = pg->order;
            d->ckpt_phase = PHASE_PG;
        }
        switch (d->ckpt_phase) {
        case PHASE_PG:
            d->ckpt_phase = PHASE_FLOOR;
            *ret = (struct disk_record){.type = RECORD_APPLIED,
                                        .key = pg->key,
                                        .log_of = {.index = pg->complete_durable,
                                                   .term = store_log_term(&pg->pub, pg->complete_durable)}};
            if (ret->log_of.term)
                return true;
            break;
        case PHASE_FLOOR:
            d->ckpt_phase = PHASE_IMAGES;
            d->ckpt_first = true;
            *ret = (struct disk_record){
                .type = RECORD_FLOOR, .key = pg->key, .floor_of = {.epoch = pg->pub.floor_epoch}};
            if (pg->pub.floor_epoch)
                return true;
            break;
        case PHASE_IMAGES:
            if (next_image(d, pg, ret))
                return true;
            d->ckpt_phase = PHASE_OBJECTS;
            d->ckpt_first = true;
            break;
        case PHASE_OBJECTS:
            if (next_object(d, pg, ret))
                return true;
            d->ckpt_pg_order = pg->order + 1;
            d->ckpt_phase = PHASE_PG;
            break;
        }
    }
}

/* Encodes the next blocks; 0: there are no more. */
uint32_t checkpoint_fill(struct store *s, struct disk_checkpoint_block *blocks, uint32_t max)
{
    struct destage *d = &s->destage;
    uint32_t n = 0;

    /* The last one was not full. What has come since, a PG that was born say, is among what comes on top. */
    if (d->ckpt_records % CKPT_RECORDS_PER_BLOCK)
        return 0;
    max = (uint32_t)MIN((uint64_t)max,
                        s->g.checkpoint_blocks - 1 - MIN(d->ckpt_blocks, s->g.checkpoint_blocks - 1));
    if (max == 0) {
        struct disk_record r;
        return next_record(s, &r) ? 1 : 0;
    }
    for (; n < max; n++) {
        struct disk_checkpoint_block *b = &blocks[n];
        memset(b, 0, sizeof(*b));
        while (b->record_count < CKPT_RECORDS_PER_BLOCK && next_record(s, &b->records[b->record_count]))
            b->record_count++;
        if (!b->record_count)
            break;
        b->magic = MAGIC_CKPT_BLOCK;
        memcpy(b->format_id, s->format_id, FORMAT_ID_BYTES);
        b->number = d->ckpt_number;
        b->block = d->ckpt_blocks++;
        d->ckpt_records += b->record_count;
        FORMAT_SEAL(b);
        d->ckpt_crc = crc32c(d->ckpt_crc, &b->crc, sizeof(b->crc));
        if (b->record_count < CKPT_RECORDS_PER_BLOCK) {
            n++;
            break;
        }
    }
    return n;
}

void checkpoint_header(struct store *s, struct disk_checkpoint *ret)
{
    *ret = (struct disk_checkpoint){.magic = MAGIC_CHECKPOINT,
                                    .blocks_crc = s->destage.ckpt_crc,
                                    .number = s->destage.ckpt_number,
                                    .replay_seq = s->destage.ckpt_replay_seq,
                                    .ring_seq = s->durable_seq,
                                    .record_count = s->destage.ckpt_records};
    memcpy(ret->format_id, s->format_id, FORMAT_ID_BYTES);
    FORMAT_SEAL(ret);
}

void checkpoint_done(struct store *s)
{
    int copy = checkpoint_older(s);

    s->ckpt_number[copy] = s->destage.ckpt_number;
    s->ckpt_replay[copy] = s->destage.ckpt_replay_seq;
    s->ckpt_last = s->destage.ckpt_number;
    s->counters.checkpoints++;
}
