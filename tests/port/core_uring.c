/* SPDX-License-Identifier: Apache-2.0
 *
 * The core suite on io_uring, and what only the real core has: sleeping, its descriptor, stopping, signals.
 */
/* First of all, because of its kernel headers. */
#include "backend/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/port/core_suite.h"
#include "tests/port/real.h"

static void an_idle_core_sleeps(void)
{
    struct real_world real;

    CHECK(real_world_init(&real, 0, 1));
    struct core *core = real.world.core[0];
    uint64_t start_ns = core_now_ns(core);
    uring_core_turn(real.uc[0], 30 * NS_PER_MS);
    CHECK(core_now_ns(core) - start_ns >= 29 * NS_PER_MS);
    CHECK(core->counters.syscalls <= 2);
    start_ns = core_now_ns(core);
    uring_core_turn(real.uc[0], 0);
    CHECK(core_now_ns(core) - start_ns < 20 * NS_PER_MS);
    CHECK(uring_core_deadline_ns(real.uc[0]) == UINT64_MAX);
    real_world_fini(&real);
}

/* As the kernel leaves it when it raises the flag after we have taken what it tells of. */
static void a_flag_with_nothing_behind_it_keeps_nobody_awake(void)
{
    struct real_world real;

    CHECK(real_world_init(&real, 0, 1));
    struct core *core = real.world.core[0];
    uring_core_turn(real.uc[0], 0);
    *real.uc[0]->ring.sq.kflags |= IORING_SQ_TASKRUN;
    uint64_t start_ns = core_now_ns(core), calls = core->counters.syscalls;
    uring_core_turn(real.uc[0], 30 * NS_PER_MS);
    CHECK(core_now_ns(core) - start_ns >= 29 * NS_PER_MS);
    CHECK(core->counters.syscalls - calls <= 4);
    real_world_fini(&real);
}

/* How a program with a loop of its own drives a core. */
static void the_descriptor_and_the_deadline_tell_when_to_turn(void)
{
    struct real_world real;
    struct alarm alarm = {.period_ns = 20 * NS_PER_MS};

    CHECK(real_world_init(&real, 0, 1));
    struct core *core = real.world.core[0];
    op_start(&alarm.op, core, &alarm_kind, NULL);
    CHECK(uring_core_deadline_ns(real.uc[0]) == 0);
    uring_core_turn(real.uc[0], 0);
    uint64_t deadline_ns = uring_core_deadline_ns(real.uc[0]);
    CHECK(deadline_ns > core_now_ns(core) && deadline_ns <= core_now_ns(core) + 20 * NS_PER_MS);
    struct pollfd pfd = {.fd = uring_core_fd(real.uc[0]), .events = POLLIN};
    CHECK_EQ(poll(&pfd, 1, 0), 0);
    while (!alarm.done)
        uring_core_turn(real.uc[0], uring_core_deadline_ns(real.uc[0]) - core_now_ns(core));
    CHECK(!alarm.early);
    real_world_fini(&real);
}

struct arrival {
    int signal;
    int count;
    struct uring_core *stop;
};

static void on_signal(void *owner, int signal)
{
    struct arrival *a = owner;
    a->signal = signal;
    a->count++;
    if (a->stop)
        uring_core_stop(a->stop);
}

static void signals_arrive_in_the_loop(void)
{
    static const int set[] = {SIGUSR1, SIGTERM};
    struct real_world real;
    struct arrival a = {0};

    CHECK(real_world_init(&real, 0, 1));
    CHECK_EQ(uring_core_signals(real.uc[0], set, 2, on_signal, &a), 0);
    uring_core_turn(real.uc[0], 0);
    struct pollfd pfd = {.fd = uring_core_fd(real.uc[0]), .events = POLLIN};
    kill(getpid(), SIGUSR1);
    CHECK_EQ(poll(&pfd, 1, 1000), 1);
    CHECK_EQ(a.count, 0);
    uring_core_turn(real.uc[0], NS_PER_S);
    CHECK_EQ(a.count, 1);
    CHECK_EQ(a.signal, SIGUSR1);
    kill(getpid(), SIGTERM);
    a.stop = real.uc[0];
    uring_core_run(real.uc[0]);
    CHECK_EQ(a.count, 2);
    CHECK_EQ(a.signal, SIGTERM);
    real_world_fini(&real);
}

struct busy {
    struct op op;
    uint32_t steps, others; /* of the other one, at this one's second step */
    struct busy *other;
    bool again;
};

