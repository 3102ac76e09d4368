/* SPDX-License-Identifier: Apache-2.0
 *
 * A PG is split: what goes is the child's from one moment on, whenever the device fails, and whatever else
 * the store has to do meanwhile. With the name of a planted bug it must fail.
 */
#define SIZE (128ull << 20) /* room for many objects */

#include "base/placement.h"
#include "base/plant.h"
#include "store/internal.h"
#include "tests/plants.h"
#include "tests/store/slice.h"

#define CHILD   3u /* of PG 1 */
#define OTHER   2u /* a PG that has nothing to do with it */
#define OBJECTS 64u
#define MANY    1024u

static const struct store_pg_record CHILD_RECORD = {
    .pg = CHILD, .replica = 1, .group = {.count = 1, .members = {{.replica = 1, .flags = GROUP_VOTER}}}};

static int bytes[OBJECTS]; /* what the object's first block is full of; 0: PG 1 does not have it */

static bool goes(uint64_t object)
{
    return placement_pg_number(1, object, CHILD + 1) == CHILD;
}

static void put_image(void)
{
    CHECK_EQ(
        put(
            (struct entry){
                .type = ENTRY_IMAGE, .image = 1, .incarnation = 4, .generation = 2, .size_bytes = 1ull << 30},
            0),
        0);
}

static void put_split(void)
{
    uint32_t words[GROUP_WORDS_MAX];
    struct entry e;

    group_to_entry(&CHILD_RECORD.group, words, &e);
    e.type = ENTRY_SPLIT;
    e.index = e.epoch = 0;
    e.image = CHILD;
    CHECK_EQ(put(e, 0), 0);
}

static void set_up_parent(void)
{
    set_up();
    fill = 1;
    put_image();
    for (uint64_t object = 0; object < OBJECTS; object++) {
        bytes[object] = placement_pg_number(1, object, CHILD) == 1 ? fill : 0;
        if (bytes[object])
            CHECK_EQ(write_blocks(object, 0, 1), 0);
    }
    apply_all();
    put_split();
    apply_all();
    CHECK_EQ(pg->applied_index, pg->last_index - 1);
}

static int split(void)
{
    struct store_split w = {0};

    store_split_start(&w, pg, &CHILD_RECORD, NULL);
    return rig_wait(&rig, &w.op);
}

/* Each object is in one of both, as it was; so are the image's records. */
static void check_split(bool is_split)
{
    struct store_pg *parent = pg, *child = store_pg_find(s, CHILD);
    uint32_t went = 0;

    CHECK_EQ(child != NULL, is_split);
    for (uint64_t object = 0; object < OBJECTS; object++) {
        bool there = is_split && goes(object);
        CHECK_EQ(block_is(object, 0, false), bytes[object] && !there ? bytes[object] : -1);
        went += bytes[object] && there;
        pg = child;
        if (child)
            CHECK_EQ(block_is(object, 0, false), bytes[object] && there ? bytes[object] : -1);
        pg = parent;
    }
    if (!child)
        return;
    CHECK(went);
    CHECK_EQ(child->object_count, went);
    CHECK_EQ(parent->record.split_count, CHILD + 1);
    const struct image_record *image = store_image_get(child, 1);
    CHECK(image && image->incarnation == 4 && image->generation == 2 && image->size_bytes == 1ull << 30);
}

static void each_has_its_own(void)
{
    set_up_parent();
    CHECK_EQ(split(), 0);
    check_split(true);
    CHECK_EQ(pg->applied_index, pg->last_index);
    reopen();
    apply_all();
    check_split(true);
    /* The entry is applied anew, if it is not known to be complete. */
    if (pg->applied_index < pg->last_index)
        CHECK_EQ(split(), 0);
    check_split(true);
    reopen();
    check_split(true);
    tear_down();
}

static bool told;

static void hear(void *owner, bool problem, const char *text)
{
    told |= !problem && strstr(text, "split at 4 PGs");
}

/* Offline: the number of problems. */
static uint64_t problems(void)
{
    struct store_check c = {0};

    CHECK_EQ(close_store(), 0);
    store_check_start(&c, &rig.core, &rig.device.blk, true, hear, NULL, NULL);
    CHECK_EQ(rig_wait(&rig, &c.op), 0);
    CHECK_EQ(open_store(), 0);
    return c.ret_problems;
}

