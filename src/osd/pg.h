/* SPDX-License-Identifier: Apache-2.0
 *
 * A placement group's replica: raft, its log and state in the store, and the client requests that it has
 * taken on.
 *
 * A replica is one op that lives as long as the replica: its step is raft's host loop (pg.c). It is woken by
 * the store (durable, trimmed), by messages that were stepped into raft, by proposals and by raft's deadline.
 * Client requests are ops from the shard's pool; those that came in the same turn run before the replica's
 * op, so what they propose leaves in one APPEND per member.
 */
#ifndef OSD_PG_H
#define OSD_PG_H

#include "base/plant.h"
#include "osd/shard.h"

#define PG_WAIT_NS   NS_PER_S       /* a request waits so long for a merge or a majority; then ERR_RETRY */
#define PG_STALL_NS  NS_PER_S       /* a leader whose device writes nothing for so long hands over */
#define PG_COMMIT_NS (5 * NS_PER_S) /* and so long for what it proposed to be committed */
/* Free bytes that writes leave alone at every member: room for what is under way. It may be too little. */
#define PG_SPACE_MARGIN   PLANT_LIMIT(8ull << 20, 512ull << 10)
#define PG_RECORDS_MARGIN 256               /* the same of image records, for ones that are new */
#define PG_TOMBSTONES_NS  NS_PER_S          /* how often it is looked at whether they can be forgotten */
#define PG_LAG_NS         (200 * NS_PER_MS) /* lacking what is committed, a member acknowledges nothing */
#define PG_CATCHUP_BYTES  PLANT_SCARCE(1u << 20, 64u << 10) /* read at once for a lagging member */

struct recover;
struct repair;

/* Of the group, as far as it can be spoken to: those of raft_member(), but for one on this shard that is not
 * this replica. */
struct pg_member {
    uint32_t replica, osd, shard;
    struct peer *peer;             /* NULL for ourselves */
    struct perf_mark acknowledged; /* sent to it, not acknowledged yet */
    uint64_t match, match_ns; /* what it acknowledged, and when that last was more, or all that there is */
    uint64_t complete;        /* its pages and records hold everything up to here, by its word in our term */
    bool refuses;             /* for want of room, the next entry of the log, when last asked */
    bool no_room;             /* for the PG that is to be split off this one, as last reported */
    bool damaged;             /* its log, by its word in our term; so it recovers, too */
};

/* Who is not in our group and has spoken to us: our group may be an old one, or theirs. */
#define PG_STRANGERS_MAX 4
struct pg_stranger {
    uint32_t replica; /* 0: none */
    struct peer *peer;
};

/* An image record that is proposed but not yet applied. */
struct pg_image {
    struct list link; /* in pg->images, ascending by index */
    struct image_record record;
};

/* How far a scrub has come, and what it has found so far. */
#define PG_SCRUB_DIFFERENCES 4 /* objects that differ between replicas: the first of them are told apart */
struct pg_version {
    uint32_t replica, osd;
    uint64_t index;
    uint32_t digest;
    bool absent;
};
struct pg_difference {
    uint64_t image, object;
    bool equalized;
    uint32_t version_count;
    struct pg_version version[RAFT_MEMBERS_MAX];
};
struct pg_scrub {
    uint64_t order; /* the monitor's; 0: none */
    bool deep, done;
    bool has_cursor;
    uint64_t image, object; /* cursor: all up to here is done */
    uint64_t objects, bytes, found, repaired, left, skipped, differing, equalized;
    uint32_t replicas; /* looked at in every range */
    uint32_t difference_count;
    struct pg_difference difference[PG_SCRUB_DIFFERENCES];
};

/* Old entries on their way from the ring to a lagging member. One at a time per PG. */
struct pg_catchup {
    struct op op;
    struct pg *pg;
    struct store_log_read read;
    bool ready;         /* read.ret_... hold entries */
    struct timer timer; /* it failed: until it may be tried again */
};

