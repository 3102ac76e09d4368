/* SPDX-License-Identifier: Apache-2.0
 *
 * Which blocks are written: the objects of the range are asked in windows of several at once, and the bitmaps
 * of a window are turned into runs in order. It ends early when the caller's array is full.
 *
 * Each answer also tells which object of that PG comes next, so what is not there is not asked about: a large
 * image that is empty costs a question for each of its PGs.
 *
 *     ASK -> WAIT -> ASK ... -> done
 */
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "client/impl.h"

enum status_state { STATUS_BEGIN, STATUS_ASK, STATUS_WAIT };

static const char *status_state_name(int state)
{
    static const char *const names[] = {"begin", "ask", "wait"};
    return names[state];
}

/* Objects asked about at once; few, where bugs are looked for, so that what answers say of those behind
 * theirs counts in small images, too. */
#define STATUS_WINDOW PLANT_LIMIT(CLIENT_STATUS_WINDOW, 2)

static uint64_t status_end(const struct client_status *s)
{
    return s->offset + s->len;
}

/* Of no more objects in a turn: looking each up costs, too. */
#define TURN_OBJECTS 4096

static bool status_is_absent(const struct client_status *s, uint64_t object, uint32_t pg)
{
    return s->next && pg < s->pg_count && object < s->next[pg];
}

/* What the window's answers say of objects behind theirs. */
static void status_learn(struct client_status *s)
{
    for (uint32_t i = 0; s->next && i < s->row_count; i++) {
        uint32_t pg = client_image_pg_number(s->image, s->rows[i].object);
        if (pg < s->pg_count)
            s->next[pg] = MAX(s->next[pg], s->rows[i].next);
    }
}

static bool window_asks(const struct client_status *s, uint32_t pg)
{
    for (uint32_t i = 0; i < s->row_count; i++)
        if (client_image_pg_number(s->image, s->rows[i].object) == pg)
            return true;
    return false;
}

/* The next objects, up to as many as are asked at once that are not known to be absent. Beyond the first few
 * a PG is asked about one alone: its answer tells of those behind. */
static void status_open_window(struct client_status *s)
{
    uint64_t first = s->at / OBJECT_SIZE, object = first, end = (status_end(s) - 1) / OBJECT_SIZE + 1;

    s->row_count = s->started = 0;
    for (; object < end && object - first < TURN_OBJECTS && s->row_count < STATUS_WINDOW; object++) {
        uint32_t pg = client_image_pg_number(s->image, object);
        if (status_is_absent(s, object, pg))
            continue;
        if (object - first >= STATUS_WINDOW && window_asks(s, pg))
            break;
        s->rows[s->row_count++].object = object;
    }
    s->window_end = object;
}

/* True when all of the window is under way. */
static bool status_ask(struct client_status *s)
{
    while (s->started < s->row_count) {
        struct client_status_row *row = &s->rows[s->started];
        struct client_piece *p =
            client_piece_get(s->image, client_image_pg_number(s->image, row->object), &s->wait);
        if (!p)
            return false;
        p->type = PIECE_STATUS;
        p->object = row->object;
        p->offset = 0;
        p->len = OBJECT_SIZE;
        p->status = row;
        client_piece_start(p, &s->op);
        s->started++;
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

/* Takes the object's bitmap, from where we are. */
static bool status_take_object(struct client_status *s, const uint8_t *bitmap, uint64_t end)
{
    while (s->at < end) {
        uint32_t block = (uint32_t)(s->at % OBJECT_SIZE / BLOCK_SIZE);
        bool written = bitmap_get(bitmap, block);
        uint64_t next = s->at;
        do {
            next = ALIGN_DOWN(next, (uint64_t)BLOCK_SIZE) + BLOCK_SIZE;
            block++;
        } while (next < end && bitmap_get(bitmap, block) == written);
        next = MIN(next, end);
        if (!status_add(s, next - s->at, written))
            return false;
        s->at = next;
    }
    return true;
}

/* Takes the window's bitmaps, and that there is nothing in between; false when the array is full. */
static bool status_take_window(struct client_status *s)
{
    uint64_t end = MIN(status_end(s), s->window_end * OBJECT_SIZE);

    for (uint32_t i = 0; i <= s->row_count; i++) {
        uint64_t row = i < s->row_count ? s->rows[i].object * OBJECT_SIZE : end;
        if (s->at < row) {
            if (!status_add(s, row - s->at, false))
                return false;
            s->at = row;
        }
        if (i < s->row_count && !status_take_object(s, s->rows[i].written, MIN(row + OBJECT_SIZE, end)))
            return false;
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
    free(s->next);
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
            status_learn(s);
            if (op->child_result || !status_take_window(s) || s->at == status_end(s)) {
                status_finish(s, op->child_result);
                return;
            }
            status_open_window(s);
            op->state = STATUS_ASK;
            if (s->row_count)
                break;
            op_wake(op); /* nothing is asked in this window: others have their turn */
            return;
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
    s->pg_count = image->pg_count;
    s->next = len > STATUS_WINDOW * (uint64_t)OBJECT_SIZE ? calloc(s->pg_count, sizeof(*s->next)) : NULL;
    list_init(&s->wait.link);
    s->wait.op = &s->op;
    client_image_request_begin(image);
    op_start(&s->op, image->client->core, &status_kind, parent);
}
