/* SPDX-License-Identifier: Apache-2.0
 *
 * Elections take turns.
 *
 *      IDLE -------- its deadline has passed, all turns are taken -----> WAITING
 *      IDLE -------- its deadline has passed, a turn is free ----------> STANDING
 *      WAITING ----- a turn has become free ---------------------------> CALLED
 *      CALLED ------ at its next step ---------------------------------> STANDING
 *      STANDING ---- a round without success, and others wait ---------> WAITING, behind them
 *      WAITING ----- leads, by votes that came late -------------------> IDLE
 *      any --------- a leader is heard, or a majority has answered us -> IDLE
 *
 * An OSD that dies may have led thousands of groups of a shard; after a power cut all of them have no leader.
 * If all stood up at once each question would wait behind those of all others, its answer would come when the
 * round is over, and the next round would ask the same again: where processors are slow beside the number of
 * groups nobody would ever be elected. So a shard has only so many campaigns under way, and begins the next
 * one when one has ended: this bounds how long an answer takes, whatever the number of groups. A campaign has
 * ended when the new leader has been answered by a majority: its first entry is part of the work.
 *
 * Groups that clients have just asked in vain come before those that nobody waits for; but one turn in four
 * is the latter's, so that some that are wanted and cannot be elected hold up nobody for ever.
 *
 * Who waits for its turn votes for others as ever. Who has failed goes behind those that have not tried since
 * they lost their leader, also those that come later: groups that can elect nobody for a long time, as when
 * others refuse them, are not to hold up the one that can. But one turn in fifteen is theirs: where
 * processors are so slow that groups lose their leaders again and again, there are always some that have not
 * tried. Without a session to a majority a group needs no turn: what it asks costs nobody anything, and it is
 * not to stand in the way of those that can be elected, nor behind them when there is a session again.
 */
#include "osd/pg.h"

#include "base/plant.h"

/* Turns; the numbers have no common divisor, so that failed ones among the others have some, too. */
#define OTHERS_ONE_IN 4
#define FAILED_ONE_IN 15

static void turn_take(struct pg *pg, enum pg_election state)
{
    pg->election = state;
    pg->shard->elections.taken++;
}

/* Where the next one is; NULL: nobody waits. */
static struct list *queue_front(struct election_queue *queue, bool failed_first)
{
    struct list *first = failed_first ? &queue->failed : &queue->fresh;
    struct list *then = failed_first ? &queue->fresh : &queue->failed;

    if (!list_empty(first))
        return first;
    return list_empty(then) ? NULL : then;
}

static bool somebody_waits(struct shard_elections *elections)
{
    return queue_front(&elections->wanted, false) || queue_front(&elections->waiting, false);
}

/* Whose turn is next; NULL: nobody waits. */
static struct pg *turn_next(struct shard_elections *elections)
{
    bool failed_first = ++elections->called % FAILED_ONE_IN == 0;
    struct list *wanted = queue_front(&elections->wanted, failed_first);
    struct list *others = queue_front(&elections->waiting, failed_first);
    bool others_first = elections->called % OTHERS_ONE_IN == 0 && others;
    struct list *from = wanted && !others_first ? wanted : others;

    return from ? list_entry(list_pop_front(from), struct pg, election_link) : NULL;
}

static void turns_call(struct osd_shard *shard)
{
    struct shard_elections *elections = &shard->elections;
    struct pg *pg;

    while (elections->taken < elections->max && (pg = turn_next(elections)) != NULL) {
        turn_take(pg, PG_ELECTION_CALLED);
        pg_wake(pg);
    }
}

static bool is_voter(const struct pg *pg, const struct pg_member *member)
{
    const struct raft_member *m = raft_member(&pg->raft, member->replica);

    return m && m->flags;
}

static bool is_there(const struct pg_member *member)
{
    return !member->peer || shard_peer_reachable(member->peer);
}

/* Do clients wait for it, and is it for us to bring it forward? If all its members did at once they would
 * stand against each other: the first begins, the others follow one by one if it is in vain. */
