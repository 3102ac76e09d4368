/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes: the turn, what a change consists of, the commit.
 *
 * Every transaction holds the condition that key "cluster" is as it was read, and that this monitor leads: a
 * monitor that was stopped for a minute, and goes on with a change in its hands, writes nothing. A change
 * that does not fit in one transaction is written from its end; only the last transaction, with the change's
 * first puts and the new state, makes it count. Whoever builds such a change puts first what makes the rest
 * visible (the pool of its PGs). What the store may yet carry out of a change that failed (mon->doubtful)
 * must not come in between, and write over what it has written: the state is written once more in front.
 *
 *   commit: NEXT -> WRITING -> (NEXT ... | done)
 */
#include "mon/impl.h"

#include <stdlib.h>
#include <string.h>

/* ---- the turn ---- */

bool mon_turn_take(struct mon *mon, struct mon_turn *turn, struct op *op)
{
    if (!turn->held) {
        turn->held = true;
        turn->op = op;
        list_push_back(&mon->turns, &turn->link);
    }
    return mon->turns.next == &turn->link;
}

void mon_turn_give(struct mon *mon, struct mon_turn *turn)
{
    if (!turn->held)
        return;
    list_remove(&turn->link);
    turn->held = false;
    struct mon_turn *next = list_first(&mon->turns, struct mon_turn, link);
    if (next)
        op_wake(next->op);
}

/* ---- building ---- */

void mon_change_init(struct mon_change *c, struct mon *mon)
{
    *c = (struct mon_change){.mon = mon, .state = mon->state};
    c->state.epoch++;
    c->state.format = MON_FORMAT;
}

static void put_fini(struct mon_put *p)
{
    free(p->value);
    free(p->node);
    if (p->message)
        protobuf_c_message_free_unpacked(p->message, &mon_allocator);
}

void mon_change_fini(struct mon_change *c)
{
    for (uint32_t i = 0; i < c->count; i++)
        put_fini(&c->puts[i]);
    free(c->puts);
    *c = (struct mon_change){.mon = c->mon};
}

static int put_fill(struct mon_put *p, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);

    if (len > META_VALUE_MAX)
        return -ERR_TOO_LARGE;
    p->value = malloc(len + 1);
    p->node = mon_item_new(p->kind);
    if (!p->value || !p->node)
        return -ERR_NO_MEMORY;
    p->value_len = (uint32_t)protobuf_c_message_pack(message, p->value);
    p->message = protobuf_c_message_unpack(mon_kind_type(p->kind), &mon_allocator, p->value_len, p->value);
    return p->message ? 0 : -ERR_NO_MEMORY;
}

void mon_change_put(struct mon_change *c, enum mon_kind kind, uint64_t id, const ProtobufCMessage *message)
{
    if (c->error)
        return;
    if (c->count == c->cap) {
        uint32_t cap = MAX(c->cap * 2, 16u);
        struct mon_put *more = realloc(c->puts, cap * sizeof(*more));
        if (!more) {
            c->error = -ERR_NO_MEMORY;
            return;
        }
        c->puts = more;
        c->cap = cap;
    }
    struct mon_put *p = &c->puts[c->count++];
    *p = (struct mon_put){.kind = kind, .id = id};
    mon_key(kind, id, p->key);
    if (message)
        c->error = put_fill(p, message);
}

/* ---- the commit ---- */

enum commit_state { COMMIT_NEXT, COMMIT_WRITING };

static const char *commit_state_name(int state)
{
    static const char *const names[] = {"next", "writing"};
    return names[state];
}

/* The table's words for no space are those of an OSD's. */
const char *mon_store_error(int error)
{
    return error == -ERR_NO_SPACE ? "no space left where the monitor keeps it: its data directory, or etcd"
                                  : error_text(error);
}

static void write_batch(struct mon_commit *m)
{
    struct mon_change *c = m->change;
    struct mon *mon = m->mon;
    bool last = m->remaining <= MON_PUTS_PER_TXN, rules_out = !last && mon->doubtful;
    const Fb__MonState *state = last ? &c->state : &mon->state;
    uint32_t count = 0;

    m->batch = rules_out ? 0 : MIN(m->remaining, (uint32_t)MON_PUTS_PER_TXN);
    for (uint32_t i = m->remaining - m->batch; i < m->remaining; i++) {
        const struct mon_put *p = &c->puts[i];
        m->changes[count++] =
            (struct meta_change){.key = p->key, .value = p->value, .value_len = p->value_len};
    }
    if (last || rules_out) {
        ASSERT(fb__mon_state__get_packed_size(state) <= sizeof(m->state_value));
        m->changes[count++] =
            (struct meta_change){.key = "cluster",
                                 .value = m->state_value,
                                 .value_len = (uint32_t)fb__mon_state__pack(state, m->state_value)};
    }
    m->txn = (struct meta_txn){.conditions = m->conditions,
                               .condition_count = mon_fence(mon, mon->state_revision, m->conditions),
                               .changes = m->changes,
                               .change_count = count,
                               .waiter = &m->op,
                               .pending = true};
    mon->config.meta->ops->txn(mon->config.meta, &m->txn);
}

