/* SPDX-License-Identifier: Apache-2.0
 *
 * Synchronous requests. Long reads and writes go out in parts of 1 MiB, several at once.
 */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

#define PART_MAX    IO_SIZE_MAX
#define PARTS_COUNT 8

struct part {
    struct client_io io;
    struct buf *buf; /* of a write: the copy of its data */
    bool busy;
};

static int io_fail(struct fb_image *image, int error, const char *what, uint64_t len, uint64_t offset)
{
    return api_fail(image->conn, error, "%s: cannot %s %llu bytes at %llu: %s", image->name, what,
                    (unsigned long long)len, (unsigned long long)offset, error_text(error));
}

static int check_range(struct fb_image *image, const char *what, uint64_t len, uint64_t offset)
{
    uint64_t size;
    int error = api_image_check(image);

    if (error)
        return error;
    size = fb_size(image);
    if (offset > size || len > size - offset)
        return io_fail(image, -ERR_RANGE, what, len, offset);
    return 0;
}

static int part_finish(struct fb_conn *conn, struct part *part)
{
    if (!part->busy)
        return 0;
    int error = api_wait(conn, &part->io.op);
    api_buf_unref(conn, part->buf);
    *part = (struct part){0};
    return error;
}

/* Waits for a buffer while asynchronous requests hold them. Own parts that are under way hold some too, but
 * only waiting for them gives those back. ERR_NO_MEMORY, or the error of such a part. */
static int part_buf(struct fb_conn *conn, struct part parts[PARTS_COUNT], struct part *part, uint32_t len)
{
    while (!(part->buf = api_buf_new(conn, len)) && conn->request_count)
        api_turn(conn, NS_PER_S);
    uint32_t own = (uint32_t)(part - parts);
    for (uint32_t i = 1; !part->buf && i < PARTS_COUNT; i++) {
        int error = part_finish(conn, &parts[(own + i) % PARTS_COUNT]);
        if (error)
            return error;
        part->buf = api_buf_new(conn, len);
    }
    return part->buf ? 0 : -ERR_NO_MEMORY;
}

static int transfer(struct fb_image *image, enum client_io_type type, uint8_t *data, size_t len,
                    uint64_t offset)
{
    struct part parts[PARTS_COUNT] = {0};
    struct fb_conn *conn = image->conn;
    uint32_t next = 0;
    int error = 0;

    for (size_t done = 0; done < len && !error; next = (next + 1) % PARTS_COUNT) {
        struct part *part = &parts[next];
        uint64_t at = offset + done;
        uint32_t part_len = (uint32_t)MIN(ALIGN_DOWN(at, (uint64_t)PART_MAX) + PART_MAX - at, len - done);
        error = part_finish(conn, part);
        if (!error && type == CLIENT_WRITE)
            error = part_buf(conn, parts, part, part_len);
        if (error)
            break;
        part->busy = true;
        if (type == CLIENT_READ) {
            client_read_start(&part->io, image->image, at, part_len, data + done, NULL);
        } else {
            struct slice slice = {part->buf, 0, part_len};
            memcpy(part->buf->data, data + done, part_len);
            client_io_start(&part->io, image->image, type, at, part_len, &slice, NULL);
        }
        done += part_len;
    }
    for (uint32_t i = 0; i < PARTS_COUNT; i++) {
        int part_error = part_finish(conn, &parts[(next + i) % PARTS_COUNT]);
        error = error ? error : part_error;
    }
    return error;
}

int fb_read(struct fb_image *image, void *data, size_t len, uint64_t offset)
{
    int error = check_range(image, "read", len, offset);

    if (error)
        return error;
    error = transfer(image, CLIENT_READ, data, len, offset);
    return error ? io_fail(image, error, "read", len, offset) : 0;
}

int fb_write(struct fb_image *image, const void *data, size_t len, uint64_t offset)
{
    int error = check_range(image, "write", len, offset);

    if (error)
        return error;
    error = transfer(image, CLIENT_WRITE, (uint8_t *)(uintptr_t)data, len, offset);
    return error ? io_fail(image, error, "write", len, offset) : 0;
}

static int without_data(struct fb_image *image, enum client_io_type type, const char *what, uint64_t len,
                        uint64_t offset)
{
    struct client_io io = {0};
    int error = api_image_check(image);

    if (error)
        return error;
    client_io_start(&io, image->image, type, offset, len, NULL, NULL);
    error = api_wait(image->conn, &io.op);
    return error ? io_fail(image, error, what, len, offset) : 0;
}

int fb_discard(struct fb_image *image, uint64_t len, uint64_t offset)
{
    return without_data(image, CLIENT_DISCARD, "discard", len, offset);
}

int fb_write_zeroes(struct fb_image *image, uint64_t len, uint64_t offset)
{
    return without_data(image, CLIENT_ZERO, "write zeros over", len, offset);
}

int fb_flush(struct fb_image *image)
{
    return without_data(image, CLIENT_FLUSH, "flush", 0, 0);
}

int fb_block_status(struct fb_image *image, uint64_t offset, uint64_t len, struct fb_extent *extents,
                    unsigned extents_max, unsigned *ret_count)
{
    struct client_status status = {0};
    int error = api_image_check(image);

    if (error)
        return error;
    if (extents_max == 0)
        return api_fail(image->conn, -ERR_INVALID, "%s: no room for an extent", image->name);
    struct client_extent *found = calloc(extents_max, sizeof(*found));
    if (!found)
        return api_fail(image->conn, -ERR_NO_MEMORY, "out of memory");
    client_status_start(&status, image->image, offset, len, found, extents_max, NULL);
    error = api_wait(image->conn, &status.op);
    if (!error) {
        for (uint32_t i = 0; i < status.ret_count; i++)
            extents[i] = (struct fb_extent){found[i].len, found[i].written};
        *ret_count = status.ret_count;
    }
    free(found);
    return error ? io_fail(image, error, "get the status of", len, offset) : 0;
}