enum pg_election { PG_ELECTION_IDLE, PG_ELECTION_WAITING, PG_ELECTION_CALLED, PG_ELECTION_STANDING };

struct pg {
    struct op op;
    struct map_node node; /* in shard->pgs */
    struct osd_shard *shard;
    uint64_t id;
    struct store_pg *sp;
    uint32_t replica;
    uint32_t steps; /* of the host loop */

    /* What every step and request looks at is in front, in a few lines of the cache. */
    bool stopping;
    bool parked;          /* pg_park.c */
    bool stirred;         /* something happened since the last heartbeat */
    bool group_due;       /* look at the members that the map wants */
    bool orders_due;      /* look at the map's image orders */
    bool record_writing;  /* term and vote, or */
    bool record_is_want;  /* not these, but what a recovery wants: */
    bool record_wanted;   /* state and base, not yet durable */
    bool splitting;       /* nothing is applied meanwhile */
    bool split_due;       /* look at the map's order */
    bool election_wanted; /* in the list of those that clients wait for */
    bool scrub_deep, scrub_repair;
    enum pg_election election; /* whose turn it is to campaign (pg_election.c) */
    uint32_t member_count;
    uint64_t led_term;      /* the term that we led when last looked at; 0: not leader */
    uint64_t left_term;     /* the term in which we handed over because we have to abstain */
    uint64_t leaderless_ns; /* since when none has been known; 0: one is */
    uint64_t prompt_index;  /* follower: up to where the leader waits for our word; 0: it does not */
    uint64_t traffic_ns;    /* when a request came or entries left, last */
    uint64_t woken_ns;      /* and when for the first time after a rest */
    uint64_t durable_seen;  /* of our log, when it last moved or did not have to, */
    uint64_t durable_ns;    /* which was then */
    /* Entries that members have no room for (pg_room.c). Where it stands, and since when: of a leader, the
     * commit index, while a majority refuses the rest; of a follower, the last entry before the one it has
     * refused. */
    uint64_t stuck_index, stuck_ns;
    uint64_t slow_since_ns;  /* members are so much quicker that they should lead; 0: they are not */
    uint64_t settled_index;  /* once it is applied, objects are as they are on every replica that has applied
                                as much */
    uint64_t split_retry_ns; /* it found no room: not before */
    uint64_t
        split_unclear_ns; /* a part of the map is awaited that tells whether there is a child: look then */
    uint64_t
        split_look_ns; /* when the map's order to split us is looked at again; 0: there is no such order */
    uint32_t split_proposed;  /* the PG count of what we have proposed in this term; 0: nothing */
    uint32_t split_child;     /* which is to split off the PG of that number; 0: none */
    struct perf_mark durable; /* appended, not durable yet */
    uint64_t tombstones_ns;   /* when they are looked at next */
    uint64_t request_bytes;
    uint32_t request_count;     /* ops that may look at this struct */
    struct pg_catchup *catchup; /* NULL: none */
    struct recover *recover;    /* NULL: none */
    struct list waiting;        /* proposed requests, ascending by index */
    struct list reading;        /* reads that wait for a majority or for entries to be applied */
    struct list merging;        /* writes that read what they will merge with */
    struct list images;         /* struct pg_image */
    struct timer timer;
    struct pg_member members[RAFT_MEMBERS_MAX + 1]; /* with ourselves in any case */
    struct raft raft;

    struct list blocked;  /* requests that wait for one of `merging`, FIFO */
    struct list fetching; /* reads that wait for the store */
    struct list repairs;  /* under way, struct repair */
    struct list looks;    /* under way, struct scrub_look */
    struct list led;      /* in shard->led: led_term is set, and not parked */
    struct pg_stranger strangers[PG_STRANGERS_MAX];
    uint32_t stranger_next;        /* whose place the next one takes */
    struct heartbeat_heard *heard; /* parked follower: what the heartbeats of its leader say of it, */
    struct peer *leader_peer;      /* and whose they are */

