/* SPDX-License-Identifier: Apache-2.0
 *
 * The host loop of raft.h, over a log of numbers. Everything that raft may ask for happens in
 * raft_host_pump(), and raft's own invariants are checked at its end.
 */
#include "sim/raft_host.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static void items_reserve(struct raft_item **items, uint64_t *cap, uint64_t index)
{
    if (index < *cap)
        return;
    *cap = MAX(index + 1, *cap * 2 + 64);
    *items = realloc(*items, *cap * sizeof **items);
    ASSERT(*items);
}

void raft_host_init(struct raft_host *h, uint32_t replica, const struct group *group,
                    const struct raft_config *config, const struct raft_host_hooks *hooks, void *owner)
{
    memset(h, 0, sizeof *h);
    h->replica = replica;
    h->config = *config;
    h->hooks = hooks;
    h->owner = owner;
    h->append_max = 64;
    items_reserve(&h->log, &h->log_cap, 0);
    items_reserve(&h->disk_log, &h->disk_cap, 0);
    h->disk_log[0] = (struct raft_item){.group = group};
}

static void queue_clear(struct raft_host *h, enum raft_host_queue queue)
{
    struct raft_write *w;

    while ((w = h->queue[queue])) {
        h->queue[queue] = w->next;
        free(w);
    }
}

void raft_host_fini(struct raft_host *h)
{
    if (h->up)
        raft_host_crash(h, NULL);
    free(h->log);
    free(h->disk_log);
}

/* ---- groups ---- */

/* Does the item at `index` set the group? */
static bool sets_group(const struct raft_item *log, uint64_t index)
{
    return log[index].group && log[index].group->index == index;
}

/* The group in force at `index`, of a log that begins at `base`. */
static const struct group *group_at(const struct raft_item *log, uint64_t base, uint64_t index)
{
    while (index > base && !sets_group(log, index))
        index--;
    return log[index].group;
}

const struct group *raft_host_disk_group(const struct raft_host *h)
{
    return group_at(h->disk_log, h->disk_base, h->disk_last);
}

const struct group *raft_host_group(const struct raft_host *h)
{
    return h->up ? &h->raft.group : raft_host_disk_group(h);
}

/* ---- disk ---- */

static void queue_add(struct raft_host *h, enum raft_host_queue queue, struct raft_write *w)
{
    struct raft_write **tail = &h->queue[queue];

    while (*tail)
        tail = &(*tail)->next;
    w->next = NULL;
    *tail = w;
}

static struct raft_write *write_new(uint64_t items)
{
    struct raft_write *w = calloc(1, sizeof *w + items * sizeof w->items[0]);

    ASSERT(w);
    return w;
}

static void write_log(struct raft_host *h, uint64_t first, uint64_t last)
{
    struct raft_write *w = write_new(last - first + 1);

    w->first = first;
    w->last = last;
    memcpy(w->items, h->log + first, (last - first + 1) * sizeof w->items[0]);
    queue_add(h, RAFT_HOST_QUEUE_LOG, w);
}

/* The medium takes the first `count` items of a write. */
static void medium_apply(struct raft_host *h, const struct raft_write *w, uint64_t count)
{
    if (w->is_base) {
        items_reserve(&h->disk_log, &h->disk_cap, w->last);
        h->disk_log[w->last] = w->items[0];
        h->disk_base = h->disk_last = w->last;
        return;
    }
    ASSERT(w->first <= h->disk_last + 1);
    items_reserve(&h->disk_log, &h->disk_cap, w->last);
    memcpy(h->disk_log + w->first, w->items, count * sizeof w->items[0]);
    h->disk_last = w->first + count - 1;
}

static void base_set(struct raft_host *h, const struct raft_write *w)
{
    items_reserve(&h->log, &h->log_cap, w->last);
    h->log[w->last] = w->items[0];
    raft_reset_base(&h->raft, w->last, w->items[0].term, w->items[0].group);
}

static void base_done(struct raft_host *h, const struct raft_write *w)
{
    queue_clear(h, RAFT_HOST_QUEUE_LOG); /* appended to the log that is no more, and never acknowledged */
    if (h->basing)
        raft_set_held(&h->raft, false);
    else
        base_set(h, w);
    h->basing = false;
    h->recovering = false;
    h->based = true;
    h->disk_lost = 0;
    raft_set_recovering(&h->raft, false);
}

