/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock store show, store check: an OSD's device, offline. Opens it read-only and under its lock, so a
 * running OSD is never disturbed.
 */
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "base/error.h"
#include "base/uuid.h"
#include "cmd/cmd.h"
#include "store/store.h"

struct inspection {
    struct uring_core *uring;
    struct uring_dev *dev;
    struct device_label label;
    bool show; /* print every line, not only problems */
    json_t *lines;
};

static void print_line(void *owner, bool problem, const char *text)
{
    struct inspection *in = owner;
    if (in->lines) {
        json_array_append_new(in->lines, json_pack("{s:b, s:s}", "problem", problem, "text", text));
        return;
    }
    if (problem)
        printf("PROBLEM  %s\n", text);
    else if (in->show)
        printf("  %s\n", text);
}

static int read_label(struct inspection *in, const char *path)
{
    struct blk *blk;
    int error =
        uring_blk_new(in->uring, in->dev, 0, ALIGN_DOWN(uring_dev_size(in->dev), (uint64_t)BLOCK_SIZE), &blk);
    if (error)
        return cmd_fail("cannot read %s: %s", path, error_text(error));
    struct device_read read = {0};
    device_read_start(&read, uring_core_core(in->uring), blk, NULL);
    error = uring_core_run_op(in->uring, &read.op);
    blk->ops->close(blk);
    if (error)
        return cmd_fail("%s: %s%s", path, error_text(error),
                        error == -ERR_FORMAT ? "; `fastblock-osd format` makes one" : "");
    in->label = read.ret_label;
    return CMD_OK;
}

static int check_slice(struct inspection *in, uint32_t slice, bool deep, struct store_check *ret_check)
{
    struct blk *blk;
    int error = uring_blk_new(in->uring, in->dev, in->label.slice_offset[slice], in->label.slice_size, &blk);
    if (error)
        return cmd_fail("slice %u: %s", slice, error_text(error));
    memset(ret_check, 0, sizeof(*ret_check));
    store_check_start(ret_check, uring_core_core(in->uring), blk, deep, print_line, in, NULL);
    error = uring_core_run_op(in->uring, &ret_check->op);
    blk->ops->close(blk);
    if (error)
        return cmd_fail("slice %u: %s", slice, error_text(error));
    return CMD_OK;
}

static json_t *label_json(const struct device_label *l)
{
    char cluster[UUID_TEXT_SIZE], osd[UUID_TEXT_SIZE];
    struct uuid cluster_uuid, osd_uuid;
    memcpy(cluster_uuid.bytes, l->cluster, 16);
    memcpy(osd_uuid.bytes, l->osd_uuid, 16);
    return json_pack("{s:I, s:s, s:s, s:I, s:I, s:I}", "osd", (json_int_t)l->osd, "cluster",
                     uuid_format(&cluster_uuid, cluster), "uuid", uuid_format(&osd_uuid, osd), "slices",
                     (json_int_t)l->slice_count, "slice_bytes", (json_int_t)l->slice_size, "starts",
                     (json_int_t)l->start_counter);
}

static int inspect(struct inspection *in, const struct cmd_args *args, bool deep)
{
    int result = read_label(in, args->positional[0]);
    if (result)
        return result;
    json_t *label = label_json(&in->label);
    if (in->show && !args->json)
        printf("osd.%u  uuid %s\ncluster %s\n%u slices of %s, started %llu times\n", in->label.osd,
               json_string_value(json_object_get(label, "uuid")),
               json_string_value(json_object_get(label, "cluster")), in->label.slice_count,
               cmd_size_text(in->label.slice_size), (unsigned long long)in->label.start_counter);
    uint64_t problems = 0, objects = 0, entries = 0;
    for (uint32_t i = 0; i < in->label.slice_count && result == CMD_OK; i++) {
        struct store_check check;
        if (in->show && !args->json)
            printf("slice %u\n", i);
        result = check_slice(in, i, deep, &check);
        problems += check.ret_problems;
        objects += check.ret_objects;
        entries += check.ret_entries;
    }
    if (args->json) {
        json_object_set(label, "lines", in->lines);
        json_object_set_new(label, "problems", json_integer((json_int_t)problems));
        json_object_set_new(label, "objects", json_integer((json_int_t)objects));
        json_object_set_new(label, "log_entries", json_integer((json_int_t)entries));
        cmd_print_json(label);
    } else {
        json_decref(label);
        if (result == CMD_OK)
            printf("%llu objects, %llu log entries, %llu problems\n", (unsigned long long)objects,
                   (unsigned long long)entries, (unsigned long long)problems);
    }
    return result ? result : problems && !in->show ? CMD_FAILED : CMD_OK;
}

static int run(const struct cmd_args *args, bool show, bool deep)
{
    const char *path = args->positional[0];
    struct inspection in = {.show = show};
    int error = uring_dev_open(path, URING_CACHE_ASK, true, &in.dev);
    if (error)
        return cmd_fail("cannot open %s: %s%s", path, error_text(error),
                        error == -ERR_LOCKED ? " (stop its OSD first)" : "");
    struct uring_core_opts opts = {.arena_bytes = 64u << 20, .log_level = LOG_ERROR};
    error = uring_core_new(&opts, &in.uring);
    int result = CMD_FAILED;
    if (error) {
        cmd_fail("cannot start: %s", uring_core_error_text(error));
    } else {
        in.lines = args->json ? json_array() : NULL;
        result = inspect(&in, args, deep);
        json_decref(in.lines);
        uring_core_free(in.uring);
    }
    uring_dev_close(in.dev);
    return result;
}

int cmd_store_show(struct cmd_args *args)
{
    return run(args, true, false);
}

int cmd_store_check(struct cmd_args *args)
{
    return run(args, false, cmd_option(args, "deep") != NULL);
}
