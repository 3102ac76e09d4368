/* SPDX-License-Identifier: Apache-2.0
 *
 * floor: what a write with three replicas costs on this machine when there is no protocol at all.
 *
 *     client --request--> leader --append--> follower A, follower B
 *            <--reply----        <--ack-----
 *
 * Four single-threaded processes with an io_uring each, TCP over loopback, and nothing else: no elections, no
 * retries, no recovery, no object, no destage. What is left no replicated store can avoid: to move the bytes,
 * checksum them at each stop, wake the processes and write the logs. bench/compare takes fastblock's figures
 * as multiples of these.
 *
 * Everything is a cursor over message numbers. A payload lands once in a slot (its number modulo the ring's
 * size) and is logged and forwarded from there; cursors say how far the receive, log, send and ack streams
 * have come. Batching falls out of that: what lies between two cursors when a stream is idle is its next
 * batch.
 *
 *   floor [--qd N] [--time S] [--size BYTES] [--read] [--dir DIR] [--log inline|uring] [--dsync] [--spin US]
 *
 * --log inline writes the log by a plain call, which is what memory files want; --dsync makes each log write
 * durable on a device with a volatile cache; --spin polls (and yields) that long before sleep. One line of
 * JSON; its arrays are client, leader, A, B.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nmmintrin.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HLEN           64
#define BLOCK          4096
#define MAGIC          0x464c4f52u
#define MAX_IOV        512
#define MAX_SAMPLES    (8u << 20)
#define MAX_LOG_BATCH  (BLOCK / HLEN - 1)
#define LOG_BYTES      (256ul << 20)
#define LOG_DEPTH_MAX  4
#define SEND_BATCH_MAX 128
#define DIE(what)      die(what, errno)

enum role { CLIENT, LEADER, FOLLOWER_A, FOLLOWER_B, NROLES };
enum op { OP_RX, OP_TX, OP_LOG, OP_READ };
enum phase { WARM, MEASURE, STOP };

struct header {
    uint32_t magic, crc;
    uint64_t seq;
    uint8_t pad[HLEN - 16];
};

struct shared {
    volatile int phase;
};

/* Ring of message slots: headers and payloads under the same index. */
struct slots {
    uint32_t n, plen;
    char *hdr, *data;
};

/* Operations that may complete out of order, each moving a cursor to end. */
struct fifo {
    uint64_t end[256];
    bool done[256];
    uint32_t head, tail;
};

/* Received bytes that are not in slots yet. */
struct chunk {
    char *p;
    uint32_t len;
};

struct conn {
    int fd, id;
    /* receive: messages of HLEN + rs->plen bytes into slots rs */
    struct slots *rs;
    uint64_t rx_msg;        /* messages complete */
    size_t rx_off, buf_cap; /* bytes of the next one */
    bool rx_busy, rx_drained;
    char *buf;
    struct chunk pend;
    /* send: messages of HLEN + ts->plen bytes from slots ts */
    struct slots *ts;
    uint32_t *tx_map;          /* message -> payload slot, or NULL */
    uint64_t tx_avail, tx_msg; /* queued, sent: their slots are free again */
    size_t tx_off;
    bool tx_busy;
    struct msghdr tx_mh;
    struct iovec tx_iov[MAX_IOV];
};

static struct {
    long qd, spin, size, slots, time;
    bool dsync, read;
    const char *log, *dir;
} o = {.qd = 1, .size = BLOCK, .time = 5, .log = "inline", .dir = "/dev/shm"};

static struct shared *sh;
static enum role role;
static pid_t pids[NROLES];
static struct io_uring ring;
static struct conn conns[3];
static bool stop;

static int log_fd; /* leader, followers */
static size_t log_off, log_size;
static uint64_t log_next, log_done, replied;
static struct fifo logq;
static char *log_hdr;
static struct iovec log_iov[64][4];

static uint64_t acked[2];                     /* leader: writes */
static uint64_t read_started, read_seq[1024]; /* leader: reads */
static uint32_t free_bufs[1024], nfree;

static uint64_t issued, completed, t_start[1024]; /* client */
static uint32_t *lat, nlat;

static void die(const char *what, int err)
{
    fprintf(stderr, "floor[%d]: %s: %s\n", role, what, strerror(err));
    exit(1);
}