bool raft_host_write_done(struct raft_host *h, enum raft_host_queue queue, uint64_t now_ns)
{
    struct raft_write *w = h->queue[queue];
    uint64_t durable;

    if (!w)
        return false;
    h->queue[queue] = w->next;
    if (queue == RAFT_HOST_QUEUE_VOTE) {
        h->disk_hs = w->hs;
        raft_hard_state_durable(&h->raft, w->hs);
    } else if (w->is_base) {
        medium_apply(h, w, 1);
        base_done(h, w);
    } else {
        medium_apply(h, w, w->last - w->first + 1);
        durable = w->last;
        for (const struct raft_write *later = h->queue[queue]; later; later = later->next) {
            if (!later->is_base)
                durable = MIN(durable, later->first - 1);
        }
        raft_log_durable(&h->raft, durable);
    }
    free(w);
    raft_host_pump(h, now_ns);
    return true;
}

/* Damaged: it abstains. A leader hands over first, if somebody is there. */
static void damage_mind(struct raft_host *h)
{
    struct raft *r = &h->raft;

    if (!h->disk_damaged || r->abstain)
        return;
    if (r->role == RAFT_LEADER && h->left_term != r->term) {
        h->left_term = r->term;
        (void)!raft_transfer(r, 0, r->now_ns);
    }
    if (r->role == RAFT_LEADER && r->transfer_to)
        return;
    h->recovering = true;
    raft_set_abstain(r, true);
    raft_set_held(r, true);
    raft_set_recovering(r, true);
}

void raft_host_damage_found(struct raft_host *h, uint64_t index, uint64_t now_ns)
{
    ASSERT(h->up && !h->disk_damaged);
    h->disk_damaged = true;
    h->based = false;
    h->disk_lost = index;
    raft_host_pump(h, now_ns);
}

void raft_host_start(struct raft_host *h, bool born_now, uint64_t seed, uint64_t now_ns)
{
    struct raft_item *base = &h->disk_log[h->disk_base];

    ASSERT(!h->up);
    h->up = true;
    h->recovering = h->based = h->basing = false;
    h->target = h->target_term = h->left_term = 0;
    h->start_ns = now_ns;
    raft_init(&h->raft, &h->config, h->replica, base->group, h->disk_hs, h->disk_base, base->term, born_now,
              seed, now_ns);
    items_reserve(&h->log, &h->log_cap, h->disk_last);
    memcpy(h->log + h->disk_base, base, (h->disk_last - h->disk_base + 1) * sizeof *base);
    for (uint64_t i = h->disk_base + 1; i <= h->disk_last; i++)
        raft_restore(&h->raft, i, h->log[i].term, sets_group(h->log, i) ? h->log[i].group : NULL);
    raft_log_durable(&h->raft, h->disk_last);
    damage_mind(h);
    h->seen_role = RAFT_FOLLOWER;
    h->seen_term = h->raft.term;
    h->seen_commit = h->raft.commit_index;
    raft_host_pump(h, now_ns);
}

void raft_host_damage(struct raft_host *h, uint64_t index)
{
    ASSERT(!h->up && index >= h->disk_base && index <= h->disk_last);
    h->disk_last = index;
    h->disk_damaged = true;
}

void raft_host_lose(struct raft_host *h, uint64_t index)
{
    ASSERT(!h->up && index >= h->disk_base && index <= h->disk_last);
    h->disk_last = index;
}

void raft_host_crash(struct raft_host *h, struct sim_rng *rng)
{
    ASSERT(h->up);
    h->up = false;
    raft_fini(&h->raft);
    if (rng && sim_rng_below(rng, 2)) {
        for (struct raft_write *w = h->queue[RAFT_HOST_QUEUE_VOTE]; w && sim_rng_below(rng, 3); w = w->next)
            h->disk_hs = w->hs;
        for (struct raft_write *w = h->queue[RAFT_HOST_QUEUE_LOG]; w && sim_rng_below(rng, 3); w = w->next) {
            uint64_t all = w->last - w->first + 1, count = all ? sim_rng_range(rng, 1, all) : 0;

            medium_apply(h, w, count);
            if (count < all)
                break;
        }
    }
    queue_clear(h, RAFT_HOST_QUEUE_VOTE);
    queue_clear(h, RAFT_HOST_QUEUE_LOG);
    if (h->disk_lost)
        h->disk_last = MAX(h->disk_base, MIN(h->disk_last, h->disk_lost - 1));
    h->disk_lost = 0;
}

