/* SPDX-License-Identifier: Apache-2.0
 *
 * Starting, waking and ending ops: list moves only. Steps are run by core_poll() alone.
 */
#include "rt/op.h"

#include "rt/core.h"

static void op_queue(struct op *op)
{
    struct core *core = op->core;

    if (!op->background) {
        list_push_back(&core->run_queue, &op->run);
        return;
    }
    if (list_empty(&core->background))
        core->background_ns = core_recent_ns(core);
    list_push_back(&core->background, &op->run);
}

void op_start(struct op *op, struct core *core, const struct op_kind *kind, struct op *parent)
{
    ASSERT(!op_live(op));
    ASSERT(kind && kind->step);
    *op = (struct op){.kind = kind, .core = core, .parent = parent, .started_ns = core_recent_ns(core)};
    if (parent) {
        ASSERT(op_live(parent) && parent->core == core);
        parent->children++;
    }
    list_push_back(&core->live_ops, &op->live);
    op_queue(op);
}

void op_wake(struct op *op)
{
    if (!op)
        return;
    ASSERT(op_live(op));
    if (!list_linked(&op->run))
        op_queue(op);
}

void op_done(struct op *op, int result)
{
    struct op *parent = op->parent;

    ASSERT(op_live(op));
    ASSERT(op->children == 0);
    ASSERT(result <= 0);
    op->result = result;
    op->kind = NULL;
    list_remove(&op->live);
    list_remove(&op->run);
    if (!parent)
        return;
    ASSERT(parent->children > 0);
    parent->children--;
    if (result && !parent->child_result)
        parent->child_result = result;
    op_wake(parent);
}

void op_cancel(struct op *op)
{
    ASSERT(op_live(op));
    op->cancelled = true;
    op_wake(op);
}
