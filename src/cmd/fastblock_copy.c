/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock image import and export: many pieces under way at once, zeros and holes left out.
 *
 * The file side blocks (read, pread, pwrite), which is all right in a command; the image side is a ring of
 * slots, each one piece of IO_SIZE_MAX. Import fills the slots in order from the file and lets them complete
 * in any order; export to a stream must write in order, so it awaits its slots in order.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "cmd/cmd.h"

#define COPY_DEPTH  16
#define PIECE_BYTES IO_SIZE_MAX

struct copy_slot {
    struct client_io io;
    struct slice data;
    uint64_t offset, len;
    bool busy;
};

struct copy {
    struct cmd_session session;
    struct client_image *image;
    struct copy_slot slots[COPY_DEPTH];
    unsigned next;
    struct cmd_progress progress;
    uint64_t done_bytes;
    bool made; /* the image, by an import */
};

static bool copy_open(struct copy *c, const struct cmd_args *args)
{
    if (!cmd_session_open(&c->session, args, 4ull * COPY_DEPTH * PIECE_BYTES, 0))
        return false;
    for (unsigned i = 0; i < COPY_DEPTH; i++) {
        c->slots[i].data.buf = buf_new(c->session.core->arena, PIECE_BYTES);
        ASSERT(c->slots[i].data.buf);
        c->slots[i].data.len = PIECE_BYTES;
    }
    return true;
}

static int copy_close(struct copy *c, int result)
{
    for (unsigned i = 0; i < COPY_DEPTH; i++)
        slice_unref(&c->slots[i].data);
    if (c->image && cmd_image_close(&c->session, c->image) && result == CMD_OK)
        result = cmd_fail("the image could not be closed in order");
    cmd_session_close(&c->session);
    return result;
}

/* Awaits a slot's request; prints the error. */
static bool slot_await(struct copy *c, struct copy_slot *slot, const char *verb)
{
    if (!slot->busy)
        return true;
    slot->busy = false;
    int error = cmd_wait(&c->session, &slot->io.op);
    if (error) {
        cmd_fail("cannot %s at byte %llu: %s", verb, (unsigned long long)slot->offset, cmd_io_text(error));
        return false;
    }
    c->done_bytes += slot->len;
    cmd_progress_show(&c->progress, c->session.core, c->done_bytes);
    return true;
}

static bool copy_await_all(struct copy *c, const char *verb)
{
    bool good = true;
    for (unsigned i = 0; i < COPY_DEPTH; i++)
        good = slot_await(c, &c->slots[(c->next + i) % COPY_DEPTH], verb) && good;
    return good;
}

static void slot_start(struct copy *c, struct copy_slot *slot, enum client_io_type type, uint64_t offset,
                       uint64_t len)
{
    slot->offset = offset;
    slot->len = len;
    slot->busy = true;
    slot->io = (struct client_io){0};
    slot->data.len = (uint32_t)len;
    if (type == CLIENT_READ)
        client_read_start(&slot->io, c->image, offset, len, slice_data(&slot->data), NULL);
    else
        client_io_start(&slot->io, c->image, type, offset, len, &slot->data, NULL);
}

/* ---- import ---- */

static bool is_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