    struct store_pg_write record; /* on its way to the disk */
    uint64_t record_started_ns;
    enum store_pg_state want_state;
    uint64_t want_base, want_base_term;
    struct raft_hard_state record_hs;

    struct store_split split; /* of what the log orders */
    uint64_t split_index; /* of the map's order to split us: all members are to have that on their devices */

    struct list election_link; /* WAITING: in a list of shard->elections */
    uint64_t asked_ns;         /* when a client was sent away last, because we did not lead; 0: never, */
    uint64_t asked_first_ns;   /* and since when that goes on */

    uint64_t reads_hang_ns;   /* when we handed over because the device did not answer */
    uint64_t slow_handed_ns;  /* when we handed over for being slow, last; 0: never */
    uint64_t floor_epoch;     /* the highest proposed in our term */
    uint64_t orders_seen;     /* orders for images that came up to this one are carried out, or proposed in our term */
    uint64_t forgotten_index; /* of the newest entry proposed to forget a tombstone */

    struct pg_scrub scrub;
    uint64_t scrub_order; /* what the monitor wants of us as leader; 0: nothing */
    struct list damages;  /* struct pg_damage: leader only */
    uint32_t damage_count;
};

enum pg_request_kind { PG_WRITE, PG_CLEAR, PG_ATTACH, PG_READ, PG_BLOCK_STATUS };

/* A client's request under way. */
struct pg_request {
    struct op op;
    struct osd_shard *shard;
    struct pg *pg; /* counted in pg->request_count */
    enum pg_request_kind kind;
    struct rpc_ticket ticket;
    struct list link; /* in one of the PG's lists */
    struct timer timer;
    uint64_t taken_ns, proposed_ns, committed_ns;
    uint64_t term, image, object, generation, incarnation, size_bytes, epoch;
    uint32_t pg_count;                 /* ATTACH */
    uint32_t offset, length;           /* bytes: WRITE, CLEAR */
    uint32_t first_block, block_count; /* touched, partial ones included */
    bool head_partial, tail_partial;   /* the first, the last block is not wholly covered */
    bool exact, waited;
    bool committed; /* the PG's word: applied */
    bool answered;  /* with an error, though the store has yet to come back */
    int error;      /* the PG's word: will not be, or nobody knows */
    uint64_t index; /* proposed: of the last entry; reads: to be applied before the answer */
    uint64_t proposed_term;
    uint64_t repair_tries;
    uint64_t held_bytes;        /* its share of pg->request_bytes */
    struct slice payload;       /* as received; later as merged */
    uint32_t crc[WIRE_CRC_MAX]; /* of the pieces received; later of the blocks */
    struct store_read reads[2]; /* READ: the first; merges: head and tail */
};

/* ---- pg.c: life and the host loop ---- */

/* Makes the replica that the store has live. `born_now`: its PG was just created. ERR_NO_MEMORY. */
MUST_CHECK int pg_open(struct osd_shard *shard, struct store_pg *sp, bool born_now);
/* Asks it to end: requests are answered, its own ops waited for; then it is freed. */
void pg_stop(struct pg *pg);
struct pg *pg_find(const struct osd_shard *shard, uint64_t id);
/* The PG will be asked for in a moment: what a request or an APPEND looks at is fetched meanwhile. */
void pg_prefetch(const struct osd_shard *shard, uint64_t id);
struct pg_member *pg_member_find(struct pg *pg, uint32_t replica); /* NULL: there is none */
static inline void pg_wake(struct pg *pg)
{
    op_wake(&pg->op);
}
/* Tells raft what the store has made durable; before an answer of a member is stepped, too. */
void pg_log_progress(struct pg *pg, uint64_t now_ns);
/* After raft was given anything of which no step follows: is the group to be woken when more is durable? */
void pg_await_log(struct pg *pg);
/* Committed and durable here: into the state. */
void pg_apply(struct pg *pg);
/* Is this replica the leader, with everything of earlier terms applied: may it check and propose? */
bool pg_serves(const struct pg *pg);
/* Entries up to `index` were appended: the latency of the log is measured on one of them. */
void pg_mark_append(struct pg *pg, uint64_t index, uint64_t now_ns);
/* Appends an entry to our log and to raft's; its index and term are filled in. Leader only. As
 * store_append(). */
