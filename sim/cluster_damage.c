/* SPDX-License-Identifier: Apache-2.0
 *
 * Damage to what disks hold, and the atlas of it: what may be damaged such that the cluster must come
 * through.
 *
 * One OSD of the run is the victim; the other replicas of what it has stay whole. On its disk
 *
 *   - of label, superblock, PG table and checkpoint one of the two copies may be damaged, while the other is
 * whole and on the medium, and (but for reads that fail) only while nothing serves from it;
 *   - of the blob (cluster map) anything: the monitor has it, too;
 *   - of the log ring every batch of which another header that stays whole says that it was durable. One of
 * which only it itself could tell looks, when it is gone, like one that was never finished: no replica could
 * know better, and with another replica away or behind nobody would. So a write to the ring is never lost as
 * it is reported done, only later;
 *   - reads may fail anywhere;
 *   - of the chunks (data and object pages) anything but what an entry brought whose batch is as young.
 *
 * In some runs there is, besides, damage that nothing covers: the same block goes bad on every replica. Such
 * blocks must read as errors from then on, never as anything else.
 */
#include "sim/cluster.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "store/opening.h"

#define PLACES_MAX 6 /* places that go bad at once, at most */

enum area_kind { AREA_LABEL, AREA_SUPER, AREA_TABLE, AREA_CHECKPOINT, AREA_BLOB, AREA_RING, AREA_CHUNKS };

struct area {
    enum area_kind kind;
    uint64_t offset, len;
    uint64_t sibling; /* where the other copy is; 0: there is none */
    /* Of a ring, and of chunks. */
    uint32_t slice, ring; /* ring: which of the areas is that of these chunks */
    uint8_t format_id[FORMAT_ID_BYTES];
};

/* label, and per slice: superblock, table, checkpoint, blob (two copies each), ring, chunks */
#define AREAS_MAX (2 + CLUSTER_SHARDS_MAX * 10)

struct damage {
    struct sim_rng rng;
    uint32_t victim;
    bool everywhere; /* this run has damage that nothing covers */
    uint64_t uncovered;
    struct area areas[CLUSTER_OSDS_MAX][AREAS_MAX];
    uint32_t area_count[CLUSTER_OSDS_MAX]; /* 0: not known yet */
};

void damage_init(struct cluster *c)
{
    if (!sim_fault_intensity(c->sim, SIM_FAULT_DISK_ROT) &&
        !sim_fault_intensity(c->sim, SIM_FAULT_DISK_READ) &&
        !sim_fault_intensity(c->sim, SIM_FAULT_DISK_LOSE) &&
        !sim_fault_intensity(c->sim, SIM_FAULT_DISK_MISDIRECT))
        return;
    c->damage = sim_alloc(sizeof(*c->damage));
    c->damage->rng = sim_rng_make(c->sim->seed, "cluster.damage", 0);
    c->damage->victim = (uint32_t)sim_rng_below(&c->damage->rng, c->osd_count);
    c->damage->everywhere =
        sim_rng_below(&c->damage->rng, 5) == 0 && sim_fault_intensity(c->sim, SIM_FAULT_DISK_ROT);
    sim_log(c->sim, "osd.%u is the one whose data may be damaged%s", c->damage->victim,
            c->damage->everywhere ? "; some blocks will be everywhere" : "");
}

bool damage_is_victim(const struct cluster *c, uint32_t osd)
{
    return c->damage && c->damage->victim == osd;
}

bool damage_is_uncovered(const struct cluster *c)
{
    return c->damage && c->damage->uncovered;
}

/* ---- the atlas
 * ---------------------------------------------------------------------------------------------- */

static struct area *area_add(struct damage *d, uint32_t osd, enum area_kind kind, uint64_t offset,
                             uint64_t len)
{
    struct area *area = &d->areas[osd][d->area_count[osd]++];

    ASSERT(d->area_count[osd] <= AREAS_MAX);
    *area = (struct area){.kind = kind, .offset = offset, .len = len};
    return area;
}

static void area_pair(struct damage *d, uint32_t osd, enum area_kind kind, uint64_t a, uint64_t b,
                      uint64_t len)
{
    area_add(d, osd, kind, a, len)->sibling = b;
    area_add(d, osd, kind, b, len)->sibling = a;
}

