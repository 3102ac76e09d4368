/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing images; making, resizing and removing them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

/* Splits "pool/image". */
static int split_name(struct fb_conn *conn, const char *name, char pool[API_NAME_MAX],
                      char image[API_NAME_MAX])
{
    const char *slash = name ? strchr(name, '/') : NULL;

    if (!slash || slash == name || slash[1] == '\0' || strchr(slash + 1, '/') ||
        (size_t)(slash - name) >= API_NAME_MAX || strlen(slash + 1) >= API_NAME_MAX)
        return api_fail(conn, -ERR_INVALID, "\"%.200s\" is not an image's name: write POOL/IMAGE",
                        name ? name : "");
    memcpy(pool, name, (size_t)(slash - name));
    pool[slash - name] = '\0';
    strcpy(image, slash + 1);
    return 0;
}

int fb_open(struct fb_conn *conn, const char *name, unsigned flags, const char *writer,
            struct fb_image **ret_image)
{
    char pool[API_NAME_MAX], image_name[API_NAME_MAX], unique[96];
    struct client_image_open open = {0};

    *ret_image = NULL;
    int result = split_name(conn, name, pool, image_name);
    if (result)
        return result;
    if (flags & ~(unsigned)(FB_OPEN_READ_ONLY | FB_OPEN_FORCE))
        return api_fail(conn, -ERR_INVALID, "%s: unknown flags %#x", name, flags);
    struct fb_image *image = calloc(1, sizeof(*image));
    if (!image)
        return api_fail(conn, -ERR_NO_MEMORY, "out of memory");
    if (!writer) {
        snprintf(unique, sizeof(unique), "%.60s-%016llx", conn->name,
                 (unsigned long long)core_random_u64(conn->core));
        writer = unique;
    }
    client_image_open_start(&open, conn->client, pool, image_name, !(flags & FB_OPEN_READ_ONLY), writer,
                            flags & FB_OPEN_FORCE, false, NULL);
    result = api_wait(conn, &open.op);
    if (result) {
        free(image);
        return api_fail(conn, result, "%s", open.ret_message[0] ? open.ret_message : error_text(result));
    }
    image->conn = conn;
    image->image = open.ret_image;
    snprintf(image->name, sizeof(image->name), "%s", name);
    list_push_back(&conn->images, &image->link);
    *ret_image = image;
    return 0;
}

int api_image_check(struct fb_image *image)
{
    if (!image->closing)
        return 0;
    return api_fail(image->conn, -ERR_INVALID, "%s: it is being closed", image->name);
}

int api_image_shut(struct fb_image *image)
{
    struct client_image_close op = {0};

    image->closing = true;
    while (image->request_count)
        (void)api_turn(image->conn, NS_PER_S);
    client_image_close_start(&op, image->image, NULL);
    return api_wait(image->conn, &op.op);
}

int fb_close(struct fb_image *image)
{
    struct fb_conn *conn = image->conn;
    int result = api_image_check(image);

    if (result)
        return result;
    result = api_image_shut(image);
    list_remove(&image->link);
    free(image);
    return result ? api_fail(conn, result, "%s", error_text(result)) : 0;
}

uint64_t fb_size(const struct fb_image *image)
{
    return client_image_size(image->image);
}

/* Busy: the monitor waits for OSDs to carry out an earlier change, a matter of moments. */
#define BUSY_WAIT_NS  (10 * NS_PER_S)
#define BUSY_PAUSE_NS (100 * NS_PER_MS)

static int manage(struct fb_conn *conn, const char *name, Fb__MonRequest *request)
{
    uint64_t give_up_ns = core_now_ns(conn->core) + BUSY_WAIT_NS;
    struct client_mon_call call;
    int result;

    for (;;) {
        call = (struct client_mon_call){0};
        client_mon_call_start(&call, conn->client, request, NULL);
        result = api_wait(conn, &call.op);
        if (result != -ERR_BUSY || core_now_ns(conn->core) >= give_up_ns)
            break;
        client_mon_call_fini(&call);
        uint64_t end_ns = core_now_ns(conn->core) + BUSY_PAUSE_NS;
        for (uint64_t now_ns; (now_ns = core_now_ns(conn->core)) < end_ns;)
            api_turn(conn, end_ns - now_ns);
    }
    if (result) {
        bool said = call.ret_reply && call.ret_reply->message[0];
        result = api_fail(conn, result, "%s: %s", name, said ? call.ret_reply->message : error_text(result));
    }
    client_mon_call_fini(&call);
    return result;
}

int fb_image_create(struct fb_conn *conn, const char *name, uint64_t size_bytes)
{
    char pool[API_NAME_MAX], image[API_NAME_MAX];
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__ImageCreate create = FB__IMAGE_CREATE__INIT;
    int result = split_name(conn, name, pool, image);

    if (result)
        return result;
    create.pool = pool;
    create.name = image;
    create.size_bytes = size_bytes;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_CREATE;
    request.image_create = &create;
    return manage(conn, name, &request);
}

int fb_image_resize(struct fb_conn *conn, const char *name, uint64_t size_bytes, unsigned flags)
{
    char pool[API_NAME_MAX], image[API_NAME_MAX];
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__ImageResize resize = FB__IMAGE_RESIZE__INIT;
    int result = split_name(conn, name, pool, image);

    if (result)
        return result;
    if (flags & ~(unsigned)FB_RESIZE_LOSE_DATA)
        return api_fail(conn, -ERR_INVALID, "%s: unknown flags %#x", name, flags);
    resize.pool = pool;
    resize.name = image;
    resize.size_bytes = size_bytes;
    resize.lose_data = flags & FB_RESIZE_LOSE_DATA;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_RESIZE;
    request.image_resize = &resize;
    return manage(conn, name, &request);
}

int fb_image_remove(struct fb_conn *conn, const char *name)
{
    char pool[API_NAME_MAX], image[API_NAME_MAX];
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__ImageRemove remove = FB__IMAGE_REMOVE__INIT;
    int result = split_name(conn, name, pool, image);

    if (result)
        return result;
    remove.pool = pool;
    remove.name = image;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_REMOVE;
    request.image_remove = &remove;
    return manage(conn, name, &request);
}