/* ---- messages out ---- */

static struct raft_packet *packet_new(const struct raft_msg *msg, uint64_t entries)
{
    struct raft_packet *p = calloc(1, sizeof *p + entries * sizeof p->entries[0]);

    ASSERT(p);
    p->msg = *msg;
    p->msg.entries = entries ? p->entries : NULL;
    return p;
}

static void send_host_message(struct raft_host *h, uint32_t type, uint32_t to, uint64_t index,
                              uint64_t sent_ns)
{
    struct raft_msg msg = {
        .type = (enum raft_msg_type)type,
        .from = h->replica,
        .to = to,
        .term = h->raft.term,
        .index = index,
        .commit = h->raft.commit_index,
        .sent_ns = sent_ns,
    };
    struct raft_packet *p = packet_new(&msg, 0);

    h->hooks->send(h->owner, h, p);
}

static void send_raft_message(struct raft_host *h, struct raft_msg *msg)
{
    struct raft_packet *p;
    uint64_t count = 0;

    enum raft_host_hindrance hindrance =
        h->hooks->hindrance ? h->hooks->hindrance(h->owner, h) : RAFT_HOST_FREE;

    if (msg->type == RAFT_APPEND && hindrance == RAFT_HOST_BUSY) {
        raft_append_failed(&h->raft, msg->to, msg->index);
        return;
    }
    if (msg->type == RAFT_APPEND && hindrance == RAFT_HOST_NOTHING)
        msg->last = msg->index;
    if (msg->type == RAFT_APPEND) {
        msg->last = MIN(msg->last, msg->index + h->append_max);
        for (uint64_t i = msg->index + 1; i < msg->last; i++) {
            if (sets_group(h->log, i))
                msg->last = i;
        }
        count = msg->last - msg->index;
        if (count && sets_group(h->log, msg->last))
            msg->group = h->log[msg->last].group;
    }
    p = packet_new(msg, count);
    for (uint64_t i = 0; i < count; i++) {
        const struct raft_item *item = &h->log[msg->index + 1 + i];

        p->entries[i] =
            (struct entry){.index = msg->index + 1 + i, .term = item->term, .object = item->value};
    }
    if (msg->type == RAFT_APPEND)
        raft_append_sent(&h->raft, msg->to, msg->last, (uint32_t)count * BLOCK_SIZE);
    h->hooks->send(h->owner, h, p);
}

static void log_put(struct raft_host *h, uint64_t index, uint64_t term, uint64_t value,
                    const struct group *group)
{
    items_reserve(&h->log, &h->log_cap, index);
    h->log[index] = (struct raft_item){
        .term = term,
        .value = value,
        .hash = hash_pair(h->log[index - 1].hash, hash_pair(term, value)),
        .group = group,
    };
}

/* `group`: the entry sets it; NULL: an ordinary one. */
static int propose(struct raft_host *h, uint64_t value, const struct group *group)
{
    uint64_t index;
    int result = group ? raft_propose_group(&h->raft, group, &index) : raft_propose(&h->raft, &index);

    if (result)
        return result;
    log_put(h, index, h->raft.term, value, group ? h->hooks->keep_group(h->owner, &h->raft.group) : NULL);
    write_log(h, index, index);
    if (h->hooks->appended)
        h->hooks->appended(h->owner, h, index, index);
    return 0;
}

/* Damaged: is all that was ever acknowledged here again? */
static void damage_end(struct raft_host *h)
{
    const struct raft *r = &h->raft;

    if (!h->disk_damaged || h->recovering || !h->based || !raft_is_whole(r, h->target, h->target_term))
        return;
    h->disk_damaged = false;
    raft_set_abstain(&h->raft, false);
    if (h->hooks->healed)
        h->hooks->healed(h->owner, h);
}

