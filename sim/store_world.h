/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the store's scenario: one store on a small disk, driven with entries of several PGs at random,
 * against a model.
 *
 *   store_model.c      what the store must contain: entries, objects, images as functions of numbers
 *   store_check.c      what must hold after each start, and of whatever is read
 *   store_audit.c      what the store counts is counted anew
 *   store_before.c     what a start finds is what the process knew
 *   store_spy.c        what it writes, as it goes to the disk
 *   store_work.c       the load: entries appended, committed, cut off; reads; records; PGs that fall behind
 *   store_split.c      PGs are split, and removed
 *   store_recover.c    a PG that fell behind is recovered by copies, with the model as the source
 *   store_mend.c       beside the load, blocks are written in place and objects replaced by copies
 *   store_marks.c      blocks of which such a copy's source had no content
 *   store_look.c       beside the load, objects are looked at as replicas look at each other's
 *   store_scars.c      some of the disk is damaged while the process is away, and is to be as before
 *   store_driver.c     the process: opens, verifies, recovers, works, closes
 *   store_faults.c     what goes wrong, and when
 *   scenario_store.c   the run
 */
#ifndef SIM_STORE_WORLD_H
#define SIM_STORE_WORLD_H

#include "base/error.h"
#include "sim/scenarios.h"
#include "sim/sim_blk.h"
#include "sim/store_model.h"
#include "store/copy.h"

#define STORE_READS 4u

struct world;

struct reading {
    struct store_read op;
    uint32_t pg;
    uint64_t image, object, model_index, last, applied, cuts;
    uint32_t term, copies;
    bool proposed, busy;
};

enum { MEND_NONE, MEND_REPAIR, MEND_LOOK, MEND_WRITE, MEND_END };

/* Of an object, as it was when that began. */
struct mending {
    int state;
    uint32_t pg;
    bool other; /* the data is not the block's */
    uint64_t image, object, index;
    struct model_object was;
};

/* Of the copy under way: what its source has not got, and what that leaves open when it takes the object's
 * place. */
struct marking {
    uint64_t lost[BLOCKS_PER_OBJECT / 64], unsure[BLOCKS_PER_OBJECT / 64];
    uint64_t index, index_before;
    uint32_t conflicts;
};

/* At which crashes come more often than chance has it. */
enum moment {
    MOMENT_ANY,
    MOMENT_TAIL,       /* the tail has moved, and no header says so yet */
    MOMENT_CHECKPOINT, /* one is being written */
    MOMENT_PAGES,      /* are being flushed, and their slots do not count yet */
    MOMENT_MEND,       /* a copy is taking an object's place */
    MOMENT_REMOVAL,
    MOMENT_FLOOD, /* more records wait than fit into a batch */
    MOMENT_BLOB,
    MOMENT_RECORDS, /* a round writes pages, and not all records are durable */
    MOMENT_RESET,   /* a PG that has recovered has a new base, and the table does not say so yet */
    MOMENT_COPY,    /* a recovery has brought records, and objects or not yet */
    MOMENT_SPLIT,   /* what goes has gone, and the table does not say so yet */
    MOMENT_LARGE,   /* the chunks of a batch are written, and its header is not */
    MOMENT_CHUNKS,  /* or the other way round */
    MOMENT_FORWARD, /* the tail is about to move, and what is copied forward for that is being written */
    MOMENT_ROTTEN,  /* some of that had rotted; that batch is there, and nothing proves it yet */
    MOMENTS,
};

/* A block that is to be damaged when the process has died. */
struct scar {
    uint64_t block;
    bool lose; /* its last write never happened; or it rots */
};
#define SCARS_MAX 10u

/* As its header says. */
struct spied_batch {
    uint64_t seq, position, tail_seq, durable_seq; /* tail_seq 0: not known */
};
#define SPIED_BATCHES 4096u
struct spied_record {
    uint64_t seq, key, image, object, version;
};
#define SPIED_RECORDS 256u
#define SPIED_CHUNKS  2048u

/* What the process knows, when it dies, that a start must find. Open: that is under way. */
struct known_object {
    uint64_t version;
    uint32_t slot;
    bool open;
};
struct known_image {
    uint64_t index;
    bool open;
};
struct known_pg {
    bool is;
    uint64_t complete, complete_most, floor;
    uint64_t table_base; /* that of the PG table, when a recovery has just set another one; 0: none has */
    uint32_t split_count;
    struct known_object object[MODEL_IMAGES][MODEL_OBJECTS];
    struct known_image image[MODEL_IMAGES];
};
struct known {
    bool valid, settled; /* no record is under way */
    struct known_pg pg[MODEL_PGS];
};

