/* SPDX-License-Identifier: Apache-2.0
 *
 * The inside of the simulated disks (sim_blk.h):
 *
 *   sim_blk_medium.c   what is durable, what is in the cache, and what a loss of power makes of it
 *   sim_blk_damage.c   what goes wrong with contents: rot, writes that are lost or misdirected
 *   sim_blk.c          the port: requests in flight, errors, delays; and what may be done from outside
 *
 * Every completed write gets a number. A page knows for each sector the number of the write whose bytes are
 * durable there, so that a cached write that becomes durable late never goes over a newer one that was
 * durable before it. `current` is what reads see while a cached write covers the page.
 */
#ifndef SIM_SIM_BLK_INSIDE_H
#define SIM_SIM_BLK_INSIDE_H

#include "sim/sim_blk.h"

#define SECTOR            512u
#define SECTORS_PER_BLOCK (BLOCK_SIZE / SECTOR)

struct sim_page {
    uint64_t number;
    uint8_t durable[BLOCK_SIZE];
    uint64_t durable_seq[SECTORS_PER_BLOCK];
    uint8_t *older;        /* what was durable before the last write; NULL: not known */
    uint8_t *current;      /* NULL: as durable */
    uint32_t cached_count; /* cached writes that cover the page */
    bool unreadable;       /* what is durable, until it is written over */
};

/* A write in the volatile cache. */
struct sim_write {
    struct list link; /* in order of seq */
    uint64_t seq;
    uint64_t offset, len;
    uint8_t data[];
};

struct sim_disk_handle {
    struct blk blk;
    struct sim_disk *disk;
    struct sim_node *node;
    uint64_t offset; /* of the window */
    struct list inflight;
    struct list link; /* in the disk's handles */
    struct sim_crash_hook hook;
};

struct sim_disk_request {
    struct sim_event event;
    struct list link; /* in the handle's requests in flight */
    struct list held; /* in the disk's list while it hangs */
    struct sim_disk_handle *handle;
    struct blk_io *io;
    uint64_t offset; /* on the disk */
    uint64_t flush_seq;
    bool is_held;
    struct sim_write *write; /* the copy, for BLK_WRITE and BLK_DISCARD */
};

struct sim_disk {
    struct sim *sim;
    struct sim_disk_config config;
    char name[32];
    struct sim_rng latency, faults, fate, unfinished, rots, onces;
    uint64_t junk_seed;
    struct sim_page **pages;  /* by number; NULL: never written */
    struct sim_page **by_age; /* all pages, in order of first write: for random picks that replay */
    uint32_t page_count, page_cap;
    struct list cache;
    struct list handles;
    struct list held;
    bool hung;
    bool flush_failed;
    uint32_t once_ppm;
    uint64_t once_ns; /* until when none fails once more */
    struct {
        uint64_t offset, len;
    } once[8]; /* where the last ones were: they are spared */
    uint32_t once_count;
    uint64_t seq;
    uint64_t cached_bytes;
    struct sim_disk_stats stats;
};

/* sim_blk_medium.c */
struct sim_page *medium_page(const struct sim_disk *disk, uint64_t number); /* NULL: never written */
/* Made if there is none. `whole`: what is there does not matter, it is written over. */
struct sim_page *medium_page_get(struct sim_disk *disk, uint64_t number, bool whole);
uint64_t medium_page_seq(const struct sim_page *page); /* of the last write that is durable there */
void medium_read(const struct sim_disk *disk, uint64_t offset, uint8_t *bytes); /* one block */
bool medium_is_readable(const struct sim_disk *disk, uint64_t offset, uint64_t len);
/* The write has reached the device; it owns `w` from here. */
void medium_write(struct sim_disk *disk, struct sim_write *w, bool durable);
void medium_flush(struct sim_disk *disk, uint64_t flush_seq);
/* The fate of a write that was not durable when the power went, or that failed. */
void medium_decide(struct sim_disk *disk, const struct sim_write *w);
void medium_power_cut(struct sim_disk *disk, uint64_t offset, uint64_t len); /* of all that is cached there */

/* sim_blk_damage.c */
bool medium_may_damage(struct sim_disk *disk, enum sim_damage damage, uint64_t offset, uint64_t len);
/* Where a misdirected write goes instead, in the same window, most often onto something; the right place when
 * that may not be. */
uint64_t medium_misdirect(struct sim_disk_handle *handle, uint64_t offset, uint64_t len);

#endif
