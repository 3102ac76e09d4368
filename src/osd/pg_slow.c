/* SPDX-License-Identifier: Apache-2.0
 *
 * A leader whose own device does not do its part hands over, which needs no disk.
 *
 * It hangs: what the others commit does not become durable here, or reads of it do not come back, for a
 * second.
 *
 * It is slow: what is appended is durable here much later than members have acknowledged it, though their
 * word comes over the network besides. Both are averages over the shard's groups and over some time, so that
 * one bad moment does not count, nor what is a minute old; and there must be enough quick members for a
 * majority without this one, or nothing would be won. Our own average has samples of every group here, a
 * member's only of what we write as leader, so it may still be that of better times: what such a member
 * acknowledged last must have been quick, too, and newer than our slowness. Nobody hands over to a member
 * that is as slow, whoever asks for it, so leadership neither flaps nor is brought back until the member's
 * acknowledgements are quick again.
 */
#include "osd/pg.h"

#include <inttypes.h>

#include "base/error.h"
#include "base/plant.h"

#define SLOW_FACTOR   10              /* times as long as the others */
#define SLOW_NS       (5 * NS_PER_MS) /* quicker is never slow */
#define SLOW_FOR_NS   NS_PER_S        /* all this time */
#define SLOW_AGAIN_NS (10 * NS_PER_S) /* a group is not handed over for slowness more often */

void pace_add(struct pace *pace, uint64_t took_ns, uint64_t now_ns)
{
    pace->newest_took_ns = took_ns;
    /* One bad moment has one sample from each group, as long as it was; they count little. */
    took_ns = MIN(took_ns, 2 * pace->mean_ns + NS_PER_MS);
    pace->samples = now_ns - pace->newest_ns < PACE_OLD_NS ? MIN(pace->samples + 1, 16) : 1;
    pace->newest_ns = now_ns;
    pace->mean_ns += ((int64_t)took_ns - (int64_t)pace->mean_ns) / pace->samples;
}

static bool is_known(const struct pace *pace, uint64_t now_ns)
{
    return pace->samples >= PACE_SAMPLES_MIN && now_ns - pace->newest_ns < PACE_OLD_NS;
}

static bool is_slower(const struct pace *pace, const struct pace *than, uint64_t now_ns)
{
    return is_known(pace, now_ns) && is_known(than, now_ns) && pace->mean_ns > SLOW_NS &&
           pace->mean_ns / SLOW_FACTOR > than->mean_ns;
}

bool pg_member_is_slow(const struct pg *pg, const struct pg_member *m)
{
    return m->peer && is_slower(&m->peer->pace, &pg->shard->pace, core_now_ns(pg->shard->core));
}

/* What it acknowledged last came since then and was quick, whatever the mean says yet. */
static bool is_quick_since(const struct pg *pg, const struct pace *pace, uint64_t since_ns)
{
    return pace->newest_ns >= since_ns && pace->newest_took_ns < pg->shard->pace.mean_ns / SLOW_FACTOR;
}

/* The quickest member that could lead, if together with others as quick it is a majority without us; or NULL.
 * `since_ns`: all of them have been quick since then, too; 0: their means are enough.
 */
static const struct pg_member *quicker_member(const struct pg *pg, uint64_t since_ns)
{
    const struct raft *r = &pg->raft;
    uint64_t now_ns = core_now_ns(pg->shard->core);
    const struct pg_member *best = NULL;
    uint32_t voters = 0, quick = 0;

    for (uint32_t i = 0; i < pg->member_count; i++) {
        const struct pg_member *m = &pg->members[i];
        const struct raft_member *known = raft_member(r, m->replica);
        if (!known || !(known->flags & GROUP_VOTER))
            continue;
        voters++;
        if (!m->peer || !is_slower(&pg->shard->pace, &m->peer->pace, now_ns) ||
            !raft_in_contact(r, known, now_ns) || known->match < r->commit_index ||
            (since_ns && !is_quick_since(pg, &m->peer->pace, since_ns)))
            continue;
        quick++;
        if (!best || m->peer->pace.mean_ns < best->peer->pace.mean_ns)
            best = m;
    }
    return quick > voters / 2 ? best : NULL;
}

/* Our device hangs, and does not say so. */
static void check_hangs(struct pg *pg, uint64_t now_ns)
{
    struct raft *r = &pg->raft;
    bool waits = pg_waits_for_device(r) && r->durable_index == pg->durable_seen;

    if (!waits) {
        pg->durable_seen = r->durable_index;
        pg->durable_ns = now_ns;
    }
    bool writes = waits && now_ns - pg->durable_ns >= PG_STALL_NS;
    bool reads = store_reads_waiting_ns(pg->shard->store, now_ns) >= PG_STALL_NS &&
                 now_ns - pg->reads_hang_ns >= PG_STALL_NS && !PLANT(OSD_READS_HANG);
    if ((!writes && !reads) || PLANT(OSD_HUNG_LEADER))
        return;
    /* Nobody can take it now? Again after as long. */
    if (writes)
        pg->durable_ns = now_ns;
    pg->reads_hang_ns = now_ns;
    if (!raft_transfer(r, 0, now_ns))
        core_log(pg->shard->core, LOG_WARN, "osd",
                 PG_FMT ": the device has not answered for a second: replica %u hands over", PG_ARGS(pg->id),
                 pg->replica);
}

static void check_slow(struct pg *pg, uint64_t now_ns)
{
    struct osd_shard *shard = pg->shard;
    const struct pg_member *to = quicker_member(pg, 0);

    if (!to || PLANT(OSD_SLOW_LEADER)) {
        pg->slow_since_ns = 0;
        return;
    }
    if (!pg->slow_since_ns)
        pg->slow_since_ns = now_ns;
    if (now_ns - pg->slow_since_ns < SLOW_FOR_NS ||
        (pg->slow_handed_ns && now_ns - pg->slow_handed_ns < SLOW_AGAIN_NS))
        return;
    to = quicker_member(pg, pg->slow_since_ns);
    if (!to)
        return;
    pg->slow_handed_ns = now_ns;
    if (raft_transfer(&pg->raft, to->replica, now_ns))
        return;
    shard->perf.slow_handovers++;
    core_log(shard->core, LOG_WARN, "osd",
             PG_FMT ": the log takes %" PRIu64 " us here and %" PRIu64
                    " us at osd.%u: replica %u hands over to it",
             PG_ARGS(pg->id), (uint64_t)(shard->pace.mean_ns / NS_PER_US),
             (uint64_t)(to->peer->pace.mean_ns / NS_PER_US), to->osd, pg->replica);
}

void pg_check_device(struct pg *pg, uint64_t now_ns)
{
    if (pg->raft.role != RAFT_LEADER) {
        pg->durable_seen = pg->raft.durable_index;
        pg->durable_ns = now_ns;
        pg->slow_since_ns = 0;
        return;
    }
    check_hangs(pg, now_ns);
    check_slow(pg, now_ns);
}
