/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes wrong, and when: the process is killed, or the power cut, at any moment; requests fail or are
 * slow; at the last start data has rotted, cannot be read, or is as it was before it was written last.
 */
#include "sim/store_world.h"

#define RUN_MAX_NS (20 * NS_PER_S)
#define ROUNDS_MAX 12u

static bool touches(uint64_t offset, uint64_t len, uint64_t block, uint64_t blocks)
{
    return offset < block_offset(block + blocks) && block_offset(block) < offset + len;
}

bool faults_may_damage(void *owner, struct sim_disk *disk, enum sim_damage damage, uint64_t offset,
                       uint64_t len)
{
    struct world *w = owner;
    struct geometry g;
    bool has_layout = !geometry_layout(sim_disk_size(disk), w->ring_bytes, &g);

    if (w->striking)
        return true;
    /* One copy of the checkpoint may have been struck, and look whole. */
    if (w->starts_blind && damage == SIM_DAMAGE_READ_ERROR)
        return !w->checkpoint_hit || !has_layout ||
               !touches(offset, len, g.checkpoint_block, 2 * g.checkpoint_blocks);
    if (damage != SIM_DAMAGE_LOSE || !w->rot)
        return w->rot;
    if (!has_layout)
        return false;
    /* Of what was acknowledged in both copies of the table one must be there. */
    if (touches(offset, len, g.table_block + g.table_blocks, g.table_blocks))
        return false;
    /* A checkpoint that lost its header and its blocks is the one before the last, and whole; if the other
     * copy is bad, too, nothing tells that what the ring has is not all that came on top. */
    return !touches(offset, len, g.checkpoint_block, 1) &&
           !touches(offset, len, g.checkpoint_block + g.checkpoint_blocks, 1);
}

static bool is_stopped(void *owner)
{
    struct world *w = owner;

    return w->stopped || !w->driver || w->driver->op.state == DRIVE_FAILED;
}

/* Others have the buffers of the shard for a while. */
static void memory_fire(void *owner)
{
    struct world *w = owner;
    struct sim_rng *rng = &w->memories;
    size_t leave = sim_rng_below(rng, 3) ? (size_t)BLOCK_SIZE << sim_rng_below(rng, 9) : 0;
    bool scattered = sim_rng_below(rng, 3) == 0;
    uint64_t for_ns = (NS_PER_MS / 8) << sim_rng_below(rng, 8);

    if (w->stop)
        return;
    if (w->driver && w->driver->op.state == DRIVE_WORK) {
        sim_node_hold_buffers(w->node, leave, scattered, for_ns);
        sim_injected(w->sim, SIM_FAULT_MEMORY);
    }
    sim_after(w->sim, sim_rng_below(rng, 2 * NS_PER_S / sim_fault_intensity(w->sim, SIM_FAULT_MEMORY)),
              memory_fire, w);
}

