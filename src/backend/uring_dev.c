/* SPDX-License-Identifier: Apache-2.0
 *
 * Making, opening and locking what a block port stands on: a regular file or a block device.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#undef BLOCK_SIZE /* ours is another */
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "backend/uring_dev.h"
#include "base/error.h"

#define ZEROS_SIZE (1u << 20)

static bool dev_in_memory(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

int uring_dev_create(const char *path, uint64_t size_bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_from_errno(errno);
    int failed = 0;
    if (dev_in_memory(fd)) {
        if (ftruncate(fd, (off_t)size_bytes))
            failed = errno;
    } else {
        failed = posix_fallocate(fd, 0, (off_t)size_bytes);
    }
    if (!failed && fsync(fd))
        failed = errno;
    close(fd);
    if (failed)
        unlink(path);
    return error_from_errno(failed);
}

/* Asks the kernel whether writes to the block device may sit in a cache that a power cut empties. */
static bool dev_cache_is_volatile(dev_t number)
{
    static const char *const places[] = {"queue", "../queue"}; /* a whole device, a partition */
    char path[96], text[32] = "";

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/write_cache", major(number), minor(number),
                 places[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        ssize_t len = read(fd, text, sizeof(text) - 1);
        close(fd);
        return len <= 0 || strncmp(text, "write through", 13) != 0;
    }
    return true;
}

static int dev_inspect(struct uring_dev *dev, enum uring_cache cache, bool read_only)
{
    struct stat st;
    int is_read_only = 0;

    if (fstat(dev->fd, &st))
        return error_from_errno(errno);
    if (S_ISREG(st.st_mode)) {
        dev->size_bytes = (uint64_t)st.st_size;
        dev->volatile_cache = cache != URING_CACHE_STABLE;
        dev->in_memory = dev_in_memory(dev->fd);
    } else if (S_ISBLK(st.st_mode)) {
        if (ioctl(dev->fd, BLKGETSIZE64, &dev->size_bytes))
            return error_from_errno(errno);
        /* The kernel lets it be opened for writing, and fails each write. */
        if (!read_only && ioctl(dev->fd, BLKROGET, &is_read_only) == 0 && is_read_only)
            return -ERR_READ_ONLY;
        dev->volatile_cache =
            cache == URING_CACHE_ASK ? dev_cache_is_volatile(st.st_rdev) : cache == URING_CACHE_VOLATILE;
    } else {
        return -ERR_INVALID;
    }
    dev->size_bytes = ALIGN_DOWN(dev->size_bytes, (uint64_t)BLOCK_SIZE);
    return 0;
}

int uring_dev_open(const char *path, enum uring_cache cache, bool read_only, struct uring_dev **ret_dev)
{
    int flags = (read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC;
    struct stat st;

    if (stat(path, &st))
        return error_from_errno(errno);
    if (S_ISBLK(st.st_mode))
        flags |= O_EXCL; /* against mounts and other users in the kernel */
    else if (!S_ISREG(st.st_mode))
        return -ERR_INVALID; /* before the open, which would block on a pipe */
    struct uring_dev *dev = calloc(1, sizeof(*dev));
    if (!dev)
        return -ERR_NO_MEMORY;
    dev->fd = open(path, flags);
    if (dev->fd < 0) {
        int result = errno == EBUSY ? -ERR_LOCKED : error_from_errno(errno);
        free(dev);
        return result;
    }
    int result = 0;
    if (flock(dev->fd, LOCK_EX | LOCK_NB))
        result = errno == EWOULDBLOCK ? -ERR_LOCKED : error_from_errno(errno);
    if (!result)
        result = dev_inspect(dev, cache, read_only);
    if (result) {
        close(dev->fd);
        free(dev);
        return result;
    }
    *ret_dev = dev;
    return 0;
}

void uring_dev_close(struct uring_dev *dev)
{
    if (!dev)
        return;
    ASSERT(dev->windows == 0);
    close(dev->fd);
    free(dev);
}

uint64_t uring_dev_size(const struct uring_dev *dev)
{
    return dev->size_bytes;
}

int uring_dev_write_out(struct uring_dev *dev, uint64_t offset, uint64_t len)
{
    ASSERT(IS_ALIGNED(offset, BLOCK_SIZE) && IS_ALIGNED(len, BLOCK_SIZE));
    if (offset > dev->size_bytes || len > dev->size_bytes - offset)
        return -ERR_RANGE;
    if (dev->in_memory)
        return fallocate(dev->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len)
                   ? error_from_errno(errno)
                   : 0;
    void *zeros = aligned_alloc(BLOCK_SIZE, ZEROS_SIZE);
    if (!zeros)
        return -ERR_NO_MEMORY;
    memset(zeros, 0, ZEROS_SIZE);
    int result = 0;
    while (len && !result) {
        ssize_t done = pwrite(dev->fd, zeros, MIN(len, (uint64_t)ZEROS_SIZE), (off_t)offset);
        if (done < 0 && errno != EINTR)
            result = errno == ENOSPC ? -ERR_DEVICE_FULL : error_from_errno(errno);
        else if (done == 0)
            result = -ERR_IO;
        offset += done > 0 ? (uint64_t)done : 0;
        len -= done > 0 ? (uint64_t)done : 0;
    }
    if (!result && fdatasync(dev->fd))
        result = error_from_errno(errno);
    free(zeros);
    return result;
}
