/* SPDX-License-Identifier: Apache-2.0
 *
 * Images: create, open and close with the registration of writers, resize, remove.
 *
 * An incarnation is given out once, durably, before it is answered; the PGs fence every lower one. The
 * writer's registration lives as long as a session of its client does and the client says, every few seconds,
 * that it has the image open, and some time longer (it may be reconnecting, or not know yet that it was
 * registered); after that it may be replaced without force. So nothing hangs on an answer to open or close
 * that was lost. Resize and removal raise the image's generation
 * and leave an order: every PG of the pool brings its record and objects to that state, and the order ends
 * when all have confirmed. An image is not resized again before that: a PG that skipped a smaller size would
 * show old data in the part that grew back.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define CLIENTS_COME_NS (2 * NS_PER_S) /* to a monitor that begins to lead: all that it takes them */

/* ---- looking up ---- */

static struct mon_image *image_by_name(const struct mon *mon, uint32_t pool, const char *name)
{
    mon_for_each(mon, MON_IMAGE, node)
    {
        struct mon_image *i = mon_image_of(node);
        if (mon_image_item(i)->pool == pool && !strcmp(mon_image_item(i)->name, name))
            return i;
    }
    return NULL;
}

static int find_image(struct mon_request *r, const char *pool, const char *name, struct mon_image **ret_image)
{
    struct mon_pool *p = mon_pool_by_name(r->mon, pool);

    if (!p)
        return mon_fail(r, -ERR_NOT_FOUND, "there is no pool '%.64s'", pool);
    struct mon_image *i = image_by_name(r->mon, mon_pool_item(p)->id, name);
    if (!i)
        return mon_fail(r, -ERR_NOT_FOUND, "there is no image '%.64s/%.64s'", pool, name);
    *ret_image = i;
    return 0;
}

static bool writer_alive(const struct mon *mon, const struct mon_image *i)
{
    return mon_image_item(i)->writer[0] &&
           (i->writer_here || mon->alive_ns - i->writer_gone_ns < mon->config.writer_lost_after_ns);
}

/* "NAME at ADDRESS, for 12 s" */
static const char *describe_writer(const struct mon *mon, const Fb__Image *i, char text[MON_MESSAGE_MAX])
{
    uint64_t now_us = mon->core->env->wall_us(mon->core->env_self);
    uint64_t since_s = now_us > i->writer_since_us ? (now_us - i->writer_since_us) / 1000000 : 0;

    snprintf(text, MON_MESSAGE_MAX, "%s at %s, since %" PRIu64 " s", i->writer,
             i->writer_address[0] ? i->writer_address : "an unknown address", since_s);
    return text;
}

static void remember_open(struct mon_request *r, uint64_t image)
{
    struct mon_session *s = mon_session_find(r->mon, r->session);

    if (!s)
        return;
    for (uint32_t n = 0; n < s->open_count; n++)
        if (s->opens[n] == image)
            return;
    if (s->open_count == MON_SESSION_OPENS_MAX) {
        memmove(s->opens, s->opens + 1, sizeof(s->opens) - sizeof(s->opens[0]));
        s->open_count--;
    }
    s->opens[s->open_count++] = image;
}

/* The reply's epoch vouches that the image exists then: PGs take it for proof (osd/pg_image.c). If our data
 * may be from a backup, that is known of the epoch that was loaded only; those that we made since are no part
 * of what happened, and may be as high as one at which the image was removed. */
static void reply_image(struct mon_request *r)
{
    struct mon *mon = r->mon;
    struct mon_image *i = mon_image_find(mon, r->image);
    bool newest = !mon->behind[0] && mon_osd_proven(mon);

    r->reply.image = i ? mon_image_item(i) : NULL;
    r->reply.epoch = !i ? 0 : newest ? mon->state.epoch : mon->start_epoch;
}

static bool is_writer(const struct mon_image *i, const uint8_t client[16])
{
    const ProtobufCBinaryData *writer = &mon_image_item(i)->writer_client;

    return writer->len == 16 && !memcmp(writer->data, client, 16);
}

