/* SPDX-License-Identifier: Apache-2.0
 *
 * Timers: fire when due and not before, in any history of arming, moving and cancelling.
 */
#include "tests/tap.h"

#include "tests/rt/clock.h"

#define TIMERS 300

struct sleeper {
    struct op op;
    struct timer timer;
    int fired;
};

static void sleeper_step(struct op *op)
{
    struct sleeper *s = container_of(op, struct sleeper, op);
    if (s->timer.fired) {
        s->timer.fired = false;
        s->fired++;
    }
}

static const struct op_kind sleeper_kind = {"test.sleeper", NULL, sleeper_step};

static void one_timer(void)
{
    struct clock clock = {.now_ns = 100};
    struct core core;
    struct sleeper s = {0};

    core_init(&core, &clock_env, &clock);
    CHECK(core_next_deadline_ns(&core) == UINT64_MAX);
    op_start(&s.op, &core, &sleeper_kind, NULL);
    timer_arm(&core, &s.timer, &s.op, 200);
    CHECK_EQ(core_next_deadline_ns(&core), 200);
    clock.now_ns = 199;
    core_poll(&core);
    CHECK_EQ(s.fired, 0);
    clock.now_ns = 200;
    core_poll(&core);
    CHECK_EQ(s.fired, 1);
    CHECK(!timer_armed(&s.timer));
    timer_arm(&core, &s.timer, &s.op, 300);
    timer_arm(&core, &s.timer, &s.op, 250); /* moves it */
    clock.now_ns = 260;
    core_poll(&core);
    CHECK_EQ(s.fired, 2);
    timer_arm(&core, &s.timer, &s.op, 300);
    timer_cancel(&core, &s.timer);
    timer_cancel(&core, &s.timer);
    clock.now_ns = 1000;
    core_poll(&core);
    CHECK_EQ(s.fired, 2);
    op_done(&s.op, 0);
    core_fini(&core);
}

/* A core was away if it did nothing though a timer was due: not if nothing was due, nor if a timer was armed
 * for a time that had passed. */
static void absence(void)
{
    struct clock clock = {.now_ns = NS_PER_S};
    struct core core;
    struct sleeper s = {0};

    core_init(&core, &clock_env, &clock);
    op_start(&s.op, &core, &sleeper_kind, NULL);
    core_poll(&core);
    clock.now_ns += NS_PER_S;
    core_poll(&core);
    timer_arm(&core, &s.timer, &s.op, clock.now_ns - NS_PER_S);
    clock.now_ns += CORE_AWAY_NS - 1;
    core_poll(&core);
    CHECK_EQ(s.fired, 1);
    timer_arm(&core, &s.timer, &s.op, clock.now_ns + NS_PER_S);
    clock.now_ns += NS_PER_S + CORE_AWAY_NS - 1;
    core_poll(&core);
    CHECK_EQ(s.fired, 2);
    CHECK_EQ(core.back_ns, 0);
    /* Nothing was due for a second, then something came, and only that armed a timer; once more with one that
     * was armed for later. */
    clock.now_ns += NS_PER_S;
    timer_arm(&core, &s.timer, &s.op, clock.now_ns - NS_PER_S / 2);
    core_poll(&core);
    CHECK_EQ(s.fired, 3);
    timer_arm(&core, &s.timer, &s.op, clock.now_ns + 2 * NS_PER_S);
    clock.now_ns += NS_PER_S;
    timer_arm(&core, &s.timer, &s.op, clock.now_ns - NS_PER_S / 2);
    core_poll(&core);
    CHECK_EQ(s.fired, 4);
    CHECK_EQ(core.back_ns, 0);
    /* But one that was due, and is then armed anew. */
    timer_arm(&core, &s.timer, &s.op, clock.now_ns + NS_PER_S);
    clock.now_ns += NS_PER_S + CORE_AWAY_NS;
    timer_arm(&core, &s.timer, &s.op, 0);
    core_poll(&core);
    CHECK_EQ(s.fired, 5);
    CHECK_EQ(core.gone_ns, clock.now_ns - CORE_AWAY_NS);
    core.back_ns = core.gone_ns = 0;
    timer_arm(&core, &s.timer, &s.op, clock.now_ns + NS_PER_S);
    clock.now_ns += NS_PER_S + CORE_AWAY_NS;
    core_poll(&core);
    CHECK_EQ(s.fired, 6);
    CHECK_EQ(core.back_ns, clock.now_ns);
    CHECK_EQ(core.gone_ns, clock.now_ns - CORE_AWAY_NS);
    op_done(&s.op, 0);
    core_fini(&core);
}

/* Against the obvious model: an array of deadlines. */
static void random_history(void)
{
    static struct sleeper s[TIMERS];
    static uint64_t deadline[TIMERS];
    static int expected[TIMERS];
    struct clock clock = {.random = 42};
    struct core core;

    core_init(&core, &clock_env, &clock);
    for (int i = 0; i < TIMERS; i++) {
        op_start(&s[i].op, &core, &sleeper_kind, NULL);
        deadline[i] = UINT64_MAX;
    }
    for (int round = 0; round < 30000; round++) {
        uint64_t random = core_random_u64(&core);
        uint32_t i = random % TIMERS;
        switch (random >> 32 & 7) {
        case 0:
            timer_cancel(&core, &s[i].timer);
            deadline[i] = UINT64_MAX;
            break;
        case 1: {
            clock.now_ns += random >> 40 & 63;
            for (int k = 0; k < TIMERS; k++) {
                if (deadline[k] <= clock.now_ns) {
                    expected[k]++;
                    deadline[k] = UINT64_MAX;
                }
            }
            core_poll(&core);
            for (int k = 0; k < TIMERS; k++)
                CHECK_EQ(s[k].fired, expected[k]);
            break;
        }
        default:
            deadline[i] = clock.now_ns + (random >> 40 & 1023) + 1;
            timer_arm(&core, &s[i].timer, &s[i].op, deadline[i]);
        }
        uint64_t least = UINT64_MAX;
        for (int k = 0; k < TIMERS; k++)
            least = MIN(least, deadline[k]);
        CHECK(core_next_deadline_ns(&core) == least);
        CHECK(timer_armed(&s[i].timer) == (deadline[i] != UINT64_MAX));
        if (!tap_ok)
            break;
    }
    core_poll(&core);
    for (int i = 0; i < TIMERS; i++)
        op_done(&s[i].op, 0);
    core_fini(&core);
}

int main(void)
{
    TEST(one_timer);
    TEST(absence);
    TEST(random_history);
    return tap_done();
}
