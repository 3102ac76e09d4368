/* SPDX-License-Identifier: Apache-2.0
 *
 * One Raft group of 1 to 5 replicas, and up to 7 while its members change, on hosts that do nothing else
 * (raft_host.h), so that thousands of runs take seconds.
 *
 * Everything goes wrong for a while: messages are lost, repeated, late and out of order, links are cut both
 * ways or one way, hosts crash and lose what their disks had not written, hang, have slow disks and clocks of
 * different rates; leadership is handed over, logs are compacted, followers have no room for what they are
 * sent; a minority of disks lose the end of their log, acknowledged or not, while their host is down, and say
 * so. In half of the runs they do that also while members change, and members change meanwhile; and a host
 * that is up, the leader perhaps, finds that its log cannot be read. In the other half a disk loses, without
 * anybody knowing, what a majority of the others has. In half of them a base that was recovered counts before
 * it is on the disk, as in src/osd. Then the faults stop, and the group has to work again. What is checked,
 * the first five as in section 5 of the Raft paper:
 *
 *  - election safety: one leader per term;
 *  - log matching: two logs with the same index and term are equal up to there (each index carries
 *    the hash of the log up to it);
 *  - leader completeness: a new leader has all that was committed in earlier terms;
 *  - state machine safety: what is committed at an index is the same everywhere and for ever;
 *  - durability: by what is on the disks, nobody can be elected any more who does not have what is committed;
 *  - lease safety: whoever believes in its lease has all that was committed by anybody, at any moment; and a
 *    read confirmed by ReadIndex has all that was committed when it began;
 *  - where messages come in order, no leader finds that a member has not what it acknowledged, unless that
 *    one's disk has lost it;
 *  - liveness: after the faults one leader commits new entries, and all replicas get them; a leader that is
 *    killed or hangs is replaced in time.
 */
#include "sim/scenarios.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/raft_world.h"

#define FAULTY_NS   (4 * NS_PER_S)
#define WORKING_NS  (2 * NS_PER_S)
#define SETTLING_NS (1 * NS_PER_S)

/* ---- the client ---- */

static void client_fire(struct sim_event *event)
{
    struct world *w = container_of(event, struct world, client);

    sim_schedule(w->sim, event, sim_rng_below(&w->rng, 10 * NS_PER_MS));
    if (!w->quiet && w->sim->now_ns > w->client_silent_until_ns && sim_rng_below(&w->rng, 50) == 0)
        w->client_silent_until_ns = w->sim->now_ns + sim_rng_below(&w->rng, w->client_pause_ns);
    for (uint32_t i = 0; i < w->count; i++) {
        struct place *p = &w->places[i];
        bool silent = !w->proposing || (!w->quiet && w->sim->now_ns < w->client_silent_until_ns);

        if (!p->host.up || world_paused(p) || p->host.raft.role != RAFT_LEADER)
            continue;
        if (raft_can_read(&p->host.raft) && !p->reading && sim_rng_below(&w->rng, 2)) {
            p->reading = true;
            p->read_ns = world_local_ns(p);
            p->read_commit = p->host.raft.commit_index;
            p->read_need = w->checker.commit_max;
            p->read_term = p->host.raft.term;
            if (sim_rng_below(&w->rng, 2))
                raft_probe(&p->host.raft);
        }
        for (uint64_t n = sim_rng_below(&w->rng, 4); n && !silent; n--) {
            if (raft_host_propose(&p->host, ++w->value, world_local_ns(p)))
                break;
        }
        world_settle(p);
    }
}

/* ---- the run ---- */