void mon_image_client_gone(struct mon *mon, const uint8_t client[16])
{
    mon_for_each(mon, MON_IMAGE, node)
    {
        struct mon_image *i = mon_image_of(node);
        if (i->writer_here && is_writer(i, client)) {
            i->writer_here = false;
            i->writer_gone_ns = mon->alive_ns;
        }
    }
}

void mon_image_client_writes(struct mon *mon, const uint8_t client[16], const uint64_t *images, size_t count)
{
    mon_image_client_gone(mon, client);
    for (size_t n = 0; n < count; n++) {
        struct mon_image *i = mon_image_find(mon, images[n]);
        if (i && is_writer(i, client))
            i->writer_here = true;
    }
}

/* ---- create ---- */

static int size_check(struct mon_request *r, uint64_t size)
{
    char text[TEXT_SIZE_MAX];

    if (size < BLOCK_SIZE)
        return mon_fail(r, -ERR_TOO_SMALL, "%" PRIu64 " bytes: an image has at least 4 KiB", size);
    if (size > MON_IMAGE_SIZE_MAX)
        return mon_fail(r, -ERR_TOO_LARGE, "%s: an image has at most 8 PiB", text_format_size(size, text));
    if (size % BLOCK_SIZE)
        return mon_fail(r, -ERR_INVALID,
                        "%" PRIu64 " bytes is not a multiple of 4 KiB (nothing is rounded): use %" PRIu64
                        " or %" PRIu64,
                        size, ALIGN_DOWN(size, (uint64_t)BLOCK_SIZE), ALIGN_UP(size, (uint64_t)BLOCK_SIZE));
    return 0;
}

static int image_create_build(struct mon_request *r)
{
    const Fb__ImageCreate *call = r->call->image_create;
    struct mon *mon = r->mon;

    if (!mon_name_valid(call->name))
        return mon_fail(r, -ERR_INVALID,
                        "'%.64s' cannot be an image's name: 1 to %u of the characters A-Z a-z 0-9 . _ -",
                        call->name, MON_NAME_MAX);
    int error = size_check(r, call->size_bytes);
    if (error)
        return error;
    struct mon_pool *p = mon_pool_by_name(mon, call->pool);
    if (!p)
        return mon_fail(r, -ERR_NOT_FOUND, "there is no pool '%.64s': create it first", call->pool);
    if (image_by_name(mon, mon_pool_item(p)->id, call->name))
        return mon_fail(r, -ERR_EXISTS, "there is an image '%s/%s' already", call->pool, call->name);

    Fb__Image image = FB__IMAGE__INIT;
    image.id = ++r->change.state.image_id_max;
    image.pool = mon_pool_item(p)->id;
    image.name = call->name;
    image.size_bytes = call->size_bytes;
    image.generation = 1;
    image.created_us = mon->core->env->wall_us(mon->core->env_self);
    image.placement_key = image.id;
    r->image = image.id;
    r->reply.id = image.id;
    mon_change_put(&r->change, MON_IMAGE, image.id, &image.base);
    return 0;
}

static void image_create_done(struct mon_request *r)
{
    core_log(r->mon->core, LOG_INFO, "mon", "image '%s/%s' (id %" PRIu64 ") created",
             r->call->image_create->pool, r->call->image_create->name, r->image);
    reply_image(r);
}

const struct mon_method mon_image_create = {
    .build = image_create_build, .done = image_create_done, .needs_proof = true};

/* ---- open and close ---- */

/* The same name from another process: while the first is connected these are two writers, not one that was
 * started again. */
static bool is_namesake(const struct mon_image *i, const struct mon_request *r)
{
    const Fb__Image *image = mon_image_item(i);

    return image->writer[0] && !strcmp(image->writer, r->call->image_open->writer) &&
           memcmp(image->writer_client.data, r->who.client_uuid, 16) != 0;
}

