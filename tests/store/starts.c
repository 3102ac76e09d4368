/* SPDX-License-Identifier: Apache-2.0
 *
 * Many starts in a row, behind batches of the log ring that are lost for good, or not read once, while PGs,
 * some of them of one family, work, are split, fall behind and recover, also to a state that is earlier than
 * what they had. Each start is judged by a model of what is committed: only PGs of which a lost batch told
 * are damaged, and their family; the others have all that was durable, and what they read is right; and who
 * has recovered is not damaged by the same again. SEEDS: how many runs. With the name of a planted bug one of
 * them is to fail: with STORE_DAMAGED_CLAIM_FIRST it is the first.
 */
#define SIZE (44ull << 20) /* so little that chunks soon come back */

#include "base/placement.h"
#include "store/opening.h"
#include "tests/plants.h"
#include "tests/store/slice.h"

#define PARENT      1u
#define OTHER       2u /* of no family */
#define CHILD       3u /* of PARENT, once that is split */
#define KIN         4u /* as if it had been split off PARENT long ago */
#define PGS         5u /* by id */
#define OBJECTS     12u
#define BLOCKS      64u /* of each of them, that are ever written */
#define ENTRIES_MAX 4000u
#define LOST_MAX    200u

struct model_object {
    uint64_t index;    /* 0: there is none */
    int block[BLOCKS]; /* -1: not written */
};

struct model {
    bool there, damaged, behind; /* damaged: may be, until it has recovered */
    bool gone;                   /* the child is not born again */
    uint64_t id, term, base, base_term, last, commit, split_index;
    uint32_t split_count;
    struct entry entries[ENTRIES_MAX];
    uint8_t fills[ENTRIES_MAX];
    struct model_object objects[OBJECTS];
    struct image_record image;
};

static struct model models[PGS];
static uint64_t seed, random_state;
static struct {
    uint64_t seq, prev_seq;
} lost[LOST_MAX];
static uint32_t lost_count;

static uint64_t below(uint64_t n)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (random_state >> 33) % n;
}

/* The first failure ends it: what follows would be its echo. */
#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            printf("# seed %llu, line %d\n", (unsigned long long)seed, __LINE__);                            \
            CHECK(condition);                                                                                \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static void use(const struct model *m)
{
    pg = store_pg_find(s, m->id);
}

static bool is_mine(const struct model *m, uint64_t object, uint32_t split_count)
{
    return placement_pg_number(1, object, split_count) == (uint32_t)m->id;
}

/* ---- what is committed --------------------------------------------------------------------------------- */

static void object_set(struct model_object *o, uint64_t index, uint32_t first, uint32_t end,
                       int fill_of_first)
{
    for (uint32_t b = 0; !o->index && b < BLOCKS; b++)
        o->block[b] = -1;
    for (uint32_t b = first; b < MIN(end, BLOCKS); b++)
        o->block[b] = fill_of_first < 0 ? -1 : fill_of_first + (int)(b - first);
    o->index = index;
}

static void model_apply(struct model *m, uint64_t index)
{
    const struct entry *e = &m->entries[index];
    struct model_object *o = &m->objects[e->object];

    if (e->type == ENTRY_WRITE)
        object_set(o, index, e->first_block, e->first_block + e->block_count, m->fills[index]);
    else if (e->type == ENTRY_CLEAR && o->index)
        object_set(o, index, e->first_block, e->first_block + e->block_count, -1);
    else if (e->type == ENTRY_IMAGE)
        m->image = image_of_entry(&(struct log_entry){.type = ENTRY_IMAGE,
                                                      .index = index,
                                                      .image = 1,
                                                      .incarnation = 1,
                                                      .generation = e->generation,
                                                      .size_bytes = e->size_bytes});
    for (uint32_t n = 0; e->type == ENTRY_IMAGE && n < OBJECTS; n++)
        if (m->objects[n].index && n >= e->size_bytes / OBJECT_SIZE)
            object_set(&m->objects[n], index, 0, BLOCKS, -1);
    m->commit = index;
}

/* The image's size, or its generation, as of that entry. */
static uint64_t image_at(const struct model *m, uint64_t index, bool generation)
{
    uint64_t found = generation ? m->image.generation : m->image.size_bytes;

    for (uint64_t i = m->commit + 1; i <= index; i++)
        if (m->entries[i].type == ENTRY_IMAGE)
            found = generation ? m->entries[i].generation : m->entries[i].size_bytes;
    return found;
}