/* Lives and dies with the node. */
struct driver {
    struct op op;
    struct world *world;
    struct blk *blk, spy;                       /* the store's, which goes on to the other */
    struct spied_batch spied[SPIED_BATCHES];    /* by number */
    struct spied_record records[SPIED_RECORDS]; /* the newest that tell of pages */
    uint32_t record_at;
    /* By number: of the newest batch that brought a chunk. Up to there, headers that are durable prove that
     * all was; and these are known. */
    uint64_t brought[SPIED_CHUNKS], proven_seq, spied_seq;
    uint64_t removed_key; /* of the PG that is being removed, or has just been */
    uint32_t removed_at;  /* in the table */
    uint64_t checkpoint_seq,
        copy_record_seq; /* likewise, of a checkpoint; in that one the copy's record is */
    uint64_t copy_seq;   /* no batch had that number when the copy began to end */
    uint64_t repaired;   /* block that is being written in place; 0: none */
    /* The newest batch with copies of older entries; with one that has rotted, and with what is new besides.
     */
    uint64_t forward_seq, rotten_seq;
    struct store *store;
    struct timer timer;
    struct store_format format;
    struct store_open open;
    struct store_pg_write pg_write;
    struct store_log_read log_read;
    struct store_read read;
    struct store_check check;
    struct store_close close;
    struct store_blob_write blob_write;
    struct store_repair repair;
    struct store_copy *copy;
    struct store_copy_look copy_look;
    struct store_copy_write copy_write;
    struct store_copy_end copy_end;
    struct store_split split;
    struct store_pg_remove remove;
    struct mending mend, held_of;
    struct marking marks;
    struct store_copy *held; /* one that ends when its PG has begun to recover */
    uint64_t have[IO_BLOCKS_MAX / 64], same[IO_BLOCKS_MAX / 64], damaged[IO_BLOCKS_MAX / 64];
    uint32_t have_crc[IO_BLOCKS_MAX], copy_crc[IO_BLOCKS_MAX];
    struct content_hash hash[IO_BLOCKS_MAX];
    struct reading reads[STORE_READS];
    struct store_log_read lag_read; /* for a follower that lags */
    uint32_t lag_pg;
    uint64_t lag_first, lag_cuts;
    bool lag_busy;
    struct buf *buf;
    uint32_t crc[IO_BLOCKS_MAX];
    uint64_t written[IO_BLOCKS_MAX / 64];
    uint8_t blob[20000];
    const struct model_pg *source; /* of the recovery */
    uint64_t base;                 /* what the log begins behind */
    uint64_t table_base;           /* that of the PG table before */
    uint32_t pg;                   /* where verifying, or recovery, is */
    uint64_t index, image, object;
    uint32_t block;
    uint32_t refused; /* for want of room, in a row */
    uint64_t stalled; /* PGs that commit nothing */
    uint32_t split_pg, remove_pg;
    uint32_t remove_next; /* as soon as it can be; 0: none in particular */
    struct store_digest digest;
    uint32_t look_pg;
    uint64_t look_index;
    uint32_t look_copies;
    uint8_t look_block[BLOCK_SIZE];
    bool looking;
    int seen_state;
    uint64_t since_ns;           /* it is in that state */
    uint64_t checkpoint;         /* that is being written, by its number */
    bool lazy;                   /* does not mend what it finds damaged */
    uint32_t heals;              /* of the object at hand */
    uint64_t hurried[MODEL_PGS]; /* up to there each PG has been told to destage */
    uint64_t rest_ns;            /* since when nothing new comes; 0: it does */
    uint32_t leaving;            /* turns: a PG is to fall behind, and waits for what is under way */
    bool full, pg_writing, blob_writing, splitting, behind, removing, healing, closing_down;
};