/* Fills `len` bytes as far as the input goes; -1: error. */
static ssize_t read_full(int fd, uint8_t *data, size_t len)
{
    size_t got = 0;
    while (got < len) {
        ssize_t n = read(fd, data + got, len - got);
        if (n < 0 && errno == EINTR && !cmd_interrupted())
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

/* The next position at or after `offset` that is not in a hole; `size` at the end. Files that cannot tell
 * have no holes. */
static uint64_t skip_hole(int fd, bool seekable, uint64_t offset, uint64_t size)
{
    if (!seekable)
        return offset;
    off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? size : offset;
    return ALIGN_DOWN((uint64_t)data, (uint64_t)PIECE_BYTES);
}

static int import_data(struct copy *c, int fd, const char *file, bool seekable, uint64_t file_size,
                       bool fresh)
{
    uint64_t image_size = client_image_size(c->image);
    uint64_t offset = 0;
    while (!cmd_interrupted()) {
        uint64_t start = fresh ? MAX(offset, skip_hole(fd, seekable, offset, file_size)) : offset;
        if (seekable && (start >= file_size || lseek(fd, (off_t)start, SEEK_SET) < 0))
            break;
        c->done_bytes += start - offset;
        offset = start;
        struct copy_slot *slot = &c->slots[c->next++ % COPY_DEPTH];
        if (!slot_await(c, slot, "write"))
            return CMD_FAILED;
        ssize_t got = read_full(fd, slice_data(&slot->data), PIECE_BYTES);
        if (got < 0)
            return cmd_fail("cannot read %s: %s", file, strerror(errno));
        if (got == 0)
            break;
        if ((uint64_t)got > image_size - offset)
            return cmd_fail("%s is larger than the image (%s): give a larger --size", file,
                            cmd_size_text(image_size));
        if (fresh && is_zero(slice_data(&slot->data), (size_t)got))
            c->done_bytes += (uint64_t)got;
        else
            slot_start(c, slot, CLIENT_WRITE, offset, (uint64_t)got);
        offset += (uint64_t)got;
    }
    if (cmd_interrupted())
        return cmd_fail("interrupted");
    /* What is gone looks like a hole, or like the end. */
    if (seekable && lseek(fd, 0, SEEK_END) < (off_t)file_size)
        return cmd_fail("%s has become shorter while it was read: the image lacks its end", file);
    return CMD_OK;
}

static int create_image(struct copy *c, const char *name, uint64_t size)
{
    char pool[CMD_NAME_MAX], image[CMD_NAME_MAX];
    if (!cmd_split_image(name, pool, image))
        return CMD_USAGE;
    Fb__ImageCreate create = FB__IMAGE_CREATE__INIT;
    create.pool = pool;
    create.name = image;
    create.size_bytes = size;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_CREATE;
    request.image_create = &create;
    struct cmd_call call;
    if (!cmd_mon_call(&c->session, &call, &request, cmd_text("cannot create image %s", name)))
        return CMD_FAILED;
    cmd_call_end(&call);
    return CMD_OK;
}

struct source {
    const char *file;
    int fd;
    bool standard; /* standard input */
    bool seekable;
    uint64_t size_bytes; /* 0 unless seekable */
};

static int source_open(struct source *from, const char *file)
{
    struct stat st;

    *from = (struct source){.file = file, .standard = strcmp(file, "-") == 0};
    from->fd = from->standard ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    if (from->fd < 0 || fstat(from->fd, &st) < 0)
        return cmd_fail("cannot open %s: %s", file, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        close(from->fd);
        return cmd_fail("%s is a directory: give a file, a device, or - for standard input", file);
    }
    /* Some character devices take any seek, and have no size. */
    off_t end = S_ISCHR(st.st_mode) ? -1 : lseek(from->fd, 0, SEEK_END);
    from->seekable = end >= 0 && lseek(from->fd, 0, SEEK_SET) == 0;
    from->size_bytes = from->seekable ? (uint64_t)end : 0;
    return CMD_OK;
}

static void source_close(struct source *from)
{
    if (!from->standard)
        close(from->fd);
}

/* Creates the image, unless it is to be overwritten, opens and fills it. */
static int import_from(struct copy *c, const struct cmd_args *args, const struct source *from, uint64_t size)
{
    const char *name = args->positional[1];
    bool fresh = !cmd_option(args, "overwrite");

    if (size < from->size_bytes)
        return cmd_fail("--size %s is smaller than %s", cmd_size_text(size), from->file);
    int result = fresh ? create_image(c, name, size) : CMD_OK;
    if (result != CMD_OK)
        return result;
    c->made = fresh;
    c->image = cmd_image_open(&c->session, name, true, cmd_option(args, "force") != NULL);
    if (!c->image)
        return CMD_FAILED;
    if (client_image_size(c->image) < from->size_bytes)
        return cmd_fail("%s (%s) does not fit into %s (%s); `fastblock image resize` makes it larger",
                        from->file, cmd_size_text(from->size_bytes), name,
                        cmd_size_text(client_image_size(c->image)));
    cmd_progress_start(&c->progress, c->session.core, "imported", from->size_bytes);
    result = import_data(c, from->fd, from->file, from->seekable, from->size_bytes, fresh);
    return copy_await_all(c, "write") ? result : CMD_FAILED;
}

int cmd_image_import(struct cmd_args *args)
{
    const char *name = args->positional[1];
    uint64_t size;
    char pool[CMD_NAME_MAX], image[CMD_NAME_MAX];
    struct source from;

    if (!cmd_split_image(name, pool, image) || !cmd_option_size(args, "size", 0, &size))
        return CMD_USAGE;
    if (source_open(&from, args->positional[0]))
        return CMD_FAILED;
    if (!from.seekable && !size && !cmd_option(args, "overwrite")) {
        source_close(&from);
        return cmd_usage("the size of %s cannot be told: give --size",
                         from.standard ? "standard input" : from.file);
    }
    if (size == 0)
        size = ALIGN_UP(from.size_bytes, (uint64_t)BLOCK_SIZE);

    struct copy *c = calloc(1, sizeof(*c));
    ASSERT(c);
    int result = CMD_FAILED;
    if (copy_open(c, args)) {
        result = import_from(c, args, &from, size);
        cmd_progress_end();
        size = c->image ? client_image_size(c->image) : 0;
        result = copy_close(c, result);
        if (result != CMD_OK && c->made)
            cmd_fail("%s is not complete: `fastblock image rm %s` removes it", name, name);
    }
    source_close(&from);
    if (result == CMD_OK && args->json)
        cmd_print_json(cmd_image_json(name, size));
    else if (result == CMD_OK)
        printf("%s imported from %s, %s\n", name, from.standard ? "standard input" : from.file,
               cmd_size_text(c->done_bytes));
    free(c);
    return result;
}

/* ---- export ---- */

static bool write_full(int fd, const uint8_t *data, size_t len, bool seekable, uint64_t offset)
{
    while (len > 0) {
        ssize_t n = seekable ? pwrite(fd, data, len, (off_t)offset) : write(fd, data, len);
        if (n < 0 && errno == EINTR && !cmd_interrupted())
            continue;
        if (n <= 0)
            return false;
        data += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return true;
}

/* Awaits the oldest slot and puts its data out. */
static bool export_slot(struct copy *c, struct copy_slot *slot, int fd, const char *file, bool seekable)
{
    bool busy = slot->busy;
    if (!slot_await(c, slot, "read"))
        return false;
    if (busy && !write_full(fd, slice_data(&slot->data), slot->len, seekable, slot->offset)) {
        cmd_fail("cannot write %s: %s", file, strerror(errno));
        return false;
    }
    return true;
}

static bool write_zeros(int fd, const char *file, uint64_t len)
{
    static const uint8_t zeros[1 << 16];
    while (len > 0) {
        size_t part = MIN(len, sizeof(zeros));
        if (!write_full(fd, zeros, part, false, 0)) {
            cmd_fail("cannot write %s: %s", file, strerror(errno));
            return false;
        }
        len -= part;
    }
    return true;
}

static bool export_extent(struct copy *c, int fd, const char *file, bool seekable, uint64_t offset,
                          uint64_t len)
{
    for (uint64_t end = offset + len; offset < end && !cmd_interrupted();) {
        struct copy_slot *slot = &c->slots[c->next++ % COPY_DEPTH];
        uint64_t part = MIN(end - offset, (uint64_t)PIECE_BYTES);
        if (!export_slot(c, slot, fd, file, seekable))
            return false;
        slot_start(c, slot, CLIENT_READ, offset, part);
        offset += part;
    }
    return true;
}

/* Puts out what is still under way, oldest first. */
static bool export_drain(struct copy *c, int fd, const char *file, bool seekable)
{
    bool good = true;
    for (unsigned i = 0; i < COPY_DEPTH; i++) {
        struct copy_slot *slot = &c->slots[(c->next + i) % COPY_DEPTH];
        good = export_slot(c, slot, fd, file, seekable) && good;
    }
    return good;
}

static int export_data(struct copy *c, int fd, const char *file, bool seekable)
{
    static struct client_extent extents[CMD_EXTENTS_MAX];
    uint64_t size = client_image_size(c->image);
    for (uint64_t offset = 0; offset < size && !cmd_interrupted();) {
        uint32_t count;
        if (!cmd_image_extents(&c->session, c->image, offset, extents, &count))
            return CMD_FAILED;
        for (uint32_t i = 0; i < count; i++) {
            if (extents[i].written) {
                if (!export_extent(c, fd, file, seekable, offset, extents[i].len))
                    return CMD_FAILED;
            } else {
                if (!seekable &&
                    (!export_drain(c, fd, file, seekable) || !write_zeros(fd, file, extents[i].len)))
                    return CMD_FAILED;
                c->done_bytes += extents[i].len;
            }
            offset += extents[i].len;
        }
    }
    if (!export_drain(c, fd, file, seekable))
        return CMD_FAILED;
    if (cmd_interrupted())
        return cmd_fail("interrupted");
    /* What was cut off reads as zeros. */
    if (client_image_size(c->image) < size)
        return cmd_fail("the image has become smaller while it was read: %s lacks its end", file);
    return CMD_OK;
}

/* What the kernel has yet to write can fail, and only this says so. Streams cannot be told to. */
static bool export_sync(int fd, const char *file)
{
    if (fdatasync(fd) == 0 || errno == EINVAL || errno == EROFS)
        return true;
    cmd_fail("cannot write %s: %s", file, strerror(errno));
    return false;
}

int cmd_image_export(struct cmd_args *args)
{
    const char *name = args->positional[0], *file = args->positional[1];
    bool standard = strcmp(file, "-") == 0;
    struct copy *c = calloc(1, sizeof(*c));
    ASSERT(c);
    if (!copy_open(c, args)) {
        free(c);
        return CMD_FAILED;
    }
    int result = CMD_FAILED, fd = -1;
    c->image = cmd_image_open(&c->session, name, false, false);
    if (c->image) {
        int mode = cmd_option(args, "overwrite") ? O_TRUNC : O_EXCL;
        fd = standard ? STDOUT_FILENO : open(file, O_WRONLY | O_CREAT | O_CLOEXEC | mode, 0644);
        struct stat st;
        if (fd < 0 && errno == EEXIST)
            cmd_fail("%s exists already; --overwrite replaces it", file);
        else if (fd < 0 || fstat(fd, &st) < 0)
            cmd_fail("cannot open %s: %s", file, strerror(errno));
        else if (S_ISREG(st.st_mode) && !standard && ftruncate(fd, (off_t)client_image_size(c->image)) < 0)
            cmd_fail("cannot set the size of %s: %s", file, strerror(errno));
        else {
            cmd_progress_start(&c->progress, c->session.core, "exported", client_image_size(c->image));
            result = export_data(c, fd, file, S_ISREG(st.st_mode) && !standard);
            if (result == CMD_OK && !export_sync(fd, file))
                result = CMD_FAILED;
        }
        for (unsigned i = 0; i < COPY_DEPTH; i++) /* after an error, requests may still be under way */
            if (c->slots[i].busy)
                cmd_wait(&c->session, &c->slots[i].io.op);
        cmd_progress_end();
    }
    result = copy_close(c, result);
    if (fd >= 0 && !standard && close(fd) < 0 && result == CMD_OK)
        result = cmd_fail("cannot write %s: %s", file, strerror(errno));
    if (result != CMD_OK && fd >= 0 && !standard)
        cmd_fail("%s is not complete", file);
    if (result == CMD_OK && !standard && args->json)
        cmd_print_json(cmd_image_json(name, c->done_bytes));
    else if (result == CMD_OK && !standard)
        printf("%s exported to %s, %s\n", name, file, cmd_size_text(c->done_bytes));
    free(c);
    return result;
}
