/* SPDX-License-Identifier: Apache-2.0
 *
 * The health problems that a cluster can have: code, and what it means. The monitor finds them
 * (mon_health.c); `fastblock health detail --help` and the manual page explain them from this table, and
 * docs/health.md says more.
 */
#ifndef MON_HEALTH_H
#define MON_HEALTH_H

/*    code                meaning */
#define HEALTH_TABLE(X)                                                                                      \
    X(MON_BEHIND, "the monitor runs on old data (a restored backup) and changes nothing")                    \
    X(MON_METADATA, "the monitor cannot write its metadata")                                                 \
    X(MON_STARTING, "the monitor has just started and has not heard of all PGs yet")                         \
    X(MON_DOWN, "a monitor of the cluster does not run")                                                     \
    X(OSD_NONE, "there are no OSDs")                                                                         \
    X(OSD_NEW, "an OSD was formatted and never started")                                                     \
    X(OSD_DOWN, "an OSD does not report")                                                                    \
    X(OSD_OUT, "an OSD is out and still has replicas, which are made anew elsewhere")                        \
    X(OSD_FULL, "an OSD has little space left")                                                              \
    X(OSD_NO_ROOM, "replicas are to be copied to an OSD, or to be brought up to date, and there is no room") \
    X(OSD_DAMAGE, "the device of an OSD returned wrong data, which was restored from other replicas")        \
    X(OSD_UNREPAIRED, "reads at an OSD failed: no replica had the data")                                     \
    X(SHARD_FAILED, "a shard took itself out of service, as a rule after an error of its device")            \
    X(SHARD_SILENT, "a shard of an OSD that is up does not report")                                          \
    X(PG_NO_LEADER, "PGs without a leader: reads and writes there wait")                                     \
    X(PG_DEGRADED, "PGs have fewer replicas in contact than they should")                                    \
    X(PG_RECOVERING, "PGs copy data to a replica that was away")                                             \
    X(PG_DAMAGED, "PGs have a replica whose log is damaged, which is made whole from the others")            \
    X(PG_STUCK, "PGs lack a replica, or have one where it should not be, and there is no OSD for it")        \
    X(PG_NOT_MOVED, "PGs stay where they are, because something of another PG is left in them only")         \
    X(PG_MAJORITY_LOST, "PGs have lost the majority of their replicas for good")                             \
    X(PG_FORCE_WAITS, "PGs are to go on with one replica, which waits for the end of the others")            \
    X(PG_FORCE_FAILS, "PGs are to go on with one replica, which cannot")                                     \
    X(PG_NOTHING_LEFT, "PGs have no replica left that is whole")                                             \
    X(PG_FORCED, "PGs went on without a majority, and what they lost is not acknowledged")                   \
    X(PG_UNSPLIT, "a pool is to have more PGs, and the next one has not come for a minute")                  \
    X(PG_BLOCKS_LOST, "blocks are damaged on every replica that could be asked")                             \
    X(PG_DIFFERS, "replicas differ though all checksums are right")                                          \
    X(PG_GOING, "PGs of removed pools still have data somewhere")                                            \
    X(POOL_PLACEMENT, "a pool's placement function is not loaded at the monitor that leads")                 \
    X(HOST_MAINTENANCE, "OSDs of a host are marked as being worked on")                                      \
    X(FLAG_NOOUT, "no OSD goes out by itself")                                                               \
    X(FLAG_NOREBALANCE, "data is not spread evenly")                                                         \
    X(FLAG_PAUSE, "no reads and writes begin")                                                               \
    X(SCRUB_PAUSED, "no scrub begins or goes on")                                                            \
    X(OMITTED, "more OSDs and pools have problems than are listed")

enum health_code {
#define X(code, text) HEALTH_##code,
    HEALTH_TABLE(X)
#undef X
        HEALTH_CODES
};

#endif