MUST_CHECK int pg_propose(struct pg *pg, struct entry *entry, const struct slice *payload);
/* The session to the peer ended, or its process was replaced: tells all groups that have a member there. */
void pg_peer_lost(struct osd_shard *shard, struct peer *peer, bool new_incarnation);
/* There is a session to the peer: tells all groups that have tried to send in vain. */
void pg_peer_found(struct osd_shard *shard, struct peer *peer);
/* A session to the peer ended, and there is another: leaders ask at once what has got there. */
void pg_peer_moved(struct osd_shard *shard, struct peer *peer);
/* The last one ended: leaders that are awake do not hand over to it. */
void pg_peer_unreachable(struct osd_shard *shard, struct peer *peer);
/* Raft was given something: what follows from it at once (abstaining), and a wake-up. */
void pg_touched(struct pg *pg);
/* Tells the store from which entry on a member still waits for the log, of the members that have lately been
 * heard of: for the others the ring need not be kept. */
void pg_keep_ring(struct pg *pg, uint64_t now_ns);
/* A heartbeat of the group was received, or answered, and the next one is expected by `next_ns`: the group's
 * timer is not to fire before that if its deadline has moved. */
void pg_heard(struct pg *pg, uint64_t now_ns, uint64_t next_ns);
void pg_set_abstain(struct pg *pg);
/* The log of this replica cannot be proven whole. */
bool pg_log_damaged(const struct pg *pg);
/* Arms the timer, if it is not to fire before the group must be looked at anyway. */
void pg_timer(struct pg *pg, uint64_t now_ns);
/* Writes state and base of the replica's record; record_wanted falls, and the recovery is woken, when that is
 * durable. */
void pg_record_want(struct pg *pg, enum store_pg_state state, uint64_t base_index, uint64_t base_term);

/* ---- pg_park.c: groups that cost nothing while nothing happens ---- */

/* Parks a group at rest that we lead, or that follows the sender of a heartbeat and has just been told of it;
 * if it has nothing else to do. */
void pg_park_leader(struct pg *pg, uint64_t now_ns);
void pg_park_follower(struct pg *pg, struct peer *leader, struct heartbeat_heard *heard);
/* Before raft is given anything, or asked what depends on time: brings it up to date. */
void pg_unpark(struct pg *pg);
/* Before an answer of the peer, or a heartbeat of it, is taken in: those that it says something new of. */
void pg_unpark_refused(struct peer *peer, const struct wire_heartbeat_reply *reply);
void pg_unpark_changes(struct peer *peer, const struct wire_heartbeat *message);
/* All whose peer has been silent for too long, */
void pg_unpark_silent(struct osd_shard *shard, uint64_t now_ns);
/* which the leader of parked groups here is from then on; UINT64_MAX: there are none. */
uint64_t pg_parked_silence_ns(const struct peer *peer);
/* As raft_in_contact(), without bringing raft up to date. */
bool pg_in_contact(const struct pg *pg, const struct raft_member *member, uint64_t now_ns);

/* ---- pg_election.c: elections take turns ---- */

/* Raft's deadline has passed: may it be told? If not, the group is woken when it may. */
bool pg_election_turn(struct pg *pg);
/* After each input: is the campaign over, or not wanted any more? */
void pg_election_look(struct pg *pg, uint64_t now_ns);
/* A client has been sent away, because we do not lead. */
void pg_election_asked(struct pg *pg);
/* Neither waits for a turn nor has one any more. */
void pg_election_end(struct pg *pg);