/* To a monitor that has just begun to lead nobody is connected yet: whoever is there comes in a moment. */
static bool image_open_waits(const struct mon_request *r)
{
    const Fb__ImageOpen *call = r->call->image_open;
    const struct mon_pool *p = mon_pool_by_name(r->mon, call->pool);
    const struct mon_image *i = p ? image_by_name(r->mon, mon_pool_item(p)->id, call->name) : NULL;

    bool unheard = i && i->writer_gone_ns <= MON_TICK_NS && r->mon->alive_ns < CLIENTS_COME_NS;

    return call->write && !call->force && i && (i->writer_here || unheard) && is_namesake(i, r);
}

static int image_open_build(struct mon_request *r)
{
    const Fb__ImageOpen *call = r->call->image_open;
    struct mon *mon = r->mon;
    struct mon_image *i;
    char who[MON_MESSAGE_MAX];

    int error = find_image(r, call->pool, call->name, &i);
    if (error)
        return error;
    Fb__Image image = *mon_image_item(i);
    r->image = image.id;
    memset(r->former_client, 0, sizeof(r->former_client));
    if (!call->write) {
        r->nothing = true;
        return 0;
    }
    if (!call->writer[0] || !mon_text_valid(call->writer) || !mon_text_valid(call->address))
        return mon_fail(r, -ERR_INVALID,
                        "a writer needs a name; name and address are at most %u printable characters",
                        MON_TEXT_MAX - 1);
    if (call->share)
        return mon_fail(
            r, -ERR_UNSUPPORTED,
            "image '%s/%s': several writers at once are not supported by this version: open it without "
            "sharing",
            call->pool, call->name);
    bool namesake = i->writer_here && is_namesake(i, r);
    bool other = image.writer[0] && (strcmp(image.writer, call->writer) || namesake);
    bool alive = other && writer_alive(mon, i);
    /* The answer to the first of two such calls may have been lost, and somebody come in between. */
    if (alive && call->force && call->force_over && call->force_over != image.incarnation)
        return mon_fail(
            r, -ERR_WRITER_EXISTS,
            "image '%s/%s' was opened for writing by %.300s while this was under way: that is not taken over",
            call->pool, call->name, describe_writer(mon, &image, who));
    if (alive && !call->force)
        return mon_fail(
            r, -ERR_WRITER_EXISTS,
            "image '%s/%s' is open for writing by %.300s%s. Stop that, or take the image over with --force (the "
            "other writer then gets errors)",
            call->pool, call->name, describe_writer(mon, &image, who),
            namesake ? ", another process under the same name, which is still connected" : "");

    if (image.writer_client.len == 16)
        memcpy(r->former_client, image.writer_client.data, 16);
    image.writer = call->writer;
    image.writer_address = call->address;
    image.writer_client.data = r->who.client_uuid;
    image.writer_client.len = 16;
    image.writer_since_us = mon->core->env->wall_us(mon->core->env_self);
    image.shared = false;
    image.incarnation++;
    mon_change_put(&r->change, MON_IMAGE, image.id, &image.base);
    return 0;
}

static void image_open_done(struct mon_request *r)
{
    const Fb__ImageOpen *call = r->call->image_open;
    struct mon_image *i = mon_image_find(r->mon, r->image);

    if (!r->nothing) {
        mon_event_image(r->mon, r->image, r->former_client);
        i->writer_here = mon_client_connected(r->mon, r->who.client_uuid);
        i->writer_gone_ns = r->mon->alive_ns;
        core_log(r->mon->core, LOG_INFO, "mon",
                 "image '%s/%s' (id %" PRIu64 "): writer %s at %s, incarnation %" PRIu64 "%s", call->pool,
                 call->name, r->image, call->writer, call->address, mon_image_item(i)->incarnation,
                 call->force ? ", by force" : "");
    }
    remember_open(r, r->image);
    reply_image(r);
}

const struct mon_method mon_image_open = {
    .build = image_open_build, .done = image_open_done, .needs_proof = true, .waits = image_open_waits};