/* The offline check knows what a split leaves where; and what should have gone. */
static void a_check_looks_for_splits(void)
{
    set_up_parent();
    CHECK_EQ(problems(), 0);
    CHECK(!told);
    store_apply(pg, pg->last_index - 1);
    CHECK_EQ(split(), 0);
    rig_settle(&rig);
    CHECK_EQ(problems(), 0);
    CHECK(told);
    if (pg->applied_index < pg->last_index)
        CHECK_EQ(split(), 0);
    /* What no host does: to write what is the child's. */
    for (uint64_t object = 0; object < OBJECTS; object++)
        if (goes(object) && bytes[object]) {
            apply_all();
            CHECK_EQ(write_blocks(object, 0, 1), 0);
            apply_all();
            break;
        }
    store_destage_soon(pg);
    rig_settle(&rig);
    CHECK_EQ(problems(), 1);
    tear_down();
}

static int remove_child(void)
{
    struct store_pg_remove r = {0};

    store_pg_remove_start(&r, store_pg_find(s, CHILD), NULL);
    return rig_wait(&rig, &r.op);
}

/* Nobody is born twice: when the entry is applied anew, and its child has gone since. */
static void born_once(void)
{
    set_up_parent();
    CHECK_EQ(split(), 0);
    CHECK_EQ(remove_child(), 0);
    reopen();
    apply_all();
    CHECK_EQ(pg->applied_index, pg->last_index - 1);
    CHECK_EQ(split(), 0);
    CHECK(!store_pg_find(s, CHILD));
    CHECK_EQ(pg->applied_index, pg->last_index);
    tear_down();
}

/* A crash, just when it was born; the start has told the table of it, and no more has been written. If the
 * device then loses what said so, the table knows that there was something: the child is not taken for one
 * that has nothing. */
static void a_birth_is_not_lost_unnoticed(void)
{
    struct store_split w = {0};
    uint8_t *left = malloc(SIZE);

    set_up_parent();
    store_split_start(&w, pg, &CHILD_RECORD, NULL);
    while (!pg->record.split_count) { /* and the table does not know of it */
        memcpy(left, rig.device.data, SIZE);
        rig_turn(&rig);
    }
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    CHECK_EQ(close_store(), 0);
    memcpy(rig.device.data, left, SIZE);
    free(left);
    CHECK_EQ(open_store(), 0);
    CHECK(store_pg_find(s, CHILD) && store_pg_find(s, CHILD)->object_count > 0);
    const struct batch *newest = list_entry(s->batches.prev, const struct batch, link);
    memset(rig.device.data + block_offset(ring_place(s, newest->position)), 0, BLOCK_SIZE);
    power_fails();
    CHECK(store_pg_find(s, CHILD)->damaged);
    CHECK_EQ(store_pg_find(s, CHILD)->record.state, STORE_PG_DAMAGED);
    CHECK_EQ(pg->record.state, STORE_PG_DAMAGED);
    tear_down();
}

/* Nor is there ever a second replica of a PG: the child may be made by an order while the split waits. */
static void born_by_an_order_meanwhile(void)
{
    struct store_split w = {0};

    set_up_parent();
    store_split_start(&w, pg, &CHILD_RECORD, NULL);
    rig.device.held_from = 0;
    rig.device.held_len = SIZE;
    for (int i = 0; i < 10; i++)
        rig_turn(&rig);
    CHECK(op_live(&w.op) && pg_of(pg)->complete_durable < pg->applied_index);
    rig.device.held_len = 0;
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = CHILD, .replica = 9, .birth = 5}), 0);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    CHECK(!w.ret_child);
    CHECK_EQ(s->pg_count, 2);
    reopen();
    CHECK_EQ(store_pg_find(s, CHILD)->record.replica, 9);
    CHECK_EQ(store_pg_find(s, CHILD)->object_count, 0);
    CHECK_EQ(pg->record.split_count, CHILD + 1);
    tear_down();
}

static uint64_t first_that_goes(void)
{
    uint64_t object = 0;

    while (!goes(object) || !bytes[object])
        object++;
    return object;
}

/* A read is not: who began it with the object here is told that it has gone, and gets no zeros of its index.
 */
