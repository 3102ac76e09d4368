/* SPDX-License-Identifier: Apache-2.0
 *
 * Seeded disks for rt/blk.h.
 *
 * A disk outlives the nodes that use it. Its contents are sparse: pages of 4 KiB, each with what is durable
 * and, where the volatile cache holds something newer, what a read sees. A completed write without FUA stays
 * in the cache until a flush that was submitted after it completed. At a loss of power, and when a flush
 * fails, each 512 byte sector of each cached (or unfinished) write is decided: the write is kept, lost or
 * torn. When only the process dies, unfinished writes meet that fate and the cache lives on. A write in
 * flight is a copy taken at its submission, and the port asserts that its memory was left alone.
 */
#ifndef SIM_SIM_BLK_H
#define SIM_SIM_BLK_H

#include "rt/blk.h"
#include "sim/sim.h"

struct sim_disk;

/* All off when zero. Probabilities are per request, in parts per million. */
struct sim_disk_faults {
    uint32_t read_error_ppm, write_error_ppm, flush_error_ppm;
    uint32_t rot_ppm;       /* a read finds a bit of the stored data changed, for good */
    uint32_t lose_ppm;      /* a write that succeeds lands nowhere */
    uint32_t misdirect_ppm; /* it lands somewhere else, and in its own place stays what was there */
    uint32_t stuck_ppm;     /* a request never completes */
    uint32_t slow_ppm;      /* a request takes slow_ns more */
    uint64_t slow_ns;
    uint32_t read_slow_ppm; /* the same of reads alone */
    uint64_t read_slow_ns;
    uint64_t late_from, late_len, late_ns;    /* bytes for which every request takes late_ns more */
    uint64_t error_from, error_len;           /* bytes where writes fail; 0: anywhere */
    uint64_t read_error_from, read_error_len; /* likewise, reads */
    bool lying_flush;                         /* planted: flushes (and FUA) succeed and do nothing */
};

enum sim_damage {
    SIM_DAMAGE_ROT,
    SIM_DAMAGE_LOSE,        /* a write that was done long ago never happened */
    SIM_DAMAGE_LOSE_NEW,    /* the same of one that is being reported as done */
    SIM_DAMAGE_MISDIRECTED, /* something else is written there */
    SIM_DAMAGE_READ_ERROR
};

struct sim_disk_config {
    const char *name;    /* for log lines; copied */
    uint64_t size_bytes; /* multiple of BLOCK_SIZE */
    bool volatile_cache;
    bool holes; /* of writes that are torn at a crash some lack a few sectors, and nothing else */
    bool junk;  /* what was never written reads as noise, as on a device used before; else as zeros */
    uint32_t queue_depth_hint;                   /* 0: 4 */
    uint64_t latency_min_ns, latency_typical_ns; /* 0: 10 us and 80 us */
    uint32_t torn_ppm, lost_ppm;                 /* fate at a crash; the rest is kept. 0, 0: 300000 each */
    struct sim_disk_faults faults;
    bool unfinished_cached; /* when the process dies, what it was writing may get into the volatile cache
                               alone */
    bool keep_older; /* for sim_disk_lose(): each block remembers what was there before its last write */
    /* The fault atlas: may this range be damaged so now? NULL: never. The owner keeps the promise of the
     * design, that enough intact copies of everything remain somewhere. A misdirected write asks for the
     * place that it misses (LOSE_NEW) and for the one that it hits. */
    bool (*may_damage)(void *owner, struct sim_disk *disk, enum sim_damage damage, uint64_t offset,
                       uint64_t len);
    void *owner;
};

struct sim_disk_stats {
    uint64_t reads, writes, flushes, discards;
    uint64_t kept, lost, torn;                                            /* writes at crashes */
    uint64_t errors, read_errors, rotten, taken_back, misdirected, stuck; /* read_errors: of errors */
};

struct sim_disk *sim_disk_new(struct sim *sim, const struct sim_disk_config *config);
void sim_disk_free(struct sim_disk *disk);

/* The node's handle on `len` bytes at `offset` of the disk (whole blocks): call it in the node's context. It
 * is part of the node and goes with it, or by ops->close(). */
struct blk *sim_disk_open(struct sim_disk *disk, struct sim_node *node, uint64_t offset, uint64_t len);

/* The volatile cache of the whole disk is decided and gone. A node's SIM_CRASH_POWER does that for the range
 * that it has open; this is for power lost after the process had died already. Nothing may be in flight. */
void sim_disk_power_cut(struct sim_disk *disk);

/* While hung nothing completes; afterwards everything does. */
void sim_disk_hang(struct sim_disk *disk, bool hung);
void sim_disk_set_faults(struct sim_disk *disk, const struct sim_disk_faults *faults);
/* From now on so many reads fail, or come with another bit, which come well when they are asked for again:
 * for a while none does like it. 0: no more. */
void sim_disk_fail_once(struct sim_disk *disk, uint32_t ppm);
/* Changes one bit of a block in `len` bytes at `offset`, one that was ever written; false: there is none, or
 * the atlas does not allow it. */
bool sim_disk_rot(struct sim_disk *disk, uint64_t offset, uint64_t len);
/* It turns out that the last write of such a block, all of it, never reached the medium: what was there
 * before is back. False: as above, or one of its blocks is in the cache, or has been taken back before. */
bool sim_disk_lose(struct sim_disk *disk, uint64_t offset, uint64_t len);
/* None of its blocks has rotted so that a read fails. */
bool sim_disk_is_readable(const struct sim_disk *disk, uint64_t offset, uint64_t len);
/* No write to this range is under way or in the volatile cache: it stays what it is, even if power fails. */
bool sim_disk_is_settled(const struct sim_disk *disk, uint64_t offset, uint64_t len);
/* How many writes have become durable on the disk, and the number of the last one of the block at `offset`.
 */
uint64_t sim_disk_writes(const struct sim_disk *disk);
uint64_t sim_disk_written(const struct sim_disk *disk, uint64_t offset);

/* Looks at the contents, as a read would see them, outside of any node. */
void sim_disk_peek(const struct sim_disk *disk, uint64_t offset, void *ret_bytes, size_t len);
/* Writes contents durably at once, outside of any node. */
void sim_disk_poke(struct sim_disk *disk, uint64_t offset, const void *bytes, size_t len);
/* Empties the disk: a new one in its place. Nothing may have it open. */
void sim_disk_wipe(struct sim_disk *disk);
/* Sectors completed and not durable. */
uint64_t sim_disk_cached_bytes(const struct sim_disk *disk);
uint64_t sim_disk_size(const struct sim_disk *disk);
struct sim_disk_stats sim_disk_stats(const struct sim_disk *disk);

#endif
