/* SPDX-License-Identifier: Apache-2.0
 *
 * What must hold. At any time: a term has one leader, an index that is committed somewhere has one term
 * everywhere, and replicas that have applied as much know the same of their objects. In the end every history
 * is linearizable. That all replicas hold the same then is in cluster_replicas.c.
 */
#include "sim/cluster.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/map.h"
#include "mon/impl.h"
#include "osd/shard.h"
#include "raft/raft.h"

#define CHECK_EVERY_NS (2 * NS_PER_MS)
#define OFTEN_NS       (200 * NS_PER_US) /* what is wrong for a moment only */
#define OBJECTS_EVERY  10                /* of those checks, one looks at the objects too */
#define SEARCH_BUDGET  300000

#define ULL(x) ((unsigned long long)(x))

/* ---- at any time
 * ---------------------------------------------------------------------------------------------- */

struct fact {
    struct map_node node; /* by hash of what it is about */
    uint64_t value;
};

struct leader_table {
    struct map facts;
    uint64_t next_ns, often_ns;
    uint32_t checks;
};

static uint64_t *fact_at(struct leader_table *t, uint64_t key, uint64_t value)
{
    struct map_node *node = map_get(&t->facts, key);

    if (!node) {
        struct fact *fact = sim_alloc(sizeof(*fact));
        fact->value = value;
        map_put(&t->facts, &fact->node, key);
        return &fact->value;
    }
    return &map_entry(node, struct fact, node)->value;
}

static struct leader_table *leaders(struct cluster *c)
{
    if (!c->leaders) {
        c->leaders = sim_alloc(sizeof(*c->leaders));
        map_init(&c->leaders->facts);
    }
    return c->leaders;
}

uint64_t *check_note(struct cluster *c, uint64_t key, uint64_t value)
{
    return fact_at(leaders(c), hash_pair(key, 11), value);
}

uint64_t *check_committed(struct cluster *c, uint64_t pg)
{
    return fact_at(leaders(c), hash_pair(force_pg_name(c, pg), 7), 0);
}

/* The value that was recorded first for this key. */
static uint64_t fact_of(struct leader_table *t, uint64_t key, uint64_t value)
{
    return *fact_at(t, key, value);
}

static void check_pg(struct cluster *c, const struct osd_pg_view *view, const struct store_pg *pg)
{
    uint64_t name = force_pg_name(c, view->pg);

    if (view->role == RAFT_LEADER) {
        uint64_t first = fact_of(c->leaders, hash_pair(hash_pair(name, view->term), 1), view->replica);
        if (first != view->replica)
            sim_fail(c->sim, "PG %llx has two leaders in term %llu: replicas %llu and %u", ULL(view->pg),
                     ULL(view->term), ULL(first), view->replica);
    }
    if (view->recovering || view->commit_index < pg->first_index || view->commit_index > pg->last_index)
        return;
    uint64_t *committed = check_committed(c, view->pg);
    *committed = MAX(*committed, view->commit_index);
    uint64_t term = store_log_term(pg, view->commit_index);
    if (term && fact_of(c->leaders, hash_pair(hash_pair(name, view->commit_index), 2), term) != term)
        sim_fail(c->sim, "PG %llx: index %llu is committed with two terms, one of them %llu (replica %u)",
                 ULL(view->pg), ULL(view->commit_index), ULL(term), view->replica);
}

/* From which applied index on what this replica knows of its objects is compared. A store that was opened
 * again may have forgotten entries that later ones of its log replace, so it must have applied what it had
 * then; and what recovers may have been copied from such a one, which a restart does not change. */
static uint64_t *compared_from(struct cluster *c, const struct store_pg *pg, uint64_t incarnation)
{
    uint64_t name = force_pg_name(c, pg->record.pg), replica = hash_pair(name, pg->record.replica);
    uint64_t *newest = fact_at(c->leaders, hash_pair(name, 5), 0);
    uint64_t copied = *fact_at(c->leaders, hash_pair(replica, 6), 0);

    *newest = MAX(*newest, pg->last_index);
    return fact_at(c->leaders, hash_pair(replica, hash_pair(incarnation, 4)), MAX(pg->last_index, copied));
}

static void check_recovering(struct cluster *c, const struct store_pg *pg, uint64_t incarnation)
{
    uint64_t name = force_pg_name(c, pg->record.pg);
    uint64_t *from = compared_from(c, pg, incarnation);
    uint64_t *copied = fact_at(c->leaders, hash_pair(hash_pair(name, pg->record.replica), 6), 0);

    *copied = *from = MAX(*from, *fact_at(c->leaders, hash_pair(name, 5), 0));
}