static uint64_t ns(clockid_t clock)
{
    struct timespec ts;

    if (clock_gettime(clock, &ts))
        DIE("clock_gettime");
    return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void *alloc(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (p == MAP_FAILED)
        DIE("mmap");
    return p;
}

static uint32_t crc32c(const char *p, size_t n)
{
    uint64_t c = ~0u;

    for (; n >= 8; p += 8, n -= 8)
        c = _mm_crc32_u64(c, *(const uint64_t *)p);
    return ~(uint32_t)c;
}

static struct slots *slots_new(size_t plen)
{
    struct slots *s = alloc(sizeof(*s));

    s->n = plen ? o.slots : 1024;
    s->plen = plen;
    s->hdr = alloc((size_t)s->n * HLEN);
    s->data = plen ? alloc(s->n * plen) : NULL;
    return s;
}

static struct header *slot_hdr(struct slots *s, uint64_t i)
{
    return (struct header *)(s->hdr + (i & (s->n - 1)) * HLEN);
}

static char *slot_data(struct slots *s, uint64_t i)
{
    return s->data + (i & (s->n - 1)) * s->plen;
}

static uint32_t fifo_push(struct fifo *f, uint64_t end)
{
    uint32_t i = f->tail++ & 255;

    f->end[i] = end;
    f->done[i] = false;
    return i;
}

/* Mark entry i complete; move *cursor over the completed prefix. */
static void fifo_complete(struct fifo *f, uint32_t i, uint64_t *cursor)
{
    f->done[i] = true;
    while (f->head != f->tail && f->done[f->head & 255])
        *cursor = f->end[f->head++ & 255];
}

static struct io_uring_sqe *get_sqe(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

    if (!sqe)
        die("submission queue full", EBUSY);
    return sqe;
}

static void tag(struct io_uring_sqe *sqe, enum op op, uint32_t id, uint32_t arg)
{
    sqe->user_data = (uint64_t)op << 56 | (uint64_t)id << 48 | arg;
}

static void add_iov(struct iovec *v, int *n, void *p, size_t len)
{
    if (*n && (char *)v[*n - 1].iov_base + v[*n - 1].iov_len == p)
        v[*n - 1].iov_len += len;
    else
        v[(*n)++] = (struct iovec){p, len};
}

/* Messages [from, to) of s, less the first off bytes, as an I/O vector. */
static int messages_iov(struct iovec *v, struct slots *s, const uint32_t *map, uint64_t from, uint64_t to,
                        size_t off)
{
    int n = 0;

    for (uint64_t m = from; m < to && n < MAX_IOV - 2; m++, off = 0) {
        size_t skip = off > HLEN ? off - HLEN : 0;

        if (off < HLEN)
            add_iov(v, &n, (char *)slot_hdr(s, m) + off, HLEN - off);
        if (s->plen)
            add_iov(v, &n, slot_data(s, map ? map[m & (s->n - 1)] : m) + skip, s->plen - skip);
    }
    return n;
}

/* ---- sending: everything between tx_msg and tx_avail at once ---- */

static void tx_kick(struct conn *c)
{
    struct io_uring_sqe *sqe;
    uint64_t end = min_u64(c->tx_avail, c->tx_msg + SEND_BATCH_MAX);
    int n, flags = MSG_WAITALL | MSG_NOSIGNAL;

    if (c->tx_busy || c->tx_msg == end)
        return;
    n = messages_iov(c->tx_iov, c->ts, c->tx_map, c->tx_msg, end, c->tx_off);
    c->tx_mh = (struct msghdr){.msg_iov = c->tx_iov, .msg_iovlen = n};
    sqe = get_sqe();
    if (n == 1)
        io_uring_prep_send(sqe, c->fd, c->tx_iov->iov_base, c->tx_iov->iov_len, flags);
    else
        io_uring_prep_sendmsg(sqe, c->fd, &c->tx_mh, flags);
    tag(sqe, OP_TX, c->id, 0);
    c->tx_busy = true;
}

static void tx_done(struct conn *c, int res)
{
    size_t msg = HLEN + c->ts->plen;

    if (res < 0)
        die("send", -res);
    c->tx_off += res;
    c->tx_msg += c->tx_off / msg;
    c->tx_off %= msg;
    c->tx_busy = false;
}

/* ---- the log: a header block, then the payloads between two cursors ---- */

static void log_kick(struct slots *s, uint64_t avail)
{
    while (log_next < avail && logq.tail - logq.head < LOG_DEPTH_MAX) {
        uint64_t n = min_u64(avail - log_next, MAX_LOG_BATCH);
        size_t len = BLOCK + n * s->plen;
        uint32_t i = fifo_push(&logq, log_next + n);
        struct iovec *v = log_iov[i & 63];
        char *hb = log_hdr + (i & 63) * BLOCK;
        int nv = 0, flags = o.dsync ? RWF_DSYNC : 0;
        struct io_uring_sqe *sqe;

        memcpy(hb, &n, sizeof(n));
        add_iov(v, &nv, hb, BLOCK);
        for (uint64_t m = log_next; m < log_next + n; m++) {
            memcpy(hb += HLEN, slot_hdr(s, m), HLEN);
            add_iov(v, &nv, slot_data(s, m), s->plen);
        }
        if (log_off + len > log_size)
            log_off = 0;
        log_next += n;
        if (*o.log == 'i') {
            /* Let the followers start before this process blocks. */
            if (io_uring_sq_ready(&ring)) {
                io_uring_submit(&ring);
            }
            if (pwritev2(log_fd, v, nv, log_off, flags) != (ssize_t)len)
                DIE("log pwritev2");
            fifo_complete(&logq, i, &log_done);
        } else {
            sqe = get_sqe();
            io_uring_prep_writev2(sqe, log_fd, v, nv, log_off, flags);
            tag(sqe, OP_LOG, 0, i);
        }
        log_off += len;
    }
}

/* ---- roles ---- */

static void client_issue(void)
{
    struct conn *c = &conns[0];
    struct header *h = slot_hdr(c->ts, issued);

    h->magic = MAGIC;
    h->seq = issued;
    if (c->ts->plen)
        h->crc = crc32c(slot_data(c->ts, issued), c->ts->plen);
    t_start[issued % 1024] = ns(CLOCK_MONOTONIC);
    c->tx_avail = ++issued;
}

/* Message rx_msg of c is complete in its slot. */
static void on_message(struct conn *c)
{
    struct header *h = slot_hdr(c->rs, c->rx_msg);
    uint64_t *start = &t_start[h->seq % 1024], t;

    if (role == LEADER && c->id) {
        acked[c->id - 1] = h->seq;
        return;
    }
    /* Streams are in order; only replies to reads may overtake each other. */
    if (h->magic != MAGIC || (h->seq != c->rx_msg && !(role == CLIENT && o.read)))
        die("sequence broken", EPROTO);
    if (role == CLIENT) {
        if (!*start || h->seq >= issued)
            die("reply to no request", EPROTO);
        t = ns(CLOCK_MONOTONIC) - *start;
        if (sh->phase == MEASURE && nlat < MAX_SAMPLES)
            lat[nlat++] = t;
        *start = 0;
        completed++;
        client_issue();
    } else if (c->rs->plen && h->crc != crc32c(slot_data(c->rs, c->rx_msg), c->rs->plen)) {
        die("checksum mismatch", EBADMSG);
    }
}

static void read_reply(uint32_t buf)
{
    struct conn *c = &conns[0];

    *slot_hdr(c->ts, c->tx_avail) = (struct header){.magic = MAGIC, .seq = read_seq[buf]};
    c->tx_map[c->tx_avail++ & (c->ts->n - 1)] = buf;
}

static void leader_read(void)
{
    static uint64_t rnd = 88172645463325252ull;
    struct conn *c = &conns[0];
    struct io_uring_sqe *sqe;

    for (; replied < c->tx_msg; replied++) /* sent: buffers free again */
        free_bufs[nfree++] = c->tx_map[replied & (c->ts->n - 1)];
    for (; read_started < c->rx_msg && nfree; read_started++) {
        uint32_t b = free_bufs[--nfree];
        off_t at;

        rnd ^= rnd << 13, rnd ^= rnd >> 7, rnd ^= rnd << 17;
        at = rnd % (log_size / o.size) * o.size;
        read_seq[b] = slot_hdr(c->rs, read_started)->seq;
        if (*o.log == 'i') {
            if (pread(log_fd, slot_data(c->ts, b), o.size, at) != o.size)
                DIE("pread");
            read_reply(b);
        } else {
            sqe = get_sqe();
            io_uring_prep_read(sqe, log_fd, slot_data(c->ts, b), o.size, at);
            tag(sqe, OP_READ, 0, b);
        }
    }
}

/* Start whatever the cursors allow. */
static void progress(void)
{
    struct conn *c = &conns[0];
    uint64_t commit;

    if (role == LEADER && o.read) {
        leader_read();
    } else if (role == LEADER) {
        for (int f = 1; f <= 2; f++) {
            conns[f].tx_avail = c->rx_msg;
            tx_kick(&conns[f]);
        }
        log_kick(c->rs, c->rx_msg);
        commit = min_u64(log_done, acked[0] > acked[1] ? acked[0] : acked[1]);
        for (; replied < commit; replied++)
            *slot_hdr(c->ts, replied) = (struct header){.magic = MAGIC, .seq = replied};
        c->tx_avail = replied;
    } else if (role != CLIENT) {
        log_kick(c->rs, c->rx_msg);
        if (log_done > replied) { /* one cumulative ack per batch */
            replied = log_done;
            *slot_hdr(c->ts, c->tx_avail++) = (struct header){.magic = MAGIC, .seq = replied};
        }
    }
    tx_kick(c);
}

/* ---- receiving ---- */

/* First message number that has no free slot yet. */
static uint64_t rx_limit(const struct conn *c)
{
    uint64_t low = log_done;

    if (role == CLIENT || c->id || o.read)
        return UINT64_MAX;
    for (int f = 1; role == LEADER && f <= 2; f++)
        low = min_u64(low, conns[f].tx_msg);
    return low + c->rs->n;
}

static void rx_advance(struct conn *c, size_t n)
{
    size_t msg = HLEN + c->rs->plen;

    for (c->rx_off += n; c->rx_off >= msg; c->rx_off -= msg) {
        on_message(c);
        c->rx_msg++;
    }
}

/* Copies what came to slots, as far as there are free ones. */
static void rx_consume(struct conn *c)
{
    struct chunk *k = &c->pend;
    uint64_t limit = rx_limit(c);

    while (k->len && c->rx_msg < limit) {
        bool in_hdr = c->rx_off < HLEN;
        size_t n = HLEN + (in_hdr ? 0 : c->rs->plen) - c->rx_off;
        char *to = in_hdr ? (char *)slot_hdr(c->rs, c->rx_msg) + c->rx_off
                          : slot_data(c->rs, c->rx_msg) + c->rx_off - HLEN;

        if (n > k->len)
            n = k->len;
        memcpy(to, k->p, n);
        k->p += n;
        k->len -= n;
        rx_advance(c, n);
    }
}

static void rx_arm(struct conn *c)
{
    struct io_uring_sqe *sqe;

    if (c->rx_busy || c->pend.len || c->rx_msg >= rx_limit(c))
        return;
    sqe = get_sqe();
    io_uring_prep_recv(sqe, c->fd, c->buf, c->buf_cap, 0);
    if (c->rx_drained) /* no use trying: wait for data */
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    tag(sqe, OP_RX, c->id, 0);
    c->rx_busy = true;
}

static void rx_done(struct conn *c, int res, uint32_t flags)
{
    c->rx_busy = false;
    c->rx_drained = !(flags & IORING_CQE_F_SOCK_NONEMPTY);
    if (res <= 0)
        die("peer gone", -res);
    c->pend = (struct chunk){c->buf, (uint32_t)res};
    rx_consume(c);
}

/* ---- measuring: the client reads everybody's clocks and counters ---- */

static struct snapshot {
    uint64_t t, done, cpu[NROLES];
} snap[2];

static void snapshot(struct snapshot *s)
{
    clockid_t id;

    for (int r = 0; r < NROLES; r++) {
        /* Counts every thread of the process, io-wq workers too. */
        if (clock_getcpuclockid(pids[r], &id))
            die("process clock", ESRCH);
        s->cpu[r] = ns(id);
    }
    s->t = ns(CLOCK_MONOTONIC);
    s->done = completed;
}

static int cmp_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void report(void)
{
    struct snapshot *a = &snap[0], *b = &snap[1];
    double n = b->done - a->done, secs = (b->t - a->t) / 1e9, sum = 0, total = 0;

    if (!nlat)
        die("nothing measured", ENODATA);
    qsort(lat, nlat, sizeof(*lat), cmp_u32);
    for (uint32_t i = 0; i < nlat; i++)
        sum += lat[i];
    printf("{\"iops\":%.0f,\"mb_s\":%.1f,\"mean\":%.1f,\"p50\":%.1f,\"p99\":%.1f,"
           "\"p999\":%.1f,\"cpu_us\":[",
           n / secs, n / secs * o.size / 1e6, sum / nlat / 1e3, lat[nlat / 2] / 1e3,
           lat[nlat * 99ull / 100] / 1e3, lat[nlat * 999ull / 1000] / 1e3);
    for (int r = 0; r < NROLES; r++) {
        total += (b->cpu[r] - a->cpu[r]) / n / 1e3;
        printf("%s%.2f", r ? "," : "", (b->cpu[r] - a->cpu[r]) / n / 1e3);
    }
    printf("],\"cpu_total\":%.2f}\n", total);
}

/* One second of warm-up, then the measured time. */
static void client_tick(void)
{
    static uint64_t since;
    uint64_t t = ns(CLOCK_MONOTONIC);

    if (!since)
        since = t;
    if (sh->phase == WARM && t - since > 1000000000ull) {
        snapshot(&snap[0]);
        since = t;
        sh->phase = MEASURE;
    } else if (sh->phase == MEASURE && t - since > o.time * 1000000000ull) {
        snapshot(&snap[1]);
        sh->phase = STOP;
        stop = true;
    }
}

/* ---- the loop ---- */

static void complete(const struct io_uring_cqe *cqe)
{
    struct conn *c = &conns[cqe->user_data >> 48 & 255];
    uint32_t arg = (uint32_t)cqe->user_data;

    switch (cqe->user_data >> 56) {
    case OP_RX:
        rx_done(c, cqe->res, cqe->flags);
        break;
    case OP_TX:
        tx_done(c, cqe->res);
        break;
    case OP_LOG:
        if (cqe->res <= 0)
            die("log write", -cqe->res);
        fifo_complete(&logq, arg, &log_done);
        break;
    case OP_READ:
        if (cqe->res != o.size)
            die("read", -cqe->res);
        read_reply(arg);
        break;
    }
}

/* Submit, then sleep or spin until there is a completion. */
static void turn(void)
{
    uint64_t t0 = o.spin ? ns(CLOCK_MONOTONIC) : 0;

    if (!o.spin) {
        io_uring_submit_and_wait(&ring, 1);
        return;
    }
    if (io_uring_sq_ready(&ring)) {
        io_uring_submit_and_get_events(&ring);
    }
    while (!io_uring_cq_ready(&ring) && sh->phase != STOP) {
        if (*ring.sq.kflags & IORING_SQ_TASKRUN) {
            io_uring_get_events(&ring);
        } else if (ns(CLOCK_MONOTONIC) - t0 > o.spin * 1000ull) {
            io_uring_submit_and_wait(&ring, 1);
        } else {
            sched_yield(); /* others may need this CPU */
        }
    }
}

static void loop(int nconns)
{
    struct io_uring_cqe *cqe;
    unsigned head, n;

    while (sh->phase != STOP) {
        n = 0;
        io_uring_for_each_cqe(&ring, head, cqe)
        {
            complete(cqe);
            n++;
        }
        io_uring_cq_advance(&ring, n);
        progress();
        for (int i = 0; i < nconns; i++) {
            if (conns[i].pend.len) {
                rx_consume(&conns[i]); /* slots may have come free */
                progress();
            }
            rx_arm(&conns[i]);
        }
        if (role == CLIENT)
            client_tick();
        if (!stop)
            turn();
    }
}

/* ---- processes ---- */

static void ring_open(void)
{
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_TASKRUN_FLAG};
    int rc = io_uring_queue_init_params(512, &ring, &p);

    if (rc)
        die("io_uring_queue_init", -rc);
    io_uring_register_ring_fd(&ring);
}

