/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a core that has nothing to do should stay awake for the next event, or sleep.
 *
 * To be woken costs tens of microseconds of latency, at each stop of a request's way. To stay awake costs the
 * processor, which others may need. So it pays only where both hold, by what the last waits and runs were
 * like:
 *   - the next event comes soon. Every wait counts, slept through or not, up to a bound that lets some ten
 *     short waits outweigh a long one: who is idle sleeps at once, at the price of one or two vain attempts;
 *   - the runs between the waits are short. Under load each wake-up is shared by what has come together
 *     meanwhile, and staying awake only takes the processor from those who would send more. A run that was
 *     long because others had the processor counts as one, too: it is wanted elsewhere.
 * And where the processor, yielded, does not come back for a time slice, somebody computes on it; who sleeps
 * gets it faster then. Such a loss is followed by ten times as long without staying awake, and by twice as
 * long as last time where the next one comes at once, up to a hundred times: who goes on computing makes
 * anything slower by 1% then, and who was there for once is soon forgotten.
 *
 * Pure: time comes from the caller.
 */
#ifndef BACKEND_SPIN_H
#define BACKEND_SPIN_H

#include "base/base.h"

/* Runs longer than this are load. */
#define SPIN_RUN_MAX_NS (20 * NS_PER_US)
#define SPIN_WEIGHT     8 /* of the past in the averages, against one new value */
/* No run of ours takes so long, and no time slice of a kernel is shorter. */
#define SPIN_LOST_NS        (500 * NS_PER_US)
#define SPIN_LOST_TIMES     10
#define SPIN_LOST_TIMES_MAX 100
#define SPIN_LOST_SOON_NS   (100 * NS_PER_MS) /* at once: so soon after being awake again */

struct spin {
    uint64_t limit_ns; /* stay awake for at most so long; 0: never. The rest counts only then */
    uint64_t wait_avg_ns, run_avg_ns;
    uint64_t since_ns;      /* when the present run, or wait, began */
    uint64_t not_before_ns; /* asleep until then ... */
    uint64_t lost_times;    /* ... for so many times as long as was lost */
};

static inline uint64_t spin_mix(uint64_t average_ns, uint64_t new_ns)
{
    return (average_ns * (SPIN_WEIGHT - 1) + new_ns) / SPIN_WEIGHT;
}

/* There is nothing to do any more. Returns until when to stay awake: `now_ns`, not at all. */
static inline uint64_t spin_wait_begins(struct spin *spin, uint64_t now_ns)
{
    spin->run_avg_ns = spin_mix(spin->run_avg_ns, MIN(now_ns - spin->since_ns, 4 * SPIN_RUN_MAX_NS));
    spin->since_ns = now_ns;
    bool pays = spin->wait_avg_ns <= spin->limit_ns && spin->run_avg_ns <= SPIN_RUN_MAX_NS &&
                now_ns >= spin->not_before_ns;
    return pays ? now_ns + spin->limit_ns : now_ns;
}

/* The processor was given away from the one to the other time. */
static inline void spin_yielded(struct spin *spin, uint64_t from_ns, uint64_t to_ns)
{
    if (to_ns - from_ns < SPIN_LOST_NS)
        return;
    /* Where it is sooner than that, it is the same wait. */
    bool again = spin->lost_times && from_ns < spin->not_before_ns + SPIN_LOST_SOON_NS;
    spin->lost_times = again ? MIN(2 * spin->lost_times, SPIN_LOST_TIMES_MAX) : SPIN_LOST_TIMES;
    spin->not_before_ns = to_ns + spin->lost_times * (to_ns - from_ns);
}

static inline void spin_wait_ends(struct spin *spin, uint64_t now_ns)
{
    spin->wait_avg_ns = spin_mix(spin->wait_avg_ns, MIN(now_ns - spin->since_ns, 4 * spin->limit_ns));
    spin->since_ns = now_ns;
}

#endif
