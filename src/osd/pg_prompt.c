/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is sent an entry at once, and whose answer is waited for.
 *
 * A lone write is committed by the leader and its quickest follower; the other one has been woken up, has
 * written its log and has woken up the leader for nothing that anybody waited for, and while they all share
 * processors it has been in the way. So while a shard has but few requests under way, entries leave at once
 * for as many of the quickest members only as make a majority with the leader. To the others they go with the
 * next frame to that shard, FRAME_PATIENCE_NS later at most, and so do their acknowledgements: the APPEND
 * says that nobody waits for them. Under load nothing waits: there all frames share their sends anyway, and
 * who answers first is a matter of whom the processors serve.
 *
 * A member is relied upon only while it answers: who owes an answer for longer than that patience costs the
 * first write up to two of them, and then all members are asked at once until it has answered. How quick the
 * members are is known from those entries that are sent at once, which every few are to all.
 */
#include "osd/pg.h"

#include "base/plant.h"

#define PROMPT_REQUESTS_MAX 2  /* under way in the shard: more is load */
#define PROMPT_LAG_MAX      8  /* entries: who lacks more is being caught up */
#define PROMPT_ALL_EVERY    16 /* entries of a group */
#define PROMPT_EQUAL_NS     (50 * NS_PER_US)

static bool answers(const struct peer *peer, uint64_t now_ns)
{
    return !peer->unanswered_ns || now_ns - peer->unanswered_ns < FRAME_PATIENCE_NS ||
           PLANT(OSD_RELIES_ON_SILENT);
}

/* Has it, or does it get in this step, all that we have, and will it soon say so? */
static bool is_prompt(const struct raft *r, const struct pg_member *m, uint64_t now_ns)
{
    const struct raft_member *known = raft_member(r, m->replica);

    return m->peer && shard_peer_reachable(m->peer) && answers(m->peer, now_ns) &&
           known->progress == RAFT_REPLICATE && !known->recovering && !known->unreachable &&
           r->last_index - known->match <= PROMPT_LAG_MAX;
}

/* The places among the members, counted from our own: each of the others is first in some groups. */
static uint64_t turn_of(const struct pg *pg, uint32_t place)
{
    uint32_t count = pg->member_count, own = 0;

    while (pg->members[own].replica != pg->replica)
        own++;
    return ((place + count - own) % count + pg->id) % (count - 1);
}

/* Is the one of these places among the members to be preferred to the other? Quicker is who takes half as
 * long; of equals each has its turn in some groups, so that no connection is left with what waits alone. */
static bool is_preferred(const struct pg *pg, uint32_t at, uint32_t to)
{
    uint64_t at_ns = pg->members[at].peer->pace.mean_ns, to_ns = pg->members[to].peer->pace.mean_ns;

    if (at_ns > 2 * to_ns + PROMPT_EQUAL_NS || to_ns > 2 * at_ns + PROMPT_EQUAL_NS)
        return at_ns < to_ns;
    return turn_of(pg, at) < turn_of(pg, to);
}

bool pg_append_may_wait(const struct pg *pg, const struct pg_member *member, uint64_t last, uint64_t now_ns)
{
    const struct raft *r = &pg->raft;
    uint32_t requests = pool_out_count(&pg->shard->requests), preferred = 0;
    uint32_t to = (uint32_t)(member - pg->members);

    if (!requests || requests > PROMPT_REQUESTS_MAX || last % PROMPT_ALL_EVERY == 0 || pg_waits_for_device(r))
        return false;
    for (uint32_t i = 0; i < pg->member_count; i++) {
        if (raft_member(r, pg->members[i].replica)->flags != GROUP_VOTER)
            return false; /* members change: there may be two majorities */
        preferred += i != to && is_prompt(r, &pg->members[i], now_ns) && is_preferred(pg, i, to);
    }
    return preferred >= pg->member_count / 2;
}

void pg_prompt_sent(struct peer *peer, uint64_t now_ns)
{
    if (!peer->unanswered_ns)
        peer->unanswered_ns = now_ns;
}

void pg_prompt_answered(struct peer *peer)
{
    peer->unanswered_ns = 0;
}

void pg_prompt_asked(struct pg *pg, const struct wire_append_request *request)
{
    if (!request->patient)
        pg->prompt_index = MAX(pg->prompt_index, request->prev_index + request->entry_count);
}

bool pg_reply_may_wait(struct pg *pg, uint64_t match)
{
    bool waits = !pg->prompt_index;

    if (match >= pg->prompt_index)
        pg->prompt_index = 0;
    return waits;
}
