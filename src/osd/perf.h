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
    X(recoveries, "recoveries of replicas begun")                                                            \
    X(recovered_objects, "objects copied by these")                                                          \
    X(repaired_blocks, "damaged blocks restored from another replica")                                       \
    X(unrepaired_reads, "reads of damaged blocks that no replica could answer")

#define PERF_HISTOGRAMS(X)                                                                                   \
    X(write_total, "write: arrival to answer")                                                               \
    X(write_propose, "write: arrival to proposal")                                                           \
    X(write_commit, "write: proposal to commit")                                                             \
    X(read_total, "read: arrival to answer")                                                                 \
    X(log_durable, "append: proposal to durable on this device")                                             \
    X(record_write, "term and vote: time to write them")

struct perf {
#define X(name, text) uint64_t name;
    PERF_COUNTERS(X)
#undef X
#define X(name, text) struct histogram name;
    PERF_HISTOGRAMS(X)
#undef X
};

#endif
