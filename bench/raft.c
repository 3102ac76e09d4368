/* SPDX-License-Identifier: Apache-2.0
 *
 * What one write costs in the consensus core: a group of three in memory, without disk, network or entries. A
 * step is a proposal at the leader, the APPENDs of it out and into both followers, durable everywhere, both
 * answers back, and the commit. With a batch of N entries in each APPEND the cost per entry falls; N is what
 * is in flight at a time.
 */
#include <stdio.h>
#include <time.h>

#include "raft/raft.h"

enum { ENTRIES = 4000000 };

static uint64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static struct raft group[3];
static struct entry entries[64];

/* Delivers until all is quiet; every log and vote is durable at once. */
static void run(uint64_t now_ns)
{
    struct raft_hard_state hs;
    struct raft_msg msg;
    bool busy = true;

    while (busy) {
        busy = false;
        for (uint32_t i = 0; i < 3; i++) {
            struct raft *r = &group[i];

            if (raft_hard_state_pending(r, &hs))
                raft_hard_state_durable(r, hs);
            if (r->durable_index < r->last_index)
                raft_log_durable(r, r->last_index);
            while (raft_next_msg(r, now_ns, &msg)) {
                busy = true;
                if (msg.type == RAFT_APPEND) {
                    msg.last = MIN(msg.last, msg.index + ARRAY_LEN(entries));
                    for (uint64_t k = 0; k < msg.last - msg.index; k++)
                        entries[k].term = raft_term_at(r, msg.index + 1 + k);
                    raft_append_sent(r, msg.to, msg.last, (uint32_t)(msg.last - msg.index) * BLOCK_SIZE);
                    msg.entries = entries;
                }
                raft_step(&group[msg.to - 1], &msg, now_ns);
            }
        }
    }
}

int main(void)
{
    static const struct raft_group born = {.count = 3,
                                           .members = {{1, RAFT_VOTER}, {2, RAFT_VOTER}, {3, RAFT_VOTER}}};
    uint64_t now_ns = NS_PER_S;

    for (uint32_t i = 0; i < 3; i++)
        raft_init(&group[i], &RAFT_CONFIG_DEFAULT, i + 1, &born, (struct raft_hard_state){0}, 0, 0, true, i,
                  now_ns);
    raft_tick(&group[0], now_ns);
    run(now_ns);
    for (uint32_t batch = 1; batch <= ARRAY_LEN(entries); batch *= 4) {
        uint64_t start_ns = clock_ns(), spent_ns, index = 0;

        for (uint32_t done = 0; done < ENTRIES; done += batch) {
            for (uint32_t i = 0; i < batch; i++) {
                if (raft_propose(&group[0], &index))
                    return 1;
            }
            run(now_ns++);
            if (group[0].commit_index != index)
                return 1;
        }
        spent_ns = clock_ns() - start_ns;
        printf("%2u in flight: %llu ns per entry in all three replicas\n", batch,
               (unsigned long long)(spent_ns / ENTRIES));
    }
    for (uint32_t i = 0; i < 3; i++)
        raft_fini(&group[i]);
    return 0;
}