static void who_reads_what_goes_begins_anew(void)
{
    struct store_read read = {0};

    set_up_parent();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    uint64_t object = first_that_goes();
    rig.device.held_from = block_offset(s->g.chunk_block);
    rig.device.held_len = SIZE;
    store_read_written_start(&read, pg, 1, object, 0, 1, false, NULL);
    rig_turn(&rig);
    CHECK(op_live(&read.op) && read.ret_index);
    CHECK_EQ(split(), 0);
    rig.device.held_len = 0;
    CHECK_EQ(rig_wait(&rig, &read.op), -ERR_RETRY);
    store_read_written_start(&read, pg, 1, object, 0, 1, false, NULL);
    CHECK_EQ(rig_wait(&rig, &read.op), 0);
    CHECK(!read.ret_index && !read.ret_written[0]);
    slice_unref(&read.ret_data);
    check_split(true);
    tear_down();
}

/* Whoever changes an object that goes, or its page, is waited for. */
static void who_works_on_objects_is_waited_for(void)
{
    struct slice data = {.buf = NULL, .len = BLOCK_SIZE};
    struct store_repair repair = {0};
    struct store_split w = {0};

    set_up_parent();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    uint64_t object = first_that_goes();
    data.buf = buf_new(rig.core.arena, BLOCK_SIZE);
    memset(data.buf->data, bytes[object], BLOCK_SIZE);
    rig.device.held_from = block_offset(s->g.chunk_block);
    rig.device.held_len = SIZE;
    store_repair_start(&repair, pg, 1, object, 0, pg->applied_index, &data, NULL);
    rig_settle(&rig);
    store_split_start(&w, pg, &CHILD_RECORD, NULL);
    rig_settle(&rig);
    CHECK(op_live(&repair.op) && op_live(&w.op) && !store_failed(s));
    CHECK_EQ(pg->record.split_count, 0);
    rig.device.held_len = 0;
    CHECK_EQ(rig_wait(&rig, &repair.op), 0);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    check_split(true);
    slice_unref(&data);
    tear_down();
}

/* A table that has lost both writes of the child's birth, behind a checkpoint: what the ring has of it is
 * void, and the others are there. */
static void who_was_never_born_has_no_log(void)
{
    set_up_parent();
    CHECK_EQ(split(), 0);
    struct store_pg *parent = pg, *child = store_pg_find(s, CHILD);
    pg = child;
    CHECK_EQ(write_blocks(first_that_goes(), 0, 16), 0);
    pg = parent;
    rig_settle(&rig);
    CHECK_EQ(child->durable_index, child->record.base_index + 1);
    s->ckpt_due = true;
    destage_wake(s);
    rig_settle(&rig);
    uint32_t index = pg_of(child)->table_index;
    struct disk_table_block *table =
        (struct disk_table_block *)(rig.device.data + block_offset(s->g.table_block)) +
        index / TABLE_RECORDS_PER_BLOCK;
    uint64_t blocks = s->g.table_blocks;
    CHECK_EQ(close_store(), 0);
    for (int copy = 0; copy < 2; copy++, table += blocks) {
        CHECK_EQ(table->records[index % TABLE_RECORDS_PER_BLOCK].state, STORE_PG_NORMAL);
        table->records[index % TABLE_RECORDS_PER_BLOCK].state = STORE_PG_UNBORN;
        FORMAT_SEAL(table);
    }
    CHECK_EQ(open_store(), 0);
    CHECK(!store_pg_find(s, CHILD));
    CHECK_EQ(pg->record.split_count, CHILD + 1);
    for (uint64_t object = 0; object < OBJECTS; object++)
        CHECK_EQ(block_is(object, 0, false), bytes[object] && !goes(object) ? bytes[object] : -1);
    reopen();
    CHECK(!store_pg_find(s, CHILD));
    tear_down();
}

/* A log that has entries behind the split for what is the child's by then is none that a right leader makes:
 * the store does not go on with it, and nothing has changed. */