static bool is_split_at(const struct model *m, uint64_t index)
{
    bool found = m->split_count;

    for (uint64_t i = m->commit + 1; i <= index; i++)
        found |= m->entries[i].type == ENTRY_SPLIT;
    return found;
}

static void invent(struct model *m, uint64_t index, bool may_split)
{
    struct entry *e = &m->entries[index];
    uint64_t generation = image_at(m, index - 1, true), size = image_at(m, index - 1, false),
             what = below(100);
    bool is_split = m->id == CHILD || is_split_at(m, index - 1);

    *e = (struct entry){.type = ENTRY_NOOP, .index = index, .term = m->term};
    if (m->id == PARENT && may_split && !is_split && m->commit > 20 && below(30) == 0) {
        e->type = ENTRY_SPLIT;
        return;
    }
    if (!generation || what < 6) {
        e->type = ENTRY_IMAGE;
        e->generation = generation + 1;
        e->size_bytes = (generation ? below(OBJECTS + 1) : OBJECTS) * OBJECT_SIZE;
        return;
    }
    e->object = below(OBJECTS);
    bool mine = (m->id != PARENT && m->id != CHILD) || is_mine(m, e->object, is_split ? CHILD + 1 : CHILD);
    if (!mine || e->object >= size / OBJECT_SIZE)
        return;
    m->fills[index] = (uint8_t)(1 + below(190));
    e->type = what < 35 ? ENTRY_CLEAR : ENTRY_WRITE;
    if (e->type == ENTRY_CLEAR) {
        e->first_block = below(3) ? (uint32_t)below(BLOCKS) : 0;
        e->block_count = e->first_block ? 1 + (uint32_t)below(BLOCKS - e->first_block) : BLOCKS_PER_OBJECT;
    } else if (below(2)) { /* with chunks of its own */
        e->first_block = BLOCKS_PER_CHUNK * (uint32_t)below(3);
        e->block_count = BLOCKS_PER_CHUNK + (uint32_t)below(2) * BLOCKS_PER_CHUNK + (uint32_t)below(2);
        e->block_count = MIN(e->block_count, BLOCKS - e->first_block);
    } else {
        e->first_block = (uint32_t)below(BLOCKS - 4);
        e->block_count = 1 + (uint32_t)below(4);
    }
}

/* ---- the store ----------------------------------------------------------------------------------------- */

static int append(const struct model *m, uint64_t index)
{
    struct entry e = m->entries[index];
    uint32_t words[GROUP_WORDS_MAX];

    use(m);
    e.image = 1;
    e.incarnation = e.type == ENTRY_IMAGE;
    if (e.type == ENTRY_SPLIT) {
        group_to_entry(&ALONE, words, &e);
        e.type = ENTRY_SPLIT;
        e.index = index;
        e.epoch = 0;
        e.image = CHILD;
    }
    fill = m->fills[index];
    return put(e, e.type == ENTRY_WRITE ? e.block_count : 0);
}

static void split(struct model *m, bool first)
{
    struct model *child = &models[CHILD];
    struct store_pg_record record = {.pg = CHILD, .replica = 1, .group = ALONE};
    bool births = first && !child->gone;
    struct store_split w = {0};

    use(m);
    store_split_start(&w, pg, births ? &record : NULL, NULL);
    MUST(rig_wait(&rig, &w.op) == 0);
    MUST((w.ret_child != NULL) == births);
    if (!first)
        return;
    m->commit = m->split_index = w.index;
    m->split_count = CHILD + 1;
    child->there = births;
    child->gone = true;
    child->id = CHILD;
    child->base = child->last = child->commit = w.index;
    child->base_term = child->term = w.term;
    child->split_count = CHILD + 1;
    child->image = m->image;
    for (uint32_t n = 0; n < OBJECTS; n++) {
        if (is_mine(m, n, CHILD + 1))
            continue;
        child->objects[n] = m->objects[n];
        m->objects[n] = (struct model_object){0};
    }
}