void raft_host_pump(struct raft_host *h, uint64_t now_ns)
{
    struct raft_hard_state hs;
    struct raft_msg msg;
    uint64_t before = h->seen_commit;

    damage_mind(h);
    damage_end(h);
    if (raft_hard_state_pending(&h->raft, &hs)) {
        struct raft_write *w = write_new(0);

        w->hs = hs;
        queue_add(h, RAFT_HOST_QUEUE_VOTE, w);
    }
    if (h->raft.role != h->seen_role || h->raft.term != h->seen_term) {
        h->seen_role = h->raft.role;
        h->seen_term = h->raft.term;
        if (h->hooks->role_changed)
            h->hooks->role_changed(h->owner, h);
    }
    if (raft_noop_due(&h->raft)) {
        int result = propose(h, h->hooks->next_value(h->owner), NULL);

        ASSERT(result == 0);
    }
    if (raft_group_leave_due(&h->raft)) {
        struct group left;

        raft_group_left(&h->raft, &left);
        int result = propose(h, h->hooks->next_value(h->owner), &left);

        ASSERT(result == 0);
    }
    if (h->raft.commit_index != before) {
        h->seen_commit = h->raft.commit_index;
        if (h->hooks->committed)
            h->hooks->committed(h->owner, h, before);
    }
    while (raft_next_msg(&h->raft, now_ns, &msg))
        send_raft_message(h, &msg);
    raft_check(&h->raft);
}

void raft_host_heartbeat(struct raft_host *h, uint64_t now_ns)
{
    for (uint32_t i = 0; i < h->raft.member_count; i++) {
        uint32_t member = h->raft.members[i].replica;

        if (h->raft.role == RAFT_LEADER && member != h->replica)
            send_host_message(h, RAFT_HOST_HEARTBEAT, member, 0, now_ns);
    }
    if (h->recovering && h->raft.leader && !h->queue[RAFT_HOST_QUEUE_LOG])
        send_host_message(h, RAFT_HOST_PULL, h->raft.leader, 0, now_ns);
}

/* ---- inputs ---- */

static void send_state(struct raft_host *h, const struct raft_msg *pull, uint64_t now_ns)
{
    uint64_t index = raft_host_applied(h);
    struct raft_msg msg = {
        .type = (enum raft_msg_type)RAFT_HOST_STATE,
        .from = h->replica,
        .to = pull->from,
        .term = h->raft.term,
        .index = index,
        .commit = raft_member_forgotten(&h->raft, pull->from, now_ns),
        .sent_ns = pull->sent_ns,
    };
    struct raft_packet *p = packet_new(&msg, 0);

    p->base = h->log[index];
    p->base.group = group_at(h->log, h->raft.first_index - 1, index);
    h->hooks->send(h->owner, h, p);
}

static void on_state(struct raft_host *h, const struct raft_packet *p)
{
    struct raft_write *w;

    if (!h->recovering || h->queue[RAFT_HOST_QUEUE_LOG] || p->msg.term != h->raft.term ||
        p->msg.sent_ns < h->start_ns)
        return;
    h->target = p->msg.commit;
    h->target_term = p->msg.term;
    if (!h->disk_damaged && p->msg.index <= h->raft.matched_index) {
        h->recovering = false;
        raft_set_recovering(&h->raft, false);
        raft_set_held(&h->raft, false);
        return;
    }
    if (!raft_may_reset_base(&h->raft, p->msg.index, p->base.term))
        return; /* a later state, then */
    w = write_new(1);
    w->is_base = true;
    w->first = w->last = p->msg.index;
    w->items[0] = p->base;
    queue_add(h, RAFT_HOST_QUEUE_LOG, w);
    if (!h->early_base)
        return;
    h->basing = true;
    base_set(h, w);
    raft_set_held(&h->raft, true); /* until it is on the disk nothing comes behind it */
}

/* The entries from `first` on, as many as there is room for. */
static void store_take(struct raft_host *h, const struct raft_packet *packet, const struct raft_msg *msg,
                       uint64_t first)
{
    uint64_t last = h->hooks->takes ? h->hooks->takes(h->owner, h, first, msg->last) : msg->last;

    ASSERT(first > msg->index && first <= msg->last && last + 1 >= first && last <= msg->last);
    for (uint64_t i = first; i <= last; i++) {
        const struct entry *e = &packet->entries[i - msg->index - 1];

        log_put(h, i, e->term, e->object, i == msg->last ? msg->group : NULL);
    }
    write_log(h, first, last);
    if (last < msg->last) {
        bool cut = raft_cut(&h->raft, last);

        ASSERT(cut);
    }
    if (h->hooks->appended && last >= first)
        h->hooks->appended(h->owner, h, first, last);
}