static void entries_for_what_has_gone_are_not_taken_along(void)
{
    set_up_parent();
    CHECK_EQ(write_blocks(first_that_goes(), 0, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(split(), -ERR_STOPPED);
    CHECK(store_failed(s));
    reopen();
    store_apply(pg, pg->last_index);
    check_split(false);
    tear_down();
}

/* The device fails at any of the writes: after that it is split or not, and if not can be. */
static void all_or_nothing(void)
{
    uint32_t split_then = 0, not_then = 0;

    for (uint64_t n = 1; n < 60; n++) {
        set_up_parent();
        rig.device.fail_at = rig.device.requests + n;
        bool done = !split();
        rig_settle(&rig);
        rig.device.fail_at = 0;
        CHECK_EQ(close_store(), 0);
        CHECK_EQ(open_store(), 0);
        apply_all();
        bool is_split = store_pg_find(s, CHILD);
        CHECK(is_split || !done);
        check_split(is_split);
        *(is_split ? &split_then : &not_then) += !done;
        reopen(); /* what was healed at the start stays so */
        apply_all();
        check_split(is_split);
        if (pg->applied_index < pg->last_index)
            CHECK_EQ(split(), 0);
        check_split(true);
        reopen();
        check_split(true);
        tear_down();
    }
    CHECK(split_then && not_then);
}

static void destage_all(void)
{
    apply_all();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    CHECK_EQ(store_complete_index(pg), pg->last_index);
}

/* Where a small write meets a chunk that a log refers to, that log lets go of it; not those of all relatives,
 * whose followers would have to recover for nothing. */
static void the_childs_log_lets_go_alone(void)
{
    set_up_parent();
    uint64_t object = first_that_goes(), stays = 0;
    while (goes(stays) || !bytes[stays])
        stays++;
    CHECK_EQ(split(), 0);
    struct store_pg *parent = pg;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(write_blocks(stays, 0, 16), 0);
    destage_all();
    uint64_t first = parent->first_index;
    pg = store_pg_find(s, CHILD);
    CHECK_EQ(write_blocks(object, 0, 16), 0);
    destage_all();
    uint64_t brought = pg->last_index;
    CHECK_EQ(write_blocks(object, 3, 1), 0);
    destage_all();
    CHECK_EQ(pg->first_index, brought + 1);
    CHECK_EQ(parent->first_index, first);
    tear_down();
}

/* ---- behind a split, in a replica that recovers ---- */

static uint64_t applied_then, last_then;

/* What the log has of it is a discard. */
static bool clears(uint64_t object)
{
    return object % 3 == 0;
}

/* One that goes, and is in the log alone. */
static uint64_t only_logged(void)
{
    uint64_t object = OBJECTS;

    while (!goes(object))
        object++;
    return object;
}

/* What goes is in the log besides, where it is not applied and may never be committed. */
static void set_up_behind(void)
{
    struct store_pg_record recovering;

    set_up();
    fill = 1;
    put_image();
    for (uint64_t object = 0; object < OBJECTS; object++) {
        bytes[object] = placement_pg_number(1, object, CHILD) == 1 ? fill : 0;
        if (bytes[object])
            CHECK_EQ(write_blocks(object, 0, 1), 0);
    }
    apply_all();
    store_destage_soon(pg);
    rig_settle(&rig);
    for (uint64_t object = 0; object < OBJECTS; object++)
        if (bytes[object] && !clears(object)) {
            CHECK_EQ(write_blocks(object, 0, 1), 0);
            CHECK_EQ(write_blocks(object, 20, 1), 0);
        } else if (bytes[object]) {
            CHECK_EQ(
                put((struct entry){.type = ENTRY_CLEAR, .image = 1, .object = object, .block_count = 8}, 0),
                0);
        }
    CHECK_EQ(write_blocks(only_logged(), 0, 1), 0);
    rig_settle(&rig);
    recovering = pg->record;
    recovering.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&recovering), 0);
    applied_then = pg->applied_index;
    last_then = pg->last_index;
}

static int split_behind(bool births)
{
    struct store_split w = {0};

    store_split_behind_start(&w, pg, CHILD + 1, births ? &CHILD_RECORD : NULL, NULL);
    return rig_wait(&rig, &w.op);
}