static void apply_to_commit(struct model *m)
{
    use(m);
    for (int turns = 0; pg->applied_index < m->commit; turns++) {
        MUST(turns < 5000);
        store_apply(pg, m->commit);
        rig_settle(&rig);
        if (pg->applied_index < m->commit && m->entries[pg->applied_index + 1].type == ENTRY_SPLIT)
            split(m, false);
    }
}

static void commit_some(struct model *m)
{
    use(m);
    uint64_t to = m->commit + below(MIN(pg->durable_index, m->last) - m->commit + 1);
    while (m->commit < to) {
        if (m->entries[m->commit + 1].type != ENTRY_SPLIT) {
            model_apply(m, m->commit + 1);
            continue;
        }
        apply_to_commit(m);
        split(m, true);
    }
    apply_to_commit(m);
}

static void destage(const struct model *m)
{
    use(m);
    destage_pg(pg_of(pg));
    rig_settle(&rig);
}

/* One that nothing is the matter with; NULL: another time. */
static struct model *any_model(uint64_t room)
{
    struct model *m = &models[1 + below(PGS - 1)];

    return m->there && !m->damaged && !m->behind && m->last + room < ENTRIES_MAX ? m : NULL;
}

static void work(void)
{
    struct model *m = any_model(60);

    if (!m)
        return;
    if (below(2))
        s->chunk_hint = 1 + below(60);           /* what is free comes back soon */
    if (m->last > m->commit && below(12) == 0) { /* another leader */
        m->last = m->commit + below(m->last - m->commit);
        m->term++;
    }
    for (uint64_t n = 1 + below(5); n; n--) {
        invent(m, m->last + 1, true);
        if (append(m, m->last + 1))
            break;
        m->last++;
        if (below(3) == 0)
            rig_settle(&rig);
    }
    rig_settle(&rig);
    MUST(!store_failed(s));
    commit_some(m);
    if (below(2))
        destage(m);
}

static void verify(const struct model *m)
{
    use(m);
    for (uint32_t n = 0; n < OBJECTS; n++) {
        const struct model_object *o = &m->objects[n];
        struct store_read r = {0};
        store_read_start(&r, pg, 1, n, 0, BLOCKS, false, NULL);
        MUST(rig_wait(&rig, &r.op) == 0);
        for (uint32_t b = 0; b < BLOCKS; b++) {
            int is = bit_get(r.ret_written, b) ? slice_data(&r.ret_data)[b * BLOCK_SIZE] : -1;
            MUST(is == (o->index ? o->block[b] : -1));
        }
        slice_unref(&r.ret_data);
    }
    const struct image_record *image = store_image_get(pg, 1);
    MUST((image ? image->generation : 0) == m->image.generation);
}

/* ---- recovery ------------------------------------------------------------------------------------------ */

static void copy_object(const struct model_object *o, uint64_t number)
{
    uint64_t written[IO_BLOCKS_MAX / 64] = {0};
    uint32_t crc[BLOCKS], sent = 0;
    struct buf *buf = buf_new(rig.core.arena, BLOCKS * BLOCK_SIZE);
    struct store_copy *copy = NULL;
    struct store_copy_write w = {0};
    struct store_copy_end end = {0};

    for (uint32_t b = 0; b < BLOCKS; b++) {
        if (o->block[b] < 0)
            continue;
        bit_set(written, b);
        crc[b] = block_fill(buf->data + block_offset(sent++), o->block[b]);
    }
    MUST(store_copy_new(pg, 1, number, &copy) == 0);
    struct slice data = {.buf = buf, .len = sent * BLOCK_SIZE};
    store_copy_write_start(&w, copy, 0, BLOCKS, written, NULL, 0, NULL, NULL, crc, &data, NULL);
    MUST(rig_wait(&rig, &w.op) == 0);
    store_copy_end_start(&end, copy, o->index, NULL);
    MUST(rig_wait(&rig, &end.op) == 0);
    buf_unref(buf);
}

static bool is_current(const struct model_object *o, uint64_t number)
{
    struct store_object_info info = {0};
    bool found = store_object_next(pg, number == 0, number != 0, number ? number - 1 : 0, &info);

    return found && info.object == number && info.index >= o->index && !info.damaged;
}

static void set_state(struct store_pg_record *record, enum store_pg_state state)
{
    record->state = state;
    MUST(write_record(record) == 0);
    pg = store_pg_find(s, record->pg);
}