/* Nothing here can fail: what needs memory was made when the change was built. */
static void install(struct mon *mon, struct mon_put *p)
{
    if (p->kind == MON_SCRUB)
        mon_scrub_changed(mon, p->id);
    if (!p->value) {
        mon_item_forget(mon, p->kind, p->id);
        return;
    }
    struct mon_item *item = mon_find(mon, p->kind, p->id);
    if (!item) {
        item = p->node;
        p->node = NULL;
        map_put(&mon->items[p->kind], &item->by_id, p->id);
        if (p->kind == MON_PG)
            container_of(item, struct mon_pg, item)->new_ns = mon->alive_ns;
    }
    ProtobufCMessage *old = item->message;
    item->message = p->message;
    p->message = old; /* freed with the change */
}

static void take_effect(struct mon_commit *m)
{
    struct mon *mon = m->mon;

    for (uint32_t i = 0; i < m->change->count; i++)
        install(mon, &m->change->puts[i]);
    mon->state = m->change->state;
    mon->state_revision = m->txn.ret_revision;
    mon->doubtful = false;
    mon->self.epoch = mon->state.epoch;
    mon->self.image_id_max = mon->state.image_id_max;
}

void mon_doubt(struct mon *mon, int error)
{
    mon->doubtful = mon->config.meta->ops->lease && error != -ERR_CONFLICT;
}

static void commit_step(struct op *op)
{
    struct mon_commit *m = container_of(op, struct mon_commit, op);

    for (;;) {
        if (m->txn.pending)
            return;
        switch ((enum commit_state)op->state) {
        case COMMIT_NEXT:
            if (m->change->error) {
                op_done(op, m->change->error);
                return;
            }
            write_batch(m);
            op->state = COMMIT_WRITING;
            continue;
        case COMMIT_WRITING:
            if (m->txn.result) {
                m->mon->stale = true;
                mon_doubt(m->mon, m->txn.result);
                if (m->txn.result != m->mon->commit_failed) /* once, not with each tick that tries again */
                    core_log(m->mon->core, LOG_ERROR, "mon", "a change of the metadata failed: %s",
                             mon_store_error(m->txn.result));
                m->mon->commit_failed = m->txn.result;
                mon_lead_look(m->mon);
                op_done(op, m->txn.result);
                return;
            }
            m->mon->commit_failed = 0;
            if (m->remaining <= MON_PUTS_PER_TXN) {
                take_effect(m);
                op_done(op, 0);
                return;
            }
            if (!m->batch) {
                m->mon->state_revision = m->txn.ret_revision;
                m->mon->doubtful = false;
            }
            m->remaining -= m->batch;
            op->state = COMMIT_NEXT;
            continue;
        }
    }
}

static const struct op_kind commit_kind = {"mon.commit", commit_state_name, commit_step};

/* Orders to scrub, and results: no map has them, and a monitor that has forgotten some (a restored backup)
 * does no harm by that. With thousands of PGs there is always one being scrubbed; were each a new epoch,
 * every shard would save its map and report all of its PGs as often. */
static bool is_scrubs_only(const struct mon_change *c)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (c->puts[i].kind != MON_SCRUB)
            return false;
    return c->count;
}

void mon_commit_start(struct mon *mon, struct mon_change *c, struct op *parent)
{
    struct mon_commit *m = &mon->commit;

    ASSERT(!op_live(&m->op));
    if (is_scrubs_only(c) && !mon->doubtful)
        c->state.epoch = mon->state.epoch;
    /* What is in doubt may be several epochs, and be told of before the store refuses this one for it. */
    uint64_t epoch = mon->doubtful ? MAX(m->epoch, c->state.epoch) : c->state.epoch;
    *m = (struct mon_commit){.mon = mon, .change = c, .epoch = epoch, .remaining = c->count};
    op_start(&m->op, mon->core, &commit_kind, parent);
}