static void busy_step(struct op *op)
{
    struct busy *b = container_of(op, struct busy, op);

    if (b->steps++ == 1)
        b->others = b->other->steps;
    if (b->again)
        op_wake(op);
}

static const struct op_kind busy_kind = {"test.busy", NULL, busy_step};

/* A core that never comes to rest steps what is in the background all the same, but seldom. */
static void the_background_waits_but_not_for_ever(void)
{
    struct real_world real;
    struct busy front = {0}, back = {.other = &front};

    front.other = &back;
    CHECK(real_world_init(&real, 0, 1));
    struct core *core = real.world.core[0];
    op_start(&back.op, core, &busy_kind, NULL);
    back.op.background = true;
    op_start(&front.op, core, &busy_kind, NULL);
    uring_core_turn(real.uc[0], 0);
    CHECK_EQ(back.steps, 1);
    front.again = true;
    op_wake(&back.op);
    CHECK_EQ(uring_core_deadline_ns(real.uc[0]), 0);
    op_wake(&front.op);
    for (int i = 0; i < 100000 && back.steps == 1; i++)
        uring_core_turn(real.uc[0], NS_PER_S);
    CHECK_EQ(back.steps, 2);
    CHECK(back.others > 1000);
    front.again = false;
    uring_core_turn(real.uc[0], 0);
    op_wake(&back.op);
    uring_core_turn(real.uc[0], NS_PER_S); /* nothing else is to do */
    CHECK_EQ(back.steps, 3);
    op_done(&front.op, 0);
    op_done(&back.op, 0);
    real_world_fini(&real);
}

/* Turns once, for `wait_ns` at most; `woken`: by a signal, so that it is left at once. */
static uint64_t turn_takes_ns(struct uring_core *uc, uint64_t wait_ns, bool woken)
{
    uint64_t start_ns = core_now_ns(uring_core_core(uc));

    if (woken)
        kill(getpid(), SIGUSR1);
    uring_core_turn(uc, wait_ns);
    return core_now_ns(uring_core_core(uc)) - start_ns;
}

static void *far_turn_thread(void *uc)
{
    CHECK(turn_takes_ns(uc, 3 * NS_PER_S, true) < NS_PER_S);
    return NULL;
}

/* A wait that ended early leaves its alarm set. */
static void a_nearer_deadline_is_kept(void)
{
    static const int set[] = {SIGUSR1};
    struct uring_core_opts opts = {.log_level = LOG_ERROR};

    for (int threads = 0; threads < 2; threads++) {
        struct arrival a = {0};
        struct uring_core *uc;
        pthread_t thread;
        opts.any_thread = threads;
        CHECK_EQ(uring_core_new(&opts, &uc), 0);
        CHECK_EQ(uring_core_signals(uc, set, 1, on_signal, &a), 0);
        if (threads) { /* of a thread that is no more */
            CHECK_EQ(pthread_create(&thread, NULL, far_turn_thread, uc), 0);
            pthread_join(thread, NULL);
        } else {
            far_turn_thread(uc);
        }
        uint64_t ns = turn_takes_ns(uc, 20 * NS_PER_MS, false);
        CHECK(ns < NS_PER_S);
        CHECK(ns >= 19 * NS_PER_MS);
        CHECK_EQ(a.count, 1);
        uring_core_free(uc);
    }
}

/* From now on the process's children have their clock a day ahead. False: not allowed here. */
static bool clock_moved(void)
{
    static const char offset[] = "boottime 86400 0\n";

    if (unshare(CLONE_NEWTIME) && unshare(CLONE_NEWUSER | CLONE_NEWTIME))
        return false;
    int fd = open("/proc/self/timens_offsets", O_WRONLY);
    bool moved = fd >= 0 && write(fd, offset, sizeof(offset) - 1) == (ssize_t)sizeof(offset) - 1;
    close(fd);
    return moved;
}

static void sleep_for_20_ms(void)
{
    struct uring_core_opts opts = {.log_level = LOG_ERROR};
    struct uring_core *uc;

    alarm(10);
    CHECK_EQ(uring_core_new(&opts, &uc), 0);
    uint64_t ns = turn_takes_ns(uc, 20 * NS_PER_MS, false);
    CHECK(ns >= 19 * NS_PER_MS && ns < NS_PER_S);
    uring_core_free(uc);
}