static void slice_areas(struct damage *d, struct cluster_osd *osd, uint32_t slice)
{
    uint64_t base = osd->label.slice_offset[slice];
    uint32_t n = osd->number;
    struct disk_superblock sb;
    struct geometry g;

    sim_disk_peek(osd->disk, base, &sb, sizeof(sb));
    int error = superblock_decode(&sb, osd->label.slice_size, &g);
    ASSERT(!error); /* looked at before anything is damaged */
    area_pair(d, n, AREA_SUPER, base, base + SUPERBLOCK_B_BLOCK * BLOCK_SIZE, BLOCK_SIZE);
    area_pair(d, n, AREA_TABLE, base + g.table_block * BLOCK_SIZE,
              base + (g.table_block + g.table_blocks) * BLOCK_SIZE, g.table_blocks * BLOCK_SIZE);
    area_pair(d, n, AREA_CHECKPOINT, base + g.checkpoint_block * BLOCK_SIZE,
              base + (g.checkpoint_block + g.checkpoint_blocks) * BLOCK_SIZE,
              g.checkpoint_blocks * BLOCK_SIZE);
    area_add(d, n, AREA_BLOB, base + g.blob_block * BLOCK_SIZE, 2 * g.blob_blocks * BLOCK_SIZE);
    uint32_t ring_area = d->area_count[n];
    struct area *ring =
        area_add(d, n, AREA_RING, base + g.ring_block * BLOCK_SIZE, g.ring_blocks * BLOCK_SIZE);
    memcpy(ring->format_id, sb.format_id, FORMAT_ID_BYTES);
    struct area *chunks =
        area_add(d, n, AREA_CHUNKS, base + g.chunk_block * BLOCK_SIZE, g.chunk_count * CHUNK_SIZE);
    chunks->slice = slice;
    chunks->ring = ring_area;
}

/* The map of a disk; false: it is not formatted yet. */
static bool areas_know(struct damage *d, struct cluster_osd *osd)
{
    if (d->area_count[osd->number])
        return true;
    if (!osd->process.cluster->ready || !osd->formatted)
        return false;
    area_pair(d, osd->number, AREA_LABEL, LABEL_OFFSET_A, LABEL_OFFSET_B, BLOCK_SIZE);
    for (uint32_t i = 0; i < osd->label.slice_count; i++)
        slice_areas(d, osd, i);
    return true;
}

static const struct area *area_of(const struct damage *d, uint32_t osd, uint64_t offset, uint64_t len)
{
    for (uint32_t i = 0; i < d->area_count[osd]; i++) {
        const struct area *area = &d->areas[osd][i];
        if (offset >= area->offset && offset + len <= area->offset + area->len)
            return area;
    }
    return NULL;
}

static bool block_is_sealed(const struct cluster_osd *osd, uint64_t offset, size_t crc_offset,
                            uint8_t *ret_block)
{
    sim_disk_peek(osd->disk, offset, ret_block, BLOCK_SIZE);
    uint32_t crc;
    memcpy(&crc, ret_block + crc_offset, sizeof(crc));
    return sim_disk_is_readable(osd->disk, offset, BLOCK_SIZE) &&
           crc == format_crc(ret_block, BLOCK_SIZE, crc_offset);
}

static bool checkpoint_is_whole(const struct cluster_osd *osd, uint64_t offset)
{
    union {
        uint8_t bytes[BLOCK_SIZE];
        struct disk_checkpoint header;
        struct disk_checkpoint_block block;
    } b;

    if (!block_is_sealed(osd, offset, offsetof(struct disk_checkpoint, crc), b.bytes) ||
        b.header.magic != MAGIC_CHECKPOINT)
        return false;
    uint64_t number = b.header.number,
             blocks = DIV_UP(b.header.record_count, (uint64_t)CKPT_RECORDS_PER_BLOCK);
    for (uint64_t i = 0; i < blocks; i++)
        if (!block_is_sealed(osd, offset + (1 + i) * BLOCK_SIZE, offsetof(struct disk_checkpoint_block, crc),
                             b.bytes) ||
            b.block.number != number)
            return false;
    return true;
}

/* Is the other copy of what lies here whole, and will it stay so? */
static bool sibling_is_whole(const struct cluster_osd *osd, const struct area *area, uint64_t offset,
                             uint64_t len)
{
    uint64_t other = area->sibling + (offset - area->offset);
    uint8_t block[BLOCK_SIZE];

    if (!sim_disk_is_settled(osd->disk, area->sibling, area->len))
        return false;
    if (area->kind == AREA_CHECKPOINT)
        return checkpoint_is_whole(osd, area->sibling);
    for (uint64_t at = other; at < other + len; at += BLOCK_SIZE)
        if (!block_is_sealed(osd, at,
                             area->kind == AREA_TABLE ? offsetof(struct disk_table_block, crc)
                                                      : offsetof(struct disk_superblock, crc),
                             block))
            return false;
    return true;
}