struct world {
    struct sim *sim;
    struct sim_rng rng, keeps, mends, moments, floods, audit, aims, choices, earlies, lates, misses, memories,
        scars, looks, marks, sources, rests, reads, blows, spies, turns, blinds;
    struct sim_disk *disk;
    struct sim_node *node;
    struct driver *driver;
    struct store_config config;
    uint8_t uuid[16];
    uint64_t ring_bytes;
    bool clean;        /* nothing on the disk is ever damaged */
    uint64_t late_ns;  /* of a part of the disk, in this round */
    bool settles;      /* before it closes */
    uint32_t cuts;     /* of the entries appended, per cent, that replace another one */
    bool pages_hit;    /* often, when destage is to read them */
    uint32_t log_max;  /* entries of a PG's log; 0: as in the product */
    uint32_t once_ppm; /* of reads that fail once, while the store is open */
    bool formatting, formatted, verified, stop, rot, errors, stopped, halted;
    bool unreadable; /* some of what is read at the last start */
    /* Some of the disk has been damaged, and not all been looked at, and mended, since. */
    bool hurt;
    bool process_died; /* last; what it was writing may be in the disk's cache */
    bool power_next;
    bool torn;      /* of the newest batches, that no header proves, one may be gone */
    bool alive_hit; /* no start has met that yet */
    bool wounds;    /* objects are still damaged, for nobody has mended them */
    /* A batch is missing, or what cannot be read could be one: starts find that again, until two checkpoints
     * have been made. */
    bool gap;
    uint64_t gap_number;         /* of the checkpoint when that began */
    uint64_t gap_head;           /* of the ring then: what is missing lies before that */
    bool gap_covered;            /* there is a later one: it has what is missing, or had not either */
    bool reset_since[MODEL_PGS]; /* it has recovered: its log begins behind that */
    bool starts_blind;           /* some of what the start reads does not come; later it may */
    /* Behind what the last start found there are batches that were cut off. The first that came after it. */
    bool cut_off, cut_off_struck, spared; /* spared: nothing is damaged now */
    uint64_t start_seq;
    bool chunks_done;               /* it waits for chunks that are there */
    uint64_t blind_from, blind_len; /* bytes of which nothing does; 0: any may not */
    uint64_t struck_number;         /* no checkpoint is damaged before there is this one */
    bool proof_hit;                 /* what headers prove may be gone with them */
    bool checkpoint_hit;            /* what the newest one says may be gone */
    bool striking, scarred, shown;  /* the offline check may find it */
    struct scar scar[SCARS_MAX];
    uint32_t scar_count;
    bool marked[MODEL_PGS];  /* it is on record that its log is damaged */
    bool damaged[MODEL_PGS]; /* its log is, until it has recovered, and caught up with the others ... */
    bool healthy[MODEL_PGS]; /* ... and its record has been sent that says so */
    struct {
        uint64_t seq, position;
    } numbers[64]; /* of batches that were written, lately */
    struct known known;
    uint64_t proof_seq; /* a batch of this number or a later one proves what is provable; 0: none will */
    struct model_pg pgs[MODEL_PGS];
    struct model_pg *earlier;  /* as a source is that has not got all yet; NULL: none ever was */
    struct model_pg *alone;    /* the one that is looked at as it would go on alone; NULL: none ever was */
    uint64_t mixed[MODEL_PGS]; /* below that index a recovery may have left parts of a later state */
    uint64_t term_acked[MODEL_PGS], term_sent[MODEL_PGS];
    uint32_t replica[MODEL_PGS];
    /* Of a PG whose log is damaged: objects that are older than the model's are to be copied, not judged.
     * (What its table remembers as destaged may be newer than the slot map, if the ring between them is
     * gone.) */
    bool behind[MODEL_PGS][MODEL_IMAGES][MODEL_OBJECTS];
    bool lossy[MODEL_IMAGES][MODEL_OBJECTS]; /* some of it was lost at some time */
    bool created[MODEL_PGS], recovering[MODEL_PGS], fell_behind[MODEL_PGS];
    bool removed[MODEL_PGS]; /* or about to be */
    /* It is to be born when its parent, which was not there for the split, recovers. */
    bool missed[MODEL_PGS];
    uint64_t blob_acked, blob_sent;
    bool restless;                             /* PGs are away often, and not for long */
    bool calm;                                 /* hardly anybody votes */
    bool misses_one;                           /* one has just fallen behind, by what its start found */
    bool misses_splits;                        /* PGs are split while they are not there, and often are not */
    uint32_t burst, mend_rarely, flood_rarely; /* one in so many turns; flood_rarely 0: never */
    uint32_t absent_rarely;                    /* PGs fall behind */
    uint32_t marks_rarely;                     /* one in so many windows of copies; 0: none */
    struct sim_disk_faults faults;
    enum moment moment; /* that the next crash waits for */
    uint64_t objects_max;
    uint64_t recovered, recovered_before; /* how often a PG has been */
    uint64_t crashes, opens, entries, read_checks, copies, retries, no_space, damage_reads, repairs,
        checkpoints, forward, moves, checks, large, lag_reads, page_reads, page_hits, splits, removals,
        mended, flooded, audits, loners, behinds, scars_made, healed, hurt_logs, looked, marked_blocks;
};