/* The child has what was applied, and is no more than RECOVERING; the parent's log is what it was. */
static void check_behind(bool is_split, bool is_born)
{
    struct store_pg *parent = pg, *child = store_pg_find(s, CHILD);

    CHECK_EQ(child != NULL, is_born);
    for (uint64_t object = 0; object < OBJECTS; object++) {
        bool gone = is_split && goes(object);
        CHECK_EQ(block_is(object, 0, false), bytes[object] && !gone ? bytes[object] : -1);
        CHECK_EQ(block_is(object, 20, true) >= 0, bytes[object] && !clears(object));
        const struct object *o = object_find(pg_of(pg), 1, object);
        CHECK_EQ(o && o->pending, bytes[object] && !clears(object) && !gone); /* holds room */
        pg = child;
        if (child)
            CHECK_EQ(block_is(object, 0, true), bytes[object] && goes(object) ? bytes[object] : -1);
        pg = parent;
    }
    CHECK_EQ(pg->applied_index, applied_then);
    CHECK_EQ(pg->last_index, last_then);
    CHECK_EQ(pg->record.split_count, is_split ? CHILD + 1 : 0);
    CHECK_EQ(pg->record.state, STORE_PG_RECOVERING);
    if (!child)
        return;
    CHECK_EQ(child->record.state, STORE_PG_RECOVERING);
    CHECK_EQ(child->applied_index, applied_then);
    CHECK_EQ(store_log_term(child, applied_then), 1);
    CHECK(!store_image_get(child, 1));
    CHECK(!object_find(pg_of(child), 1, only_logged()));
}

/* Nothing is held any more by what the log had of objects that went. */
static void end_behind(void)
{
    struct store_pg_record normal;

    store_reset_base(pg, last_then + 100, 1, &ALONE, CHILD + 1);
    normal = pg->record;
    normal.state = STORE_PG_NORMAL;
    CHECK_EQ(write_record(&normal), 0);
    rig_settle(&rig);
    CHECK_EQ(s->chunks_reserved + s->slots_reserved, 0);
    for (uint64_t object = 0; object < OBJECTS; object++)
        CHECK(!goes(object) || !object_find(pg_of(pg), 1, object));
    CHECK_EQ(problems(), 0);
}

static void behind_a_split(void)
{
    for (int births = 0; births < 2; births++) {
        set_up_behind();
        CHECK_EQ(split_behind(births), 0);
        check_behind(true, births);
        CHECK_EQ(split_behind(births), 0); /* once more: it is there already, or has gone */
        check_behind(true, births);
        reopen();
        check_behind(true, births);
        end_behind();
        tear_down();
    }
}

static void behind_a_split_all_or_nothing(void)
{
    uint32_t split_then = 0, not_then = 0;

    for (uint64_t n = 1; n < 60; n++) {
        set_up_behind();
        rig.device.fail_at = rig.device.requests + n;
        bool done = !split_behind(true);
        rig_settle(&rig);
        rig.device.fail_at = 0;
        CHECK_EQ(close_store(), 0);
        CHECK_EQ(open_store(), 0);
        bool is_split = store_pg_find(s, CHILD);
        CHECK(is_split || !done);
        check_behind(is_split, is_split);
        *(is_split ? &split_then : &not_then) += !done;
        reopen();
        check_behind(is_split, is_split);
        CHECK_EQ(split_behind(true), 0);
        check_behind(true, true);
        end_behind();
        tear_down();
    }
    CHECK(split_then && not_then);
}

/* A page may have a chunk that an entry brought which is not known to be complete: the entry stays with the
 * parent, the page goes, and at the next start both refer to the chunk. Returns the object. */
static uint64_t set_up_shared(void)
{
    struct store_pg_record recovering;

    set_up();
    fill = 1;
    put_image();
    apply_all();
    store_destage_soon(pg);
    rig_settle(&rig);
    memset(bytes, 0, sizeof(bytes));
    uint64_t object = 0;
    while (!goes(object))
        object++;
    bytes[object] = fill;
    CHECK_EQ(write_blocks(object, 0, 2 * BLOCKS_PER_CHUNK), 0);
    apply_all();
    const struct log_entry *e = log_at(pg_of(pg), pg->last_index);
    CHECK_EQ(e->chunk_count, 2);
    destage_pg(pg_of(pg));
    while (!object_find(pg_of(pg), 1, object)->slot)
        rig_turn(&rig);
    power_fails();
    CHECK_EQ(pg->applied_index, pg->last_index - 1);
    CHECK(!pg->damaged);
    recovering = pg->record;
    recovering.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&recovering), 0);
    applied_then = pg->applied_index;
    last_then = pg->last_index;
    CHECK_EQ(split_behind(true), 0);
    return object;
}

static uint32_t childs_chunk(uint64_t object, uint32_t chunk)
{
    return object_chunk(object_find(pg_of(store_pg_find(s, CHILD)), 1, object), chunk);
}

