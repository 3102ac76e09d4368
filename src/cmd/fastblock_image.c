/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock image ...: create, list, info, du, resize, remove.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cmd/cmd.h"

static const char *pool_name(const Fb__ClusterMap *map, uint32_t pool)
{
    for (size_t i = 0; i < map->n_pool; i++)
        if (map->pool[i]->id == pool)
            return map->pool[i]->name;
    return "?";
}

int cmd_image_create(struct cmd_args *args)
{
    char pool[CMD_NAME_MAX], name[CMD_NAME_MAX];
    uint64_t size;
    if (!cmd_split_image(args->positional[0], pool, name) || !cmd_option_size(args, "size", 0, &size))
        return CMD_USAGE;
    if (!cmd_option(args, "size"))
        return cmd_usage("image create needs --size, for example --size 4G");
    Fb__ImageCreate create = FB__IMAGE_CREATE__INIT;
    create.pool = pool;
    create.name = name;
    create.size_bytes = size;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_CREATE;
    request.image_create = &create;
    return cmd_order(args, &request, cmd_text("cannot create image %s", args->positional[0]),
                     cmd_image_json(args->positional[0], size),
                     cmd_text("%s created, %s", args->positional[0], cmd_size_text(size)));
}

static Fb__MonReply *image_get(struct cmd_session *s, struct cmd_call *call, char *pool, char *name,
                               const char *what)
{
    Fb__ImageGet get = FB__IMAGE_GET__INIT;
    get.pool = pool;
    get.name = name;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_GET;
    request.image_get = &get;
    return cmd_mon_call(s, call, &request, what);
}

int cmd_image_resize(struct cmd_args *args)
{
    char pool[CMD_NAME_MAX], name[CMD_NAME_MAX];
    uint64_t size;
    if (!cmd_split_image(args->positional[0], pool, name) || !cmd_option_size(args, "size", 0, &size))
        return CMD_USAGE;
    if (!cmd_option(args, "size"))
        return cmd_usage("image resize needs --size, for example --size 8G");
    Fb__ImageResize resize = FB__IMAGE_RESIZE__INIT;
    resize.pool = pool;
    resize.name = name;
    resize.size_bytes = size;
    resize.lose_data = cmd_option(args, "yes-lose-data") != NULL;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_RESIZE;
    request.image_resize = &resize;
    return cmd_order(args, &request, cmd_text("cannot resize image %s", args->positional[0]),
                     cmd_image_json(args->positional[0], size),
                     cmd_text("%s resized to %s", args->positional[0], cmd_size_text(size)));
}

int cmd_image_rm(struct cmd_args *args)
{
    char pool[CMD_NAME_MAX], name[CMD_NAME_MAX];
    if (!cmd_split_image(args->positional[0], pool, name))
        return CMD_USAGE;
    Fb__ImageRemove remove = FB__IMAGE_REMOVE__INIT;
    remove.pool = pool;
    remove.name = name;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_REMOVE;
    request.image_remove = &remove;
    return cmd_order(args, &request, cmd_text("cannot remove image %s", args->positional[0]),
                     json_pack("{s:s}", "removed", args->positional[0]),
                     cmd_text("%s removed", args->positional[0]));
}

static json_t *image_json(const Fb__ClusterMap *map, const Fb__Image *image)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:s, s:I}", "pool", pool_name(map, image->pool), "name",
                     image->name, "id", (json_int_t)image->id, "size_bytes", (json_int_t)image->size_bytes,
                     "generation", (json_int_t)image->generation, "writer", image->writer, "writer_address",
                     image->writer_address, "created_us", (json_int_t)image->created_us);
}

static void after_page(Fb__MonRequest *request, const Fb__MonReply *page)
{
    request->image_list->after_id = page->images[page->n_images - 1]->id;
}

struct image_row {
    const char *pool;
    const Fb__Image *image;
};

static int compare_rows(const void *a, const void *b)
{
    const struct image_row *left = a, *right = b;
    int pools = strcmp(left->pool, right->pool);

    return pools ? pools : strcmp(left->image->name, right->image->name);
}

/* In order of names. NULL: no memory. */
static struct image_row *sort_images(const Fb__ClusterMap *map, const struct cmd_pages *pages,
                                     size_t *ret_count)
{
    size_t count = 0;

    for (const struct cmd_pages *p = pages; p; p = p->next)
        count += p->reply->n_images;
    struct image_row *rows = calloc(count + 1, sizeof(*rows));
    *ret_count = count;
    if (!rows)
        return NULL;
    count = 0;
    for (const struct cmd_pages *p = pages; p; p = p->next)
        for (size_t i = 0; i < p->reply->n_images; i++)
            rows[count++] =
                (struct image_row){pool_name(map, p->reply->images[i]->pool), p->reply->images[i]};
    qsort(rows, count, sizeof(*rows), compare_rows);
    return rows;
}