static void world_start(struct world *w, const struct sim_args *args)
{
    static const uint32_t sizes[] = {1, 2, 3, 3, 3, 3, 3, 4, 5, 5};
    struct group group = {0};
    static const uint32_t append_max[] = {1, 3, 64};
    bool small_window;

    w->rng = sim_rng_make(args->seed, "raft", 0);
    w->net_rng = sim_rng_make(args->seed, "raft net", 0);
    w->disk_rng = sim_rng_make(args->seed, "raft disk", 0);
    w->loss_rng = sim_rng_make(args->seed, "raft.losses", 0);
    w->config = RAFT_CONFIG_DEFAULT;
    w->count = group.count = sizes[sim_rng_below(&w->rng, ARRAY_LEN(sizes))];
    for (uint32_t i = 0; i < group.count; i++) {
        group.members[i].replica = i + 1;
        group.members[i].flags = i == 3 && group.count == 4 ? 0 : GROUP_VOTER;
    }
    w->replica_max = group.count;
    if (sim_rng_below(&w->rng, 2))
        w->change_pause_ns = (10 + sim_rng_below(&w->rng, 300)) * NS_PER_MS;
    if (w->change_pause_ns)
        w->count = (uint32_t)sim_rng_range(&w->rng, MAX(w->count, 3u), HOSTS_MAX);
    w->fault_pause_ns = (5 + sim_rng_below(&w->rng, 100)) * NS_PER_MS;
    if (sim_fault_intensity(w->sim, SIM_FAULT_CRASH) && sim_rng_below(&w->rng, 2))
        w->coup_percent = (uint32_t)sim_rng_below(&w->rng, 80);
    w->storm = sim_rng_below(&w->rng, 4) == 0;
    if (w->storm)
        w->coup_percent = 60 + (uint32_t)sim_rng_below(&w->rng, 36);
    w->fragile = sim_fault_intensity(w->sim, SIM_FAULT_DISK_ROT) && sim_rng_below(&w->rng, 2);
    struct sim_rng restive = sim_rng_make(args->seed, "raft.restive", 0);
    w->restive = sim_rng_below(&restive, 2);
    w->early_base = sim_rng_below(&restive, 2);
    w->scarce = sim_rng_below(&restive, 2);
    w->room_rng = sim_rng_make(args->seed, "raft.room", 0);
    w->client_pause_ns = (1 + sim_rng_below(&w->rng, 1000)) * NS_PER_MS;
    w->checker.sim = w->sim;
    w->checker.count = w->count;
    small_window = sim_rng_below(&w->rng, 4) == 0;
    if (small_window) {
        w->config.window_bytes = 4 * BLOCK_SIZE;
        w->config.window_entries = 6;
    }
    /* What a drift that is allowed for would do shows when much is allowed. */
    if (sim_rng_below(&w->rng, 2))
        w->config.clock_drift_ppm = 100000;
    struct sim_rng drifts = sim_rng_make(args->seed, "raft.drifts", 0);
    bool extreme = sim_rng_below(&drifts, 2);
    uint32_t slow = (uint32_t)sim_rng_below(&drifts, w->count);
    for (uint32_t i = 0; i < w->count; i++) {
        struct place *p = &w->places[i];

        p->world = w;
        p->number = i;
        p->clock_base_ns = NS_PER_S + sim_rng_below(&w->rng, 1000 * NS_PER_S);
        if (sim_fault_intensity(w->sim, SIM_FAULT_CLOCK)) {
            sim_injected(w->sim, SIM_FAULT_CLOCK);
            int64_t most = (int64_t)w->config.clock_drift_ppm / 2 - 1;
            p->drift_ppm = (int64_t)sim_rng_below(&w->rng, w->config.clock_drift_ppm - 1) - most;
            /* What is allowed for shows where it is needed most: a slow leader among quick ones. */
            if (extreme)
                p->drift_ppm = i == slow ? -most : most;
        }
        p->tick.fire = world_tick_fire;
        p->beat.fire = world_beat_fire;
        p->start.fire = world_start_fire;
        p->writes[RAFT_HOST_QUEUE_VOTE].fire = world_write_vote_fire;
        p->writes[RAFT_HOST_QUEUE_LOG].fire = world_write_log_fire;
        w->checker.hosts[i] = &p->host;
        if (i >= group.count)
            continue;
        raft_host_init(&p->host, i + 1, i ? w->groups[0] : world_on_group(w, &group), &w->config,
                       &WORLD_HOOKS, w);
        p->host.early_base = w->early_base;
        p->host.append_max = append_max[sim_rng_below(&w->rng, ARRAY_LEN(append_max))];
        if (w->storm)
            p->host.append_max = 1;
    }
    w->committed = w->groups[0];
    for (uint32_t i = 0; i < group.count; i++)
        place_start(&w->places[i], true);
    w->proposing = true;
    w->fault.fire = world_fault_fire;
    w->client.fire = client_fire;
    w->coup.fire = world_coup_fire;
    w->heal.fire = world_heal_fire;
    w->change.fire = world_change_fire;
    w->frail.fire = world_frail_fire;
    if (w->change_pause_ns)
        sim_schedule(w->sim, &w->change, 0);
    sim_schedule(w->sim, &w->fault, 0);
    sim_schedule(w->sim, &w->client, 0);
}