static void log_open(void)
{
    size_t step = 1 << 20;
    char path[512], *buf = alloc(step);

    snprintf(path, sizeof(path), "%s/floor-%d", o.dir, getpid());
    log_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT, 0600);
    if (log_fd < 0)
        DIE(path);
    unlink(path);
    log_size = LOG_BYTES;
    /* Write it out once: no extent conversions later, no holes to read. */
    memset(buf, 0xa5, step);
    for (size_t at = 0; at < log_size; at += step)
        if (pwrite(log_fd, buf, step, at) != (ssize_t)step)
            DIE("log fill");
    fsync(log_fd);
    log_hdr = alloc(64 * BLOCK);
}

static void conn_init(int i, int fd, struct slots *rs, struct slots *ts)
{
    size_t cap = o.size > 128 * 1024 ? 2 * o.size : 256 * 1024;

    conns[i] = (struct conn){
        .fd = fd, .id = i, .rs = rs, .ts = ts, .rx_drained = true, .buf = alloc(cap), .buf_cap = cap};
}

static void run_role(int fds[3][2], int ready[2])
{
    struct slots *payloads = slots_new(o.size), *headers = slots_new(0);
    struct slots *down = o.read ? headers : payloads, *up = o.read ? payloads : headers;
    char byte = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* Where the scheduler shares cores out by session, the daemons of a store have one each. */
    if (role != CLIENT && setsid() < 0)
        DIE("setsid");
    ring_open();
    if (role == CLIENT) {
        for (int i = 0; i < 3; i++)
            if (read(ready[0], &byte, 1) != 1)
                DIE("ready");
        conn_init(0, fds[0][0], up, down);
        lat = alloc((size_t)MAX_SAMPLES * sizeof(*lat));
        for (size_t i = 0; i < (size_t)payloads->n * o.size; i++)
            payloads->data[i] = rand();
        for (int i = 0; i < o.qd; i++)
            client_issue();
        loop(1);
        report();
        exit(0);
    }
    log_open();
    if (role == LEADER) {
        conn_init(0, fds[0][1], down, up);
        conn_init(1, fds[1][0], slots_new(0), payloads);
        conn_init(2, fds[2][0], slots_new(0), payloads);
        conns[0].tx_map = o.read ? alloc(1024 * sizeof(uint32_t)) : NULL;
        for (nfree = 0; nfree < payloads->n; nfree++)
            free_bufs[nfree] = nfree;
    } else {
        conn_init(0, fds[role - LEADER][1], payloads, headers);
    }
    if (write(ready[1], &byte, 1) != 1)
        DIE("ready");
    loop(role == LEADER ? 3 : 1);
    exit(0);
}