/* From a source whose objects are as committed, and whose log begins at `base`. A start may come in between.
 */
static void recover(struct model *m)
{
    use(m);
    struct store_pg_record record = pg->record;
    uint64_t base = m->commit, least = MAX(pg->first_index - 1, MAX(m->base, m->split_index));
    if (pg->damaged)
        MUST(record.state == STORE_PG_DAMAGED);
    if (record.state != STORE_PG_DAMAGED)
        set_state(&record, STORE_PG_RECOVERING);
    else if (below(2)) /* it was started anew, and had destaged less */
        base = least + below(m->commit - least + 1);
    if (m->image.generation)
        MUST(store_recover_image(pg, &m->image) == 0);
    if (m->split_count)
        MUST(store_recover_shed(pg, m->split_count, base) == 0);
    for (uint32_t n = 0; n < OBJECTS; n++) {
        if (!m->objects[n].index || is_current(&m->objects[n], n))
            continue;
        copy_object(&m->objects[n], n);
        if (below(40) == 0)
            return;
    }
    rig_settle(&rig);
    record.base_index = base;
    record.base_term = base == m->base ? m->base_term : m->entries[base].term;
    store_reset_base(pg, base, record.base_term, &ALONE, m->split_count);
    set_state(&record, record.state);
    for (uint64_t i = base + 1; i <= m->commit; i++) {
        MUST(append(m, i) == 0);
        if (below(3) == 0)
            rig_settle(&rig);
    }
    rig_settle(&rig);
    m->last = m->commit;
    m->term++;
    if (below(20) == 0)
        return;
    set_state(&record, STORE_PG_NORMAL);
    m->damaged = m->behind = false;
    if (below(3) == 0)
        return;
    apply_to_commit(m);
    verify(m);
}

/* Others have committed what is not here, in a later term. */
static void fall_behind(void)
{
    struct model *m = any_model(120);

    if (!m)
        return;
    m->behind = true;
    m->term++;
    for (uint64_t n = 1 + below(40); n; n--) {
        invent(m, m->commit + 1, false);
        model_apply(m, m->commit + 1);
    }
    m->last = MAX(m->last, m->commit);
    if (below(3))
        recover(m);
}

/* ---- starts -------------------------------------------------------------------------------------------- */

static struct disk_batch *batch_header(const struct batch *b)
{
    return (struct disk_batch *)(rig.device.data + block_offset(ring_place(s, b->position)));
}

/* One that a later header proves, of those that have records as a rule; NULL: none was met. */
static struct batch *any_batch(void)
{
    uint64_t count = 0, skip;
    bool records = below(4);

    list_for_each (&s->batches, node)
        count++;
    if (count < 5)
        return NULL;
    skip = below(2) ? count - 1 - below(MIN(count - 1, 30u)) : below(count);
    const struct batch *last = list_entry(s->batches.prev, struct batch, link);
    list_for_each (&s->batches, node) {
        struct batch *b = list_entry(node, struct batch, link);
        if (skip) {
            skip--;
            continue;
        }
        if ((b->record_count || !records) && batch_header(last)->durable_seq >= b->seq)
            return b;
    }
    return NULL;
}

/* Whom it costs: nobody can say where it, and another one before or behind it, or numbers, are missing. */
static void batch_lost(const struct disk_batch *h)
{
    bool all = h->prev_seq + 1 != h->seq;

    for (uint32_t i = 0; i < lost_count; i++)
        all |= lost[i].seq == h->prev_seq || lost[i].prev_seq == h->seq;
    for (uint32_t id = 1; id < PGS; id++) {
        struct store_pg *p = models[id].there ? store_pg_find(s, id) : NULL;
        models[id].damaged |= p && all;
        for (uint32_t i = 0; p && i < h->pg_count; i++)
            models[id].damaged |= batch_pgs(h)[i].key == pg_of(p)->key;
    }
    MUST(lost_count < LOST_MAX);
    lost[lost_count].seq = h->seq;
    lost[lost_count++].prev_seq = h->prev_seq;
}

