/* SPDX-License-Identifier: Apache-2.0
 *
 * Whatever the members of a group may send: a replica that is fed with messages of random content, between
 * sensible ones, never asserts, and what must hold for one replica (raft_check) does. What a lying member
 * says may be wrong, but never a crash.
 */
#include "tests/tap.h"

#include <stdlib.h>

#include "base/error.h"
#include "raft/raft.h"
#include "sim/rng.h"

enum { RUNS = 300, STEPS = 3000 };

static struct entry entries[8];
static struct group group;

/* Near to something that matters, mostly. */
static uint64_t number(struct sim_rng *rng, uint64_t near)
{
    switch (sim_rng_below(rng, 8)) {
    case 0:
        return sim_rng_below(rng, 4);
    case 1:
        return sim_rng_u64(rng) >> sim_rng_below(rng, 64);
    case 2:
        return UINT64_MAX - sim_rng_below(rng, 3);
    default:
        return near + sim_rng_below(rng, 4) - MIN(near, 2u);
    }
}

/* Mostly one that can be. */
static void random_group(struct sim_rng *rng, uint64_t index)
{
    uint32_t mask = (uint32_t)sim_rng_below(rng, 1u << 6);

    group = (struct group){.index = sim_rng_below(rng, 20) ? index : number(rng, index)};
    for (uint32_t i = 0; i < 6; i++) {
        if (!(mask >> i & 1))
            continue;
        group.members[group.count].replica = i + (sim_rng_below(rng, 50) != 0);
        group.members[group.count++].flags = (uint32_t)sim_rng_below(rng, sim_rng_below(rng, 50) ? 4 : 9);
    }
    if (sim_rng_below(rng, 100) == 0)
        group.count = RAFT_MEMBERS_MAX + 1;
}

static void random_message(struct sim_rng *rng, const struct raft *r, struct raft_msg *msg)
{
    uint32_t count = (uint32_t)sim_rng_below(rng, ARRAY_LEN(entries));
    /* Terms hardly ever jump; beyond RAFT_TERM_MAX they must not be taken, or the next election would wrap.
     */
    uint64_t term = r->term + (sim_rng_below(rng, 20) == 0) - (r->term && sim_rng_below(rng, 20) == 0);
    if (sim_rng_below(rng, 500) == 0)
        term = UINT64_MAX - sim_rng_below(rng, 3);

    *msg = (struct raft_msg){
        .type = (enum raft_msg_type)sim_rng_below(rng, 10),
        .from = (uint32_t)sim_rng_below(rng, 5),
        .to = sim_rng_below(rng, 20) ? r->self : (uint32_t)sim_rng_below(rng, 5),
        .term = term,
        .index = number(rng, sim_rng_below(rng, 2) ? r->last_index : r->commit_index),
        .log_term = sim_rng_below(rng, 2) ? r->term : number(rng, r->term),
        .commit = number(rng, r->commit_index),
        .sent_ns = number(rng, r->now_ns),
        .reject = sim_rng_below(rng, 2),
        .flags = (uint32_t)sim_rng_below(rng, 4),
    };
    if (msg->type == RAFT_APPEND) {
        msg->index = MIN(msg->index, UINT64_MAX - count);
        msg->last = msg->index + count;
        msg->entries = entries;
        if (sim_rng_below(rng, 2))
            msg->log_term = raft_term_at(r, msg->index);
        for (uint32_t i = 0; i < count; i++)
            entries[i].term = sim_rng_below(rng, 3) ? msg->term : number(rng, r->term);
        if (sim_rng_below(rng, 4) == 0) {
            random_group(rng, msg->last);
            msg->group = &group;
        }
    }
}