/* ---- pg_group.c: who is in the group, and changing that ---- */

/* The members are those of raft's group: after each input that may have changed it. */
void pg_members_sync(struct pg *pg);
/* Where messages to that replica go; NULL: it is not known, or it is us. */
struct peer *pg_peer(const struct pg *pg, uint32_t replica);
/* The PG that a message of the peer is for; NULL: it is not for a replica that is here, or `from` cannot be
 * there. Whoever is not in our group is remembered for the answer. */
struct pg *pg_addressed(struct peer *peer, uint64_t id, uint32_t from, uint32_t to);
/* Leader: the next step of a change that is under way, or that the map wants, if it can be taken now. */
void pg_group_run(struct pg *pg);
/* Is the step to be tried again after a while? */
bool pg_group_waits(const struct pg *pg);

/* ---- pg_force.c: going on without a majority ---- */

/* Is that replica to go on alone, by a map that is saved, which says that the others have ended? */
bool pg_force_ordered(const struct osd_shard *shard, const Fb__Pg *item, const struct store_pg *sp);
/* The next PG, by the map, that is to go on here alone, and can now; NULL: there is none. */
const Fb__Pg *pg_force_due(struct osd_shard *shard);
/* What its replica then is. */
struct store_pg_record pg_force_record(const struct osd_shard *shard, const Fb__Pg *item,
                                       const struct store_pg *sp);
/* Has every other replica of the former group ended, as the map says: a lower number than the new group's
 * first is not gone yet. */
bool pg_force_others_ended(const Fb__Pg *item);
/* A row, with the numbers of those that vote in its group. */
struct pg_standing {
    Fb__PgStanding row;
    uint32_t voters[GROUP_MEMBERS_MAX], before[GROUP_MEMBERS_MAX];
};
/* What the shard's replicas have that have had no leader for 2 s, and what it has of PGs that are yet to be
 * split off. Their number; both arrays are on the heap, NULL: there is no memory for them. */
uint32_t pg_standings(const struct osd_shard *shard, struct pg_standing **ret_rows,
                      Fb__PgStanding ***ret_pointers);

/* ---- pg_split.c: a part of the objects becomes another PG ---- */

/* Is there room here for the child, if it is to be split? As long as a follower says that there is none its
 * leader does not split; tombstones go all the same, for they may be what takes the room. */
bool pg_split_fits(const struct pg *pg);
/* The log orders it next: what follows in the log waits. */
void pg_split_begin(struct pg *pg, uint64_t now_ns);
/* Goes on with what is under way, and with what the map orders. */
void pg_split_run(struct pg *pg, uint64_t now_ns);
/* A replica that is RECOVERING is to get a state that was split so far, with the group `there`. Begins the
 * next split that it lacks; false: there is none. The child is born of what is here of its objects, if it is
 * sure that this replica is in its group, and `births`. Wakes the recovery when it is done (`splitting`); one
 * that found no room has set split_retry_ns. */
bool pg_split_behind(struct pg *pg, uint32_t split_count, const struct group *there, bool births);
/* Whether this replica has a child there can only be told by a part of the map that has yet to come. */
bool pg_split_unclear(const struct pg *pg, uint32_t split_count);
/* The PG count of the pool as far as this PG's log goes; 0: it was never split. */
uint32_t pg_split_count(const struct pg *pg);
/* When to look again; UINT64_MAX: nothing is to be done. */
uint64_t pg_split_due_ns(const struct pg *pg);
/* Is there no replica of that PG here because the split that gives birth to it is yet to be applied here? */
bool pg_split_pending(const struct osd_shard *shard, const Fb__Pg *item);
/* Is its parent being split here right now, so that there may be one in a moment, by a map of before? */
bool pg_split_under_way(const struct osd_shard *shard, const Fb__Pg *item);
/* Has its parent gone on alone here without the split that gave birth to it, so that its data is there? */
bool pg_split_left_here(const struct osd_shard *shard, const Fb__Pg *item);