/* Returns true if it is for this start alone. */
static bool lose_batch(bool for_good)
{
    const struct batch *b = any_batch();

    if (!b)
        return false;
    batch_lost(batch_header(b));
    if (for_good) {
        batch_header(b)->crc ^= 1;
        return false;
    }
    rig.device.bad_from = block_offset(ring_place(s, b->position));
    return true;
}

static bool is_kin_of_damaged(const struct model *m)
{
    for (uint32_t id = 1; id < PGS; id++) {
        const struct store_pg *p = models[id].there && models[id].damaged ? store_pg_find(s, id) : NULL;
        if (p && key_is_family(pg_of(p)->key, pg_of(pg)->key) && id != m->id)
            return true;
    }
    return false;
}

static void judge(struct model *m, uint64_t durable)
{
    use(m);
    if (!pg) { /* its birth was in the batch */
        MUST(m->id == CHILD && m->damaged);
        m->there = false;
        return;
    }
    if (pg->damaged || pg->record.state == STORE_PG_DAMAGED) {
        MUST(m->damaged || is_kin_of_damaged(m));
        m->damaged = true;
        return;
    }
    m->damaged = false;
    if (m->behind)
        return;
    MUST(pg->record.state == STORE_PG_NORMAL);
    MUST(pg->last_index >= durable && pg->applied_index <= m->commit);
    m->last = MIN(m->last, pg->last_index);
    apply_to_commit(m);
    verify(m);
}

static void start(void)
{
    uint64_t durable[PGS] = {0};
    uint32_t lost_for_good = lost_count;
    bool once = false;

    for (int i = 0; i < 3 && below(3); i++) {
        rig.now_ns += NS_PER_S;
        rig_settle(&rig);
    }
    for (uint32_t id = 1; id < PGS; id++)
        if (models[id].there && !models[id].behind)
            durable[id] = store_pg_find(s, id)->durable_index;
    if (below(2)) {
        once = below(4) == 0 && lose_batch(false);
        if (!once && lose_batch(true) == false && below(3) == 0)
            lose_batch(true);
        lost_for_good = once ? lost_count - 1 : lost_count;
    }
    if (below(2)) {
        CHECK_EQ(close_store(), 0);
        rig.device.bad_len = once ? BLOCK_SIZE : 0;
        MUST(open_store() == 0);
    } else {
        rig.device.bad_len = once ? BLOCK_SIZE : 0;
        power_fails();
        MUST(s);
    }
    rig.device.bad_len = 0;
    rig_settle(&rig);
    lost_count = lost_for_good;
    for (uint32_t id = 1; id < PGS; id++)
        if (models[id].there)
            judge(&models[id], durable[id]);
    for (uint32_t id = 1; id < PGS; id++)
        if (models[id].there && (models[id].damaged || models[id].behind) && below(5))
            recover(&models[id]);
}

static void set_up_pgs(void)
{
    set_up();
    memset(models, 0, sizeof(models));
    lost_count = 0;
    MUST(write_record(&(struct store_pg_record){.pg = OTHER, .replica = 1, .birth = 3}) == 0);
    for (uint32_t id = 1; id < PGS; id++) {
        models[id].id = id;
        models[id].term = 1;
        models[id].there = id != CHILD;
    }
    const struct store_pg_record record = {.pg = KIN, .replica = 1, .term = 1, .group = ALONE};
    struct pg *kin =
        pg_create(s, &record, pg_of(store_pg_find(s, PARENT))->key ^ PARENT ^ KIN, STORE_PG_NORMAL);
    (void)table_touch(s, kin->table_index);
    rig_settle(&rig);
}

static bool all_well(void)
{
    for (uint32_t id = 1; id < PGS; id++)
        if (models[id].there && (models[id].damaged || models[id].behind))
            return false;
    return true;
}

static void many_starts(void)
{
    const char *seeds = getenv("SEEDS");

    for (seed = 1; seed <= (seeds ? strtoull(seeds, NULL, 10) : 5); seed++) {
        random_state = seed * 7919;
        set_up_pgs();
        for (uint64_t steps = 150 + below(200); steps; steps--) {
            uint64_t what = below(100);
            if (what < 14 || (what < 40 && !all_well()))
                start();
            else if (what < 16)
                fall_behind();
            else
                for (uint64_t n = 1 + below(4); n; n--)
                    work();
        }
        tear_down();
    }
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(many_starts);
    return tap_done();
}
