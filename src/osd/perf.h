/* SPDX-License-Identifier: Apache-2.0
 *
 * perf: what a shard counts and how long the stages of its work take.
 */
#ifndef OSD_PERF_H
#define OSD_PERF_H

#include "base/histogram.h"

#define PERF_COUNTERS(X)                                                                                     \
    X(writes, "client writes answered with success")                                                         \
    X(write_bytes, "bytes of these")                                                                         \
    X(reads, "client reads answered with success")                                                           \
    X(read_bytes, "bytes of these")                                                                          \
    X(clears, "discards and write-zeroes answered with success")                                             \
    X(attaches, "writers attached")                                                                          \
    X(errors, "client requests answered with an error")                                                      \
    X(turned_away, "client requests turned away because a cap or pool was exhausted")                        \
    X(merges, "writes that had to be merged into blocks")                                                    \
    X(merge_waits, "writes that waited for a merge of the same block")                                       \
    X(read_index, "reads without a lease: a majority was asked")                                             \
    X(crc_errors, "payloads that arrived with a wrong checksum")                                             \
    X(payload_drops, "payloads dropped for lack of memory")                                                  \
    X(appends_sent, "APPEND frames sent")                                                                    \
    X(append_entries_sent, "entries in these")                                                               \
    X(appends_received, "APPEND frames received")                                                            \
    X(append_entries_received, "entries in these")                                                           \
    X(append_replies_sent, "APPEND_REPLY frames sent")                                                       \
    X(append_refusals, "entries that could not be appended for lack of room")                                \
    X(log_reads, "reads of old entries for lagging members")                                                 \
    X(heartbeats_sent, "merged heartbeats sent")                                                             \
    X(heartbeats_received, "merged heartbeats received")                                                     \
    X(elections_won, "times that a replica here became leader")                                              \
    X(slow_handovers, "leaderships handed over because the device was slower than the members'")             \
    X(recoveries, "recoveries of replicas begun")                                                            \
    X(recovered_objects, "objects copied by these")                                                          \
    X(recover_compared, "their blocks that were here and at the source, so checksums were compared")         \
    X(recover_same, "of these the same: they did not come")                                                  \
    X(recover_received, "blocks that came from the source")                                                  \
    X(recover_sent, "blocks sent to members that recover")                                                   \
    X(damaged_logs, "replicas whose log could not be proven whole")                                          \
    X(lost_acks, "members that had not any more what they had acknowledged to a leader here")                \
    X(repaired_blocks, "damaged blocks restored from another replica")                                       \
    X(unrepaired_reads, "reads of damaged blocks that no replica could answer")                              \
    X(scrub_bytes, "bytes read from the medium and verified by scrubs")                                      \
    X(scrub_found, "damaged blocks that these found")                                                        \
    X(scrub_objects, "objects compared with the other replicas' by scrubs led here")                         \
    X(scrub_differing, "of these: not the same there, though all checksums are right")

#define PERF_HISTOGRAMS(X)                                                                                   \
    X(write_total, "write: taken on to answer")                                                              \
    X(write_receive, "write: its frame decoded, its checksums verified")                                     \
    X(write_propose, "write: taken on to proposal")                                                          \
    X(write_commit, "write: proposal to the turn that saw the commit")                                       \
    X(write_reply, "write: that turn: applied, answered")                                                    \
    X(read_total, "read: taken on to answer")                                                                \
    X(append_receive, "follower: an APPEND decoded, its checksums verified")                                 \
    X(log_durable, "entry: appended to seen durable here; marked ones")                                      \
    X(record_write, "term and vote: time to write them")

/* The latency of one index out of the many that are under way: taken when there is no mark, recorded when the
 * log has come so far, forgotten when the term changes. No clock is read for it, and the next one marked is
 * whichever comes first after that, so no kind of entry is preferred. */
struct perf_mark {
    uint64_t index; /* 0: no mark */
    uint64_t term, began_ns;
};

static inline bool perf_mark_wanted(const struct perf_mark *mark, uint64_t term)
{
    return mark->index == 0 || mark->term != term;
}

/* Returns what was recorded; 0: nothing. */
static inline uint64_t perf_mark_reach(struct perf_mark *mark, uint64_t index, uint64_t term, uint64_t now_ns,
                                       struct histogram *histogram)
{
    uint64_t took_ns = mark->term == term ? now_ns - mark->began_ns : 0;

    if (mark->index == 0 || index < mark->index)
        return 0;
    if (mark->term == term)
        histogram_record(histogram, took_ns);
    mark->index = 0;
    return took_ns;
}

/* How long something takes, lately. */
struct pace {
    uint64_t mean_ns, newest_ns; /* when the newest sample came */
    uint64_t newest_took_ns;     /* as long as it was */
    int64_t samples;             /* up to 16 */
};
#define PACE_SAMPLES_MIN 8
#define PACE_OLD_NS      (60 * NS_PER_S) /* without a sample for so long it says nothing any more */
void pace_add(struct pace *pace, uint64_t took_ns, uint64_t now_ns);

struct perf {
#define X(name, text) uint64_t name;
    PERF_COUNTERS(X)
#undef X
#define X(name, text) struct histogram name;
    PERF_HISTOGRAMS(X)
#undef X
};

#endif