enum {
    DRIVE_START,
    DRIVE_HALF, /* formatted, perhaps */
    DRIVE_FORMAT,
    DRIVE_OPEN,
    DRIVE_REMOVE,
    DRIVE_CREATE,
    DRIVE_LOG_NEXT,
    DRIVE_LOG,
    DRIVE_ALONE,
    DRIVE_ALONE_NEXT,
    DRIVE_ALONE_READ,
    DRIVE_AGAIN,
    DRIVE_SPLIT,
    DRIVE_READ_NEXT,
    DRIVE_READ,
    DRIVE_RECOVER,
    DRIVE_MARK,
    DRIVE_BEHIND,
    DRIVE_HELD,
    DRIVE_COPY_NEXT,
    DRIVE_COPY_LOOK,
    DRIVE_COPY_WRITE,
    DRIVE_COPY_END,
    DRIVE_RECOVERED,
    DRIVE_WHOLE,
    DRIVE_HEAL,
    DRIVE_REPAIR,
    DRIVE_WORK,
    DRIVE_SETTLE,
    DRIVE_CLOSE,
    DRIVE_CHECK,
    DRIVE_FAILED,
};

static inline uint64_t below(struct driver *d, uint64_t n)
{
    return sim_rng_below(&d->world->rng, n);
}

static inline bool chance(struct driver *d, uint32_t percent)
{
    return sim_rng_below(&d->world->rng, 100) < percent;
}

static inline struct store_pg *pg_now(struct driver *d, uint32_t i)
{
    return store_pg_find(d->store, d->world->pgs[i].id);
}

/* store_check.c: each ends the run with a failure if what it looks at is wrong. */
bool verify_excused(struct driver *d, int result);     /* is it an error that faults explain? */
bool verify_log_excused(struct driver *d, int result); /* likewise, of entries that are read back */
void verify_open(struct driver *d);                    /* logs, records, groups, blob: just opened */
void verify_durable(struct driver *d);                 /* notes what the store calls durable by now */
void verify_table_begins(struct driver *d);
void verify_table_ends(struct driver *d);
void verify_log_read(struct driver *d);                                   /* `log_read` has ended */
void verify_log_amount(struct driver *d, const struct store_log_read *r); /* some, and not too much */
/* `newest`: the log has not been cut since it was asked for. */
void verify_entry(struct driver *d, const struct model_pg *m, const struct entry *e,
                  const struct slice *payload, bool newest);
void verify_data(struct driver *d, const struct store_read *r, const struct model_pg *m, bool proposed);
void verify_images(struct driver *d, uint32_t pg);
void verify_check_line(void *driver, bool problem, const char *text); /* of the offline check */

/* store_audit.c: likewise, of all that the store counts. Now and then: it looks at everything. */
void verify_counts(struct driver *d);
void verify_newest(struct driver *d);               /* before the log has brought it: what is ahead of that */
void verify_records(struct driver *d, uint32_t pg); /* a recovery has just taken over those of images */
void verify_child(struct driver *d, uint32_t pg);   /* just born */
void verify_brought(struct driver *d);              /* the newest entries that a start has found */
void verify_order(struct driver *d);                /* what must not be before the log has it; every time */

/* store_before.c */
void before_note(struct world *w);     /* the process is about to die */
void before_compare(struct driver *d); /* just opened */

/* store_spy.c: likewise, of what it writes. */
void spy_start(struct driver *d);
void spy_open(struct driver *d);                              /* just opened */
void spy_remove(struct driver *d, const struct store_pg *pg); /* begins */
void spy_step(struct driver *d);                              /* something has ended */

/* store_work.c */
int work_append(struct driver *d, uint32_t pg, uint64_t index, uint32_t term); /* as the model has it */
bool work_append_again(struct driver *d); /* after a crash; true: every PG has what was committed */
void work_reads_reap(struct driver *d);   /* reads that have ended are verified */
void work_blob(struct driver *d);
bool work_settled(struct driver *d); /* is all that is applied destaged? it is told to */
bool work(struct driver *d);         /* some of everything; false: the store has failed */
bool work_fall_behind(struct driver *d, uint32_t pg);