static void run_in_child(void (*run)(void))
{
    int status = -1;

    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        run();
        fflush(stdout);
        _exit(!tap_ok);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
}

static void sleep_with_a_moved_clock(void)
{
    if (clock_moved())
        run_in_child(sleep_for_20_ms);
    else
        printf("# no time namespaces here\n");
}

/* In a container that was moved from another machine, say. */
static void a_moved_clock_disturbs_no_sleep(void)
{
    run_in_child(sleep_with_a_moved_clock);
}

static void *run_thread(void *uc)
{
    uring_core_run(uc);
    return NULL;
}

/* Made here, run there, stopped from here; also when the stop comes first. */
static void cores_stop_from_another_thread(void)
{
    for (int round = 0; round < 20; round++) {
        struct uring_core_opts opts = {
            .arena_bytes = BUF_SIZE_MAX, .log_level = LOG_ERROR, .spin_us = round & 1 ? 20 : 0};
        struct uring_core *uc;
        pthread_t thread;

        CHECK_EQ(uring_core_new(&opts, &uc), 0);
        if (round & 2)
            uring_core_stop(uc);
        CHECK_EQ(pthread_create(&thread, NULL, run_thread, uc), 0);
        if (!(round & 2)) {
            usleep(round * 100);
            uring_core_stop(uc);
        }
        pthread_join(thread, NULL);
        /* Nothing is left in the ring of the thread that has ended but the request of the next stop. */
        uring_core_free(uc);
    }
}

static void *turn_thread(void *uc)
{
    for (int i = 0; i < 10; i++)
        uring_core_turn(uc, NS_PER_MS);
    return NULL;
}

static void any_thread_may_turn_if_asked_for(void)
{
    static const int set[] = {SIGUSR2};
    struct uring_core_opts opts = {.log_level = LOG_ERROR, .any_thread = true};
    struct arrival a = {0};
    struct uring_core *uc;
    pthread_t thread;

    CHECK_EQ(uring_core_new(&opts, &uc), 0);
    CHECK_EQ(uring_core_signals(uc, set, 1, on_signal, &a), 0);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&thread, NULL, turn_thread, uc), 0);
        pthread_join(thread, NULL);
        uring_core_turn(uc, NS_PER_MS);
        kill(getpid(), SIGUSR2);
        for (int turns = 0; turns < 20 && a.count == i; turns++)
            uring_core_turn(uc, 100 * NS_PER_MS);
        CHECK_EQ(a.count, i + 1);
    }
    uring_core_free(uc);
}

/* A spinning core gives up the processor, and sleeps in the end. */
static void spinning_ends(void)
{
    struct real_world real;

    CHECK(real_world_init(&real, 2000, 1));
    struct core *core = real.world.core[0];
    uring_core_turn(real.uc[0], 50 * NS_PER_MS);
    CHECK(core->counters.sleeps == 1);
    real_world_fini(&real);
}

/* 2026-11-22T13:00:00.123Z INFO osd.0 store: text */
static void log_lines_have_their_form(void)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ WARN osd.0 store: slot 7 is damaged\n";
    struct uring_core_opts opts = {.log_level = LOG_WARN, .log_prefix = "osd.0"};
    struct uring_core *uc;
    char line[4096] = "", text[3000];
    int ends[2], saved = dup(STDERR_FILENO);

    CHECK_EQ(uring_core_new(&opts, &uc), 0);
    CHECK_EQ(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    core_log(uring_core_core(uc), LOG_WARN, "store", "slot %d is damaged", 7);
    core_log(uring_core_core(uc), LOG_INFO, "store", "not shown");
    ssize_t len = read(ends[0], line, sizeof(line) - 1);
    CHECK_EQ(len, sizeof(form) - 1);
    for (size_t i = 0; i < sizeof(form) - 1; i++)
        CHECK(form[i] == 'd' && i < 24 ? line[i] >= '0' && line[i] <= '9' : line[i] == form[i]);
    /* A line that is too long is cut, and is a line still. */
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    core_log(uring_core_core(uc), LOG_ERROR, "store", "%s", text);
    len = read(ends[0], line, sizeof(line) - 1);
    CHECK(len > 500 && len < 2000 && line[len - 1] == '\n');
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[0]);
    close(ends[1]);
    uring_core_free(uc);
}