static void behind_a_split_chunks_stay_shared(void)
{
    uint64_t object = set_up_shared();

    for (int starts = 0; starts < 2; starts++) {
        reopen();
        CHECK(!pg->damaged);
        pg = store_pg_find(s, CHILD);
        CHECK_EQ(block_is(object, 0, false), bytes[object]);
        pg = store_pg_find(s, 1);
        CHECK_EQ(problems(), 0);
        CHECK_EQ(s->chunk_refs[childs_chunk(object, 0)], 2);
    }
    end_behind();
    CHECK_EQ(s->chunk_refs[childs_chunk(object, 0)], 1);
    tear_down();
}

/* The child has recovered. */
static void childs_turn(void)
{
    pg = store_pg_find(s, CHILD);
    store_reset_base(pg, last_then + 100, 1, &ALONE, CHILD + 1);
    struct store_pg_record normal = pg->record;
    normal.state = STORE_PG_NORMAL;
    CHECK_EQ(write_record(&normal), 0);
    pg = store_pg_find(s, CHILD);
}

/* What of it the device has no more when the child goes on. */
enum child_loss { LOST_NOTHING, LOST_BLOCK, LOST_PAGE, LOSSES };

/* The byte that block b of its two first chunks is full of then. */
static int shared_is(int b, int was, int now, enum child_loss loss)
{
    if (b == BLOCKS_PER_CHUNK - 1 || b == BLOCKS_PER_CHUNK)
        return now + b - (int)BLOCKS_PER_CHUNK + 1;
    return loss == LOST_PAGE || (loss == LOST_BLOCK && b == BLOCKS_PER_CHUNK + 2) ? -ERR_DAMAGED : was + b;
}

/* And goes on, whatever becomes of the parent, whose log keeps such a chunk until it has recovered, too: what
 * stays of its blocks moves to another one. */
static void behind_a_split_nobody_waits(void)
{
    for (enum child_loss loss = LOST_NOTHING; loss < LOSSES; loss++) {
        uint64_t object = set_up_shared();
        int was = bytes[object];
        uint32_t kept[] = {childs_chunk(object, 0), childs_chunk(object, 1)};
        struct object *o = object_find(pg_of(store_pg_find(s, CHILD)), 1, object);
        page_drop(o); /* so it is read */
        rig.device.data[block_offset(chunk_place(s, kept[1], 2))] += loss == LOST_BLOCK;
        rig.device.data[block_offset(slot_place(s, o->slot))] += loss == LOST_PAGE;
        childs_turn();
        int now = fill;
        CHECK_EQ(write_blocks(object, BLOCKS_PER_CHUNK - 1, 2), 0);
        destage_all();
        for (int starts = 0; starts < 2; starts++) {
            for (int b = 0; b < (int)BLOCKS_PER_CHUNK * 2; b++)
                CHECK_EQ(block_is(object, (uint32_t)b, false), shared_is(b, was, now, loss));
            for (uint32_t c = 0; c < 2; c++) {
                CHECK_EQ(s->chunk_refs[kept[c]], 1);
                CHECK(childs_chunk(object, c) != kept[c] && s->chunk_refs[childs_chunk(object, c)] == 1);
            }
            CHECK_EQ(problems() > 0, loss != LOST_NOTHING);
            CHECK(!pg->damaged);
            pg = store_pg_find(s, CHILD);
        }
        pg = store_pg_find(s, 1);
        store_reset_base(pg, last_then + 100, 1, &ALONE, CHILD + 1);
        rig_settle(&rig);
        CHECK(!s->chunk_refs[kept[0]] && !s->chunk_refs[kept[1]]);
        tear_down();
    }
}

/* Without a chunk to spare it does wait; and goes on when there is one. */
static void behind_a_split_room_is_waited_for(void)
{
    uint64_t object = set_up_shared();

    childs_turn();
    CHECK_EQ(write_blocks(object, 1, 1), 0);
    apply_all();
    uint64_t took = (uint64_t)space_available(s);
    s->chunks_reserved += took;
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    CHECK_EQ(s->chunk_refs[childs_chunk(object, 0)], 2);
    s->chunks_reserved -= took;
    destage_wake(s);
    destage_all();
    CHECK_EQ(s->chunk_refs[childs_chunk(object, 0)], 1);
    tear_down();
}

/* What destage had written in place, before a start that does not know it to be complete, is no damage of the
 * child's: it recovers, and what its source has is newer. */
