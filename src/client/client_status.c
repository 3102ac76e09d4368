/* SPDX-License-Identifier: Apache-2.0
 *
 * Which blocks are written: the objects of the range are asked in windows of several at once, and the bitmaps
 * of a window are turned into runs in order. It ends early when the caller's array is full.
 *
 *     ASK -> WAIT -> ASK ... -> done
 */
#include <string.h>

#include "client/impl.h"

enum status_state { STATUS_BEGIN, STATUS_ASK, STATUS_WAIT };

static const char *status_state_name(int state)
{
    static const char *const names[] = {"begin", "ask", "wait"};
    return names[state];
}

static uint64_t status_end(const struct client_status *s)
{
    return s->offset + s->len;
}

static void status_open_window(struct client_status *s)
{
    s->first_object = s->at / OBJECT_SIZE;
    s->window_count =
        (uint32_t)MIN((status_end(s) - 1) / OBJECT_SIZE - s->first_object + 1, CLIENT_STATUS_WINDOW);
    s->window_started = 0;
}

/* True when all of the window is under way. */
static bool status_ask(struct client_status *s)
{
    while (s->window_started < s->window_count) {
        uint64_t object = s->first_object + s->window_started;
        struct client_piece *p =
            client_piece_get(s->image, client_image_pg_number(s->image, object), &s->wait);
        if (!p)
            return false;
        p->type = PIECE_STATUS;
        p->object = object;
        p->offset = 0;
        p->len = OBJECT_SIZE;
        p->memory = s->written[s->window_started];
        client_piece_start(p, &s->op);
        s->window_started++;
    }
    client_piece_wait_end(&s->wait);
    return true;
}

/* False when the caller's array is full. */
static bool status_add(struct client_status *s, uint64_t len, bool written)
{
    struct client_extent *last = s->ret_count ? &s->ret_extents[s->ret_count - 1] : NULL;

    if (last && last->written == written) {
        last->len += len;
        return true;
    }
    if (s->ret_count == s->extents_max)
        return false;
    s->ret_extents[s->ret_count++] = (struct client_extent){len, written};
    return true;
}

static bool bitmap_get(const uint8_t *bitmap, uint32_t block)
{
    return bitmap[block / 8] >> (block % 8) & 1;
}

/* Takes the window's bitmaps; false when the array is full. */
static bool status_take_window(struct client_status *s)
{
    uint64_t end = MIN(status_end(s), (s->first_object + s->window_count) * OBJECT_SIZE);

    while (s->at < end) {
        const uint8_t *bitmap = s->written[s->at / OBJECT_SIZE - s->first_object];
        uint64_t object_end = MIN(ALIGN_DOWN(s->at, (uint64_t)OBJECT_SIZE) + OBJECT_SIZE, end);
        uint32_t block = (uint32_t)(s->at % OBJECT_SIZE / BLOCK_SIZE);
        bool written = bitmap_get(bitmap, block);
        uint64_t next = s->at;
        do {
            next = ALIGN_DOWN(next, (uint64_t)BLOCK_SIZE) + BLOCK_SIZE;
            block++;
        } while (next < object_end && bitmap_get(bitmap, block) == written);
        next = MIN(next, object_end);
        if (!status_add(s, next - s->at, written))
            return false;
        s->at = next;
    }
    return true;
}

static int status_validate(const struct client_status *s)
{
    if (s->image->failed)
        return s->image->failed;
    if (s->offset > s->image->size_bytes || s->len > s->image->size_bytes - s->offset)
        return -ERR_RANGE;
    return s->extents_max == 0 ? -ERR_INVALID : 0;
}

static void status_finish(struct client_status *s, int result)
{
    client_piece_wait_end(&s->wait);
    client_image_request_end(s->image);
    op_done(&s->op, result);
}

static void status_step(struct op *op)
{
    struct client_status *s = container_of(op, struct client_status, op);

    for (;;) {
        switch ((enum status_state)op->state) {
        case STATUS_BEGIN: {
            int error = status_validate(s);
            if (error || s->len == 0) {
                status_finish(s, error);
                return;
            }
            status_open_window(s);
            op->state = STATUS_ASK;
            break;
        }
        case STATUS_ASK:
            if (!status_ask(s))
                return;
            op->state = STATUS_WAIT;
            break;
        case STATUS_WAIT:
            if (op->children)
                return;
            if (op->child_result || !status_take_window(s) || s->at == status_end(s)) {
                status_finish(s, op->child_result);
                return;
            }
            status_open_window(s);
            op->state = STATUS_ASK;
            break;
        }
    }
}

static const struct op_kind status_kind = {"client.status", status_state_name, status_step};

void client_status_start(struct client_status *s, struct client_image *image, uint64_t offset, uint64_t len,
                         struct client_extent *ret_extents, uint32_t extents_max, struct op *parent)
{
    s->image = image;
    s->offset = s->at = offset;
    s->len = len;
    s->ret_extents = ret_extents;
    s->extents_max = extents_max;
    s->ret_count = 0;
    list_init(&s->wait.link);
    s->wait.op = &s->op;
    client_image_request_begin(image);
    op_start(&s->op, image->client->core, &status_kind, parent);
}
