/* SPDX-License-Identifier: Apache-2.0
 *
 * Images: opening, closing, and what the monitor says about them meanwhile.
 *
 * Opening for writing registers the writer at the monitor and gets an incarnation. If it is not the first of
 * this image, every PG is told before the open ends: from then on nothing of a former writer can be
 * acknowledged anywhere, so the new one never reads data that changes under it. The first writer of an image
 * announces itself to each PG with its first write there.
 *
 *     open:  [LOOK (by force: whom is it taken from?) ->] CALL -> MAP (wait until the pool is in the map) ->
 *            ATTACH -> done; on failure: GIVE_BACK -> done
 *     close: WAIT -> CALL -> done
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "client/impl.h"

#define IMAGE_CLOSE_NS   (3 * NS_PER_S)
#define IMAGE_REFRESH_NS (3 * NS_PER_S)
#define IMAGE_MAP_NS     (5 * NS_PER_S)

uint64_t client_image_size(const struct client_image *image)
{
    return image->size_bytes;
}

bool client_image_writable(const struct client_image *image)
{
    return image->writable;
}

int client_image_failed(const struct client_image *image)
{
    return image->failed;
}

void client_image_fail(struct client_image *image, int error)
{
    if (image->failed)
        return;
    image->failed = error;
    core_log(image->client->core, LOG_ERROR, "client", "image %llu: %s: nothing more can be done with it",
             (unsigned long long)image->id, error_text(error));
    for (struct list *node; (node = list_pop_front(&image->refresh_waiters));)
        op_wake(&list_entry(node, struct client_piece, wait)->op);
}

void client_image_update(struct client_image *image, const Fb__Image *from)
{
    if (image->writable && !image->shared && !from->shared && from->incarnation > image->incarnation) {
        client_image_fail(image, -ERR_FENCED);
        return;
    }
    if (from->generation > image->generation) {
        image->generation = from->generation;
        image->size_bytes = from->size_bytes;
    }
}

void client_image_request_begin(struct client_image *image)
{
    image->requests++;
}

void client_image_request_end(struct client_image *image)
{
    ASSERT(image->requests > 0);
    if (--image->requests == 0)
        op_wake(image->closer);
}

/* ---- asking the monitor again ---- */

enum refresh_state { REFRESH_BEGIN, REFRESH_WAIT };

static void refresh_step(struct op *op)
{
    struct client_image *image = container_of(op, struct client_image, refresh_op);
    struct client_mon_call *call = &image->refresh_call;

    if (op->state == REFRESH_BEGIN) {
        fb__mon_request__init(&image->refresh_request);
        fb__image_get__init(&image->refresh_get);
        image->refresh_get.id = image->id;
        image->refresh_request.call_case = FB__MON_REQUEST__CALL_IMAGE_GET;
        image->refresh_request.image_get = &image->refresh_get;
        call->timeout_ns = IMAGE_REFRESH_NS;
        client_mon_call_start(call, image->client, &image->refresh_request, op);
        op->state = REFRESH_WAIT;
        return;
    }
    if (op->children)
        return;
    if (call->op.result == -ERR_NOT_FOUND)
        client_image_fail(image, -ERR_STALE_GENERATION);
    else if (call->op.result == 0 && call->ret_reply->image && call->ret_reply->image->id == image->id) {
        image->epoch = MAX(image->epoch, call->ret_reply->epoch);
        client_image_update(image, call->ret_reply->image);
    }
    client_mon_call_fini(call);
    for (struct list *node; (node = list_pop_front(&image->refresh_waiters));)
        op_wake(&list_entry(node, struct client_piece, wait)->op);
    op_wake(image->closer);
    op_done(op, 0);
}

static const struct op_kind refresh_kind = {"client.image_refresh", NULL, refresh_step};

void client_image_refresh(struct client_image *image)
{
    if (!op_live(&image->refresh_op))
        op_start(&image->refresh_op, image->client->core, &refresh_kind, NULL);
}

/* ---- the handle ---- */

static void image_free(struct client_image *image)
{
    if (!image)
        return;
    list_remove(&image->link);
    free(image->pgs);
    free(image);
}