/* Whoever reads the log has stopped reading: nobody waits for it, and it learns how much it has missed. */
static void a_log_that_nobody_reads_holds_nobody_up(void)
{
    enum { LINES = 2000 };
    struct uring_core_opts opts = {.log_level = LOG_WARN, .log_prefix = "osd.0"};
    struct uring_core *uc;
    char bytes[1 << 16], line[256];
    int ends[2], saved = dup(STDERR_FILENO);
    uint32_t lines = 0;
    ssize_t len;

    CHECK_EQ(uring_core_new(&opts, &uc), 0);
    CHECK_EQ(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    alarm(20);
    for (uint32_t i = 0; i < LINES; i++)
        core_log(uring_core_core(uc), LOG_WARN, "store", "slot %u is damaged, and others are, too", i);
    alarm(0);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    while ((len = read(ends[0], bytes, sizeof(bytes))) > 0)
        for (ssize_t i = 0; i < len; i++)
            lines += bytes[i] == '\n';
    CHECK(lines > 100 && lines < LINES);
    core_log(uring_core_core(uc), LOG_WARN, "store", "all is well");
    len = read(ends[0], bytes, sizeof(bytes) - 1);
    snprintf(line, sizeof(line), " store: (%u lines lost) all is well\n", LINES - lines);
    CHECK(len > 0);
    bytes[MAX(len, 0)] = '\0';
    CHECK(strstr(bytes, line));
    core_log(uring_core_core(uc), LOG_WARN, "store", "still");
    len = read(ends[0], bytes, sizeof(bytes) - 1);
    CHECK(len > 0);
    bytes[MAX(len, 0)] = '\0';
    CHECK(strstr(bytes, " store: still\n"));
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[0]);
    close(ends[1]);
    uring_core_free(uc);
}

/* As Linux 5.19 and 6.0 would: a call that is not there. */
static bool forbid_sync_cancel(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_register, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IORING_REGISTER_SYNC_CANCEL, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {ARRAY_LEN(filter), filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void an_older_kernel_is_refused(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        int refused = 0;
        if (!forbid_sync_cancel())
            _exit(99);
        for (int any = 0; any < 2; any++) {
            struct uring_core_opts opts = {.log_level = LOG_WARN, .any_thread = any};
            struct uring_core *uc;
            int error = uring_core_new(&opts, &uc);
            refused += error == -ERR_UNSUPPORTED && strstr(uring_core_error_text(error), "Linux 6.1");
        }
        _exit(refused);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 2);
}

static bool huge_pages_are_others;

/* In front of the C library's: promises large pages though there are none that we may use. */
void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
    if (huge_pages_are_others && flags & MAP_HUGETLB)
        flags |= MAP_NORESERVE;
    return (void *)syscall(SYS_mmap, at, len, prot, flags, fd, offset);
}

/* Where others have set some aside for themselves, the kernel gives them to us, and ends us when we touch
 * them. */
static void large_pages_of_others_are_done_without(void)
{
    struct uring_core_opts opts = {.arena_bytes = 64u << 20, .log_level = LOG_ERROR};
    struct buf *bufs[32];
    struct uring_core *uc;

    huge_pages_are_others = true;
    CHECK_EQ(uring_core_new(&opts, &uc), 0);
    huge_pages_are_others = false;
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++) {
        bufs[i] = buf_new(uring_core_core(uc)->arena, BUF_SIZE_MAX);
        memset(bufs[i]->data, 0x5a, BUF_SIZE_MAX);
    }
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++)
        buf_unref(bufs[i]);
    uring_core_free(uc);
}

int main(void)
{
    struct real_world real;

    if (!real_world_init(&real, 0, 1)) {
        printf("Bail out! no io_uring\n");
        return 1;
    }
    core_suite(&real.world);
    real_world_fini(&real);
    TEST(an_idle_core_sleeps);
    TEST(a_flag_with_nothing_behind_it_keeps_nobody_awake);
    TEST(the_descriptor_and_the_deadline_tell_when_to_turn);
    TEST(a_nearer_deadline_is_kept);
    TEST(a_moved_clock_disturbs_no_sleep);
    TEST(the_background_waits_but_not_for_ever);
    TEST(cores_stop_from_another_thread);
    TEST(any_thread_may_turn_if_asked_for);
    TEST(signals_arrive_in_the_loop);
    TEST(spinning_ends);
    TEST(log_lines_have_their_form);
    TEST(a_log_that_nobody_reads_holds_nobody_up);
    TEST(an_older_kernel_is_refused);
    TEST(large_pages_of_others_are_done_without);
    return tap_done();
}
