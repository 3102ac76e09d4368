/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop of a core around one io_uring.
 *
 * The ring is made with one issuer and deferred task work, so completions are only processed when the loop
 * asks for them: no interrupts of running code, and they arrive in batches. It starts disabled, and the
 * thread of the first turn enables and so owns it. No weaker modes are tried where the kernel lacks these: it
 * would lack more, which would only show later (timers by CLOCK_BOOTTIME, cancellation that waits).
 */
#include "backend/uring.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backend/timeslice.h"
#include "base/error.h"

#define RING_ENTRIES     1024
#define RING_COMPLETIONS 8192
#define GATHER_MAX       4    /* looks for more input before the sends of a turn */
#define BLK_TAG          1ull /* in the low bit of user data: a struct blk_io, not a struct uring_req */

/* Taking memory back from the kernel is the youngest call that is needed. There is nothing to cancel. */
static bool uring_ring_cancels(struct io_uring *ring)
{
    struct io_uring_sync_cancel_reg reg = {.fd = -1, .timeout = {.tv_sec = -1, .tv_nsec = -1}};

    return io_uring_register_sync_cancel(ring, &reg) == -ENOENT;
}

static int uring_ring_init(struct uring_core *uc, bool any_thread)
{
    /* Where threads change, the one that made a request must not be needed at its completion. */
    unsigned owned = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    struct io_uring_params params = {.flags = (any_thread ? 0 : owned) | IORING_SETUP_R_DISABLED |
                                              IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL,
                                     .cq_entries = RING_COMPLETIONS};
    int result = io_uring_queue_init_params(RING_ENTRIES, &uc->ring, &params);

    if (result == -ENOSYS || result == -EPERM || result == -EINVAL)
        return -ERR_UNSUPPORTED;
    if (result)
        return error_from_errno(-result);
    if (uring_ring_cancels(&uc->ring))
        return 0;
    io_uring_queue_exit(&uc->ring);
    return -ERR_UNSUPPORTED;
}

const char *uring_core_error_text(int error)
{
    return error == -ERR_UNSUPPORTED ? "it needs io_uring as of Linux " URING_KERNEL_MIN
                                       ": the kernel is older, or forbids it here"
                                     : error_text(error);
}

static int uring_arena_init(struct uring_core *uc, size_t bytes)
{
    bytes = ALIGN_UP(bytes, (size_t)BUF_SIZE_MAX);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT), -1, 0);
    /* What is set aside may be for others alone, by the limits of a container: its use would be our end. */
    if (memory != MAP_FAILED && madvise(memory, bytes, MADV_POPULATE_WRITE)) {
        munmap(memory, bytes);
        memory = MAP_FAILED;
    }
    if (memory == MAP_FAILED) {
        /* No pages set aside: take ordinary memory, cut it to alignment, and let the kernel make large pages
         * of it. */
        uint8_t *map =
            mmap(NULL, bytes + BUF_SIZE_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED)
            return -ERR_NO_MEMORY;
        uint8_t *start = (uint8_t *)ALIGN_UP((uintptr_t)map, (uintptr_t)BUF_SIZE_MAX);
        size_t before = (size_t)(start - map);
        if (before)
            munmap(map, before);
        munmap(start + bytes, BUF_SIZE_MAX - before);
        madvise(start, bytes, MADV_HUGEPAGE);
        memory = start;
    }
    uc->arena_memory = memory;
    uc->arena_bytes = bytes;
    uc->core.arena = arena_new(memory, bytes);
    return uc->core.arena ? 0 : -ERR_NO_MEMORY;
}

static void uring_alarm_done(struct uring_req *req, int res, uint32_t cqe_flags)
{
    container_of(req, struct uring_core, alarm_req)->alarm_ns = UINT64_MAX;
}

static void uring_core_stop_done(struct uring_req *req, int res, uint32_t cqe_flags)
{
    struct uring_core *uc = container_of(req, struct uring_core, stop_req);
    uc->stop_armed = false;
    uc->stopping = true;
}

int uring_core_new(const struct uring_core_opts *opts, struct uring_core **ret_uc)
{
    struct uring_core *uc = calloc(1, sizeof(*uc));

    if (!uc)
        return -ERR_NO_MEMORY;
    env_init(&uc->env, opts->log_level, opts->log_prefix);
    core_init(&uc->core, &env_ops, &uc->env);
    list_init(&uc->events);
    list_init(&uc->flushes);
    list_init(&uc->patient);
    list_init(&uc->inline_ios);
    list_init(&uc->inline_later);
    uc->spin.limit_ns = opts->spin_us * NS_PER_US;
    uc->stop_req.done = uring_core_stop_done;
    uc->alarm_req.done = uring_alarm_done;
    uc->alarm_ns = UINT64_MAX;
    int result = uring_ring_init(uc, opts->any_thread);
    if (result) {
        free(uc);
        return result;
    }
    uc->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (uc->stop_fd < 0)
        result = error_from_errno(errno);
    if (!result && opts->arena_bytes)
        result = uring_arena_init(uc, opts->arena_bytes);
    if (result) {
        uring_core_free(uc);
        return result;
    }
    *ret_uc = uc;
    return 0;
}