/* What the leader thinks of its members: for whoever looks into a run that does not converge. */
static void log_members(const struct world *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        const struct raft *r = &w->places[i].host.raft;

        if (!w->places[i].host.up)
            continue;
        sim_log(w->sim, "%u: role %u term %lu leader %u log %lu..%lu durable %lu matched %lu commit %lu%s%s",
                r->self, r->role, r->term, r->leader, r->first_index, r->last_index, r->durable_index,
                r->matched_index, r->commit_index, r->recovering ? " recovering" : "",
                r->abstain ? " abstains" : "");
        for (uint32_t j = 0; j < r->group.count; j++)
            sim_log(w->sim, "   group of %lu: %u%s%s", r->group.index, r->group.members[j].replica,
                    r->group.members[j].flags & GROUP_VOTER ? " votes" : "",
                    r->group.members[j].flags & GROUP_VOTER_OLD ? " until now" : "");
        for (uint32_t j = 0; j < r->member_count && r->role == RAFT_LEADER; j++) {
            const struct raft_member *m = &r->members[j];

            sim_log(w->sim, "   %u: progress %u match %lu next %lu inflight %u base %lu bytes %lu wait %lu",
                    m->replica, m->progress, m->match, m->next, m->inflight_count, m->inflight_base,
                    m->inflight_bytes, r->now_ns - m->wait_ns);
        }
    }
}

static void check_converged(struct world *w, uint64_t committed_before)
{
    uint32_t leaders = 0;

    if (w->checker.commit_max <= committed_before + 10)
        sim_fail(w->sim, "liveness: from %lu to %lu committed without faults", committed_before,
                 w->checker.commit_max);
    for (uint32_t i = 0; i < w->count; i++) {
        struct place *p = &w->places[i];

        if (!p->host.replica)
            continue;
        leaders += p->host.raft.role == RAFT_LEADER;
        if (raft_host_applied(&p->host) != w->checker.commit_max ||
            p->host.raft.last_index != w->checker.commit_max)
            sim_fail(w->sim, "liveness: %u has applied %lu of %lu, its log ends at %lu", p->host.replica,
                     raft_host_applied(&p->host), w->checker.commit_max, p->host.raft.last_index);
        else if (p->host.log[w->checker.commit_max].hash !=
                 w->checker.commits[w->checker.commit_max].item.hash)
            sim_fail(w->sim, "the state of %u differs", p->host.replica);
        if (p->host.raft.role == RAFT_LEADER && !raft_lease_valid(&p->host.raft, world_local_ns(p)))
            sim_fail(w->sim, "liveness: %u has no lease", p->host.replica);
    }
    if (leaders != 1)
        sim_fail(w->sim, "liveness: %u leaders", leaders);
}

static bool newly_led(void *owner)
{
    struct world *w = owner;

    for (uint32_t i = 0; i < w->count; i++) {
        const struct raft *r = &w->places[i].host.raft;

        if (w->places[i].host.up && r->term > w->fallen_term && raft_can_read(r))
            return true;
    }
    return false;
}

/* With all else in order, the leader is killed, which the others notice by their connections, or hangs, which
 * they do not. */