/* ---- the ring: what is proven -------------------------------------------------------------------------- */

struct ring_header {
    union {
        struct disk_batch h;
        uint8_t bytes[BATCH_HEADER_BLOCKS_MAX * BLOCK_SIZE];
    };
};

/* The header at block `phys` of the ring, if there is a whole one. */
static bool header_peek(const struct cluster_osd *osd, const struct area *ring, uint64_t phys,
                        struct ring_header *ret)
{
    uint64_t blocks = ring->len / BLOCK_SIZE;

    sim_disk_peek(osd->disk, ring->offset + phys * BLOCK_SIZE, ret, BLOCK_SIZE);
    if (ret->h.magic != MAGIC_BATCH || memcmp(ret->h.format_id, ring->format_id, FORMAT_ID_BYTES) != 0 ||
        ret->h.header_blocks == 0 || ret->h.header_blocks > MIN(BATCH_HEADER_BLOCKS_MAX, blocks - phys) ||
        ret->h.used_bytes < sizeof(ret->h) || ret->h.used_bytes > ret->h.header_blocks * BLOCK_SIZE)
        return false;
    if (!sim_disk_is_readable(osd->disk, ring->offset + phys * BLOCK_SIZE, ret->h.header_blocks * BLOCK_SIZE))
        return false;
    sim_disk_peek(osd->disk, ring->offset + phys * BLOCK_SIZE, ret, ret->h.header_blocks * BLOCK_SIZE);
    return ret->h.crc == format_crc(&ret->h, ret->h.used_bytes, offsetof(struct disk_batch, crc));
}

static bool ranges_meet(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return a < b + b_len && b < a + a_len;
}

static bool header_brings(const struct disk_batch *h, uint64_t chunk)
{
    for (const struct disk_entry *e = NULL; (e = batch_entry_next(h, e));)
        for (uint32_t b = 0; e->type == ENTRY_WRITE && b < e->data.block_count; b++)
            if (batch_entry_chunk(e, b) == chunk)
                return true;
    return false;
}

/* Damage to this range of the ring, or to these chunks, is known for damage: headers that stay whole tell of
 * every batch that it concerns that it was durable. */
static bool is_proven(const struct cluster_osd *osd, const struct area *ring, uint64_t offset, uint64_t len,
                      uint64_t first_chunk, uint64_t last_chunk)
{
    struct ring_header *header = sim_alloc(sizeof(*header));
    uint64_t proven = 0, concerned = 0;

    for (uint64_t phys = 0; phys < ring->len / BLOCK_SIZE; phys++) {
        const struct disk_batch *h = &header->h;
        if (!header_peek(osd, ring, phys, header))
            continue;
        uint64_t at = ring->offset + phys * BLOCK_SIZE;
        bool hit = ranges_meet(at, (h->header_blocks + h->payload_blocks) * BLOCK_SIZE, offset, len);
        for (uint64_t chunk = first_chunk; chunk && chunk <= last_chunk && !hit; chunk++)
            hit = header_brings(h, chunk);
        if (hit)
            concerned = MAX(concerned, h->seq);
        if (!ranges_meet(at, h->header_blocks * BLOCK_SIZE, offset, len))
            proven = MAX(proven, h->durable_seq);
    }
    free(header);
    return concerned <= proven;
}

/* An entry of some log brings the chunk, and does not count as durable yet. */
static bool is_being_brought(const struct store *s, uint64_t chunk)
{
    for (struct store_pg *pub = NULL; (pub = store_pg_next(s, pub));)
        for (uint64_t i = pub->durable_index + 1; i <= pub->last_index; i++) {
            const struct log_entry *e = log_at(pg_of(pub), i);
            for (uint32_t c = 0; c < e->chunk_count; c++)
                if (e->crc[entry_blocks(e) + c] == chunk)
                    return true;
        }
    return false;
}