static int image_close_build(struct mon_request *r)
{
    const Fb__ImageClose *call = r->call->image_close;
    struct mon_image *i = mon_image_find(r->mon, call->id);

    r->image = call->id;
    if (!i || strcmp(mon_image_item(i)->writer, call->writer) ||
        mon_image_item(i)->incarnation != call->incarnation) {
        r->nothing =
            true; /* removed, or taken over, or closed before: nothing of the caller's is registered */
        return 0;
    }
    Fb__Image image = *mon_image_item(i);
    image.writer = image.writer_address = (char *)protobuf_c_empty_string;
    image.writer_client = (ProtobufCBinaryData){0};
    image.writer_since_us = 0;
    image.shared = false;
    mon_change_put(&r->change, MON_IMAGE, image.id, &image.base);
    return 0;
}

static void image_close_done(struct mon_request *r)
{
    struct mon_session *s = mon_session_find(r->mon, r->session);
    struct mon_image *i = mon_image_find(r->mon, r->image);

    if (i && !r->nothing)
        i->writer_here = false;
    for (uint32_t n = 0; s && n < s->open_count; n++)
        if (s->opens[n] == r->image)
            s->opens[n] = s->opens[--s->open_count];
}

const struct mon_method mon_image_close = {.build = image_close_build, .done = image_close_done};

/* ---- resize and remove ---- */

/* Every shard keeps all orders that are not done in the map that it saves (STORE_BLOB_MAX), and carries out
 * nothing that a map orders, not even to go on alone, before it has saved that. */
static int orders_room(struct mon_request *r)
{
    uint32_t count = 0;

    mon_for_each(r->mon, MON_ORDER, node) count += !mon_order_item(mon_order_of(node))->removed;
    if (count < r->mon->config.orders_max)
        return 0;
    return mon_fail(
        r, -ERR_BUSY,
        "%u images were removed or resized of which not all PGs know yet: try again later; `fastblock "
        "health detail` shows PGs without a leader",
        count);
}

static void put_order(struct mon_request *r, const Fb__Image *image, bool deleted)
{
    Fb__ImageOrder order = FB__IMAGE_ORDER__INIT;

    order.image = image->id;
    order.epoch = r->change.state.epoch;
    order.pool = image->pool;
    order.generation = image->generation;
    order.size_bytes = deleted ? 0 : image->size_bytes;
    order.deleted = deleted;
    mon_change_put(&r->change, MON_ORDER, image->id, &order.base);
}

static int image_resize_build(struct mon_request *r)
{
    const Fb__ImageResize *call = r->call->image_resize;
    struct mon *mon = r->mon;
    struct mon_image *i;
    char who[MON_MESSAGE_MAX], has[TEXT_SIZE_MAX], wanted[TEXT_SIZE_MAX];

    int error = find_image(r, call->pool, call->name, &i);
    if (!error)
        error = size_check(r, call->size_bytes);
    if (error)
        return error;
    Fb__Image image = *mon_image_item(i);
    r->image = image.id;
    if (call->size_bytes == image.size_bytes) {
        r->nothing = true;
        return 0;
    }
    if (call->size_bytes < image.size_bytes && !call->lose_data)
        return mon_fail(r, -ERR_INVALID,
                        "image '%s/%s' has %s: what lies beyond %s would be lost for good. If that is meant: "
                        "--yes-lose-data (libfastblock: FB_RESIZE_LOSE_DATA)",
                        call->pool, call->name, text_format_size(image.size_bytes, has),
                        text_format_size(call->size_bytes, wanted));
    if (call->size_bytes < image.size_bytes && writer_alive(mon, i))
        return mon_fail(r, -ERR_WRITER_EXISTS,
                        "image '%s/%s' cannot shrink while it is open for writing by %.300s: stop that first",
                        call->pool, call->name, describe_writer(mon, &image, who));
    struct mon_order *order = mon_order_find(mon, image.id);
    if (order && !mon_order_item(order)->removed)
        return mon_fail(
            r, -ERR_BUSY,
            "the last resize of '%s/%s' has not reached every PG yet (%u have confirmed): try again in a few seconds; "
            "`fastblock status` shows PGs without a leader",
            call->pool, call->name, order->confirmed_count);
    error = orders_room(r);
    if (error)
        return error;
    image.size_bytes = call->size_bytes;
    image.generation++;
    mon_change_put(&r->change, MON_IMAGE, image.id, &image.base);
    put_order(r, &image, false);
    return 0;
}