static void check_failover(struct world *w)
{
    bool kill = sim_rng_below(&w->rng, 2);
    uint64_t start_ns = w->sim->now_ns, limit_ns = (kill ? 400 : 900) * NS_PER_MS;

    for (uint32_t i = 0; i < w->count; i++) {
        struct place *p = &w->places[i];

        if (!p->host.up || p->host.raft.role != RAFT_LEADER)
            continue;
        w->fallen_term = p->host.raft.term;
        if (kill)
            place_crash(p, NS_PER_S);
        else
            p->paused_until_ns = w->sim->now_ns + NS_PER_S;
        break;
    }
    if (!sim_run_while(w->sim, newly_led, w, start_ns + limit_ns))
        sim_fail(w->sim, "liveness: no new leader %lu ms after the old one was %s",
                 (uint64_t)(limit_ns / NS_PER_MS), kill ? "killed" : "stopped");
    w->failover_ns = w->sim->now_ns - start_ns;
    sim_run_until(w->sim, start_ns + NS_PER_S);
}

static uint32_t voters_of(const struct world *w)
{
    const struct group *group = world_settled_group(w);
    uint32_t voters = 0;

    for (uint32_t i = 0; group && i < group->count; i++)
        voters += group->members[i].flags != 0;
    return voters;
}

static void world_run(struct world *w)
{
    bool redundant;
    uint64_t committed;

    sim_run_for(w->sim, FAULTY_NS);
    w->quiet = true;
    memset(w->cut, 0, sizeof w->cut);
    sim_log(w->sim, "no more faults");
    sim_run_for(w->sim, 2 * NS_PER_S);
    world_drop_strangers(w);
    redundant = voters_of(w) >= 3;
    committed = w->checker.commit_max;
    sim_run_for(w->sim, WORKING_NS);
    if (redundant && !w->sim->failed)
        check_failover(w);
    w->proposing = false;
    sim_run_for(w->sim, SETTLING_NS);
    if (!w->sim->failed)
        check_converged(w, committed);
    if (w->sim->failed)
        log_members(w);
}

void scenario_raft_run(const struct sim_args *args, struct sim_result *ret_result)
{
    struct world *w = calloc(1, sizeof *w);

    ASSERT(w);
    w->sim = sim_new(args->seed, args->verbose);
    sim_choose_faults(w->sim, SIM_FAULT_BIT(CRASH) | SIM_FAULT_BIT(POWER_ALL) | SIM_FAULT_BIT(PAUSE) |
                                  SIM_FAULT_BIT(CLOCK) | SIM_FAULT_BIT(DISK_SLOW) | SIM_FAULT_BIT(DISK_ROT) |
                                  SIM_FAULT_BIT(DISK_LOSE) | SIM_FAULT_BIT(NET_LOSS) |
                                  SIM_FAULT_BIT(NET_DUP) | SIM_FAULT_BIT(NET_REORDER) |
                                  SIM_FAULT_BIT(NET_SLOW) | SIM_FAULT_BIT(NET_PARTITION) |
                                  SIM_FAULT_BIT(MEMBER));
    world_start(w, args);
    world_run(w);
    snprintf(
        ret_result->stats, sizeof ret_result->stats,
        "%u replicas, %lu committed, %lu elections, %lu crashes, %lu damaged, %lu with losses, %lu transfers, %lu changes of members, %lu installs, "
        "%lu lease checks, %lu reads, failover in %lu ms",
        w->count, w->checker.commit_max, w->elections, w->crashes, w->damages, w->losses, w->transfers,
        w->changes, w->installs, w->lease_checks, w->reads, (uint64_t)(w->failover_ns / NS_PER_MS));
    sim_result_take(ret_result, w->sim);
    sim_free(w->sim);
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->places[i].host.replica)
            raft_host_fini(&w->places[i].host);
    }
    for (uint32_t i = 0; i < w->group_count; i++)
        free(w->groups[i]);
    raft_checker_fini(&w->checker);
    free(w);
}