static bool chunks_are_proven(struct damage *d, const struct cluster_osd *osd, const struct area *area,
                              enum sim_damage damage, uint64_t offset, uint64_t len)
{
    uint64_t first = 1 + (offset - area->offset) / CHUNK_SIZE,
             last = 1 + (offset + len - 1 - area->offset) / CHUNK_SIZE;
    const struct store *s = osd->shards[area->slice] ? osd_shard_store(osd->shards[area->slice]) : NULL;

    for (uint64_t chunk = first; damage == SIM_DAMAGE_LOSE_NEW && chunk <= last; chunk++)
        if (!s || is_being_brought(s, chunk))
            return false;
    return is_proven(osd, &d->areas[osd->number][area->ring], 0, 0, first, last);
}

bool damage_may(void *owner, struct sim_disk *disk, enum sim_damage damage, uint64_t offset, uint64_t len)
{
    struct cluster_osd *osd = owner;
    struct cluster *c = osd->process.cluster;
    struct damage *d = c->damage;

    if (!d || c->quiet || !areas_know(d, osd))
        return false;
    const struct area *area = area_of(d, osd->number, offset, len);
    if (!area)
        return false;
    if (d->victim != osd->number)
        return d->everywhere && area->kind == AREA_CHUNKS && damage == SIM_DAMAGE_ROT;
    switch (area->kind) {
    case AREA_LABEL:
    case AREA_SUPER:
    case AREA_TABLE:
    case AREA_CHECKPOINT:
        /* Of a pair it is always the first whose reads fail: never both in one start. */
        if (damage == SIM_DAMAGE_READ_ERROR)
            return area->sibling > area->offset && sibling_is_whole(osd, area, offset, len);
        return damage == SIM_DAMAGE_ROT && !process_running(&osd->process) &&
               sibling_is_whole(osd, area, offset, len);
    case AREA_BLOB:
        return true;
    case AREA_RING:
        /* A member that misses a split while its log is damaged has no child, which counts like a replica
         * that is lost; without it the two others need one another. So no member may be behind besides, which
         * can vote and not lead: three copies cannot outlive that. Nor when a full member refuses what is in
         * the leader's log: no other majority is left that could commit the removals that make room. */
        if (splits_happen(c) || c->profile == PROFILE_FULL)
            return false;
        return damage == SIM_DAMAGE_READ_ERROR ||
               (damage != SIM_DAMAGE_LOSE_NEW && is_proven(osd, area, offset, len, 0, 0));
    case AREA_CHUNKS:
        return damage == SIM_DAMAGE_READ_ERROR || chunks_are_proven(d, osd, area, damage, offset, len);
    }
    UNREACHABLE();
}

/* ---- what happens
 * -------------------------------------------------------------------------------------------- */

/* All areas that may be damaged now are as likely, however large they are; chunks more so. */
static const struct area *choose_area(struct cluster *c)
{
    struct damage *d = c->damage;
    const struct area *chosen = NULL;
    uint64_t seen = 0;

    for (uint32_t i = 0; i < d->area_count[d->victim]; i++) {
        const struct area *area = &d->areas[d->victim][i];
        uint64_t weight = area->kind == AREA_CHUNKS                                       ? 4
                          : area->sibling && process_running(&c->osds[d->victim].process) ? 0
                                                                                          : 1;
        seen += weight;
        if (weight && sim_rng_below(&d->rng, seen) < weight)
            chosen = area;
    }
    return chosen;
}

static void strike_victim(struct cluster *c, enum sim_fault fault)
{
    struct damage *d = c->damage;
    struct cluster_osd *osd = &c->osds[d->victim];

    if (!areas_know(d, osd))
        return;
    for (uint64_t i = 1 + sim_rng_below(&d->rng, PLACES_MAX); i; i--) {
        const struct area *area = choose_area(c);
        if (fault == SIM_FAULT_DISK_ROT)
            sim_disk_rot(osd->disk, area->offset, area->len);
        else
            sim_disk_lose(osd->disk, area->offset, area->len);
    }
}

struct block_place {
    uint64_t pg, image, object;
    uint32_t block;
};

static const struct object *place_object(const struct cluster_osd *osd, uint32_t shard,
                                         const struct block_place *at)
{
    struct store_pg *pub =
        osd->shards[shard] ? store_pg_find(osd_shard_store(osd->shards[shard]), at->pg) : NULL;

    return pub ? object_find(pg_of(pub), at->image, at->object) : NULL;
}