/* Has it recovered since it was last looked at, all of it in between? Its log then begins behind all that it
 * had.
 */
static bool has_recovered(struct cluster *c, const struct store_pg *pg)
{
    uint64_t name = force_pg_name(c, pg->record.pg);
    uint64_t *last = fact_at(c->leaders, hash_pair(hash_pair(name, pg->record.replica), 7), pg->last_index);
    bool recovered = pg->record.base_index > *last;

    *last = pg->last_index;
    return recovered;
}

/* What is known of an image only goes up, in the order of the log: a fence that has been set stays. */
static void check_records(struct cluster *c, const struct store_pg *pg)
{
    uint64_t name = force_pg_name(c, pg->record.pg);

    for (const struct image_record *r = NULL; (r = store_image_next(pg, r ? r->image : 0));) {
        uint64_t key = hash_pair(name, r->image);
        uint64_t *index = fact_at(c->leaders, hash_pair(key, 8), r->index);
        uint64_t *generation = fact_at(c->leaders, hash_pair(key, 9), r->generation);
        uint64_t *incarnation = fact_at(c->leaders, hash_pair(key, 10), r->incarnation);
        if (pg->applied_index >= *index && (r->generation < *generation || r->incarnation < *incarnation))
            sim_fail(
                c->sim, "PG %llx: image %llu goes back to generation %llu and incarnation %llu at index %llu",
                ULL(pg->record.pg), ULL(r->image), ULL(r->generation), ULL(r->incarnation), ULL(r->index));
        if (r->index <= *index)
            continue;
        *index = r->index;
        *generation = r->generation;
        *incarnation = r->incarnation;
    }
}

/* By a monitor's word. An object of one that was removed may have gone at the source of a recovery before it
 * was copied: the removal, behind what was copied, will clear what is here, which is older. */
static bool image_lives(const struct cluster *c, uint64_t image)
{
    const struct mon *mon = mon_leader(c);

    return mon && mon_image_find(mon, image);
}

/* Replicas that have applied the same entries know the same newest entry of each object. One that is ahead of
 * its own applied index was copied while the log went on; it will agree when the log has caught up. */
static void check_objects(struct cluster *c, const struct store_pg *pg, uint64_t incarnation)
{
    struct store_object_info at = {0};
    uint64_t key = hash_pair(force_pg_name(c, pg->record.pg), pg->applied_index);

    if (pg->applied_index < *compared_from(c, pg, incarnation))
        return;
    check_records(c, pg);
    for (bool start = true; store_object_next(pg, start, at.image, at.object, &at); start = false) {
        if (at.damaged || at.index > pg->applied_index)
            continue;
        uint64_t object_key = hash_pair(hash_pair(key, at.image), hash_pair(at.object, 3));
        uint64_t first = fact_of(c->leaders, object_key, at.index);
        if (first != at.index && image_lives(c, at.image)) {
            sim_fail(c->sim,
                     "PG %llx, object %llu of image %llu at index %llu: its newest entry is %llu and %llu",
                     ULL(pg->record.pg), ULL(at.object), ULL(at.image), ULL(pg->applied_index), ULL(first),
                     ULL(at.index));
            return;
        }
    }
}

/* No disk loses anything in this run: then nobody finds that it did, also not in a store that was just
 * opened. */
static void check_undamaged(struct cluster *c, const struct osd_shard *shard, uint32_t osd, uint32_t number)
{
    const struct perf *perf = &shard->perf;

    /* Right checksums on all of them, and not the same: that must not be, whatever the disks do. */
    if (perf->scrub_differing)
        sim_fail(c->sim, "osd.%u.%u: a scrub finds %llu objects that differ", osd, number,
                 ULL(perf->scrub_differing));
    if (!c->damage && perf->lost_acks)
        sim_fail(c->sim, "osd.%u.%u: %llu members lost what they had acknowledged", osd, number,
                 ULL(perf->lost_acks));
    if (!c->damage &&
        (perf->scrub_found || perf->repaired_blocks || perf->unrepaired_reads || perf->damaged_logs))
        sim_fail(
            c->sim,
            "osd.%u.%u: damage where there is none: %llu blocks found by scrubs, %llu repaired, %llu reads failed, "
            "%llu logs",
            osd, number, ULL(perf->scrub_found), ULL(perf->repaired_blocks), ULL(perf->unrepaired_reads),
            ULL(perf->damaged_logs));
}

/* No disk loses anything: then nobody says that his replica is gone, but for one that a split may not have
 * made, or that a majority did not wait for when the PG was born. */