static struct client_image *image_new(struct client *client, const Fb__Image *from, uint64_t epoch,
                                      const char *writer, bool write)
{
    struct client_image *image = calloc(1, sizeof(*image));

    if (!image)
        return NULL;
    image->client = client;
    image->id = from->id;
    image->key = from->placement_key;
    image->size_bytes = from->size_bytes;
    image->generation = from->generation;
    image->incarnation = from->incarnation;
    image->epoch = epoch;
    image->pool = from->pool;
    image->shared = from->shared;
    image->writable = write;
    if (write && text_copy(image->writer, sizeof(image->writer), writer) != 0) {
        free(image);
        return NULL;
    }
    list_init(&image->refresh_waiters);
    list_push_back(&client->images, &image->link);
    return image;
}

static int image_set_pgs(struct client_image *image, uint32_t count)
{
    struct client_image_pg *pgs = calloc(count, sizeof(*pgs));

    if (!pgs)
        return -ERR_NO_MEMORY;
    image->pgs = pgs;
    image->pg_count = count;
    for (uint32_t i = 0; i < count; i++)
        list_init(&image->pgs[i].waiters);
    return 0;
}

bool client_image_grow(struct client_image *image)
{
    const Fb__Pool *pool = client_map_pool(image->client, image->pool);
    struct client_image_pg *had = image->pgs;
    uint32_t count = image->pg_count;

    if (!pool || pool->pg_count <= count || image_set_pgs(image, pool->pg_count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        image->pgs[i].attached_generation = had[i].attached_generation;
        image->pgs[i].attacher = had[i].attacher;
        list_splice_back(&image->pgs[i].waiters, &had[i].waiters);
    }
    free(had);
    return true;
}

/* ---- opening ---- */

enum open_state { OPEN_BEGIN, OPEN_LOOK, OPEN_CALL, OPEN_MAP, OPEN_ATTACH, OPEN_ATTACHED, OPEN_GIVE_BACK };

static const char *open_state_name(int state)
{
    static const char *const names[] = {"begin", "look", "call", "map", "attach", "attached", "give back"};
    return names[state];
}

struct open_private {
    struct client_mon_call call;
    Fb__MonRequest request;
    Fb__ImageGet get;
    Fb__ImageOpen open;
    Fb__ImageClose close;
    struct client_image *image;
    struct client_wait wait; /* for the map, then for pieces */
    struct timer timer;
    uint32_t next_pg;
    int error; /* while the registration is given back */
};

static void open_end(struct client_image_open *o, int result)
{
    struct open_private *p = o->private_state;

    if (p) {
        list_remove(&p->wait.link);
        timer_cancel(o->op.core, &p->timer);
        client_mon_call_fini(&p->call);
        if (result)
            image_free(p->image);
        else
            o->ret_image = p->image;
        free(p);
    }
    o->private_state = NULL;
    op_done(&o->op, result);
}

static int open_begin(struct client_image_open *o)
{
    struct open_private *p;

    if (strlen(o->pool) >= CLIENT_NAME_MAX || strlen(o->image) >= CLIENT_NAME_MAX ||
        (o->write && (!o->writer || o->writer[0] == '\0' || strlen(o->writer) >= CLIENT_NAME_MAX))) {
        snprintf(o->ret_message, sizeof(o->ret_message),
                 "the name of pool, image or writer is empty or too long");
        return -ERR_INVALID;
    }
    p = calloc(1, sizeof(*p));
    if (!p)
        return -ERR_NO_MEMORY;
    o->private_state = p;
    list_init(&p->wait.link);
    p->wait.op = &o->op;
    fb__mon_request__init(&p->request);
    fb__image_open__init(&p->open);
    p->open.pool = (char *)o->pool;
    p->open.name = (char *)o->image;
    p->open.write = o->write;
    p->open.writer = o->write ? (char *)o->writer : p->open.writer;
    p->open.share = o->share;
    p->open.address = o->client->self.name;
    return 0;
}

static void open_look(struct client_image_open *o)
{
    struct open_private *p = o->private_state;

    fb__image_get__init(&p->get);
    p->get.pool = p->open.pool;
    p->get.name = p->open.name;
    p->request.call_case = FB__MON_REQUEST__CALL_IMAGE_GET;
    p->request.image_get = &p->get;
    client_mon_call_start(&p->call, o->client, &p->request, &o->op);
}

/* An image that has had no writer yet is taken from nobody. */
static void open_looked(struct client_image_open *o)
{
    struct open_private *p = o->private_state;

    p->open.force_over = p->call.ret_reply->image->incarnation;
    p->open.force = p->open.force_over != 0;
    client_mon_call_fini(&p->call);
}

static void open_call(struct client_image_open *o)
{
    struct open_private *p = o->private_state;

    p->request.call_case = FB__MON_REQUEST__CALL_IMAGE_OPEN;
    p->request.image_open = &p->open;
    client_mon_call_start(&p->call, o->client, &p->request, &o->op);
}

/* 0: the monitor has answered with the image. */
static int open_answered(struct client_image_open *o)
{
    struct open_private *p = o->private_state;
    const Fb__MonReply *reply = p->call.ret_reply;
    int result = p->call.op.result;

    if (result == 0 && (!reply->image || reply->image->id == 0 || reply->image->generation == 0))
        result = -ERR_PROTOCOL;
    if (result)
        snprintf(o->ret_message, sizeof(o->ret_message), "%s/%s: %s", o->pool, o->image,
                 reply && reply->message[0] ? reply->message : error_text(result));
    return result;
}

static int open_called(struct client_image_open *o)
{
    struct open_private *p = o->private_state;
    const Fb__MonReply *reply = p->call.ret_reply;
    int error = open_answered(o);

    if (error)
        return error;
    p->image = image_new(o->client, reply->image, reply->epoch, o->writer, o->write);
    if (!p->image)
        return -ERR_NO_MEMORY;
    timer_arm(o->op.core, &p->timer, &o->op, core_now_ns(o->op.core) + IMAGE_MAP_NS);
    return 0;
}

/* ERR_RETRY: the map does not have the pool yet. */
static int open_find_pool(struct client_image_open *o)
{
    struct open_private *p = o->private_state;
    const Fb__Pool *pool = client_map_pool(o->client, p->image->pool);

    if (pool && pool->pg_count)
        return image_set_pgs(p->image, pool->pg_count);
    if (!p->timer.fired) {
        if (!list_linked(&p->wait.link))
            list_push_back(&o->client->map_waiters, &p->wait.link);
        return -ERR_RETRY;
    }
    snprintf(o->ret_message, sizeof(o->ret_message), "%s/%s: the pool is not in the cluster map", o->pool,
             o->image);
    return -ERR_NOT_FOUND;
}

/* There was a writer before. */
static bool open_fences(const struct client_image *image)
{
    return image->writable && image->incarnation > 1;
}

/* True when all PGs are being told. */
static bool open_attach(struct client_image_open *o)
{
    struct open_private *p = o->private_state;

    while (p->next_pg < p->image->pg_count && o->op.child_result == 0) {
        struct client_piece *piece = client_piece_get(p->image, p->next_pg, &p->wait);
        if (!piece)
            return false;
        p->next_pg++;
        piece->type = PIECE_ATTACH;
        piece->object = 0;
        piece->offset = piece->len = 0;
        client_piece_start(piece, &o->op);
    }
    client_piece_wait_end(&p->wait);
    return true;
}

static void open_give_back(struct client_image_open *o, int error)
{
    struct open_private *p = o->private_state;

    p->error = error;
    if (o->ret_message[0] == '\0')
        snprintf(o->ret_message, sizeof(o->ret_message), "%s/%s: %s", o->pool, o->image,
                 error == -ERR_TIMEOUT ? "not all of its placement groups have answered in time: `fastblock "
                                         "health detail` tells which have no leader"
                                       : error_text(error));
    o->op.state = OPEN_GIVE_BACK;
    if (!p->image->writable)
        return;
    client_mon_call_fini(&p->call);
    fb__image_close__init(&p->close);
    p->close.id = p->image->id;
    p->close.writer = p->image->writer;
    p->close.incarnation = p->image->incarnation;
    p->request.call_case = FB__MON_REQUEST__CALL_IMAGE_CLOSE;
    p->request.image_close = &p->close;
    p->call.timeout_ns = IMAGE_CLOSE_NS;
    client_mon_call_start(&p->call, o->client, &p->request, &o->op);
}

static void open_step(struct op *op)
{
    struct client_image_open *o = container_of(op, struct client_image_open, op);
    struct open_private *p = o->private_state;
    int error;

    for (;;) {
        switch ((enum open_state)op->state) {
        case OPEN_BEGIN:
            error = open_begin(o);
            if (error) {
                open_end(o, error);
                return;
            }
            if (o->write && o->force) {
                open_look(o);
                op->state = OPEN_LOOK;
            } else {
                open_call(o);
                op->state = OPEN_CALL;
            }
            return;
        case OPEN_LOOK:
            if (op->children)
                return;
            op->child_result = 0;
            error = open_answered(o);
            if (error) {
                open_end(o, error);
                return;
            }
            open_looked(o);
            open_call(o);
            op->state = OPEN_CALL;
            return;
        case OPEN_CALL:
            if (op->children)
                return;
            op->child_result = 0;
            error = open_called(o);
            if (error) {
                open_end(o, error);
                return;
            }
            op->state = OPEN_MAP;
            break;
        case OPEN_MAP:
            error = open_find_pool(o);
            if (error == -ERR_RETRY)
                return;
            list_remove(&p->wait.link);
            if (error) {
                open_give_back(o, error);
                break;
            }
            op->state = OPEN_ATTACH;
            break;
        case OPEN_ATTACH:
            if (open_fences(p->image) && !open_attach(o))
                return;
            op->state = OPEN_ATTACHED;
            break;
        case OPEN_ATTACHED:
            if (op->children)
                return;
            if (op->child_result) {
                open_give_back(o, op->child_result);
                break;
            }
            /* A PG was split meanwhile. */
            if (open_fences(p->image) && p->next_pg < p->image->pg_count) {
                op->state = OPEN_ATTACH;
                break;
            }
            open_end(o, 0);
            return;
        case OPEN_GIVE_BACK:
            /* A refresh may have been started for the image that is now given up. */
            p->image->closer = op;
            if (op->children || op_live(&p->image->refresh_op))
                return;
            open_end(o, p->error);
            return;
        }
    }
}

static const struct op_kind open_kind = {"client.image_open", open_state_name, open_step};

void client_image_open_start(struct client_image_open *o, struct client *client, const char *pool,
                             const char *image, bool write, const char *writer, bool force, bool share,
                             struct op *parent)
{
    o->client = client;
    o->pool = pool;
    o->image = image;
    o->write = write;
    o->writer = writer;
    o->force = force;
    o->share = share;
    o->ret_image = NULL;
    o->ret_message[0] = '\0';
    o->private_state = NULL;
    op_start(&o->op, client->core, &open_kind, parent);
}

/* ---- closing ---- */

enum close_state { CLOSE_WAIT, CLOSE_CALL };

static const char *close_state_name(int state)
{
    static const char *const names[] = {"wait", "call"};
    return names[state];
}

struct close_private {
    struct client_mon_call call;
    Fb__MonRequest request;
    Fb__ImageClose close;
};

/* Failure to tell the monitor is no error: what is not named in the next Subscribe is given up, too. */
static void close_call(struct client_image_close *c)
{
    struct client_image *image = c->image;
    struct close_private *p = calloc(1, sizeof(*p));

    c->private_state = p;
    if (!p)
        return;
    fb__mon_request__init(&p->request);
    fb__image_close__init(&p->close);
    p->close.id = image->id;
    p->close.writer = image->writer;
    p->close.incarnation = image->incarnation;
    p->request.call_case = FB__MON_REQUEST__CALL_IMAGE_CLOSE;
    p->request.image_close = &p->close;
    p->call.timeout_ns = IMAGE_CLOSE_NS;
    client_mon_call_start(&p->call, image->client, &p->request, &c->op);
}

static void close_step(struct op *op)
{
    struct client_image_close *c = container_of(op, struct client_image_close, op);
    struct client_image *image = c->image;

    for (;;) {
        switch ((enum close_state)op->state) {
        case CLOSE_WAIT:
            if (image->requests || op_live(&image->refresh_op))
                return;
            if (image->writable && !image->failed)
                close_call(c);
            op->state = CLOSE_CALL;
            break;
        case CLOSE_CALL: {
            struct close_private *p = c->private_state;
            /* A new session with the monitor may have started a refresh meanwhile. */
            if (op->children || op_live(&image->refresh_op))
                return;
            if (p)
                client_mon_call_fini(&p->call);
            free(p);
            image_free(image);
            op_done(op, 0);
            return;
        }
        }
    }
}

static const struct op_kind close_kind = {"client.image_close", close_state_name, close_step};

void client_image_close_start(struct client_image_close *c, struct client_image *image, struct op *parent)
{
    c->image = image;
    c->private_state = NULL;
    image->closer = &c->op;
    op_start(&c->op, image->client->core, &close_kind, parent);
}