/* A block that some replica has in a chunk. */
static bool place_choose(struct cluster *c, struct block_place *ret)
{
    struct damage *d = c->damage;
    uint32_t shard = (uint32_t)sim_rng_below(&d->rng, c->shard_count);
    const struct cluster_osd *osd = &c->osds[sim_rng_below(&d->rng, c->osd_count)];
    uint64_t seen = 0;

    if (!osd->shards[shard])
        return false;
    const struct store *store = osd_shard_store(osd->shards[shard]);
    for (struct store_pg *pg = NULL; (pg = store_pg_next(store, pg));) {
        struct store_object_info info = {0};
        for (bool start = true; store_object_next(pg, start, info.image, info.object, &info); start = false) {
            const struct object *o = object_find(pg_of(pg), info.image, info.object);
            for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
                if (page_map_get(&o->map, b / BLOCKS_PER_CHUNK).written >> b % BLOCKS_PER_CHUNK & 1 &&
                    sim_rng_below(&d->rng, ++seen) == 0)
                    *ret = (struct block_place){pg->record.pg, info.image, info.object, b};
        }
    }
    return seen;
}

static bool rot_block(struct cluster_osd *osd, uint32_t shard, const struct object *o, uint32_t block)
{
    uint32_t chunk = object_chunk(o, block / BLOCKS_PER_CHUNK);
    uint64_t place = chunk ? chunk_place(store_of(o->pg), chunk, block % BLOCKS_PER_CHUNK) : 0;

    return chunk && sim_disk_rot(osd->disk, osd->label.slice_offset[shard] + place * BLOCK_SIZE, BLOCK_SIZE);
}

/* The same block on every replica that has it in a chunk: if all have, nothing covers it any more. */
static void strike_everywhere(struct cluster *c)
{
    struct block_place at = {0};

    if (!place_choose(c, &at))
        return;
    for (uint32_t i = 0; i < c->osd_count; i++) {
        for (uint32_t j = 0; j < c->shard_count; j++) {
            struct cluster_osd *osd = &c->osds[i];
            const struct object *o = areas_know(c->damage, osd) ? place_object(osd, j, &at) : NULL;
            if (o && rot_block(osd, j, o, at.block))
                c->damage->uncovered++;
        }
    }
}

void damage_strike(struct cluster *c, enum sim_fault fault)
{
    if (!c->damage)
        return;
    if (fault == SIM_FAULT_DISK_ROT && c->damage->everywhere && sim_rng_below(&c->damage->rng, 2))
        strike_everywhere(c);
    else
        strike_victim(c, fault);
}

void damage_strike_pg(struct cluster *c, uint64_t pg)
{
    struct cluster_osd *osd = &c->osds[c->damage->victim];

    for (uint32_t i = 0; i < c->shard_count && areas_know(c->damage, osd); i++) {
        struct store_pg *pub = osd->shards[i] ? store_pg_find(osd_shard_store(osd->shards[i]), pg) : NULL;
        struct store_object_info at = {0};
        for (bool start = true; pub && store_object_next(pub, start, at.image, at.object, &at);
             start = false) {
            const struct object *o = object_find(pg_of(pub), at.image, at.object);
            for (uint32_t n = 0; n < PLACES_MAX; n++)
                rot_block(osd, i, o, (uint32_t)sim_rng_below(&c->damage->rng, BLOCKS_PER_OBJECT));
        }
    }
}

void damage_died(struct cluster_osd *osd)
{
    struct cluster *c = osd->process.cluster;

    if (!c->quiet && damage_is_victim(c, osd->number) && sim_fault_intensity(c->sim, SIM_FAULT_DISK_ROT))
        strike_victim(c, SIM_FAULT_DISK_ROT);
}

void damage_lasting(struct cluster *c, const struct cluster_osd *osd, struct sim_disk_faults *faults)
{
    if (c->quiet || !damage_is_victim(c, osd->number))
        return;
    faults->read_error_ppm = sim_fault_intensity(c->sim, SIM_FAULT_DISK_READ) * 200;
    faults->misdirect_ppm = sim_fault_intensity(c->sim, SIM_FAULT_DISK_MISDIRECT) * 200;
    faults->lose_ppm = sim_fault_intensity(c->sim, SIM_FAULT_DISK_LOSE) * 200;
}

/* Whatever is still hidden in what only a start reads comes to light, and must be put right. */
void damage_stop(struct cluster *c)
{
    if (c->damage)
        process_kill(&c->osds[c->damage->victim].process, SIM_CRASH_PROCESS, NS_PER_S);
}