struct core *uring_core_core(struct uring_core *uc)
{
    return &uc->core;
}

int uring_core_fd(const struct uring_core *uc)
{
    return uc->ring.ring_fd;
}

struct io_uring_sqe *uring_sqe(struct uring_core *uc)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uc->ring);

    if (!sqe) {
        ASSERT(uc->started);
        uc->core.counters.syscalls++;
        io_uring_submit(&uc->ring);
        sqe = io_uring_get_sqe(&uc->ring);
        ASSERT(sqe);
    }
    return sqe;
}

void uring_sqe_own(struct uring_core *uc, struct io_uring_sqe *sqe, struct uring_req *req)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)req);
    uc->requests++;
}

void uring_sqe_own_blk(struct uring_core *uc, struct io_uring_sqe *sqe, struct blk_io *io)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)io | BLK_TAG);
    uc->requests++;
    uc->urgent = true;
}

static void uring_cancel_done(struct uring_req *req, int res, uint32_t cqe_flags)
{
    /* Whether it was found or not, the request itself completes. */
}

void uring_cancel(struct uring_core *uc, struct uring_req *req)
{
    static const struct uring_req ignored = {uring_cancel_done};
    struct io_uring_sqe *sqe = uring_sqe(uc);

    io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)req, 0);
    uring_sqe_own(uc, sqe, (struct uring_req *)(uintptr_t)&ignored);
}

void uring_task_queue(struct list *queue, struct uring_task *task)
{
    if (!list_linked(&task->link))
        list_push_back(queue, &task->link);
}

/* Runs the tasks that are queued now; those they queue wait for the next turn. */
static void uring_tasks_run(struct list *queue)
{
    struct list now;

    list_init(&now);
    list_splice_back(&now, queue);
    for (struct list *node = list_pop_front(&now); node; node = list_pop_front(&now)) {
        struct uring_task *task = list_entry(node, struct uring_task, link);
        task->run(task);
    }
}

/* Is there something to do for which somebody may be waiting? */
static bool uring_core_urgent(const struct uring_core *uc)
{
    return !list_empty(&uc->core.run_queue) || !list_empty(&uc->events) || !list_empty(&uc->inline_ios) ||
           !list_empty(&uc->flushes);
}

static bool uring_core_busy(const struct uring_core *uc)
{
    return uring_core_urgent(uc) || !list_empty(&uc->core.background);
}

/* When there is something to do, whatever the kernel says. */
static uint64_t uring_next_ns(const struct uring_core *uc)
{
    uint64_t next_ns = core_next_deadline_ns(&uc->core);

    if (!list_empty(&uc->inline_later))
        next_ns = MIN(next_ns, uc->later_ns);
    return list_empty(&uc->patient) ? next_ns : MIN(next_ns, uc->patient_ns);
}

uint64_t uring_core_deadline_ns(const struct uring_core *uc)
{
    return uring_core_busy(uc) ? 0 : uring_next_ns(uc);
}