/* ---- pg_append.c: APPEND and the other messages of raft ---- */

void pg_send_messages(struct pg *pg, uint64_t now_ns);
void pg_receive_append(struct peer *peer, const struct rpc_message *message);
void pg_receive_append_reply(struct peer *peer, const struct rpc_message *message);
void pg_receive_raft(struct peer *peer, const struct rpc_message *message);
void pg_catchup_drop(struct pg *pg);

/* ---- pg_room.c: members that have no room ---- */

/* Leader: is there room for the entry here and at every voter in contact? ERR_NO_SPACE, ERR_NO_RECORDS,
 * ERR_RETRY. */
MUST_CHECK int pg_room_check(struct pg *pg, const struct entry *entry);
/* How much of a shard writes may have. */
uint64_t pg_room_free(const struct store_space *space);
/* Is there room here for more of a replica that is yet to become a member? */
bool pg_room_to_join(const struct pg *pg);
/* Leader: what a member says of its room. */
void pg_room_told(struct pg_member *member, const struct wire_append_reply *reply, uint64_t match);
/* Leader: hands over when a majority has no room for what is in our log. */
void pg_room_run(struct pg *pg, uint64_t now_ns);
/* Follower: the store has refused the entry behind the last one that is here, with `error`, and `commit` is
 * committed. */
void pg_room_refused(struct pg *pg, int error, uint64_t commit, uint64_t now_ns);

/* ---- pg_prompt.c: who is sent entries at once, and whose answer is waited for ---- */

/* Leader: may entries up to `last` go to that member with the next frame, because others are asked at once?
 */
bool pg_append_may_wait(const struct pg *pg, const struct pg_member *member, uint64_t last, uint64_t now_ns);
/* Leader: entries left at once for a shard; it has acknowledged some. */
void pg_prompt_sent(struct peer *peer, uint64_t now_ns);
void pg_prompt_answered(struct peer *peer);
/* Follower: an APPEND has come; may the acknowledgement up to `match`, which is sent now, wait? */
void pg_prompt_asked(struct pg *pg, const struct wire_append_request *request);
bool pg_reply_may_wait(struct pg *pg, uint64_t match);

/* ---- pg_request.c: what all requests have in common ---- */

/* Takes a request on, or answers it at once. `payload` may be NULL; `bytes` of data it will hold, received or
 * read. The caller fills in the rest and starts it by pg_request_go(). */
struct pg_request *pg_request_new(struct osd_shard *shard, const struct rpc_ticket *ticket, uint64_t pg_id,
                                  enum pg_request_kind kind, const struct slice *payload, uint32_t bytes);
/* What it holds has become more or less. */
void pg_request_hold(struct pg_request *req, uint64_t bytes);
void pg_request_go(struct pg_request *req, const struct op_kind *kind);
/* Answers with an error and ends the op. */
void pg_request_fail(struct pg_request *req, int error);
/* After the answer: gives everything back. Ends the op. */
void pg_request_end(struct pg_request *req, int result);
/* The body of an error, and of the answers to CLEAR and ATTACH. */
void pg_reply(struct osd_shard *shard, const struct rpc_ticket *ticket, struct pg *pg, int result);
/* Common checks, all against the current state: is the asker there, do we serve. `exact_term`: the request
 * must be aimed at our term. */
MUST_CHECK int pg_request_check(struct pg_request *req, bool exact_term);
/* Does the object belong to this PG? */
MUST_CHECK int pg_request_check_object(const struct pg_request *req);
/* Every request is to look at the PG again: it stops, or leads no more. */
void pg_requests_fail(struct pg *pg, int error);
/* Wakes requests whose index is applied, those that have waited for that for PG_COMMIT_NS, and reads. */
void pg_requests_progress(struct pg *pg, uint64_t now_ns);

