/* SPDX-License-Identifier: Apache-2.0
 *
 * A block device that fails on order, on top of any other: for tests of what stands above it.
 *
 *      HOLD (delayed or stuck) --> LOWER (the device below has it) --> done
 *        '-- error --> done
 *
 * What cannot be read, or is read wrong, is sound again once it has been written, as on a real device, which
 * puts bad sectors elsewhere; until other rules are ordered.
 *
 * Rules are looked at anew while a request is held, so that a stuck one goes on when its rule has gone.
 * Without rules requests go straight to the device below and cost nothing; with rules each takes memory of
 * its own.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/fault.h"
#include "base/error.h"

#define HOLD_LOOK_NS (10 * NS_PER_MS)

struct fault_blk {
    struct blk blk; /* first */
    struct core *core;
    struct blk *lower;
    struct faults *faults;
    uint64_t offset;                 /* of the window in the device */
    const struct fault_rules *rules; /* when last looked at; only to compare */
    uint64_t *written;               /* a bit for each block: written since these rules */
};

struct fault_io {
    struct op op;
    struct timer timer;
    struct fault_blk *f;
    struct blk_io *upper; /* the request */
    struct blk_io lower;  /* its copy for the device below */
};

enum { FAULT_HOLD, FAULT_LOWER };

static const char *fault_io_state(int state)
{
    return state == FAULT_HOLD ? "hold" : "lower";
}

static size_t written_bytes(const struct fault_blk *f)
{
    return (f->blk.size_bytes / BLOCK_SIZE + 63) / 64 * sizeof(uint64_t);
}

static const struct fault_rules *fault_rules(struct fault_blk *f)
{
    const struct fault_rules *rules = atomic_load_explicit(&f->faults->rules, memory_order_acquire);

    if (rules != f->rules)
        memset(f->written, 0, written_bytes(f));
    f->rules = rules;
    return rules;
}

static void note_written(struct fault_blk *f, const struct blk_io *io)
{
    for (uint64_t b = io->offset / BLOCK_SIZE; b < (io->offset + io->len) / BLOCK_SIZE; b++)
        f->written[b / 64] |= 1ull << b % 64;
}

/* Of the window. */
static bool block_is_bad(const struct fault_blk *f, const struct fault_rule *rule, uint64_t block)
{
    uint64_t at = f->offset + block * BLOCK_SIZE;

    return at < rule->from + rule->len && rule->from < at + BLOCK_SIZE &&
           !(f->written[block / 64] >> block % 64 & 1);
}

static bool has_bad_block(const struct fault_blk *f, const struct fault_rule *rule, const struct blk_io *io)
{
    for (uint64_t b = io->offset / BLOCK_SIZE; b < (io->offset + io->len) / BLOCK_SIZE; b++)
        if (block_is_bad(f, rule, b))
            return true;
    return false;
}

static bool rule_applies(const struct fault_rule *rule, const struct fault_blk *f, const struct blk_io *io)
{
    uint64_t at = f->offset + io->offset;

    if (!(rule->types & 1u << io->type))
        return false;
    return io->type == BLK_FLUSH || (at < rule->from + rule->len && rule->from < at + io->len);
}

/* What holds for a request now. */
struct fault_now {
    uint64_t delay_ns;
    bool stuck;
    int error;
};

static struct fault_now faults_of(struct fault_blk *f, const struct blk_io *io)
{
    const struct fault_rules *rules = fault_rules(f);
    struct fault_now now = {0};

    for (uint32_t i = 0; i < rules->count; i++) {
        const struct fault_rule *rule = &rules->rule[i];
        if (!rule_applies(rule, f, io))
            continue;
        switch (rule->effect) {
        case FAULT_DELAY:
            now.delay_ns += rule->delay_ns;
            break;
        case FAULT_ERROR:
            if (io->type != BLK_READ || has_bad_block(f, rule, io))
                now.error = -ERR_IO;
            break;
        case FAULT_READ_ONLY:
            now.error = -ERR_READ_ONLY;
            break;
        case FAULT_STUCK:
            now.stuck = true;
            break;
        case FAULT_FLIP:
            break;
        }
    }
    return now;
}