static void uring_start(struct uring_core *uc)
{
    if (uc->started)
        return;
    uc->started = true;
    if (uc->ring.flags & IORING_SETUP_R_DISABLED) {
        /* Declared by liburing 2.3, but missing from the library. */
        long result =
            syscall(__NR_io_uring_register, uc->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
        ASSERT(result == 0);
    }
}

static bool uring_wants_kernel(struct uring_core *uc)
{
    return io_uring_sq_ready(&uc->ring) || *uc->ring.sq.kflags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* Hands over what is prepared, and lets completions appear, without waiting. */
static void uring_submit(struct uring_core *uc)
{
    uc->urgent = uc->sending = false;
    if (!uring_wants_kernel(uc))
        return;
    uc->core.counters.syscalls++;
    io_uring_submit_and_get_events(&uc->ring);
}

/* Has the kernel wake us by then, whatever we do until then. It is told how long that is, not when: of a
 * deadline it does not know that in a container the clock may count from another moment. */
static void uring_alarm_set(struct uring_core *uc, uint64_t now_ns, uint64_t deadline_ns)
{
    struct io_uring_sqe *sqe = uring_sqe(uc);
    uint64_t wait_ns = deadline_ns - now_ns;

    uc->alarm_time = (struct __kernel_timespec){.tv_sec = (long long)(wait_ns / NS_PER_S),
                                                .tv_nsec = (long long)(wait_ns % NS_PER_S)};
    io_uring_prep_timeout(sqe, &uc->alarm_time, 0, IORING_TIMEOUT_BOOTTIME);
    uring_sqe_own(uc, sqe, &uc->alarm_req);
    uc->alarm_ns = deadline_ns;
}

/* Hands over what is prepared, then waits for one completion at least, up to `wait_ns`. */
static void uring_submit_and_wait(struct uring_core *uc, uint64_t wait_ns)
{
    struct __kernel_timespec ts = {.tv_sec = (long long)(wait_ns / NS_PER_S),
                                   .tv_nsec = (long long)(wait_ns % NS_PER_S)};
    struct io_uring_cqe *cqe;

    uc->urgent = false;
    uc->core.counters.syscalls++;
    uc->core.counters.sleeps++;
    io_uring_submit_and_wait_timeout(&uc->ring, &cqe, 1, wait_ns == UINT64_MAX ? NULL : &ts, NULL);
}

/* Stays awake for completions for a while; true if there are some. Yields the processor at each round,
 * because the one waited for may need it. */
static bool uring_spin(struct uring_core *uc, uint64_t from_ns, uint64_t until_ns)
{
    for (uint64_t now_ns = from_ns; now_ns < until_ns;) {
        uring_submit(uc);
        if (io_uring_cq_ready(&uc->ring))
            return true;
        uint64_t before_ns = now_ns;
        uc->core.counters.yields++;
        sched_yield();
        now_ns = core_now_ns(&uc->core);
        spin_yielded(&uc->spin, before_ns, now_ns);
    }
    return false;
}

/* Waits until the deadline, or for ever. A timer of the kernel for each sleep would cost more than the rest
 * of going to sleep, and most deadlines are always some way ahead, like the next heartbeat's: there one alarm
 * serves all sleeps until then. Only what is due before a set alarm makes the wait a timed one. */
static void uring_sleep(struct uring_core *uc, uint64_t deadline_ns)
{
    uint64_t now_ns = deadline_ns == UINT64_MAX ? 0 : core_now_ns(&uc->core);

    if (deadline_ns <= now_ns) {
        uring_submit(uc);
        return;
    }
    if (deadline_ns != UINT64_MAX && uc->alarm_ns == UINT64_MAX)
        uring_alarm_set(uc, now_ns, deadline_ns);
    uring_submit_and_wait(uc, deadline_ns < uc->alarm_ns ? deadline_ns - now_ns : UINT64_MAX);
}

static void uring_wait(struct uring_core *uc, uint64_t max_wait_ns)
{
    /* With nothing prepared but receives the call can wait until the writes have been served; once, lest
     * endless writes keep the network out. */
    if (!list_empty(&uc->inline_ios) && !uc->urgent && !uc->waived) {
        uc->waived = true;
        return;
    }
    uc->waived = false;
    /* A wait would end with the sends' completions: take those first. */
    if (max_wait_ns == 0 || uc->sending || uring_core_busy(uc) || io_uring_cq_ready(&uc->ring)) {
        uring_submit(uc);
        return;
    }
    if (uring_blk_later_due(uc)) {
        uring_submit(uc);
        uring_blk_serve_idle(uc);
        return;
    }
    uint64_t deadline_ns = uring_next_ns(uc);
    bool timed = max_wait_ns != UINT64_MAX;
    uint64_t now_ns = timed || uc->spin.limit_ns ? core_now_ns(&uc->core) : 0;
    if (timed)
        deadline_ns = MIN(deadline_ns, now_ns + MIN(max_wait_ns, UINT64_MAX - now_ns));
    if (!uc->spin.limit_ns) {
        uring_sleep(uc, deadline_ns);
        return;
    }
    if (!uring_spin(uc, now_ns, MIN(spin_wait_begins(&uc->spin, now_ns), deadline_ns)))
        uring_sleep(uc, deadline_ns);
    spin_wait_ends(&uc->spin, core_now_ns(&uc->core));
}

/* Returns how many completions there were. */
static unsigned uring_reap(struct uring_core *uc)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;

    io_uring_for_each_cqe(&uc->ring, head, cqe)
    {
        uint64_t data = cqe->user_data;
        uc->requests--;
        if (data & BLK_TAG) {
            uring_blk_done((struct blk_io *)(uintptr_t)(data & ~BLK_TAG), cqe->res);
        } else {
            struct uring_req *req = (struct uring_req *)(uintptr_t)data;
            req->done(req, cqe->res, cqe->flags);
        }
        count++;
    }
    io_uring_cq_advance(&uc->ring, count);
    return count;
}

/* What has come while the ops were stepped is taken along before anything is sent: each send costs the
 * kernel, here and at the other end, more than the steps of what it carries. The flag costs no call, so with
 * one request under way nothing changes; and never more often than a few times, lest the sends wait for
 * endless input. The kernel queues what has come before it raises the flag: where we run in between, the flag
 * stands with nothing behind it until something else comes, and must not keep us awake for that long. */
static bool uring_gather(struct uring_core *uc)
{
    bool came = false;

    for (uint32_t i = 0; i < GATHER_MAX && *uc->ring.sq.kflags & IORING_SQ_TASKRUN; i++) {
        uring_submit(uc); /* what has been received makes room for more */
        if (!uring_reap(uc))
            break;
        came = true;
        uring_tasks_run(&uc->events);
        core_poll_urgent(&uc->core);
    }
    return came;
}

/* True: something has come, and whoever turns the loop may have waited for just that: it must not sleep now.
 */
static bool uring_step(struct uring_core *uc)
{
    ASSERT(!uc->turning);
    uc->turning = true;
    uring_tasks_run(&uc->events);
    core_poll_urgent(&uc->core);
    bool came = uring_gather(uc);
    if (!list_empty(&uc->patient) && core_recent_ns(&uc->core) >= uc->patient_ns)
        list_splice_back(&uc->flushes, &uc->patient);
    uring_tasks_run(&uc->flushes);
    uc->turning = false;
    return came;
}

/* The sends go before the writes to memory file systems: the peers work meanwhile. What nobody waits for
 * comes behind both, when no input is there. */
static void uring_exchange(struct uring_core *uc, uint64_t max_wait_ns)
{
    struct core *core = &uc->core;
    bool answered = uc->sending && list_empty(&uc->inline_ios);

    uring_wait(uc, max_wait_ns);
    uc->turning = true;
    uring_blk_serve_inline(uc, answered);
    uint64_t now_ns = core_now_ns(core); /* the time of this turn */
    uring_reap(uc);
    if ((!uring_core_urgent(uc) && !uring_input_waits(uc)) || core_background_late(core, now_ns))
        core_poll_background(core);
    uc->turning = false;
}

void uring_core_turn(struct uring_core *uc, uint64_t max_wait_ns)
{
    uring_start(uc);
    core_now_ns(&uc->core); /* who turns may have been away for long */
    uring_exchange(uc, uring_step(uc) ? 0 : max_wait_ns);
    uring_step(uc);
    uring_submit(uc);
}

int uring_core_run_op(struct uring_core *uc, struct op *op)
{
    for (;;) {
        core_poll(&uc->core); /* some end without any input or output */
        if (!op_live(op))
            return op->result;
        uring_core_turn(uc, NS_PER_S);
    }
}

static void uring_stop_arm(struct uring_core *uc)
{
    struct io_uring_sqe *sqe = uring_sqe(uc);
    io_uring_prep_read(sqe, uc->stop_fd, &uc->stop_count, sizeof(uc->stop_count), 0);
    uring_sqe_own(uc, sqe, &uc->stop_req);
    uc->stop_armed = true;
}

void uring_core_run(struct uring_core *uc)
{
    uring_start(uc);
    timeslice_shorten();
    if (!uc->stop_armed)
        uring_stop_arm(uc);
    while (!uc->stopping)
        uring_exchange(uc, uring_step(uc) ? 0 : UINT64_MAX);
    uc->stopping = false;
    uring_step(uc);
    uring_submit(uc);
}

void uring_core_stop(struct uring_core *uc)
{
    uint64_t one = 1;
    ssize_t written = write(uc->stop_fd, &one, sizeof(one));
    ASSERT(written == (ssize_t)sizeof(one));
}

void uring_core_drain(struct uring_core *uc)
{
    if (uc->drained)
        return;
    uc->drained = true;
    if (uc->stop_armed)
        uring_cancel(uc, &uc->stop_req);
    uring_signals_cancel(uc);
    /* Closed connections live until the kernel has let go of their memory. */
    uring_start(uc);
    while (uc->requests > (uc->alarm_ns != UINT64_MAX) || uring_core_busy(uc) ||
           !list_empty(&uc->inline_later))
        uring_exchange(uc, uring_step(uc) ? 0 : 10 * NS_PER_MS);
    if (uc->alarm_ns != UINT64_MAX)
        uring_cancel(uc, &uc->alarm_req);
    while (uc->requests) {
        uring_submit_and_wait(uc, UINT64_MAX);
        uring_reap(uc);
    }
}

void uring_core_free(struct uring_core *uc)
{
    if (!uc)
        return;
    uring_core_drain(uc);
    uring_signals_free(uc);
    io_uring_queue_exit(&uc->ring);
    if (uc->stop_fd >= 0)
        close(uc->stop_fd);
    core_fini(&uc->core);
    arena_free(uc->core.arena);
    if (uc->arena_memory)
        munmap(uc->arena_memory, uc->arena_bytes);
    free(uc);
}