static void check_none_lost(struct cluster *c)
{
    const struct mon *mon = mon_leader(c);

    if (!mon || c->damage || sim_fault_intensity(c->sim, SIM_FAULT_FORCE))
        return;
    mon_for_each(mon, MON_PG, node)
    {
        const struct mon_pg *pg = mon_pg_of(node);
        for (uint32_t i = 0; pg->news && i < pg->news->lost.count && !mon_pg_item(pg)->split; i++)
            if (!map_left_unborn(c, mon_pg_item(pg)->id, pg->news->lost.replica[i]))
                sim_fail(c->sim, "PG %llx: replica %u is said to be lost, and no disk has lost anything",
                         ULL(mon_pg_item(pg)->id), pg->news->lost.replica[i]);
    }
}

void check_always(struct cluster *c)
{
    if (c->sim->now_ns < leaders(c)->often_ns)
        return;
    c->leaders->often_ns = c->sim->now_ns + OFTEN_NS;
    shards_check_often(c);
    if (c->sim->now_ns < c->leaders->next_ns)
        return;
    c->leaders->next_ns = c->sim->now_ns + CHECK_EVERY_NS;
    bool objects = ++c->leaders->checks % OBJECTS_EVERY == 0;
    load_check(c);
    map_always(c);
    calm_watch(c);
    audit_always(c, objects);
    shards_check(c, objects);
    if (objects)
        check_none_lost(c);
    for (struct shard_at s = {0}; cluster_shard_next(c, &s);) {
        check_undamaged(c, s.is, s.osd, s.shard);
        for (const struct store_pg *pg = NULL; (pg = store_pg_next(osd_shard_store(s.is), pg));) {
            struct osd_pg_view view;
            if (!osd_pg_view(s.is, pg->record.pg, &view))
                continue;
            check_pg(c, &view, pg);
            if (has_recovered(c, pg) || view.recovering || view.damaged ||
                pg->record.state != STORE_PG_NORMAL)
                check_recovering(c, pg, s.node->incarnation);
            else if (objects)
                check_objects(c, pg, s.node->incarnation);
        }
    }
}

void check_fini(struct cluster *c)
{
    if (!c->leaders)
        return;
    map_for_each (&c->leaders->facts, node) {
        map_remove(&c->leaders->facts, node->key);
        free(map_entry(node, struct fact, node));
    }
    map_fini(&c->leaders->facts);
    free(c->leaders);
}

/* ---- histories
 * ------------------------------------------------------------------------------------------------ */

void check_history(struct cluster *c, uint32_t image, uint32_t first)
{
    struct cluster_image *i = &c->images[image];
    struct linear_report report;
    uint32_t reg;
    uint32_t undecided = linear_history_check(i->history, first, 0, SEARCH_BUDGET, &reg, &report);

    sim_log(c->sim, "%s: %llu operations on sectors, %u sectors undecided", i->name,
            ULL(linear_history_ops(i->history)), undecided);
    if (reg != UINT32_MAX)
        sim_fail(c->sim, "%s, sector %u (block %u of object %u) is not linearizable: %s", i->name, reg,
                 reg % (OBJECT_SIZE / CLUSTER_SECTOR) / (BLOCK_SIZE / CLUSTER_SECTOR),
                 reg / (OBJECT_SIZE / CLUSTER_SECTOR), report.text);
}

uint32_t check_rollback(struct cluster *c, uint32_t image, uint32_t first, uint32_t count, uint64_t since)
{
    struct cluster_image *i = &c->images[image];
    uint32_t lost = 0;

    for (uint32_t reg = first; reg < MIN(first + count, c->image_sectors); reg++) {
        struct linear_report report;
        linear_register_check(i->history, reg, 0, SEARCH_BUDGET, &report);
        if (report.verdict == LINEAR_VIOLATION)
            sim_fail(c->sim, "%s, sector %u is not linearizable before some of it is lost: %s", i->name, reg,
                     report.text);
        lost += linear_rollback(i->history, reg, since);
    }
    return lost;
}

/* ---- at rest ---- */

bool check_whole(void *owner)
{
    const struct cluster *c = owner;
    uint32_t leaders = 0;

    for (uint32_t i = 0; i < c->osd_count * c->shard_count; i++) {
        const struct osd_shard *shard = c->osds[i / c->shard_count].shards[i % c->shard_count];
        struct osd_pg_view view;
        if (!shard)
            return false;
        for (const struct store_pg *pg = NULL; (pg = store_pg_next(osd_shard_store(shard), pg));) {
            if (!osd_pg_view(shard, pg->record.pg, &view) || view.recovering || view.damaged)
                return false;
            leaders += view.role == RAFT_LEADER;
        }
    }
    return leaders == c->pg_count;
}
