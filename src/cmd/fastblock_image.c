/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock image ...: create, list, info, resize, remove.
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

/* One call that answers nothing but success. `done`: what to tell then. */
static int simple_call(struct cmd_session *s, const struct cmd_args *args, Fb__MonRequest *request,
                       const char *what, const char *done)
{
    struct cmd_call call;
    Fb__MonReply *reply = cmd_mon_call(s, &call, request, what);
    if (!reply)
        return CMD_FAILED;
    if (args->json)
        cmd_print_json(json_pack("{s:s, s:s}", "image", args->positional[0], "result", done));
    else
        printf("%s %s\n", args->positional[0], done);
    if (reply->message && *reply->message)
        fprintf(stderr, "fastblock: note: %s\n", reply->message);
    cmd_call_end(&call);
    return CMD_OK;
}

int cmd_image_create(struct cmd_args *args)
{
    char pool[CMD_NAME_MAX], name[CMD_NAME_MAX];
    uint64_t size;
    if (!cmd_split_image(args->positional[0], pool, name) || !cmd_option_size(args, "size", 0, &size))
        return CMD_USAGE;
    if (!cmd_option(args, "size"))
        return cmd_usage("image create needs --size, for example --size 4G");
    struct cmd_session s;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__ImageCreate create = FB__IMAGE_CREATE__INIT;
    create.pool = pool;
    create.name = name;
    create.size_bytes = size;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_CREATE;
    request.image_create = &create;
    int result = simple_call(&s, args, &request, cmd_text("cannot create image %s", args->positional[0]),
                             cmd_text("created, %s", cmd_size_text(size)));
    cmd_session_close(&s);
    return result;
}

int cmd_image_resize(struct cmd_args *args)
{
    char pool[CMD_NAME_MAX], name[CMD_NAME_MAX];
    uint64_t size;
    if (!cmd_split_image(args->positional[0], pool, name) || !cmd_option_size(args, "size", 0, &size))
        return CMD_USAGE;
    if (!cmd_option(args, "size"))
        return cmd_usage("image resize needs --size, for example --size 8G");
    struct cmd_session s;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__ImageResize resize = FB__IMAGE_RESIZE__INIT;
    resize.pool = pool;
    resize.name = name;
    resize.size_bytes = size;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_RESIZE;
    request.image_resize = &resize;
    int result = simple_call(&s, args, &request, cmd_text("cannot resize image %s", args->positional[0]),
                             cmd_text("resized to %s", cmd_size_text(size)));
    cmd_session_close(&s);
    return result;
}

int cmd_image_rm(struct cmd_args *args)
{
    char pool[CMD_NAME_MAX], name[CMD_NAME_MAX];
    if (!cmd_split_image(args->positional[0], pool, name))
        return CMD_USAGE;
    struct cmd_session s;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__ImageRemove remove = FB__IMAGE_REMOVE__INIT;
    remove.pool = pool;
    remove.name = name;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_REMOVE;
    request.image_remove = &remove;
    int result =
        simple_call(&s, args, &request, cmd_text("cannot remove image %s", args->positional[0]), "removed");
    cmd_session_close(&s);
    return result;
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
    Fb__ImageGet get = FB__IMAGE_GET__INIT;
    get.pool = pool;
    get.name = name;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_GET;
    request.image_get = &get;
    Fb__MonReply *reply =
        cmd_mon_call(&s, &call, &request, cmd_text("cannot show image %s", args->positional[0]));
    int result = reply && reply->image ? CMD_OK : CMD_FAILED;
    if (result == CMD_OK) {
        const Fb__Image *image = reply->image;
        if (args->json) {
            cmd_print_json(image_json(client_map(s.client), image));
        } else {
            printf(
                "image       %s\nid          %llu\nsize        %s (%llu bytes)\ngeneration  %llu\nwriter      %s%s%s%s\n",
                args->positional[0], (unsigned long long)image->id, cmd_size_text(image->size_bytes),
                (unsigned long long)image->size_bytes, (unsigned long long)image->generation,
                *image->writer ? image->writer : "none", *image->writer_address ? " (" : "",
                image->writer_address, *image->writer_address ? ")" : "");
        }
    }
    if (reply)
        cmd_call_end(&call);
    cmd_session_close(&s);
    return result;
}
