/* SPDX-License-Identifier: Apache-2.0
 *
 * Listening sockets. An error of accepting (no descriptors left, say) is answered by a pause, not by a busy
 * loop; and by a line of the log once in ten seconds, not once for each try.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "backend/sock.h"
#include "base/error.h"

#define LISTEN_BACKLOG  512
#define ACCEPT_PAUSE_NS (100 * NS_PER_MS)
#define ACCEPT_TELL_NS  (10 * NS_PER_S)

static void listener_accept_done(struct uring_req *req, int res, uint32_t cqe_flags);

static void listener_free(struct listener *listener)
{
    close(listener->fd);
    free(listener);
}

static void listener_arm(struct listener *listener)
{
    struct io_uring_sqe *sqe = uring_sqe(listener->uc);

    listener->peer = (struct addr){.len = sizeof(listener->peer.storage)};
    io_uring_prep_accept(sqe, listener->fd, (struct sockaddr *)&listener->peer.storage, &listener->peer.len,
                         SOCK_CLOEXEC);
    listener->req.done = listener_accept_done;
    uring_sqe_own(listener->uc, sqe, &listener->req);
}

static void listener_pause_done(struct uring_req *req, int res, uint32_t cqe_flags)
{
    struct listener *listener = container_of(req, struct listener, req);

    if (listener->closed)
        listener_free(listener);
    else
        listener_arm(listener);
}

static void listener_tell(struct listener *listener, int error)
{
    uint64_t now_ns = core_now_ns(&listener->uc->core);

    if (listener->told_ns && now_ns - listener->told_ns < ACCEPT_TELL_NS)
        return;
    listener->told_ns = now_ns;
    core_log(&listener->uc->core, LOG_WARN, "net",
             "cannot accept a connection: %s; more of these are not logged for a while", error_text(error));
}

static void listener_accept_done(struct uring_req *req, int res, uint32_t cqe_flags)
{
    struct listener *listener = container_of(req, struct listener, req);

    if (listener->closed) {
        if (res >= 0)
            close(res);
        listener_free(listener);
        return;
    }
    if (res < 0 && res != -ECONNABORTED && res != -EINTR && res != -EAGAIN && res != -ECANCELED) {
        listener_tell(listener, error_from_errno(-res));
        struct io_uring_sqe *sqe = uring_sqe(listener->uc);
        listener->pause = (struct __kernel_timespec){.tv_nsec = ACCEPT_PAUSE_NS};
        io_uring_prep_timeout(sqe, &listener->pause, 0, 0);
        listener->req.done = listener_pause_done;
        uring_sqe_own(listener->uc, sqe, &listener->req);
        return;
    }
    struct addr peer = listener->peer;
    /* Armed first: the event may close the listener, which must find its request. */
    listener_arm(listener);
    if (res >= 0)
        listener->accepted(listener, res, &peer);
}

#define CLEAR_TRIES    10
#define CLEAR_PAUSE_US 100000

/* A socket file that nobody listens on is a leftover; anything else at that path is respected. */
static int listener_clear_path(const struct addr *addr)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&addr->storage;
    struct stat st;

    if (lstat(un->sun_path, &st))
        return errno == ENOENT ? 0 : error_from_errno(errno);
    if (!S_ISSOCK(st.st_mode))
        return -ERR_EXISTS;
    /* The kernel may take a moment to close the sockets of a process with a ring that was killed. */
    int failed = 0;
    for (int i = 0; i < CLEAR_TRIES && failed != ECONNREFUSED; i++) {
        if (i)
            usleep(CLEAR_PAUSE_US);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return error_from_errno(errno);
        failed = connect(fd, (const struct sockaddr *)un, addr->len) ? errno : 0;
        close(fd);
    }
    if (failed != ECONNREFUSED)
        return -ERR_EXISTS;
    return unlink(un->sun_path) && errno != ENOENT ? error_from_errno(errno) : 0;
}

int listener_new(struct uring_core *uc, const struct addr *addr,
                 void (*accepted)(struct listener *listener, int fd, const struct addr *peer),
                 struct listener **ret_listener)
{
    bool unix_socket = addr->storage.ss_family == AF_UNIX;
    int result = unix_socket ? listener_clear_path(addr) : 0;
    const int on = 1;

    if (result)
        return result;
    struct listener *listener = calloc(1, sizeof(*listener));
    if (!listener)
        return -ERR_NO_MEMORY;
    *listener = (struct listener){.uc = uc, .accepted = accepted, .addr = *addr};
    list_init(&listener->link);
    listener->fd =
        unix_socket ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : sock_tcp_new(addr->storage.ss_family);
    if (listener->fd < 0) {
        result = error_from_errno(errno);
        free(listener);
        return result;
    }
    if (!unix_socket)
        setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    listener->addr.len = sizeof(listener->addr.storage);
    if (bind(listener->fd, (const struct sockaddr *)&addr->storage, addr->len) ||
        listen(listener->fd, LISTEN_BACKLOG) ||
        getsockname(listener->fd, (struct sockaddr *)&listener->addr.storage, &listener->addr.len)) {
        result = error_from_errno(errno);
        listener_free(listener);
        return result;
    }
    listener_arm(listener);
    *ret_listener = listener;
    return 0;
}

void listener_close(struct listener *listener)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&listener->addr.storage;

    if (listener->addr.storage.ss_family == AF_UNIX)
        unlink(un->sun_path);
    listener->closed = true;
    uring_cancel(listener->uc, &listener->req);
}