/* ---- pg_write.c, pg_read.c, pg_image.c ---- */

void pg_write_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                      const struct rpc_message *message);
void pg_clear_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                      const struct rpc_message *message);
void pg_read_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                     const struct rpc_message *message);
void pg_block_status_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                             const struct rpc_message *message);
void pg_attach_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                       const struct rpc_message *message);
/* Wakes the requests that wait for merges, in their order. */
void pg_blocked_wake(struct pg *pg);
/* The newest proposed record of an image; NULL if there is none. */
const struct image_record *pg_image_newest(const struct pg *pg, uint64_t image);
MUST_CHECK int pg_image_propose(struct pg *pg, const struct image_record *record, uint64_t *ret_index);
void pg_images_applied(struct pg *pg);
void pg_images_forget(struct pg *pg);
/* Brings the records to what the map's orders say. */
void pg_orders_run(struct pg *pg);
/* Has this PG, as applied, carried the order out? Or by what is proposed? */
bool pg_order_done(const struct pg *pg, const Fb__ImageOrder *order);
bool pg_order_begun(const struct pg *pg, const Fb__ImageOrder *order);
/* May `epoch`, the newest at which the monitor vouched for an image of which there is no record, be taken for
 * proof that it exists? */
bool pg_image_vouched(const struct pg *pg, uint64_t epoch);
/* Forgets the tombstones that every member has, now and then. */
void pg_tombstones_run(struct pg *pg, uint64_t now_ns);

/* ---- recover.c, recover_serve.c, repair.c ---- */

/* The leader says (or damage means) that this replica must be copied from whoever leads. Again while it does:
 * the leader's log has gone on. */
void recover_start(struct pg *pg);
void recover_wake(struct pg *pg); /* something changed that a recovery may be waiting for */
/* What is here is not the state of any index: nothing can be appended or applied. */
bool recover_holds_log(const struct pg *pg);
/* May it be appended to all the same, and acknowledged? */
bool recover_takes_log(const struct pg *pg);
/* The log here is whole, but there is no room for the state that is to be copied, and it comes to nothing. */
bool recover_lacks_room(const struct pg *pg);
/* Or not whole: there was no room in the last round. */
bool recover_found_no_room(const struct pg *pg);
void recover_cancel(struct pg *pg);
bool recover_active(const struct pg *pg);
/* How far the round under way is, in objects looked at, and how long the rest takes at that pace; 0: none is.
 */
void recover_progress(const struct pg *pg, uint64_t *ret_done, uint64_t *ret_total, uint64_t *ret_left_ns);
void recover_list_receive(struct peer *peer, struct osd_shard *shard, const struct rpc_ticket *ticket,
                          const struct rpc_message *message);
/* The PG, if the asker is the member that it says it is and we are whom it means; else NULL and an error. */
struct pg *pg_asked(struct peer *peer, struct osd_shard *shard, uint64_t id, uint32_t from, uint32_t to,
                    int *ret_error);
void recover_read_receive(struct peer *peer, struct osd_shard *shard, const struct rpc_ticket *ticket,
                          const struct rpc_message *message);

void repair_wake_all(struct pg *pg); /* the PG stops */

/* ---- pg_slow.c: a device that hangs or is slow ---- */

/* Hands over what we lead, if it should not be led here. */
void pg_check_device(struct pg *pg, uint64_t now_ns);
/* Does the member take so much longer than we that it should not lead? */
bool pg_member_is_slow(const struct pg *pg, const struct pg_member *m);
/* pg.c: the others commit what is not durable here. */
bool pg_waits_for_device(const struct raft *r);

/* ---- pg_status.c ---- */

void pg_status_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                       const struct rpc_message *message);
void pg_transfer_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                         const struct rpc_message *message);
/* Carries a transfer out: 0 or the first error. */
int pg_transfer(struct osd_shard *shard, const Fb__PgTransferRequest *request);

#endif
