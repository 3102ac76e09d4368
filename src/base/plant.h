/* SPDX-License-Identifier: Apache-2.0
 *
 * Planted bugs: tests of the tests. `if (PLANT(name)) ...` leaves out one protecting step, so that a run of
 * the simulator can show that its checkers notice. In product builds PLANT() is a constant false and the
 * branch is not compiled into the program; only the simulator's own copies of the rooms are built with
 * FASTBLOCK_PLANT, and there a row of plants_set (set by `fastblock-sim --plant NAME`) decides.
 *
 * To add one: a row here, the branch in the room, and a line in tests/sim/meson.build that expects the run to
 * go red, or one in the meson.build of the tests of the room that expects a unit test to fail.
 */
#ifndef BASE_PLANT_H
#define BASE_PLANT_H

#include "base/base.h"

/* clang-format off */
/*        name                      what is left out or done wrong */
#define PLANT_TABLE(X)                                                                                            \
    X(DISK_LYING_FLUSH,             "simulated disks: flushes and FUA succeed and do nothing")                     \
    X(BLK_NO_PAUSE,                 "backend: writes that nobody waits for are served all at once")                \
    X(BLK_BUSY_FAILS,               "backend: what a device would have had to wait for counts as failed")           \
    X(BLK_FLUSH_FORGIVEN,           "backend: a flush that failed fails none of the device's later ones")           \
    X(RAFT_UNDURABLE_VOTE,          "raft: a vote is answered before it is durable")                               \
    X(RAFT_UNDURABLE_MATCH,         "raft: a follower acknowledges entries before its disk has them")              \
    X(RAFT_UNDURABLE_SELF,          "raft: the leader counts its own entries before its disk has them")            \
    X(RAFT_COMMIT_OLD_TERM,         "raft: entries of an earlier term are committed by counting")                  \
    X(RAFT_STALE_LEASE,             "raft: reads are served without a valid lease")                                \
    X(RAFT_NO_PROMISE,              "raft: votes are granted while the promise to the leader holds")               \
    X(RAFT_NO_RESTART_PROMISE,      "raft: a restarted replica does not keep the promise that it may have made")   \
    X(RAFT_OLD_ROUND,               "raft: pre-votes of an earlier round count")                                   \
    X(RAFT_LATE_VOTES,              "raft: a vote that takes longer to write than a round is given up")            \
    X(RAFT_OWN_ABSENCE,             "raft: the time in which a replica's own host did nothing counts as silence of others")   \
    X(RAFT_OLD_ACK,                 "raft: what a member acknowledged before its recovery still comes to count")   \
    X(RAFT_NO_FORGET,               "raft: what a member had acknowledged before its recovery goes on counting")   \
    X(RAFT_STALE_TRUNCATE,          "raft: an APPEND that is a prefix of the log truncates it")                     \
    X(RAFT_ONE_MAJORITY,            "raft: a joint group decides by the majority of its new voters alone")          \
    X(RAFT_KEEP_GROUP,              "raft: a group whose entry was replaced stays in force")                        \
    X(RAFT_GROUP_OVER_GROUP,        "raft: the group changes before its last change is committed")                  \
    X(MON_NO_FENCE,                 "mon: what a monitor writes does not depend on its lease")                     \
    X(MON_KEEPS_CLOCK,              "mon: a monitor that begins to lead counts the silence that it only heard of") \
    X(STORE_NO_FLUSH,               "store: the flush after a batch is left out")                                  \
    X(STORE_NO_FUA,                 "store: the flush before the log's tail advances is left out")                 \
    X(STORE_NO_CHECKSUM,            "store: checksums are not verified on read")                                   \
    X(STORE_EARLY_REUSE,            "store: chunks and slots are used again before their page is durable")         \
    X(STORE_EARLY_DESTAGE,          "store: blocks are destaged before they are committed and durable")            \
    X(STORE_EARLY_TAIL,             "store: the log's tail moves before what it passes is destaged")               \
    X(STORE_ACK_ORDER,              "store: a batch counts before the ones in front of it")                        \
    X(STORE_NO_PROOF,               "store: no header follows to tell that the newest batch was durable")           \
    X(STORE_LARGE_EARLY_ACK,        "store: an entry counts as durable before its chunks are")                     \
    X(STORE_LARGE_FREE,             "store: chunks of entries that were cut off are free at once")                 \
    X(STORE_LARGE_IN_PLACE,         "store: a chunk is written in place though the log refers to it")              \
    X(STORE_GROUP_GONE,             "store: the entry of a group leaves the log before the PG table has it")       \
    X(STORE_OWN_HEADERS,            "store: a batch is made as soon as there is an entry for one")                  \
    X(STORE_COPY_UNWRITTEN,         "store: a copy keeps old blocks that the source has not written")              \
    X(STORE_COPY_TRUSTS,            "store: a copy takes blocks of the old object over without comparing contents")  \
    X(STORE_COPY_LATE,              "store: a copy takes chunks of the old object over that destage has changed")   \
    X(STORE_COPY_REVIVES,           "store: a copy brings back an object that has gone with its image meanwhile")   \
    X(STORE_COPY_UNCLEARED,         "store: what is cleared while a copy takes its place comes back with it")        \
    X(STORE_PAGE_TRUST,             "store: a page that is read again counts, whatever it is by now")              \
    X(STORE_PAGE_EIO,               "store: an object whose page cannot be read now has lost its blocks")           \
    X(STORE_START_UNPROVEN,         "store: what a start found has to prove itself once more at the next one")      \
    X(STORE_CUT_OFF_STAYS,          "store: the headers of batches that a start cuts off stay where they are")      \
    X(STORE_LOST_RETURNS,           "store: a page that could not be read at the start is left as it is")           \
    X(STORE_ROUND_BLIND,            "store: destage does not read the pages that are not in memory")               \
    X(STORE_MARK_OLD,               "store: what a damaged page had counts as lost since its former marks")        \
    X(STORE_REPAIR_OLD,             "store: a repair takes a block of an older state that has the same checksum")   \
    X(STORE_REPAIR_UNMARKS,         "store: a block that is repaired while its page is found lost counts as empty") \
    X(STORE_MARK_NO_CLEAR,          "store: a damaged block counts as untouched by discards")                       \
    X(STORE_MARK_UNAPPLIED,         "store: a damaged block's index goes by unapplied entries")                     \
    X(STORE_LOST_AS_BEFORE,         "store: what the log has lost of an entry stays on the medium as it was before") \
    X(STORE_NUMBER_AGAIN,           "store: batches get numbers again that a checkpoint counts in")                 \
    X(STORE_DAMAGED_CLAIM_FIRST,    "store: at a start what others have is taken by who may have lost that it gave it back")  \
    X(STORE_RESET_FORGIVES,         "store: the end of a recovery makes up for records that were lost with a batch later") \
    X(STORE_TABLE_BY_PIECES,        "store: a block of the PG table that cannot be read costs the piece that is read with it") \
    X(STORE_READ_RUN_LOST,          "store: blocks that did not come well are read again in the same run")              \
    X(STORE_READ_OVER_SPLIT,        "store: of an object that leaves while it is read, the rest is zeros")              \
    X(STORE_RESET_COMPLETE,         "store: what was complete counts behind a recovery that has gone back, too")    \
    X(STORE_CHECKPOINT_RETURNS,     "store: a checkpoint that a start could not read counts again at a later one")  \
    X(STORE_RING_TO_THE_END,        "store: copies of entries fill the log ring to its last block")                 \
    X(STORE_COMING_LOST,            "store: what the log has anew of an object is not told")                        \
    X(STORE_PROPOSED_OLD,           "store: what a copy has, from above the log, gives way to what the log has")    \
    X(STORE_SPLIT_NO_RECORDS,       "store: a PG that is split off comes without the image records")               \
    X(STORE_SPLIT_KEEPS,            "store: a PG that is split keeps some of the objects that are not its own")    \
    X(STORE_TORN_BY_ERROR,          "store: what a device does not give at the start counts as torn by the crash") \
    X(STORE_SPLIT_EARLY,            "store: a PG counts as split before the record that says so is durable")       \
    X(STORE_SPLIT_OLD_ATTEMPT,      "store: what an attempt to split a PG left, which a crash ended, counts after the next one")  \
    X(STORE_SPLIT_BORN_WHOLE,       "store: a PG that a recovery splits off counts as whole after a crash")         \
    X(OSD_ELECTIONS_AT_ONCE,        "osd: all groups without a leader stand up at once")                            \
    X(OSD_ELECTIONS_UNASKED,        "osd: groups that clients wait for have no precedence in elections")             \
    X(OSD_NO_FENCE,                 "osd: the writer's incarnation is not checked")                                \
    X(OSD_NO_GENERATION,            "osd: the image's generation is not checked")                                  \
    X(OSD_NO_TERM,                  "osd: the term that a write was aimed at is not checked")                      \
    X(OSD_RETIRED_TICKET,           "osd: requests of retired sessions are still proposed")                        \
    X(OSD_NO_LEASE,                 "osd: reads are served without asking raft for a lease")                       \
    X(OSD_EARLY_REPLY,              "osd: writes are answered before they are committed")                          \
    X(OSD_COUNT_REFUSED,            "osd: groups that a heartbeat's answer refuses count as acknowledged")         \
    X(OSD_RECOVERY_LATE_BASE,       "osd: a recovery takes the index at its end, not at its start, for its base")  \
    X(OSD_PARKED_PROMISE,           "osd: a parked group comes back without the promise of the last heartbeat")     \
    X(OSD_PARKED_CONTACT,           "osd: a parked group comes back as if its members had just answered")           \
    X(OSD_RELIES_ON_SILENT,         "osd: a lone write relies on one follower although that does not answer")      \
    X(OSD_READS_CLEARED,            "osd: what a removal under way has cleared is read as zeros")                  \
    X(OSD_READS_HANG,               "osd: a leader whose device answers no reads goes on leading")                 \
    X(OSD_HUNG_LEADER,              "osd: a leader whose device hangs goes on leading")                            \
    X(OSD_SLOW_LEADER,              "osd: a leader goes on leading however slow its device is")                    \
    X(OSD_STUCK_WITHOUT_ROOM,       "osd: a leader goes on leading though a majority has no room for its entries")  \
    X(OSD_FULL_WAITS_FOR_EVER,      "osd: a replica without space for an entry never takes anything else")          \
    X(OSD_JOINS_TO_THE_END,         "osd: a replica that joins takes all space of its shard")                        \
    X(OSD_LACK_UNSAID,              "osd: a replica that has no room to recover does not say so")                   \
    X(OSD_ABSTAINERS_REFUSE,        "osd: who abstains counts among those that elect a leader without room")         \
    X(OSD_SHORT_ONE_MAJORITY,       "osd: who has no room leads, though not a majority of the old voters has none") \
    X(OSD_LOG_UNAWAITED,            "osd: a leader that a member has answered does not await its own log")           \
    X(OSD_MERGE_RACE,               "osd: partial writes do not wait for one another")                             \
    X(OSD_NO_FLOOR,                 "osd: an image without a record is attached by whoever asks, however late")    \
    X(OSD_EARLY_FORGET,             "osd: a removed image is forgotten before every member has said it is gone")   \
    X(OSD_MARK_WINS,                "osd: a recovery gives up what is whole here for a damaged block of its source") \
    X(OSD_MARK_OLD,                 "osd: what a recovery's source has lost is taken from what is here, however old") \
    X(OSD_LOG_UNPROVEN,             "osd: a recovery takes what its own log says though it may not be committed")   \
    X(OSD_REPAIR_OLD,               "osd: a reader is given a block of an older state that has the same checksum")  \
    X(OSD_SCRUB_LEADER_ONLY,        "osd: a scrub looks at the leader's own replica alone")                         \
    X(OSD_SCRUB_CLEARED,            "osd: a scrub looks at a replica that clears objects of an image")             \
    X(OSD_UNBORN_VOTER,             "osd: a learner becomes a voter before the map says that it exists")           \
    X(OSD_BORN_TWICE,               "osd: a replica that is missing is created again under its number")            \
    X(MON_PLACE_TOGETHER,           "mon: a plan puts replicas of a PG into one failure domain")                    \
    X(MON_PLACE_TAKES_AWAY,         "mon: a plan takes replicas away that have no other place")                     \
    X(MON_EARLY_DROP,               "mon: a replica is dropped though an older wanted list may bring it back")      \
    X(MON_COUNT_DOWN,               "mon: members that are down count as ones that can serve")                     \
    X(OSD_STRANGERS_UNHEARD,        "osd: a replica listens to nobody who is not in its group")                    \
    X(OSD_FORCE_UNFENCED,           "osd: a survivor goes on alone before the others are known to have ended")       \
    X(OSD_FORCE_SAME_NUMBER,        "osd: a survivor keeps its number, so the former members know it")              \
    X(OSD_FORCE_OLD_INDEX,          "osd: a survivor writes under indexes that its objects are beyond")             \
    X(OSD_FORCE_LEARNER,            "osd: a replica that is no voter goes on alone")                                \
    X(MON_FORCE_LEAVES,             "mon: a PG goes on with one replica, and the others are not told to end")       \
    X(MON_FORCE_ANYONE,             "mon: a PG goes on with whichever replica is named, a half copied one or a learner too") \
    X(MON_FORCE_OLD_WORD,           "mon: a replica is gone on with by the word of a shard that has not heard of the withdrawal") \
    X(MON_FORCE_WITHDRAWN_LATE,     "mon: an order to go on alone is withdrawn though it may have been carried out") \
    X(MON_MOVES_PARENT,             "mon: a PG is moved away from where alone something is left of one that was split off it") \
    X(MON_KEEPS_FAILED,             "mon: what is on a shard that has failed is never made anew")                   \
    X(MON_FORMER_HEARD,             "mon: leaders of a group that is over are believed")                            \
    X(OSD_DROP_UNNAMED,             "osd: a replica that the map does not name is deleted without an order")       \
    X(OSD_SPLIT_BORN_LATE,          "osd: a PG that is split off late is born though its replica has left it")       \
    X(OSD_SPLIT_SERVES,             "osd: a PG goes on serving what it has handed to another one")                 \
    X(OSD_SPLIT_READS,              "osd: a read that was under way is answered though its object is another PG's") \
    X(OSD_SPLIT_BY_PART,            "osd: a replica takes a PG that is split off for none of its own by a part of the map") \
    X(OSD_SPLIT_AGAIN,              "osd: a PG is split once more though its child may live elsewhere")             \
    X(OSD_SPLIT_ELSEWHERE,          "osd: what a PG keeps for one that lives elsewhere comes to another one when it is split") \
    X(OSD_SPLIT_UNSAVED,            "osd: a PG is split once more by a map that is not saved")                      \
    X(OSD_ATTACH_OVER_SPLIT,        "osd: a writer attaches to a PG without knowing of the one that was split off") \
    X(OSD_RECOVERY_OVER_SPLIT,      "osd: a recovery goes on though its source was split meanwhile")               \
    X(OSD_RECOVERY_KEEPS_SPLIT,     "osd: a recovery keeps what the source has handed to another PG")              \
    X(OSD_RECOVERY_CHILDLESS,       "osd: a recovery over a split gives up what is here of the child's objects")    \
    X(OSD_RECOVERY_KEEPS_WORD,      "osd: a leader that needs the word of who recovers from it never gets it")     \
    X(OSD_RECOVERY_UNSETTLED,       "osd: what a round of a recovery gave up still seems to be there in the next") \
    X(OSD_SCRUB_TRUSTS_CRC,         "osd: a deep scrub takes blocks of equal checksums for equal")                  \
    X(OSD_KEEPS_SILENT,              "osd: a connection that is silent alone is kept") \
    X(OSD_SERVES_PAUSED,             "osd: clients that have not heard of a pause are served") \
    X(CLIENT_STATUS_OVER_SPLIT,      "client: a PG speaks also for objects that it has handed to one that is not known") \
    X(CLIENT_TERM_UNWON,             "client: a write is aimed at a term that a shard is only said to be in") \
    X(MON_NEVER_BEHIND,              "mon: a monitor goes on though somebody knows a newer map") \
    X(MON_FOLLOWER_ACTS,             "mon: a monitor that does not lead carries calls out") \
    X(MON_UNPROVEN,                  "mon: a monitor takes its data for the newest before those who could know better have spoken") \
    X(MON_ANY_LEVEL,                 "mon: OSDs that do not know what the cluster does by now are let in") \
    X(MON_COUNTS_STALLS,             "mon: time in which the monitor itself hung counts as silence of others") \
    X(MON_DECIDES_EARLY,             "mon: PGs are moved before those who are there have reported") \
    X(MON_OUT_MANY,                  "mon: OSDs go out by themselves however many are down") \
    X(MON_OUT_DOMAINS,               "mon: OSDs go out by themselves though their data has no other place") \
    X(MON_REMOVES_HOLDER,            "mon: an OSD is removed though PGs have it as a member") \
    X(MON_FOLLOWS_HALF,              "mon: a monitor that follows shows parts of changes") \
    X(MON_NEWER_FORMAT,              "mon: metadata of a newer version is read as if it were known") \
    X(RPC_NO_RETIRE,                "rpc: requests of retired sessions are still served")
/* clang-format on */

enum plant {
#define X(name, text) PLANT_##name,
    PLANT_TABLE(X)
#undef X
        PLANT_COUNT
};

#ifdef FASTBLOCK_PLANT
extern bool plants_set[PLANT_COUNT]; /* sim/plant.c */
#define PLANT(name) UNLIKELY(plants_set[PLANT_##name])
/* A limit that a small cluster would never come to is smaller where bugs are looked for; */
#define PLANT_LIMIT(product, small) (small)
/* or in some runs only, because it hides what others show. */
extern bool plants_scarce; /* sim/plant.c */
#define PLANT_SCARCE(product, small) (plants_scarce ? (small) : (product))
#else
#define PLANT_LIMIT(product, small)  (product)
#define PLANT_SCARCE(product, small) (product)
#define PLANT(name)                  ((void)PLANT_##name, false)
#endif

#endif
