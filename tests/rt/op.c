/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of rt/op.h, one test each.
 */
#include "tests/tap.h"

#include <string.h>

#include "base/error.h"
#include "tests/rt/clock.h"

struct job {
    struct op op;
    int steps;
    bool finish;
    int finish_result;
    struct job *starts[3]; /* children started in the first step */
    struct op *wakes;      /* woken in every step */
    bool inside;           /* a step is running: nested calls show */
    bool nested;
    struct job **order; /* appends itself there at each step */
};

static void job_step(struct op *op);
static const struct op_kind job_kind = {"test.job", NULL, job_step};

static void job_step(struct op *op)
{
    struct job *job = container_of(op, struct job, op);

    job->nested |= job->inside;
    job->inside = true;
    if (job->order)
        *job->order++ = job;
    if (job->steps++ == 0)
        for (int i = 0; i < 3; i++)
            if (job->starts[i])
                op_start(&job->starts[i]->op, op->core, &job_kind, op);
    op_wake(job->wakes);
    job->inside = false;
    if (job->finish && op->children == 0)
        op_done(op, job->finish_result);
}

static void starting_runs_nothing(void)
{
    struct clock clock = {.now_ns = 7};
    struct core core;
    struct job a = {.finish = true};

    core_init(&core, &clock_env, &clock);
    op_start(&a.op, &core, &job_kind, NULL);
    CHECK_EQ(a.steps, 0);
    CHECK(op_live(&a.op));
    CHECK_EQ(a.op.started_ns, 7);
    CHECK(!core_poll(&core));
    CHECK_EQ(a.steps, 1);
    CHECK(!op_live(&a.op));
    CHECK(list_empty(&core.live_ops));
    core_fini(&core);
}

static void waking_twice_steps_once(void)
{
    struct clock clock = {0};
    struct core core;
    struct job a = {0};

    core_init(&core, &clock_env, &clock);
    op_start(&a.op, &core, &job_kind, NULL);
    core_poll(&core);
    op_wake(&a.op);
    op_wake(&a.op);
    op_wake(NULL);
    core_poll(&core);
    CHECK_EQ(a.steps, 2);
    CHECK_EQ(core.counters.steps, 2);
    op_done(&a.op, 0);
    core_fini(&core);
}

static void steps_never_nest(void)
{
    struct clock clock = {0};
    struct core core;
    struct job a = {0}, b = {0};

    core_init(&core, &clock_env, &clock);
    a.wakes = &b.op;
    b.wakes = &a.op;
    op_start(&a.op, &core, &job_kind, NULL);
    op_start(&b.op, &core, &job_kind, NULL);
    /* They wake each other for ever: the poll's budget ends it, and says that work is left. */
    CHECK(core_poll(&core));
    CHECK(!a.nested && !b.nested);
    CHECK(a.steps > 1 && b.steps > 1);
    a.wakes = b.wakes = NULL;
    CHECK(!core_poll(&core));
    op_done(&a.op, 0);
    op_done(&b.op, 0);
    core_fini(&core);
}

/* What others wait for comes first; a loop may leave the background out, and learns when that is late. */
static void the_background_comes_last(void)
{
    struct clock clock = {.now_ns = 7};
    struct core core;
    struct job back = {0}, front = {0};

    core_init(&core, &clock_env, &clock);
    op_start(&back.op, &core, &job_kind, NULL);
    back.op.background = true;
    op_start(&front.op, &core, &job_kind, NULL);
    CHECK(!core_poll(&core));
    op_wake(&back.op);
    op_wake(&front.op);
    CHECK(!core_poll_urgent(&core));
    CHECK_EQ(front.steps, 2);
    CHECK_EQ(back.steps, 1);
    clock.now_ns += CORE_BACKGROUND_WAIT_NS - 1;
    CHECK(!core_background_late(&core, clock.now_ns));
    clock.now_ns++;
    op_wake(&back.op);
    CHECK(core_background_late(&core, clock.now_ns));
    core_poll_background(&core);
    CHECK_EQ(back.steps, 2);
    CHECK(!core_background_late(&core, clock.now_ns + NS_PER_S));
    /* Woken in the background, the one in front is stepped by the next poll. */
    back.wakes = &front.op;
    op_wake(&back.op);
    CHECK(core_poll(&core));
    CHECK(!core_poll(&core));
    CHECK_EQ(back.steps, 3);
    CHECK_EQ(front.steps, 3);
    op_done(&front.op, 0);
    op_done(&back.op, 0);
    core_fini(&core);
}

static void children_are_counted_and_the_first_error_kept(void)
{
    struct clock clock = {0};
    struct core core;
    struct job parent = {0}, kids[3];

    memset(kids, 0, sizeof(kids));

    core_init(&core, &clock_env, &clock);
    for (int i = 0; i < 3; i++)
        parent.starts[i] = &kids[i];
    op_start(&parent.op, &core, &job_kind, NULL);
    core_poll(&core);
    CHECK_EQ(parent.op.children, 3);
    op_done(&kids[1].op, -ERR_TIMEOUT);
    core_poll(&core);
    op_done(&kids[0].op, -ERR_IO);
    core_poll(&core);
    CHECK_EQ(parent.op.children, 1);
    CHECK_EQ(parent.steps, 3);
    op_done(&kids[2].op, 0);
    core_poll(&core);
    CHECK_EQ(parent.op.children, 0);
    CHECK_EQ(parent.op.child_result, -ERR_TIMEOUT);
    CHECK_EQ(kids[0].op.result, -ERR_IO);
    op_done(&parent.op, parent.op.child_result);
    core_fini(&core);
}

static void cancelling_sets_a_flag_and_wakes(void)
{
    struct clock clock = {0};
    struct core core;
    struct job a = {0};

    core_init(&core, &clock_env, &clock);
    op_start(&a.op, &core, &job_kind, NULL);
    core_poll(&core);
    op_cancel(&a.op);
    CHECK(a.op.cancelled && op_live(&a.op));
    core_poll(&core);
    CHECK_EQ(a.steps, 2);
    op_done(&a.op, -ERR_CANCELLED);
    /* And a new start begins from scratch. */
    op_start(&a.op, &core, &job_kind, NULL);
    CHECK(!a.op.cancelled && a.op.result == 0);
    op_done(&a.op, 0);
    CHECK(!core_poll(&core));
    core_fini(&core);
}

static void wakes_are_served_in_order(void)
{
    struct clock clock = {0};
    struct core core;
    struct job jobs[3];
    struct job *order[8] = {0};

    memset(jobs, 0, sizeof(jobs));

    core_init(&core, &clock_env, &clock);
    for (int i = 0; i < 3; i++)
        op_start(&jobs[i].op, &core, &job_kind, NULL);
    core_poll(&core);
    jobs[2].order = order;
    jobs[0].order = order + 1;
    jobs[1].order = order + 2;
    op_wake(&jobs[2].op);
    op_wake(&jobs[0].op);
    op_wake(&jobs[1].op);
    core_poll(&core);
    CHECK(order[0] == &jobs[2] && order[1] == &jobs[0] && order[2] == &jobs[1]);
    for (int i = 0; i < 3; i++)
        op_done(&jobs[i].op, 0);
    core_fini(&core);
}

int main(void)
{
    TEST(starting_runs_nothing);
    TEST(waking_twice_steps_once);
    TEST(steps_never_nest);
    TEST(the_background_comes_last);
    TEST(children_are_counted_and_the_first_error_kept);
    TEST(cancelling_sets_a_flag_and_wakes);
    TEST(wakes_are_served_in_order);
    return tap_done();
}