int cmd_image_ls(struct cmd_args *args)
{
    struct cmd_session s;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__ImageList image_list = FB__IMAGE_LIST__INIT;
    image_list.pool = (char *)(args->positional[0] ? args->positional[0] : "");
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_LIST;
    request.image_list = &image_list;
    struct cmd_pages *pages = cmd_mon_pages(&s, &request, "cannot list images", after_page);
    const Fb__ClusterMap *map = client_map(s.client);
    size_t count = 0;
    struct image_row *rows = pages ? sort_images(map, pages, &count) : NULL;
    int result = rows ? CMD_OK : CMD_FAILED;
    if (rows) {
        json_t *list = json_array();
        struct cmd_table *table = cmd_table_new("lrrl", "IMAGE", "SIZE", "ID", "WRITER", NULL);
        for (size_t i = 0; i < count; i++) {
            const Fb__Image *image = rows[i].image;
            json_array_append_new(list, image_json(map, image));
            cmd_table_row(table, cmd_text("%s/%s", rows[i].pool, image->name),
                          cmd_size_text(image->size_bytes), cmd_text("%llu", (unsigned long long)image->id),
                          *image->writer ? image->writer : "-");
        }
        cmd_table_print(table, args, list);
    } else if (pages) {
        cmd_fail("out of memory");
    }
    free(rows);
    cmd_pages_free(pages);
    cmd_session_close(&s);
    return result;
}

int cmd_image_info(struct cmd_args *args)
{
    char pool[CMD_NAME_MAX], name[CMD_NAME_MAX];
    struct cmd_session s;
    struct cmd_call call;
    if (!cmd_split_image(args->positional[0], pool, name))
        return CMD_USAGE;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__MonReply *reply =
        image_get(&s, &call, pool, name, cmd_text("cannot show image %s", args->positional[0]));
    int result = reply && reply->image ? CMD_OK : CMD_FAILED;
    if (result == CMD_OK) {
        const Fb__Image *image = reply->image;
        if (args->json) {
            cmd_print_json(image_json(client_map(s.client), image));
        } else {
            printf("image       %s\n", args->positional[0]);
            printf("id          %llu\n", (unsigned long long)image->id);
            printf("size        %s (%llu bytes)\n", cmd_size_text(image->size_bytes),
                   (unsigned long long)image->size_bytes);
            printf("created     %s\n", cmd_time_text(image->created_us));
            printf("generation  %llu\n", (unsigned long long)image->generation);
            printf("writer      %s%s%s%s\n", *image->writer ? image->writer : "none",
                   *image->writer_address ? " (" : "", image->writer_address,
                   *image->writer_address ? ")" : "");
        }
    }
    if (reply)
        cmd_call_end(&call);
    cmd_session_close(&s);
    return result;
}

/* ---- du ---- */

static int sum_written(struct cmd_session *s, struct client_image *image, uint64_t *ret_bytes)
{
    static struct client_extent extents[CMD_EXTENTS_MAX];
    uint64_t size = client_image_size(image), bytes = 0;
    struct cmd_progress progress;

    cmd_progress_start(&progress, s->core, "looked at", size);
    for (uint64_t offset = 0; offset < size;) {
        uint32_t count;
        if (cmd_interrupted())
            return cmd_fail("interrupted");
        if (!cmd_image_extents(s, image, offset, extents, &count))
            return CMD_FAILED;
        for (uint32_t i = 0; i < count; i++) {
            offset += extents[i].len;
            bytes += extents[i].written ? extents[i].len : 0;
        }
        cmd_progress_show(&progress, s->core, offset);
    }
    cmd_progress_end();
    *ret_bytes = bytes;
    return CMD_OK;
}

int cmd_image_du(struct cmd_args *args)
{
    const char *name = args->positional[0];
    struct cmd_session s;

    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    struct client_image *image = cmd_image_open(&s, name, false, false);
    uint64_t bytes = 0, size = image ? client_image_size(image) : 0;
    int result = image ? sum_written(&s, image, &bytes) : CMD_FAILED;
    if (image && cmd_image_close(&s, image) && result == CMD_OK)
        result = cmd_fail("the image could not be closed in order");
    if (result == CMD_OK && args->json) {
        json_t *json = cmd_image_json(name, size);
        json_object_set_new(json, "written_bytes", json_integer((json_int_t)bytes));
        cmd_print_json(json);
    } else if (result == CMD_OK) {
        printf("%s: %s of %s are written\n", name, cmd_size_text(bytes), cmd_size_text(size));
    }
    cmd_session_close(&s);
    return result;
}