static void behind_a_split_in_place(void)
{
    struct store_pg_record recovering;

    set_up();
    fill = 1;
    put_image();
    memset(bytes, 0, sizeof(bytes));
    uint64_t object = 0;
    while (!goes(object))
        object++;
    CHECK_EQ(write_blocks(object, 0, 1), 0);
    apply_all();
    store_destage_soon(pg);
    rig_settle(&rig);
    CHECK_EQ(write_blocks(object, 0, 1), 0);
    apply_all();
    uint64_t place = block_offset(chunk_place(s, object_chunk(object_find(pg_of(pg), 1, object), 0), 0));
    uint8_t before = rig.device.data[place];
    destage_pg(pg_of(pg));
    while (rig.device.data[place] == before)
        rig_turn(&rig);
    power_fails();
    CHECK_EQ(pg->applied_index, pg->last_index - 1);
    CHECK_EQ(problems(), 0);
    recovering = pg->record;
    recovering.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&recovering), 0);
    CHECK_EQ(split_behind(true), 0);
    CHECK_EQ(problems(), 0);
    tear_down();
}

/* What a checkpoint shows may be newer than records that come on top of it: objects may have come back behind
 * a split, from a source that was not split yet. */
static void behind_a_split_objects_come_back(void)
{
    set_up_behind();
    checkpoint_begin(s);
    CHECK_EQ(split_behind(false), 0);
    uint64_t object = first_that_goes();
    store_reset_base(pg, last_then + 1, 1, &ALONE, 0);
    CHECK_EQ(write_blocks(object, 0, 1), 0);
    int now = fill - 1;
    apply_all();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    CHECK_EQ(pg_of(pg)->complete_durable, pg->last_index);
    /* The rest of it is written now. */
    uint8_t *place = rig.device.data + block_offset(checkpoint_place(s));
    CHECK_EQ(checkpoint_fill(s, (struct disk_checkpoint_block *)(place + BLOCK_SIZE), 2), 1);
    checkpoint_header(s, (struct disk_checkpoint *)place);
    checkpoint_done(s);
    CHECK_EQ(block_is(object, 0, false), now);
    reopen();
    CHECK_EQ(block_is(object, 0, false), now);
    tear_down();
}

/* The table is slow, and others fill the ring meanwhile: it gets its tail on, and the split its end. */
static void under_load(void)
{
    struct store_split w = {0};

    set_up_parent();
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = OTHER, .replica = 1, .birth = 3}), 0);
    store_split_start(&w, pg, &CHILD_RECORD, NULL);
    while (op_live(&w.op) && !pg->record.split_count)
        rig_turn(&rig);
    rig.device.held_from = block_offset(s->g.table_block);
    rig.device.held_len = block_offset(2 * s->g.table_blocks);
    struct store_pg *parent = pg;
    pg = store_pg_find(s, OTHER);
    for (uint32_t i = 0; i < 2000; i++) {
        int rc = write_blocks(i % 4, i / 4 % 8 * 64, 64);
        CHECK(rc == 0 || rc == -ERR_RETRY);
        for (uint32_t turn = 0; turn < 8; turn++)
            rig_turn(&rig);
        store_apply(pg, pg->durable_index);
    }
    pg = parent;
    CHECK(op_live(&w.op));
    rig.device.held_len = 0;
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    check_split(true);
    reopen();
    check_split(true);
    tear_down();
}

/* A recovery that finds its source split keeps nothing of what is another's, not even that it was cut off:
 * the record that says so may be newer than the base. */
static void a_recovery_sheds_what_was_cut_off(void)
{
    struct image_record record = {.image = 1, .incarnation = 4, .generation = 3, .size_bytes = 0};
    struct store_pg_record recovering;

    set_up_parent();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    recovering = pg->record;
    recovering.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&recovering), 0);
    record.index = pg->applied_index + 10;
    CHECK_EQ(store_recover_image(pg, &record), 0);
    CHECK_EQ(store_recover_shed(pg, CHILD + 1, pg->applied_index), 0);
    while (!store_recover_settled(pg))
        rig_settle(&rig);
    for (uint64_t object = 0; object < OBJECTS; object++)
        CHECK(!goes(object) || !object_find(pg_of(pg), 1, object));
    tear_down();
}

static bool is_parents(uint64_t object)
{
    return placement_pg_number(1, object, CHILD) == 1;
}

