/* SPDX-License-Identifier: Apache-2.0
 *
 * Signals as events of the loop: a signalfd that is read through the ring.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "backend/uring.h"
#include "base/error.h"

struct uring_signals {
    struct uring_core *uc;
    struct uring_req req;
    struct signalfd_siginfo info;
    void (*arrived)(void *owner, int signal);
    void *owner;
    int fd;
    bool armed, cancelled;
};

static void uring_signals_arm(struct uring_signals *signals)
{
    struct io_uring_sqe *sqe = uring_sqe(signals->uc);
    io_uring_prep_read(sqe, signals->fd, &signals->info, sizeof(signals->info), 0);
    uring_sqe_own(signals->uc, sqe, &signals->req);
    signals->armed = true;
}

static void uring_signals_done(struct uring_req *req, int res, uint32_t cqe_flags)
{
    struct uring_signals *signals = container_of(req, struct uring_signals, req);

    signals->armed = false;
    if (signals->cancelled)
        return;
    if (res == (int)sizeof(signals->info))
        signals->arrived(signals->owner, (int)signals->info.ssi_signo);
    uring_signals_arm(signals);
}

int uring_core_signals(struct uring_core *uc, const int *signals, uint32_t count,
                       void (*arrived)(void *owner, int signal), void *owner)
{
    sigset_t set;

    ASSERT(!uc->signals);
    sigemptyset(&set);
    for (uint32_t i = 0; i < count; i++)
        if (sigaddset(&set, signals[i]))
            return -ERR_INVALID;
    struct uring_signals *s = calloc(1, sizeof(*s));
    if (!s)
        return -ERR_NO_MEMORY;
    s->fd = pthread_sigmask(SIG_BLOCK, &set, NULL) ? -1 : signalfd(-1, &set, SFD_CLOEXEC);
    if (s->fd < 0) {
        free(s);
        return -ERR_IO;
    }
    s->uc = uc;
    s->req.done = uring_signals_done;
    s->arrived = arrived;
    s->owner = owner;
    uc->signals = s;
    uring_signals_arm(s);
    return 0;
}

void uring_signals_cancel(struct uring_core *uc)
{
    if (!uc->signals)
        return;
    uc->signals->cancelled = true;
    if (uc->signals->armed)
        uring_cancel(uc, &uc->signals->req);
}

void uring_signals_free(struct uring_core *uc)
{
    if (!uc->signals)
        return;
    close(uc->signals->fd);
    free(uc->signals);
    uc->signals = NULL;
}