void raft_host_step(struct raft_host *h, const struct raft_packet *packet, uint64_t now_ns)
{
    const struct raft_msg *msg = &packet->msg;
    struct raft_msg empty;
    uint64_t first;

    switch ((uint32_t)msg->type) {
    case RAFT_HOST_HEARTBEAT:
        raft_leader_alive(&h->raft, msg->from, msg->term, msg->commit, now_ns, 0);
        if (h->raft.role == RAFT_FOLLOWER && h->raft.leader == msg->from && h->raft.term == msg->term &&
            raft_term_durable(&h->raft))
            send_host_message(h, RAFT_HOST_HEARTBEAT_REPLY, msg->from, 0, msg->sent_ns);
        break;
    case RAFT_HOST_HEARTBEAT_REPLY:
        if (msg->term == h->raft.term)
            raft_contact(&h->raft, msg->from, msg->sent_ns);
        break;
    case RAFT_HOST_PULL:
        if (h->raft.role == RAFT_LEADER && msg->term == h->raft.term && raft_member(&h->raft, msg->from) &&
            !h->disk_damaged)
            send_state(h, msg, now_ns);
        break;
    case RAFT_HOST_STATE:
        on_state(h, packet);
        break;
    case RAFT_APPEND:
        /* The log is about to be replaced by a recovered state: what came now would be lost with it. */
        if (h->queue[RAFT_HOST_QUEUE_LOG] && h->queue[RAFT_HOST_QUEUE_LOG]->is_base && !h->basing)
            break;
        if ((h->disk_damaged && h->recovering) || h->basing) {
            empty = *msg;
            empty.last = msg->index;
            empty.entries = NULL;
            empty.group = NULL;
            msg = &empty;
        }
        /* fallthrough */
    default:
        first = raft_step(&h->raft, msg, now_ns);
        if (first)
            store_take(h, packet, msg, first);
        if (raft_install_needed(&h->raft, msg)) {
            h->recovering = true;
            raft_set_recovering(&h->raft, true);
            raft_set_held(&h->raft, true);
            if (!h->queue[RAFT_HOST_QUEUE_LOG])
                send_host_message(h, RAFT_HOST_PULL, msg->from, 0, now_ns);
        }
    }
    raft_host_pump(h, now_ns);
}

void raft_host_refuse(struct raft_host *h)
{
    queue_clear(h, RAFT_HOST_QUEUE_LOG);
}

void raft_host_tick(struct raft_host *h, uint64_t now_ns)
{
    raft_tick(&h->raft, now_ns);
    raft_host_pump(h, now_ns);
}

int raft_host_propose(struct raft_host *h, uint64_t value, uint64_t now_ns)
{
    int result = propose(h, value, NULL);

    raft_host_pump(h, now_ns);
    return result;
}

int raft_host_change(struct raft_host *h, const struct group *target, uint64_t now_ns)
{
    const struct group *now = &h->raft.group;
    struct group joint = *target;
    bool voters_change = false;

    for (uint32_t i = 0; i < now->count; i++) {
        uint32_t at = 0;

        if (!now->members[i].flags)
            continue;
        while (at < joint.count && joint.members[at].replica != now->members[i].replica)
            at++;
        if (at == joint.count) {
            joint.members[joint.count].replica = now->members[i].replica;
            joint.members[joint.count++].flags = 0;
        }
        joint.members[at].flags |= GROUP_VOTER_OLD;
    }
    for (uint32_t i = 0; i < joint.count; i++)
        voters_change |= joint.members[i].flags && joint.members[i].flags != (GROUP_VOTER | GROUP_VOTER_OLD);
    int result = propose(h, h->hooks->next_value(h->owner), voters_change ? &joint : target);

    raft_host_pump(h, now_ns);
    return result;
}

uint64_t raft_host_applied(const struct raft_host *h)
{
    return MIN(h->raft.commit_index, h->raft.durable_index);
}

void raft_host_compact(struct raft_host *h, uint64_t index)
{
    index = MIN(index, raft_host_applied(h));
    if (index < h->raft.first_index)
        return;
    h->log[index].group = group_at(h->log, h->raft.first_index - 1, index);
    h->disk_log[index].group = h->log[index].group;
    raft_compacted(&h->raft, index + 1);
    h->disk_base = index;
    raft_check(&h->raft);
}