/* So many of these objects, and the entry that splits the PG. */
static void put_many(bool (*is_one)(uint64_t object), uint64_t count)
{
    uint64_t objects = 0;

    for (uint64_t object = 0; objects < count; object++) {
        if (!is_one(object))
            continue;
        put_hollow(object);
        if (++objects % 64)
            continue;
        apply_all();
        store_destage_soon(pg);
        rig_settle(&rig);
    }
    apply_all();
    put_split();
    apply_all();
}

/* What an attempt that a crash cut off has left in the ring is not the child's that is born later of another
 * state: here of one in which the image is gone. */
static void an_attempt_leaves_nothing(void)
{
    struct store_split w = {0};
    struct store_pg_record recovering;
    uint64_t objects = MANY / 2;

    set_up();
    put_image();
    put_many(goes, objects);
    uint64_t records = s->records_durable;
    store_split_start(&w, pg, &CHILD_RECORD, NULL);
    while (s->records_durable < records + 200)
        rig_turn(&rig);
    CHECK(!pg->record.split_count);
    rig.device.fail_at = rig.device.requests + 1;
    CHECK_EQ(rig_wait(&rig, &w.op), -ERR_STOPPED);
    rig_settle(&rig);
    reopen();
    CHECK(!store_pg_find(s, CHILD));
    CHECK_EQ(pg->object_count, objects);
    recovering = pg->record;
    recovering.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&recovering), 0);
    CHECK_EQ(store_recover_forget(pg, 1, pg->last_index), 0);
    while (!store_recover_settled(pg))
        rig_settle(&rig);
    CHECK_EQ(pg->object_count, 0);
    CHECK_EQ(split_behind(true), 0);
    for (int starts = 0; starts < 2; starts++) {
        const struct store_pg *child = store_pg_find(s, CHILD);
        CHECK_EQ(child->object_count, 0);
        CHECK(!store_image_get(child, 1));
        CHECK_EQ(problems(), 0);
    }
    tear_down();
}

/* However many objects there are, no turn looks at more than a few of them, and to others the parent is split
 * from one turn to the next. */
static void many_objects_take_many_turns(void)
{
    struct store_split w = {0};
    uint64_t objects = MANY, records = 0, moved = 0;

    set_up();
    put_image();
    put_many(is_parents, objects);
    CHECK_EQ(pg->object_count, objects);
    store_split_start(&w, pg, &CHILD_RECORD, NULL);
    while (op_live(&w.op)) {
        uint64_t records_before = s->records_pushed, objects_before = pg->object_count;
        bool split_before = pg->record.split_count;
        rig_turn(&rig);
        records = MAX(records, s->records_pushed - records_before);
        moved = MAX(moved, objects_before - pg->object_count);
        struct store_object_info info = {0};
        uint64_t going = 0, staying = 0;
        for (bool start = true; store_object_next(pg, start, info.image, info.object, &info); start = false)
            *(goes(info.object) ? &going : &staying) += 1;
        CHECK_EQ(staying + going, pg->record.split_count ? staying : objects);
        CHECK_EQ(pg->applied_index, pg->last_index - !pg->record.split_count);
        CHECK(pg->record.split_count || !split_before);
    }
    CHECK_EQ(w.op.result, 0);
    CHECK(records && records <= 160 && moved && moved <= 128);
    reopen();
    CHECK(store_pg_find(s, CHILD)->object_count + pg->object_count == objects);
    tear_down();
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(each_has_its_own);
    TEST(a_check_looks_for_splits);
    TEST(born_once);
    TEST(a_birth_is_not_lost_unnoticed);
    TEST(born_by_an_order_meanwhile);
    TEST(who_was_never_born_has_no_log);
    TEST(who_reads_what_goes_begins_anew);
    TEST(who_works_on_objects_is_waited_for);
    TEST(entries_for_what_has_gone_are_not_taken_along);
    TEST(all_or_nothing);
    TEST(the_childs_log_lets_go_alone);
    TEST(behind_a_split);
    TEST(behind_a_split_all_or_nothing);
    TEST(behind_a_split_chunks_stay_shared);
    TEST(behind_a_split_nobody_waits);
    TEST(behind_a_split_room_is_waited_for);
    TEST(behind_a_split_in_place);
    TEST(behind_a_split_objects_come_back);
    TEST(under_load);
    TEST(a_recovery_sheds_what_was_cut_off);
    TEST(an_attempt_leaves_nothing);
    TEST(many_objects_take_many_turns);
    return tap_done();
}
