/* SPDX-License-Identifier: Apache-2.0
 *
 * Connected sockets: the queue of what is to be sent, the buffer of what has come, and an orderly end.
 */
#include "backend/sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

static void sock_connect_done(struct uring_req *req, int res, uint32_t cqe_flags);
static void sock_tx_done(struct uring_req *req, int res, uint32_t cqe_flags);
static void sock_rx_done(struct uring_req *req, int res, uint32_t cqe_flags);
static void sock_tx_run(struct uring_task *task);

int sock_tcp_new(int family)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
}

void sock_tcp_tune(int fd, int user_timeout_ms)
{
    const int on = 1, idle_s = 5, interval_s = 2, probes = 3;

    /* Each is a refinement: the connection works without. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
}

/* Nothing has happened: try again. A request is cancelled by the kernel when the thread that made it ends. */
static bool sock_again(int res)
{
    return res == -EAGAIN || res == -EINTR || res == -ECANCELED;
}

/* As the ports report it: refused, timed out, or gone. */
static int sock_error(int res)
{
    int result = error_from_errno(-res);

    if (result == -ERR_UNREACHABLE || result == -ERR_TIMEOUT || result == -ERR_NO_MEMORY)
        return result;
    return -ERR_CLOSED;
}

int sock_init(struct sock *sock, struct uring_core *uc, const struct sock_ops *ops, int fd, uint32_t rx_size,
              uint64_t tx_bytes_max)
{
    *sock = (struct sock){.uc = uc,
                          .ops = ops,
                          .fd = fd,
                          .rx_size = rx_size,
                          .rx_least = rx_size,
                          .rx_window = rx_size,
                          .tx_bytes_max = tx_bytes_max};
    list_init(&sock->tx_task.link);
    sock->tx_task.run = sock_tx_run;
    sock->tx_req.done = sock_tx_done;
    sock->rx_req.done = sock_rx_done;
    sock->rx_more = true;
    sock->rx = malloc(sock->rx_size);
    sock->ring = malloc(SOCK_RING_SIZE);
    sock->segs = malloc(SOCK_SEGS_MAX * sizeof(struct sock_seg));
    sock->tx_iov = malloc(SOCK_IOV_MAX * sizeof(struct iovec));
    if (sock->rx && sock->ring && sock->segs && sock->tx_iov)
        return 0;
    free(sock->rx);
    free(sock->ring);
    free(sock->segs);
    free(sock->tx_iov);
    return -ERR_NO_MEMORY;
}

/* Sending. */

static struct sock_seg *sock_seg_at(struct sock *sock, uint32_t index)
{
    return &sock->segs[(sock->seg_first + index) & (SOCK_SEGS_MAX - 1)];
}

static struct sock_seg *sock_seg_push(struct sock *sock, const uint8_t *data, uint32_t len)
{
    struct sock_seg *seg = sock_seg_at(sock, sock->seg_count++);
    *seg = (struct sock_seg){.data = data, .len = len};
    return seg;
}

/* Copies bytes into the ring: as the end of the last piece where they follow it in memory. */
static void sock_ring_push(struct sock *sock, const uint8_t *bytes, uint32_t len)
{
    while (len) {
        uint8_t *to = sock->ring + sock->ring_at;
        uint32_t part = MIN(len, SOCK_RING_SIZE - sock->ring_at);
        struct sock_seg *last = sock->seg_count ? sock_seg_at(sock, sock->seg_count - 1) : NULL;
        memcpy(to, bytes, part);
        if (last && !last->buf && !last->heap && last->data + last->len == to)
            last->len += part;
        else
            sock_seg_push(sock, to, part);
        sock->ring_at = (sock->ring_at + part) & (SOCK_RING_SIZE - 1);
        sock->ring_used += part;
        bytes += part;
        len -= part;
    }
}

static bool sock_head_push(struct sock *sock, const void *head, uint32_t len)
{
    if (len <= SOCK_RING_SIZE - sock->ring_used) {
        sock_ring_push(sock, head, len);
        return true;
    }
    void *copy = malloc(len);
    if (!copy)
        return false;
    sock->uc->core.counters.allocs++;
    memcpy(copy, head, len);
    sock_seg_push(sock, copy, len)->heap = copy;
    return true;
}

/* What is queued leaves at the end of this turn. */
static void sock_flush(struct sock *sock)
{
    if (sock->tx_patient)
        list_remove(&sock->tx_task.link);
    sock->tx_patient = false;
    uring_task_queue(&sock->uc->flushes, &sock->tx_task);
}

/* It leaves with what is queued next. Others are only waited for where there were some a moment
 * ago: connections at rest are not woken once more for it. */
static void sock_flush_later(struct sock *sock)
{
    struct uring_core *uc = sock->uc;
    uint64_t now_ns = core_recent_ns(&uc->core);

    if (list_linked(&sock->tx_task.link) || sock->tx_armed)
        return;
    if (now_ns - sock->urgent_ns >= FRAME_PATIENCE_NS) {
        sock_flush(sock);
        return;
    }
    if (list_empty(&uc->patient))
        uc->patient_ns = now_ns + FRAME_PATIENCE_NS;
    list_push_back(&uc->patient, &sock->tx_task.link);
    sock->tx_patient = true;
}

int sock_send(struct sock *sock, const void *head, size_t head_len, const struct slice *pieces,
              uint32_t count, bool patient)
{
    uint64_t len = head_len;

    if (sock->closed)
        return -ERR_CLOSED;
    for (uint32_t i = 0; i < count; i++)
        len += pieces[i].len;
    bool full = sock->tx_bytes && sock->tx_bytes + len > sock->tx_bytes_max;
    if (full || sock->seg_count + 2 + count > SOCK_SEGS_MAX ||
        (head_len && !sock_head_push(sock, head, (uint32_t)head_len))) {
        sock->tx_refused = true;
        return -ERR_BUSY;
    }
    for (uint32_t i = 0; i < count; i++)
        if (pieces[i].len) {
            sock_seg_push(sock, slice_data(&pieces[i]), pieces[i].len)->buf = buf_ref(pieces[i].buf);
            sock->tx_held_bytes += pieces[i].buf->size_bytes;
        }
    sock->tx_bytes += len;
    if (patient) {
        sock_flush_later(sock);
    } else {
        sock->urgent_ns = core_recent_ns(&sock->uc->core);
        sock_flush(sock);
    }
    return 0;
}

static void sock_seg_drop(struct sock *sock)
{
    struct sock_seg *seg = sock_seg_at(sock, 0);

    if (seg->buf)
        sock->tx_held_bytes -= seg->buf->size_bytes;
    buf_unref(seg->buf);
    free(seg->heap);
    sock->seg_first = (sock->seg_first + 1) & (SOCK_SEGS_MAX - 1);
    sock->seg_count--;
}

static void sock_tx_consume(struct sock *sock, uint64_t sent)
{
    ASSERT(sent <= sock->tx_bytes);
    sock->tx_bytes -= sent;
    while (sent) {
        struct sock_seg *seg = sock_seg_at(sock, 0);
        uint32_t part = (uint32_t)MIN(sent, seg->len);
        if (!seg->buf && !seg->heap)
            sock->ring_used -= part;
        sent -= part;
        seg->data += part;
        seg->len -= part;
        if (seg->len == 0)
            sock_seg_drop(sock);
    }
}

static void sock_tx_run(struct uring_task *task)
{
    struct sock *sock = container_of(task, struct sock, tx_task);
    uint32_t count = MIN(sock->seg_count, (uint32_t)SOCK_IOV_MAX);

    sock->tx_patient = false;
    if (!sock->open || sock->tx_armed || count == 0)
        return;
    for (uint32_t i = 0; i < count; i++) {
        const struct sock_seg *seg = sock_seg_at(sock, i);
        sock->tx_iov[i] = (struct iovec){(void *)(uintptr_t)seg->data, seg->len};
    }
    struct io_uring_sqe *sqe = uring_sqe(sock->uc);
    if (count == 1) {
        io_uring_prep_send(sqe, sock->fd, sock->tx_iov->iov_base, sock->tx_iov->iov_len, MSG_NOSIGNAL);
    } else {
        sock->tx_msg = (struct msghdr){.msg_iov = sock->tx_iov, .msg_iovlen = count};
        io_uring_prep_sendmsg(sqe, sock->fd, &sock->tx_msg, MSG_NOSIGNAL);
    }
    uring_sqe_own(sock->uc, sqe, &sock->tx_req);
    sock->tx_armed = true;
    sock->uc->urgent = sock->uc->sending = true;
    sock->uc->core.counters.net_send_calls++;
}

/* Ending. */

static void sock_try_free(struct sock *sock)
{
    if (!sock->closed || sock->lingering || sock->rx_armed || sock->tx_armed || sock->busy)
        return;
    while (sock->seg_count)
        sock_seg_drop(sock);
    list_remove(&sock->tx_task.link);
    close(sock->fd);
    free(sock->rx);
    free(sock->ring);
    free(sock->segs);
    free(sock->tx_iov);
    sock->ops->free(sock);
}

void sock_hold(struct sock *sock)
{
    sock->busy++;
}

void sock_release(struct sock *sock)
{
    sock->busy--;
    sock_try_free(sock);
}

/* Whoever owns the direct memory gets it back now: the kernel must not write to it any more. */
static void sock_direct_revoke(struct sock *sock)
{
    if (!sock->rx_armed || !sock->direct_len)
        return;
    struct io_uring_sync_cancel_reg reg = {
        .addr = (uint64_t)(uintptr_t)&sock->rx_req, .fd = -1, .timeout = {.tv_sec = -1, .tv_nsec = -1}};
    sock->uc->core.counters.syscalls += 2;
    io_uring_submit(&sock->uc->ring);
    io_uring_register_sync_cancel(&sock->uc->ring, &reg);
}

static void sock_finish(struct sock *sock)
{
    sock->closed = true;
    sock->open = sock->open && sock->lingering;
    if (sock->rx_armed)
        uring_cancel(sock->uc, &sock->rx_req);
    if (sock->tx_armed && !sock->lingering)
        uring_cancel(sock->uc, &sock->tx_req);
    sock_try_free(sock);
}

void sock_close(struct sock *sock, bool flush)
{
    if (sock->closed && !(sock->lingering && !flush))
        return;
    sock->lingering = flush && sock->open && sock->tx_bytes;
    if (sock->lingering)
        sock_flush(sock);
    if (!sock->closed)
        sock_direct_revoke(sock);
    sock_finish(sock);
}

void sock_break(struct sock *sock, int error)
{
    if (sock->closed) {
        sock->lingering = false;
        sock_try_free(sock);
        return;
    }
    sock->closed = true;
    sock->open = false;
    sock_direct_revoke(sock);
    sock_hold(sock);
    sock->ops->broken(sock, error);
    sock_finish(sock);
    sock_release(sock);
}

static void sock_tx_done(struct uring_req *req, int res, uint32_t cqe_flags)
{
    struct sock *sock = container_of(req, struct sock, tx_req);

    sock->tx_armed = false;
    if (res > 0) {
        sock->uc->core.counters.net_bytes_out += (uint64_t)res;
        sock_tx_consume(sock, (uint64_t)res);
    }
    if (sock->lingering && (sock->tx_bytes == 0 || (res < 0 && !sock_again(res))))
        sock->lingering = false;
    if (sock->closed && !sock->lingering) {
        sock_try_free(sock);
        return;
    }
    if (res < 0 && !sock_again(res)) {
        sock_break(sock, sock_error(res));
        return;
    }
    if (sock->tx_bytes)
        sock_flush(sock);
    if (sock->closed || !sock->tx_refused || sock->tx_bytes > sock->tx_bytes_max / 2 ||
        sock->seg_count > SOCK_SEGS_MAX / 2)
        return;
    sock->tx_refused = false;
    if (sock->ops->drained) {
        sock_hold(sock);
        sock->ops->drained(sock);
        sock_release(sock);
    }
}

/* Connecting. */

static bool sock_is_own_peer(const struct sock *sock)
{
    struct addr own = {.len = sizeof(own.storage)}, peer = {.len = sizeof(peer.storage)};

    return getsockname(sock->fd, (struct sockaddr *)&own.storage, &own.len) == 0 &&
           getpeername(sock->fd, (struct sockaddr *)&peer.storage, &peer.len) == 0 && own.len == peer.len &&
           memcmp(&own.storage, &peer.storage, own.len) == 0;
}

static void sock_connect_done(struct uring_req *req, int res, uint32_t cqe_flags)
{
    struct sock *sock = container_of(req, struct sock, tx_req);

    sock->tx_armed = false;
    sock->tx_req.done = sock_tx_done;
    if (sock->closed) {
        sock_try_free(sock);
        return;
    }
    /* A connect to a free port of this machine may be given that very port as its own, and so meet itself. */
    if (res == 0 && sock->addr.storage.ss_family != AF_UNIX && sock_is_own_peer(sock))
        res = -ECONNREFUSED;
    if (res < 0) {
        sock_break(sock, sock_error(res));
        return;
    }
    sock->open = true;
    sock_hold(sock);
    sock->ops->opened(sock);
    if (!sock->closed) {
        if (sock->tx_bytes)
            sock_flush(sock);
        sock_receive(sock);
    }
    sock_release(sock);
}

void sock_connect(struct sock *sock, const struct addr *addr)
{
    sock->addr = *addr;
    struct io_uring_sqe *sqe = uring_sqe(sock->uc);
    io_uring_prep_connect(sqe, sock->fd, (struct sockaddr *)&sock->addr.storage, sock->addr.len);
    uring_sqe_own(sock->uc, sqe, &sock->tx_req);
    sock->tx_req.done = sock_connect_done;
    sock->tx_armed = true;
}

void sock_start(struct sock *sock)
{
    if (sock->closed)
        return;
    sock->open = true;
    sock_receive(sock);
}

/* Receiving. */

static void sock_rx_compact(struct sock *sock)
{
    uint32_t used = sock->rx_end - sock->rx_begin;

    /* A head that is there alone goes to the front at once: what is received behind it finds all the room,
     * and memory that is in the cache. */
    if (used <= SOCK_RX_HEAD || sock->rx_size - sock->rx_end < SOCK_DIRECT_MIN) {
        memmove(sock->rx, sock->rx + sock->rx_begin, used);
        sock->rx_begin = 0;
        sock->rx_end = used;
    }
    if (used == 0 && sock->rx_size > sock->rx_least) {
        uint8_t *rx = realloc(sock->rx, sock->rx_least);
        if (rx) {
            sock->rx = rx;
            sock->rx_size = sock->rx_least;
        }
    }
}

int sock_reserve(struct sock *sock, uint32_t len)
{
    if (len <= sock->rx_size)
        return 0;
    uint8_t *rx = malloc(len);
    if (!rx)
        return -ERR_NO_MEMORY;
    sock->uc->core.counters.allocs++;
    memcpy(rx, sock->rx + sock->rx_begin, sock->rx_end - sock->rx_begin);
    free(sock->rx);
    sock->rx = rx;
    sock->rx_size = len;
    sock->rx_end -= sock->rx_begin;
    sock->rx_begin = 0;
    return 0;
}

void sock_receive(struct sock *sock)
{
    if (sock->rx_armed || sock->closed || !sock->open)
        return;
    sock_rx_compact(sock);
    uint32_t room = sock->rx_size - sock->rx_end;
    struct iovec buffer = {sock->rx + sock->rx_end, MIN(room, sock->rx_window)};
    struct iovec direct = {sock->direct, sock->direct_len};
    struct io_uring_sqe *sqe = uring_sqe(sock->uc);
    ASSERT(buffer.iov_len || direct.iov_len);
    if (direct.iov_len && buffer.iov_len) {
        sock->rx_iov[0] = direct;
        sock->rx_iov[1] = buffer;
        sock->rx_msg = (struct msghdr){.msg_iov = sock->rx_iov, .msg_iovlen = 2};
        io_uring_prep_recvmsg(sqe, sock->fd, &sock->rx_msg, 0);
    } else {
        struct iovec *one = direct.iov_len ? &direct : &buffer;
        io_uring_prep_recv(sqe, sock->fd, one->iov_base, one->iov_len, 0);
    }
    if (!sock->rx_more)
        sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
    uring_sqe_own(sock->uc, sqe, &sock->rx_req);
    sock->rx_armed = true;
    sock->uc->core.counters.net_recv_calls++;
}

static void sock_rx_done(struct uring_req *req, int res, uint32_t cqe_flags)
{
    struct sock *sock = container_of(req, struct sock, rx_req);

    sock->rx_armed = false;
    if (sock->closed) {
        sock_try_free(sock);
        return;
    }
    sock->rx_more = cqe_flags & IORING_CQE_F_SOCK_NONEMPTY;
    if (sock_again(res)) {
        sock_receive(sock);
        return;
    }
    if (res <= 0) {
        sock_break(sock, res ? sock_error(res) : 0);
        return;
    }
    sock->uc->core.counters.net_bytes_in += (uint64_t)res;
    size_t direct = MIN((size_t)res, sock->direct_len);
    if (direct) {
        sock->direct += direct;
        sock->direct_len -= direct;
    }
    sock->rx_end += (uint32_t)((size_t)res - direct);
    sock_hold(sock);
    if (sock->ops->input(sock))
        sock_receive(sock);
    sock_release(sock);
}