static bool is_wanted(const struct pg *pg, uint64_t now_ns)
{
    uint64_t after_ns = 0;

    if (!pg->asked_ns || now_ns - pg->asked_ns >= ELECTIONS_ASKED_NS)
        return false;
    for (uint32_t i = 0; i < pg->member_count; i++) {
        const struct pg_member *member = &pg->members[i];
        if (member->replica < pg->replica && is_voter(pg, member) && is_there(member))
            after_ns += ELECTIONS_NEXT_NS;
    }
    return now_ns - pg->asked_first_ns >= after_ns;
}

static void turn_wait(struct pg *pg)
{
    struct shard_elections *elections = &pg->shard->elections;

    pg->election = PG_ELECTION_WAITING;
    pg->election_wanted = is_wanted(pg, core_now_ns(pg->shard->core));
    struct election_queue *queue = pg->election_wanted ? &elections->wanted : &elections->waiting;
    list_push_back(pg->raft.campaign_rounds ? &queue->failed : &queue->fresh, &pg->election_link);
}

static void turn_give_back(struct osd_shard *shard)
{
    shard->elections.taken--;
    turns_call(shard);
}

void shard_elections_pace(struct osd_shard *shard, uint64_t sent_ns, uint64_t now_ns)
{
    struct shard_elections *elections = &shard->elections;

    if (now_ns - sent_ns < ELECTIONS_LATE_NS) {
        elections->max = MIN(elections->max + 1, ELECTIONS_MAX);
        turns_call(shard);
    } else if (sent_ns >= elections->fewer_ns) {
        elections->max = MAX(elections->max / 2, ELECTIONS_MIN);
        elections->fewer_ns = now_ns;
    }
}

void pg_election_end(struct pg *pg)
{
    enum pg_election state = pg->election;

    pg->election = PG_ELECTION_IDLE;
    if (state == PG_ELECTION_WAITING)
        list_remove(&pg->election_link);
    else if (state != PG_ELECTION_IDLE)
        turn_give_back(pg->shard);
}

void pg_election_asked(struct pg *pg)
{
    uint64_t now_ns = core_now_ns(pg->shard->core);

    if (PLANT(OSD_ELECTIONS_UNASKED))
        return;
    if (!pg->asked_ns || now_ns - pg->asked_ns >= ELECTIONS_ASKED_NS)
        pg->asked_first_ns = now_ns;
    pg->asked_ns = now_ns;
    if (pg->election == PG_ELECTION_WAITING && !pg->election_wanted && is_wanted(pg, now_ns)) {
        list_remove(&pg->election_link);
        turn_wait(pg);
    }
}

static bool reaches_majority(const struct pg *pg)
{
    uint32_t voters = 0, there = 0;

    for (uint32_t i = 0; i < pg->member_count; i++) {
        const struct pg_member *member = &pg->members[i];
        voters += is_voter(pg, member);
        there += is_voter(pg, member) && is_there(member);
    }
    return 2 * there > voters;
}

bool pg_election_turn(struct pg *pg)
{
    struct shard_elections *elections = &pg->shard->elections;

    if (pg->raft.role == RAFT_LEADER || PLANT(OSD_ELECTIONS_AT_ONCE))
        return true;
    if (!reaches_majority(pg)) {
        pg_election_end(pg);
        return true;
    }
    switch (pg->election) {
    case PG_ELECTION_IDLE:
        if (elections->taken < elections->max) {
            turn_take(pg, PG_ELECTION_STANDING);
            return true;
        }
        break;
    case PG_ELECTION_WAITING:
        return false;
    case PG_ELECTION_CALLED:
        pg->election = PG_ELECTION_STANDING;
        return true;
    case PG_ELECTION_STANDING:
        if (!somebody_waits(elections))
            return true;
        turn_give_back(pg->shard);
        break;
    }
    turn_wait(pg);
    return false;
}

static bool is_over(const struct pg *pg, uint64_t now_ns)
{
    const struct raft *r = &pg->raft;

    /* By votes that came late: it has no turn, and its deadlines are a leader's. */
    if (r->role == RAFT_LEADER)
        return pg->election == PG_ELECTION_WAITING || raft_quorum_contact_ns(r, now_ns) != 0;
    return (r->role == RAFT_FOLLOWER || pg->election != PG_ELECTION_STANDING) && now_ns < raft_deadline_ns(r);
}

void pg_election_look(struct pg *pg, uint64_t now_ns)
{
    if (pg->election != PG_ELECTION_IDLE && is_over(pg, now_ns))
        pg_election_end(pg);
}