static void image_resize_done(struct mon_request *r)
{
    struct mon_image *i = mon_image_find(r->mon, r->image);
    const Fb__Image *image = mon_image_item(i);

    if (!r->nothing) {
        core_log(r->mon->core, LOG_INFO, "mon",
                 "image '%s/%s' (id %" PRIu64 ") resized to %" PRIu64 " bytes, generation %" PRIu64,
                 r->call->image_resize->pool, r->call->image_resize->name, r->image, image->size_bytes,
                 image->generation);
        mon_event_image(r->mon, r->image, image->writer_client.len == 16 ? image->writer_client.data : NULL);
    }
    reply_image(r);
}

const struct mon_method mon_image_resize = {
    .build = image_resize_build, .done = image_resize_done, .needs_proof = true};

static int image_remove_build(struct mon_request *r)
{
    const Fb__ImageRemove *call = r->call->image_remove;
    struct mon *mon = r->mon;
    struct mon_image *i;
    char who[MON_MESSAGE_MAX];

    int error = find_image(r, call->pool, call->name, &i);
    if (error)
        return error;
    Fb__Image image = *mon_image_item(i);
    if (writer_alive(mon, i))
        return mon_fail(
            r, -ERR_WRITER_EXISTS,
            "image '%s/%s' cannot be removed while it is open for writing by %.300s: stop that first",
            call->pool, call->name, describe_writer(mon, &image, who));
    error = orders_room(r);
    if (error)
        return error;
    image.generation++;
    r->reply.id = image.id;
    mon_change_put(&r->change, MON_IMAGE, image.id, NULL);
    put_order(r, &image, true);
    return 0;
}

static void image_remove_done(struct mon_request *r)
{
    core_log(r->mon->core, LOG_INFO, "mon", "image '%s/%s' (id %" PRIu64 ") removed: its PGs delete the data",
             r->call->image_remove->pool, r->call->image_remove->name, r->reply.id);
}

const struct mon_method mon_image_remove = {
    .build = image_remove_build, .done = image_remove_done, .needs_proof = true};

/* ---- list and get ---- */

static int compare_images(const void *a, const void *b)
{
    const Fb__Image *left = *(Fb__Image *const *)a, *right = *(Fb__Image *const *)b;

    return (left->id > right->id) - (left->id < right->id);
}

void mon_image_list(struct mon_request *r)
{
    const char *name = r->call->image_list->pool;
    struct mon_pool *pool = name[0] ? mon_pool_by_name(r->mon, name) : NULL;

    if (name[0] && !pool) {
        mon_reply(r, mon_fail(r, -ERR_NOT_FOUND, "there is no pool '%.64s'", name));
        return;
    }
    Fb__Image **images = malloc((r->mon->items[MON_IMAGE].count + 1) * sizeof(Fb__Image *));
    if (!images) {
        mon_reply(r, -ERR_NO_MEMORY);
        return;
    }
    size_t count = 0;
    mon_for_each(r->mon, MON_IMAGE, node)
    {
        Fb__Image *image = mon_image_item(mon_image_of(node));
        if (image->id > r->call->image_list->after_id && (!pool || image->pool == mon_pool_item(pool)->id))
            images[count++] = image;
    }
    qsort(images, count, sizeof(Fb__Image *), compare_images);
    r->reply.images = images;
    r->reply.n_images = mon_page(r, (ProtobufCMessage *const *)images, count);
    mon_reply(r, 0);
    free(images);
}

void mon_image_get(struct mon_request *r)
{
    const Fb__ImageGet *call = r->call->image_get;
    struct mon_image *i = NULL;
    int error = 0;

    if (call->id) {
        i = mon_image_find(r->mon, call->id);
        if (!i)
            error = mon_fail(r, -ERR_NOT_FOUND, "there is no image with id %" PRIu64, call->id);
    } else {
        error = find_image(r, call->pool, call->name, &i);
    }
    if (!error) {
        r->image = mon_image_item(i)->id;
        reply_image(r);
    }
    mon_reply(r, error);
}