/* store_split.c */
uint32_t any_pg(struct driver *d);
bool split_is_mine(const struct driver *d, uint32_t pg, uint64_t image,
                   uint64_t object);             /* the one under way */
void split_found(struct driver *d);              /* at open: PGs that were born as a crash came */
void split_begin(struct driver *d, uint32_t pg); /* its next entry says so */
int split_end(struct driver *d);                 /* the result; a retry is the caller's */
void split_reap(struct driver *d);               /* of those beside the load; and begins the next */
void split_plan(struct driver *d, uint32_t pg);  /* now and then: the next entry splits it */
/* The same, while it is not there; `often`: mostly. */
void split_plan_missed(struct driver *d, uint32_t pg, uint64_t index, bool often);
void split_miss(struct driver *d, uint32_t pg);  /* those that it was not there for */
void split_always(void *world, struct sim *sim); /* after each step */
bool split_behind(struct driver *d);    /* of PG `d->pg`, which recovers: the next of these; false: none */
int split_behind_end(struct driver *d); /* the result */
bool remove_again(struct driver *d);    /* at open; false: nothing to remove */
void remove_reap(struct driver *d);
void remove_some(struct driver *d);

/* store_recover.c: of PG `d->pg` */
void recover_record(struct driver *d, enum store_pg_state state);
void recover_window(struct driver *d, const struct model_object *o); /* of the copy under way, at d->block */
void recover_beside(struct driver *d);     /* a copy is taking its place: the log goes on meanwhile */
bool recover_copy_begin(struct driver *d); /* of the object at hand; false: no room */
bool recover_drive(struct driver *d);      /* the states from DRIVE_MARK to DRIVE_RECOVERED; true: go on */

/* store_marks.c */
void marks_new(struct driver *d);      /* for a copy */
void marks_conflict(struct driver *d); /* some of what was thought to be here is not: ask again */
void marks_draw(struct driver *d, const struct model_object *source); /* of the window at d->block */
/* The copy of what `was` there takes the object's place; and has, or has not. */
void marks_begin(struct driver *d, struct model_object *o, const struct model_object *was, uint64_t image,
                 uint64_t object);
void marks_end(struct driver *d, struct model_object *o, const struct model_object *was, int result);
void marks_found(struct model_object *o, const struct store_read *r); /* at a start: which of both it is */

/* store_mend.c */
void mend_step(struct driver *d); /* goes on with it, or begins */
bool mend_held(struct driver *d); /* PG `d->pg` recovers: false: none was held for it */
void mend_held_end(struct driver *d);

/* store_look.c */
void look_step(struct driver *d); /* now and then, at what is told without reading data */

/* store_scars.c */
/* The first batch behind the last start is there, and another one says so. */
bool scars_first_proven(const struct world *w, const struct store *s);
void scars_choose(struct world *w); /* now and then; before the process dies */
void scars_blind(struct world *w);  /* likewise: of the next start */
void scars_strike(struct world *w); /* when it has */
void scars_found(struct driver *d); /* all has been looked at, and is whole */
void scars_settle(struct driver *d);
/* The log of a PG is damaged, and that was not known: it is to recover. True: there is one, in d->pg. */
bool scars_take(struct driver *d);
bool scars_work(struct driver *d);      /* beside the load; true: a PG is to recover */
bool scars_show(const struct world *w); /* what is damaged may be met, by whoever looks */

/* store_driver.c */
void driver_start(struct world *w, struct sim_node *node);
void driver_fail(struct driver *d, const char *what, int result);

/* store_faults.c: the process runs, and dies in the end or again and again. */
bool faults_may_damage(void *world, struct sim_disk *disk, enum sim_damage damage, uint64_t offset,
                       uint64_t len);
void faults_run(struct world *w);

/* The model knows nothing of entries that apply a part in each turn. */
static inline void world_apply(struct store_pg *pg, uint64_t index)
{
    struct store *s = pg->store;

    store_apply(pg, index);
    while (pg->applied_index < index && store_applying(pg) && !s->failed) {
        /* As if the next turn had come, of all that wait for one. */
        timer_cancel(s->core, &s->clear);
        clear_go_on(s);
        store_apply(pg, index);
    }
}

/* What is committed, in the model and here, as far as it is durable here. True: a split is next. */
static inline bool world_apply_durable(struct model_pg *m, struct store_pg *pg)
{
    uint64_t upto = MIN(m->commit, pg->durable_index);

    model_apply(m, upto);
    world_apply(pg, m->applied);
    return m->applied < upto;
}

#endif