/* The process, or the machine, dies; and comes back. */
static void crash(struct world *w)
{
    bool power = sim_rng_below(&w->rng, 2) || w->power_next;

    w->power_next = false;
    w->process_died = !power;

    sim_injected(w->sim, power ? SIM_FAULT_POWER : SIM_FAULT_CRASH);
    before_note(w);
    sim_node_crash(w->node, power ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
    scars_strike(w);
    sim_node_start(w->node);
}

static bool is_splitting(void *owner)
{
    struct world *w = owner;

    return w->driver && w->driver->splitting;
}

static bool has_moved(const struct driver *d)
{
    const struct store_pg *pg = d->splitting ? store_pg_find(d->store, d->world->pgs[d->split_pg].id) : NULL;

    return pg && pg->record.split_count >= d->split.split_count && d->split.split_count;
}

static bool header_is_late(const struct store *s)
{
    for (uint32_t i = 0; i < s->inflight_count; i++) {
        const struct ring_slot *slot = &s->slots[(s->inflight_head + i) % s->inflight_max];
        bool pending = false;
        for (uint32_t n = 0; n < slot->large_ios; n++)
            pending |= slot->large_io[n].pending;
        if (slot->large_ios && !pending && slot->io.pending)
            return true;
    }
    return false;
}

/* Of one that nothing follows yet; at the next start some of these chunks may not come. */
static bool chunks_are_late(struct world *w, const struct store *s)
{
    for (uint32_t i = 0; i < s->inflight_count; i++) {
        const struct ring_slot *slot = &s->slots[(s->inflight_head + i) % s->inflight_max];
        for (uint32_t n = 0; n < slot->large_ios && !slot->io.pending; n++) {
            if (!slot->large_io[n].pending)
                continue;
            w->blind_from = slot->large_io[n].offset;
            w->blind_len = slot->large_io[n].len;
            return true;
        }
    }
    return false;
}

/* Likewise, of the newest one that counts: nothing but its own chunks tells that it did. */
static bool chunks_are_unproven(struct world *w, const struct store *s)
{
    const struct batch *b = list_empty(&s->batches) ? NULL : list_entry(s->batches.prev, struct batch, link);

    if (!b || !b->durable || b->seq <= w->driver->proven_seq)
        return false;
    list_for_each (&b->entries, node) {
        struct log_entry *e = list_entry(node, struct log_entry, batch_link);
        if (!e->in_log || e->type != ENTRY_WRITE || !e->chunk_count)
            continue;
        uint32_t chunk = entry_chunks(e)[sim_rng_below(&w->blinds, e->chunk_count)];
        w->blind_from = block_offset(chunk_place(s, chunk, 0));
        w->blind_len = block_offset(BLOCKS_PER_CHUNK);
        return true;
    }
    return false;
}

static bool is_moment(void *owner)
{
    struct world *w = owner;
    const struct driver *d = w->driver;
    const struct store *s = d ? d->store : NULL;

    if (w->moment == MOMENT_RESET)
        return s && d->op.state == DRIVE_RECOVERED;
    if (w->moment == MOMENT_COPY)
        return s && d->op.state == DRIVE_COPY_WRITE;
    if (w->moment == MOMENT_ROTTEN)
        return s && d->rotten_seq && s->durable_seq == d->rotten_seq;
    if (!s || d->op.state != DRIVE_WORK)
        return false;
    switch (w->moment) {
    case MOMENT_TAIL:
        return s->tail > s->tail_durable;
    case MOMENT_CHECKPOINT:
        return s->destage.ckpt_number > s->ckpt_last;
    case MOMENT_PAGES:
        return s->destage.object_count && s->destage.flush.pending;
    case MOMENT_MEND:
        return d->mend.state == MEND_END;
    case MOMENT_REMOVAL:
        return d->removing;
    case MOMENT_FLOOD:
        return s->record_count > 256 && (s->tail > s->tail_durable || sim_rng_below(&w->floods, 100) == 0);
    case MOMENT_BLOB:
        return d->blob_writing;
    case MOMENT_RECORDS:
        return s->destage.object_count && s->destage.io.pending && s->records_durable < s->records_pushed;
    case MOMENT_SPLIT:
        return has_moved(d);
    case MOMENT_LARGE:
        return header_is_late(s);
    case MOMENT_CHUNKS:
        return w->chunks_done ? chunks_are_unproven(w, s) : chunks_are_late(w, s);
    case MOMENT_FORWARD:
        return d->forward_seq > s->durable_seq;
    default:
        return false;
    }
}

/* Destage writes, and the log has not got yet what is applied already. */
static bool is_early(void *owner)
{
    struct world *w = owner;
    const struct store *s = w->driver ? w->driver->store : NULL;

    if (!s || w->driver->op.state != DRIVE_WORK || !s->destage.io.pending)
        return false;
    for (const struct store_pg *pg = NULL; (pg = store_pg_next(s, pg));)
        if (pg->applied_index > pg->durable_index)
            return true;
    return false;
}

/* It is formatted, and a superblock tells that. */
static bool is_half(void *owner)
{
    struct world *w = owner;
    struct disk_superblock sb;

    sim_disk_peek(w->disk, block_offset(SUPERBLOCK_A_BLOCK), &sb, sizeof(sb));
    return w->formatting && sb.magic == MAGIC_SUPERBLOCK;
}

/* It has looked at the disk. */
static bool is_open(void *owner)
{
    struct world *w = owner;

    return w->driver && w->driver->store;
}

/* All that was damaged has been mended. */
static bool is_well(void *owner)
{
    struct world *w = owner;

    return w->driver && w->driver->op.state == DRIVE_WORK && !w->hurt;
}

/* It works with what the start found. */
static bool is_back(void *owner)
{
    struct world *w = owner;

    return w->driver && w->driver->store && w->driver->op.state > DRIVE_AGAIN;
}

/* PGs lack what the others have gone on with, or take it from them. */
static bool is_behind(void *owner)
{
    struct world *w = owner;

    for (uint32_t i = 0; i < MODEL_PGS; i++)
        if (w->driver && w->driver->store && w->fell_behind[i])
            return true;
    return false;
}

/* They have it. */
static bool is_recovered(void *owner)
{
    struct world *w = owner;

    return w->recovered > w->recovered_before;
}

/* What was split meanwhile is split here, too. */
static bool is_split_behind(void *owner)
{
    struct world *w = owner;

    return w->driver && w->driver->behind;
}

/* What is written to it ends behind what is written elsewhere. */
static void ring_late(struct world *w)
{
    struct geometry g;

    if (geometry_layout(sim_disk_size(w->disk), w->ring_bytes, &g))
        return;
    w->faults.late_from = block_offset(g.ring_block);
    w->faults.late_len = block_offset(g.ring_blocks);
    w->faults.late_ns = sim_rng_below(&w->scars, 3 * NS_PER_MS);
    sim_disk_set_faults(w->disk, &w->faults);
}

static bool is_moving(void *owner)
{
    struct world *w = owner;

    return !w->driver || w->driver->op.state != DRIVE_RECOVERED;
}

/* A crash must not hide that something waits for ever. A page that cannot be read is waited for, too: 5 s. */
static void await_recovered(struct world *w)
{
    if (w->sim->failed || w->errors || is_moving(w) || w->sim->now_ns - w->driver->since_ns < 100 * NS_PER_MS)
        return;
    if (!sim_run_while(w->sim, is_moving, w, w->sim->now_ns + 12 * NS_PER_S) && !w->sim->failed)
        sim_fail(w->sim, "PG %u does not end its recovery", w->driver->pg);
}

static bool is_started(void *owner)
{
    struct world *w = owner;

    return w->driver && (w->driver->store || w->driver->op.state == DRIVE_FAILED);
}

/* Reads fail until it has looked at the disk. */
static void start_blind(struct world *w)
{
    struct sim_disk_faults faults = w->faults;

    faults.read_error_ppm = w->blind_len ? 1000000 : sim_fault_intensity(w->sim, SIM_FAULT_DISK_READ) * 500;
    faults.read_error_from = w->blind_from;
    faults.read_error_len = w->blind_len;
    sim_disk_set_faults(w->disk, &faults);
    (void)sim_run_while(w->sim, is_started, w, w->sim->now_ns + 10 * NS_PER_S);
    sim_disk_set_faults(w->disk, &w->faults);
    w->starts_blind = false;
    w->blind_from = w->blind_len = 0;
}

static bool is_moved(void *owner)
{
    struct world *w = owner;

    return w->driver && w->driver->store && has_moved(w->driver);
}

static bool is_first_proven(void *owner)
{
    struct world *w = owner;

    return w->driver && w->driver->store && scars_first_proven(w, w->driver->store);
}

/* A PG is being split: often the table could be written before the records are. */
static void split_crash(struct world *w)
{
    if (sim_rng_below(&w->blows, 2)) {
        ring_late(w);
        if (sim_run_while(w->sim, is_moved, w, w->sim->now_ns + 100 * NS_PER_MS) && !w->sim->failed)
            sim_run_for(w->sim, sim_rng_below(&w->blows, 2 * NS_PER_MS));
        return;
    }
    sim_run_for(w->sim, sim_rng_range(&w->rng, 1, 3 * NS_PER_MS));
}

static void moment_has_come(struct world *w)
{
    bool writing = w->moment == MOMENT_FORWARD || w->moment == MOMENT_CHUNKS;

    if (w->sim->verbose)
        sim_log(w->sim, "moment %d", w->moment);
    if (writing)
        w->power_next = sim_rng_below(&w->turns, 3);
    if (w->moment == MOMENT_ROTTEN)
        return;
    sim_run_for(w->sim, sim_rng_below(&w->moments, w->moment == MOMENT_SPLIT ? 60 * NS_PER_MS
                                                   : writing                 ? 30 * NS_PER_US
                                                                             : 300 * NS_PER_US));
}

static bool is_covered(void *owner)
{
    struct world *w = owner;

    return !w->gap || w->gap_covered;
}

/* What the start has found is worth another crash. */
static bool start_plot(struct world *w, uint64_t most)
{
    uint64_t until_ns = w->sim->now_ns + most;

    w->misses_one = w->spared = false;
    if (sim_rng_below(&w->turns, 2) || !sim_run_while(w->sim, is_back, w, until_ns))
        return w->sim->failed;
    if (w->misses_one && sim_run_while(w->sim, is_split_behind, w, until_ns)) {
        sim_run_for(w->sim, sim_rng_below(&w->turns, 5 * NS_PER_MS));
        return true;
    }
    if (w->cut_off && !w->hurt && sim_fault_intensity(w->sim, SIM_FAULT_DISK_ROT)) {
        w->cut_off_struck = sim_run_while(w->sim, is_first_proven, w, until_ns);
        return w->cut_off_struck;
    }
    if (w->gap && sim_run_while(w->sim, is_well, w, until_ns))
        w->spared = sim_run_while(w->sim, is_covered, w, until_ns);
    return w->spared;
}

/* The time until a crash; often it comes while a PG is split, or at another moment that matters. */
static void run_until_crash(struct world *w)
{
    uint64_t most = sim_rng_below(&w->rng, 3) ? 300 * NS_PER_MS : 20 * NS_PER_MS;
    uint64_t time_ns = sim_rng_range(&w->rng, 1, most);

    w->blind_from = w->blind_len = 0; /* by now others have these chunks */
    if (start_plot(w, most))
        return;
    if (w->hurt && sim_rng_below(&w->blows, 4) == 0 &&
        sim_run_while(w->sim, is_well, w, w->sim->now_ns + most)) {
        sim_run_for(w->sim, sim_rng_below(&w->blows, 100 * NS_PER_US));
        w->power_next = true;
        return;
    }
    if (w->hurt && sim_rng_below(&w->scars, 3) == 0 &&
        sim_run_while(w->sim, is_open, w, w->sim->now_ns + most)) {
        sim_run_for(w->sim, sim_rng_below(&w->scars, 2 * NS_PER_MS));
        return;
    }
    if (w->process_died && sim_rng_below(&w->scars, 4) == 0 &&
        sim_run_while(w->sim, is_back, w, w->sim->now_ns + most)) {
        sim_run_for(w->sim, sim_rng_below(&w->scars, 100 * NS_PER_US));
        w->power_next = true;
        return;
    }
    w->recovered_before = w->recovered;
    if (sim_rng_below(&w->scars, is_behind(w) || w->restless ? 3 : 10) == 0) {
        if (sim_rng_below(&w->scars, 2))
            ring_late(w);
        if (sim_run_while(w->sim, is_recovered, w, w->sim->now_ns + most))
            sim_run_for(w->sim, sim_rng_below(&w->scars, 300 * NS_PER_US));
        return;
    }
    if (w->misses_splits && sim_rng_below(&w->misses, 2)) {
        bool late = sim_rng_below(&w->misses, 2);
        if (sim_run_while(w->sim, late ? is_split_behind : is_behind, w, w->sim->now_ns + most))
            sim_run_for(w->sim, sim_rng_below(&w->misses, NS_PER_MS));
        return;
    }
    if (sim_rng_below(&w->earlies, 8) == 0 && sim_run_while(w->sim, is_back, w, w->sim->now_ns + most)) {
        sim_run_for(w->sim, sim_rng_below(&w->earlies, NS_PER_MS));
        return;
    }
    if (sim_rng_below(&w->earlies, 8) == 0) {
        sim_run_for(w->sim, sim_rng_below(&w->earlies, most));
        if (sim_run_while(w->sim, is_early, w, w->sim->now_ns + most))
            sim_run_for(w->sim, sim_rng_below(&w->earlies, 100 * NS_PER_US));
        return;
    }
    w->moment =
        sim_rng_below(&w->moments, 2) ? MOMENT_ANY : 1 + (enum moment)sim_rng_below(&w->moments, MOMENTS - 1);
    if (w->flood_rarely && sim_rng_below(&w->floods, 2))
        w->moment = MOMENT_FLOOD;
    if (sim_rng_below(&w->turns, 8) == 0)
        w->moment = MOMENT_FORWARD;
    if (sim_fault_intensity(w->sim, SIM_FAULT_DISK_ROT) && sim_rng_below(&w->turns, 4) == 0)
        w->moment = MOMENT_ROTTEN;
    if (sim_fault_intensity(w->sim, SIM_FAULT_DISK_READ) && sim_rng_below(&w->turns, 4) == 0)
        w->moment = MOMENT_CHUNKS;
    w->chunks_done = w->moment == MOMENT_CHUNKS && sim_rng_below(&w->blinds, 2);
    /* Somebody has no quorum until the tail comes by. */
    bool forward = w->moment == MOMENT_FORWARD || w->moment == MOMENT_ROTTEN;
    if (forward)
        ring_late(w);
    if (forward && w->driver)
        w->driver->stalled |= 1ull << sim_rng_below(&w->turns, MODEL_PGS_FIRST);
    uint64_t until_ns = w->sim->now_ns + (forward ? NS_PER_S : 3 * time_ns);
    if (w->moment && sim_run_while(w->sim, is_moment, w, until_ns) && !w->sim->failed)
        moment_has_come(w);
    else if (w->sim->failed)
        return;
    else if (sim_rng_below(&w->rng, 2) &&
             sim_run_while(w->sim, is_splitting, w, w->sim->now_ns + 3 * time_ns) && !w->sim->failed)
        split_crash(w);
    else if (!w->sim->failed)
        sim_run_for(w->sim, time_ns);
}

static bool newest_chunks(const struct store *s, uint32_t from, uint64_t *ret_block, uint64_t *ret_blocks)
{
    for (uint32_t i = 0; i < RING_INFLIGHT_MAX; i++) {
        const struct ring_slot *slot = &s->slots[(from + i) % RING_INFLIGHT_MAX];
        if (!slot->large_ios)
            continue;
        *ret_block = slot->large_io[0].offset / BLOCK_SIZE;
        *ret_blocks = slot->large_io[0].len / BLOCK_SIZE;
        return true;
    }
    return false;
}

/* Most of a disk is chunks. What there is little of rots, too. */
static void aim(struct world *w, bool (*damage)(struct sim_disk *disk, uint64_t offset, uint64_t len))
{
    const struct store *s = w->driver ? w->driver->store : NULL;
    uint64_t block, blocks;

    if (!s)
        return;
    switch (sim_rng_below(&w->aims, 7)) {
    case 0:
        block = s->g.checkpoint_block;
        blocks = 2 * s->g.checkpoint_blocks;
        break;
    case 1:
        block = s->g.table_block;
        blocks = 2 * s->g.table_blocks;
        break;
    case 2:
        block = s->g.ring_block;
        blocks = s->g.ring_blocks;
        break;
    case 4: /* chunks of one of the newest batches */
        if (!newest_chunks(s, (uint32_t)sim_rng_below(&w->aims, RING_INFLIGHT_MAX), &block, &blocks))
            return;
        break;
    case 3: /* the header of a checkpoint */
        block = s->g.checkpoint_block + sim_rng_below(&w->aims, 2) * s->g.checkpoint_blocks;
        blocks = 1;
        break;
    default:
        return;
    }
    damage(w->disk, block_offset(block), block_offset(blocks));
}

/* A part of the disk answers later than the others: what is written there and elsewhere ends in another order
 * than chance has it. */
static void late(struct world *w, struct sim_disk_faults *faults)
{
    struct geometry g;
    uint64_t block = 0, blocks = 0;

    if (sim_rng_below(&w->lates, 2) || geometry_layout(sim_disk_size(w->disk), w->ring_bytes, &g))
        return;
    switch (sim_rng_below(&w->lates, 4)) {
    case 0:
        block = g.table_block;
        blocks = 2 * g.table_blocks;
        break;
    case 1:
        block = g.checkpoint_block;
        blocks = 2 * g.checkpoint_blocks;
        break;
    case 2:
        block = g.ring_block;
        blocks = g.ring_blocks;
        break;
    case 3:
        block = g.chunk_block;
        blocks = g.chunk_count * BLOCKS_PER_CHUNK;
        break;
    }
    faults->late_from = block_offset(block);
    faults->late_len = block_offset(blocks);
    faults->late_ns = sim_rng_below(&w->lates, sim_rng_below(&w->lates, 2) ? NS_PER_MS : 10 * NS_PER_MS);
    if (block == g.table_block && sim_rng_below(&w->lates, 2))
        faults->late_ns *= 10; /* the ring goes on, and comes round */
}

/* Most writes are the ring's. */
static void aim_errors(struct world *w, struct sim_disk_faults *faults)
{
    struct geometry g;

    if (sim_rng_below(&w->aims, 2) || geometry_layout(sim_disk_size(w->disk), w->ring_bytes, &g))
        return;
    faults->error_from = block_offset(g.chunk_block);
    faults->error_len = block_offset(g.chunk_count * BLOCKS_PER_CHUNK);
    faults->write_error_ppm *= 40;
}

void faults_run(struct world *w)
{
    struct sim *sim = w->sim;
    uint32_t rounds = 2 + (uint32_t)sim_rng_below(&w->rng, ROUNDS_MAX);
    struct sim_disk_faults faults = {0};

    if (sim_fault_intensity(sim, SIM_FAULT_MEMORY))
        memory_fire(w);
    if (sim_rng_below(&w->scars, 4) == 0 && sim_run_while(sim, is_half, w, sim->now_ns + NS_PER_S)) {
        sim_run_for(sim, sim_rng_below(&w->scars, 300 * NS_PER_US));
        crash(w);
    }
    for (uint32_t i = 0; i < rounds && !sim->failed && !w->stop; i++) {
        bool errors = (sim_fault_intensity(sim, SIM_FAULT_DISK_ERROR) ||
                       sim_fault_intensity(sim, SIM_FAULT_DISK_FLUSH)) &&
                      sim_rng_below(&w->rng, 3) == 0;
        uint32_t flushes = sim_rng_below(&w->scars, 2) ? 10 : 2000;
        w->errors |= errors;
        faults = (struct sim_disk_faults){
            .slow_ppm = sim_fault_intensity(sim, SIM_FAULT_DISK_SLOW) * 200,
            .slow_ns = 20 * NS_PER_MS,
            .write_error_ppm = errors ? sim_fault_intensity(sim, SIM_FAULT_DISK_ERROR) * 10 : 0,
            .read_error_ppm = 0,
            .flush_error_ppm = errors ? sim_fault_intensity(sim, SIM_FAULT_DISK_FLUSH) * flushes : 0};
        late(w, &faults);
        w->late_ns = faults.late_ns;
        if (errors)
            aim_errors(w, &faults);
        w->faults = faults;
        sim_disk_set_faults(w->disk, &faults);
        if (w->starts_blind)
            start_blind(w);
        run_until_crash(w);
        await_recovered(w);
        w->burst = 1 + (uint32_t)sim_rng_below(&w->rng, 30);
        if (sim->failed)
            break;
        if (i + 1 == rounds && sim_fault_intensity(sim, SIM_FAULT_DISK_ROT)) {
            w->rot = true;
            for (uint32_t n = 0; n < 1 + sim_fault_intensity(sim, SIM_FAULT_DISK_ROT) / 10; n++)
                sim_disk_rot(w->disk, 0, sim_disk_size(w->disk));
            aim(w, sim_disk_rot);
        }
        if (i + 1 == rounds && sim_fault_intensity(sim, SIM_FAULT_DISK_LOSE)) {
            w->rot = true;
            for (uint32_t n = 0; n < 1 + sim_fault_intensity(sim, SIM_FAULT_DISK_LOSE) / 20; n++) {
                sim_disk_lose(w->disk, 0, sim_disk_size(w->disk));
                aim(w, sim_disk_lose);
            }
        }
        if (i + 1 < rounds)
            scars_choose(w);
        if (i + 1 < rounds && sim_fault_intensity(sim, SIM_FAULT_DISK_READ) && w->formatted &&
            sim_rng_below(w->blind_len ? &w->turns : &w->scars, w->blind_len ? 2 : 4) == 0)
            scars_blind(w);
        crash(w);
    }
    faults = (struct sim_disk_faults){0};
    if (w->rot && sim_fault_intensity(sim, SIM_FAULT_DISK_READ)) {
        /* What cannot be read at the last start, of the ring above all, is gone like what has rotted. */
        faults.read_error_ppm = sim_fault_intensity(sim, SIM_FAULT_DISK_READ) * 1000;
        w->errors = w->unreadable = true;
    }
    sim_disk_set_faults(w->disk, &faults);
    if (w->rot) {
        sim_run_for(sim, 300 * NS_PER_MS);
        return;
    }
    /* Quiet: the store works and ends in order. */
    sim_run_for(sim, 50 * NS_PER_MS);
    if (sim->failed)
        return;
    if (w->driver && w->driver->op.state == DRIVE_FAILED && !w->stop)
        crash(w);
    w->errors = false;
    sim_run_for(sim, 50 * NS_PER_MS);
    w->stop = true;
    if (!sim_run_while(sim, is_stopped, w, sim->now_ns + RUN_MAX_NS) && !sim->failed)
        sim_fail(sim, "stuck in state %d", w->driver ? w->driver->op.state : -1);
    if (w->stopped && !sim->failed)
        sim_node_halt(w->node);
}