/* One bit of each bad block. */
static void flip_bits(const struct fault_blk *f, const struct blk_io *io, const struct fault_rule *rule)
{
    uint64_t block = io->offset / BLOCK_SIZE;

    for (uint32_t i = 0; i < io->iov_count; i++) {
        uint8_t *data = io->iov[i].iov_base;
        for (uint64_t pos = 0; pos < io->iov[i].iov_len; pos += BLOCK_SIZE, block++)
            if (block_is_bad(f, rule, block))
                data[pos + BLOCK_SIZE / 2] ^= 1;
    }
}

static void flip(struct fault_blk *f, const struct blk_io *io)
{
    const struct fault_rules *rules = fault_rules(f);

    for (uint32_t i = 0; i < rules->count; i++)
        if (rules->rule[i].effect == FAULT_FLIP && rule_applies(&rules->rule[i], f, io))
            flip_bits(f, io, &rules->rule[i]);
}

static void fault_io_finish(struct fault_io *fio, int result)
{
    struct blk_io *upper = fio->upper;

    upper->result = result;
    upper->pending = false;
    op_wake(upper->waiter);
    op_done(&fio->op, 0);
    free(fio);
}

/* True: it goes on now. */
static bool fault_io_hold(struct fault_io *fio, const struct fault_now *now)
{
    uint64_t now_ns = core_now_ns(fio->op.core), due_ns = fio->upper->submitted_ns + now->delay_ns;

    if (!now->stuck && now_ns >= due_ns)
        return true;
    timer_arm(fio->op.core, &fio->timer, &fio->op,
              now->stuck ? now_ns + HOLD_LOOK_NS : MIN(due_ns, now_ns + HOLD_LOOK_NS));
    return false;
}

static void fault_io_step(struct op *op)
{
    struct fault_io *fio = container_of(op, struct fault_io, op);
    struct fault_blk *f = fio->f;

    switch (op->state) {
    case FAULT_HOLD: {
        struct fault_now now = faults_of(f, fio->upper);
        if (!fault_io_hold(fio, &now))
            return;
        if (now.error) {
            fault_io_finish(fio, now.error);
            return;
        }
        op->state = FAULT_LOWER;
        fio->lower = (struct blk_io){.type = fio->upper->type,
                                     .flags = fio->upper->flags,
                                     .offset = fio->upper->offset,
                                     .len = fio->upper->len,
                                     .iov = fio->upper->iov,
                                     .iov_count = fio->upper->iov_count};
        blk_submit(f->lower, &fio->lower, op);
        return;
    }
    case FAULT_LOWER:
        if (fio->lower.pending)
            return;
        if (!fio->lower.result && fio->lower.type == BLK_READ)
            flip(f, &fio->lower);
        else if (!fio->lower.result && fio->lower.type == BLK_WRITE)
            note_written(f, &fio->lower);
        fault_io_finish(fio, fio->lower.result);
        return;
    }
}

static const struct op_kind fault_io_kind = {"fault.io", fault_io_state, fault_io_step};

static void fault_blk_submit(struct blk *blk, struct blk_io *io)
{
    struct fault_blk *f = container_of(blk, struct fault_blk, blk);
    struct fault_io *fio = fault_rules(f)->count ? calloc(1, sizeof(*fio)) : NULL;

    if (!fio) { /* no faults, or no memory for them */
        f->lower->ops->submit(f->lower, io);
        return;
    }
    fio->f = f;
    fio->upper = io;
    io->submitted_ns = core_now_ns(f->core);
    op_start(&fio->op, f->core, &fault_io_kind, NULL);
}

static void fault_blk_close(struct blk *blk)
{
    struct fault_blk *f = container_of(blk, struct fault_blk, blk);

    f->lower->ops->close(f->lower);
    free(f->written);
    free(f);
}

int fault_blk_new(struct core *core, struct faults *faults, struct blk *lower, uint64_t offset,
                  struct blk **ret_blk)
{
    static const struct blk_ops ops = {fault_blk_submit, fault_blk_close};
    struct fault_blk *f = calloc(1, sizeof(*f));

    ASSERT(atomic_load(&faults->rules)); /* loaded once at least */
    if (!f)
        return -ERR_NO_MEMORY;
    *f = (struct fault_blk){.blk = *lower, .core = core, .lower = lower, .faults = faults, .offset = offset};
    f->blk.ops = &ops;
    f->written = calloc(1, written_bytes(f));
    if (!f->written) {
        free(f);
        return -ERR_NO_MEMORY;
    }
    *ret_blk = &f->blk;
    return 0;
}