static void tcp_pair(int fd[2])
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0);

    fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(l, (void *)&sa, len) || listen(l, 1) || getsockname(l, (void *)&sa, &len) ||
        connect(fd[0], (void *)&sa, len) || (fd[1] = accept(l, NULL, NULL)) < 0)
        DIE("tcp_pair");
    close(l);
    for (int i = 0; i < 2; i++)
        setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void parse(int argc, char **argv)
{
    const struct {
        const char *name;
        long *num;
        bool *flag;
        const char **word;
    } opts[] = {
        {"qd", .num = &o.qd},     {"spin", .num = &o.spin},    {"time", .num = &o.time},
        {"size", .num = &o.size}, {"dsync", .flag = &o.dsync}, {"read", .flag = &o.read},
        {"log", .word = &o.log},  {"dir", .word = &o.dir},
    };
    const unsigned n = sizeof(opts) / sizeof(*opts);

    for (int i = 1; i < argc; i++) {
        unsigned k = 0;

        while (k < n && (strncmp(argv[i], "--", 2) || strcmp(argv[i] + 2, opts[k].name)))
            k++;
        if (k == n || (!opts[k].flag && i + 1 == argc))
            die(argv[i], EINVAL);
        if (opts[k].flag)
            *opts[k].flag = true;
        else if (opts[k].num)
            *opts[k].num = atol(argv[++i]);
        else
            *opts[k].word = argv[++i];
    }
    o.slots = o.size > 65536 ? 64 : 1024;
    if (o.size < BLOCK || o.size % BLOCK || o.size > 1 << 20 || o.qd < 1 || o.qd > o.slots / 2 || o.time < 1)
        die("option out of range", EINVAL);
}

int main(int argc, char **argv)
{
    static const enum role order[] = {FOLLOWER_A, FOLLOWER_B, LEADER, CLIENT};
    int fds[3][2], ready[2], status;

    parse(argc, argv);
    sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED || pipe(ready))
        DIE("shared memory");
    for (int i = 0; i < 3; i++)
        tcp_pair(fds[i]);
    for (int i = 0; i < NROLES; i++) {
        role = order[i];
        pids[role] = fork();
        if (!pids[role]) {
            pids[role] = getpid();
            run_role(fds, ready);
        }
    }
    waitpid(pids[CLIENT], &status, 0);
    for (int r = LEADER; r < NROLES; r++) /* sleepers do not see the end */
        kill(pids[r], SIGKILL);
    while (wait(NULL) > 0)
        ;
    return !WIFEXITED(status) || WEXITSTATUS(status);
}