static void host(struct sim_rng *rng, struct raft *r)
{
    struct raft_hard_state hs;
    struct raft_msg msg;
    uint64_t index;

    if (sim_rng_below(rng, 2) && raft_hard_state_pending(r, &hs))
        raft_hard_state_durable(r, hs);
    if (sim_rng_below(rng, 2))
        raft_log_durable(r, r->last_index - sim_rng_below(rng, MIN(3u, r->last_index + 1)));
    if (sim_rng_below(rng, 20) == 0)
        raft_compacted(r, MIN(r->commit_index, r->durable_index) + 1);
    if (sim_rng_below(rng, 4) == 0 && raft_propose(r, &index) == 0)
        CHECK_EQ(index, r->last_index);
    while (raft_next_msg(r, r->now_ns, &msg)) {
        if (msg.type == RAFT_APPEND && sim_rng_below(rng, 10) == 0)
            raft_append_failed(r, msg.to, msg.index);
        else if (msg.type == RAFT_APPEND)
            raft_append_sent(r, msg.to, sim_rng_below(rng, 10) ? msg.last : msg.index, BLOCK_SIZE);
        raft_check(r);
    }
}

static void other_input(struct sim_rng *rng, struct raft *r)
{
    uint32_t replica = (uint32_t)sim_rng_below(rng, 5);
    int result = 0;

    switch (sim_rng_below(rng, 14)) {
    case 0:
        raft_leader_alive(r, replica, r->term, number(rng, r->commit_index), r->now_ns, 0);
        break;
    case 1:
        raft_contact(r, replica, number(rng, r->now_ns));
        break;
    case 2:
        raft_peer_lost(r, replica, sim_rng_below(rng, 2), r->now_ns);
        if (sim_rng_below(rng, 2))
            raft_peer_unreachable(r, replica);
        else if (sim_rng_below(rng, 2))
            raft_peer_moved(r, replica, r->now_ns);
        else
            (void)raft_peer_found(r, replica);
        break;
    case 3:
        result = raft_transfer(r, replica, r->now_ns);
        break;
    case 4:
        raft_set_abstain(r, sim_rng_below(rng, 4) == 0);
        break;
    case 5:
        (void)raft_member_forgotten(r, replica, number(rng, r->now_ns));
        break;
    case 6:
        raft_probe(r);
        break;
    case 7: {
        uint64_t index;

        random_group(rng, 0);
        result = raft_propose_group(r, &group, &index);
        break;
    }
    case 8:
        if (raft_group_leave_due(r)) {
            uint64_t index;

            raft_group_left(r, &group);
            result = raft_propose_group(r, &group, &index);
        }
        break;
    default:
        raft_tick(r, MAX(r->now_ns, sim_rng_below(rng, 3) ? r->now_ns : raft_deadline_ns(r)) +
                         sim_rng_below(rng, NS_PER_MS));
        break;
    }
    CHECK(result == 0 || result == -ERR_NOT_LEADER || result == -ERR_RETRY || result == -ERR_INVALID);
}

static void test_garbage(void)
{
    static const struct group born = {.members = {{.replica = 1, .flags = GROUP_VOTER},
                                                  {.replica = 2, .flags = GROUP_VOTER},
                                                  {.replica = 3, .flags = GROUP_VOTER},
                                                  {.replica = 4, .flags = GROUP_VOTER}}};
    uint64_t led = 0, appended = 0;

    for (uint64_t run = 0; run < RUNS; run++) {
        struct sim_rng rng = sim_rng_make(run, "garbage", 0);
        struct group start = born;
        struct raft r;

        start.count = 2 + run % 3;
        raft_init(&r, &RAFT_CONFIG_DEFAULT, 2, &start, (struct raft_hard_state){.term = run % 4}, 0, 0,
                  run % 2, run, NS_PER_S);
        for (uint32_t i = 0; i < STEPS; i++) {
            struct raft_msg msg;

            if (sim_rng_below(&rng, 3)) {
                uint64_t first;

                random_message(&rng, &r, &msg);
                first = raft_step(&r, &msg, r.now_ns + sim_rng_below(&rng, NS_PER_MS));
                CHECK(!first || (msg.type == RAFT_APPEND && first > msg.index && first <= msg.last));
                appended += first != 0;
            } else {
                other_input(&rng, &r);
            }
            raft_check(&r);
            host(&rng, &r);
            raft_check(&r);
            led += r.role == RAFT_LEADER;
        }
        raft_fini(&r);
    }
    /* It was not all refused. */
    CHECK(led > RUNS);
    CHECK(appended > RUNS);
}

int main(void)
{
    TEST(test_garbage);
    return tap_done();
}
