/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock osd ls, tree, df, demote: which OSDs there are, and how full.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cmd/cmd.h"

/* ---- what the lists share ---- */

struct row {
    const Fb__Osd *osd;
    const Fb__OsdUsage *usage; /* NULL: the monitor did not tell */
};

static const char *state_text(const Fb__Osd *o)
{
    const char *up = o->up ? "up" : o->incarnation ? "down" : "new";

    return cmd_text("%s%s%s", up, o->out || !o->weight ? ", out" : "", o->maintenance ? ", maintenance" : "");
}

static const char *weight_text(const Fb__Osd *o)
{
    return cmd_text("%u.%03u", o->weight / 1000, o->weight % 1000);
}

static double full_percent(const Fb__OsdUsage *u)
{
    uint64_t size = u ? u->used_bytes + u->free_bytes : 0;

    return size ? 100.0 * (double)u->used_bytes / (double)size : 0;
}

static json_t *row_json(const struct row *row)
{
    const Fb__Osd *o = row->osd;
    const Fb__OsdUsage *u = row->usage;
    json_t *addresses = json_array();

    for (size_t j = 0; j < o->n_shard; j++)
        json_array_append_new(addresses, json_string(o->shard[j]->address));
    return json_pack(
        "{s:I, s:b, s:b, s:f, s:b, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:s}", "id",
        (json_int_t)o->id, "up", o->up, "in", !o->out && o->weight, "weight", o->weight / 1000.0,
        "maintenance", o->maintenance, "host", o->host, "rack", o->rack, "zone", o->zone, "size_bytes",
        (json_int_t)o->size_bytes, "used_bytes", (json_int_t)(u ? u->used_bytes : 0), "free_bytes",
        (json_int_t)(u ? u->free_bytes : 0), "replicas", (json_int_t)(u ? u->replicas : 0), "leaders",
        (json_int_t)(u ? u->leaders : 0), "addresses", addresses, "problem", u && u->failed ? u->failed : "");
}

static int compare_place(const void *a, const void *b)
{
    const Fb__Osd *left = ((const struct row *)a)->osd, *right = ((const struct row *)b)->osd;
    int order = strcmp(left->zone, right->zone);

    if (!order)
        order = strcmp(left->rack, right->rack);
    if (!order)
        order = strcmp(left->host, right->host);
    return order ? order : (left->id > right->id) - (left->id < right->id);
}

/* Calls `show` with the OSDs there are; the memory is the call's. */
static int with_rows(struct cmd_args *args,
                     void (*show)(struct cmd_args *args, struct row *rows, size_t count))
{
    struct cmd_session s;
    struct cmd_call call;
    size_t count = 0;

    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__MonReply *reply = cmd_status_get(&s, &call);
    if (!reply) {
        cmd_session_close(&s);
        return CMD_FAILED;
    }
    const Fb__ClusterMap *map = client_map(s.client);
    struct row *rows = calloc(map->n_osd + 1, sizeof(*rows));
    for (size_t i = 0; rows && i < map->n_osd; i++) {
        if (map->osd[i]->removed)
            continue;
        struct row *row = &rows[count++];
        row->osd = map->osd[i];
        for (size_t j = 0; j < reply->status->n_usage; j++)
            if (reply->status->usage[j]->osd == row->osd->id)
                row->usage = reply->status->usage[j];
    }
    if (rows)
        show(args, rows, count);
    free(rows);
    cmd_call_end(&call);
    cmd_session_close(&s);
    return rows ? CMD_OK : cmd_fail("out of memory");
}

/* ---- ls, tree, df ---- */

static void ls_show(struct cmd_args *args, struct row *rows, size_t count)
{
    json_t *list = json_array();
    struct cmd_table *table = cmd_table_new("lllrrrrll", "OSD", "STATE", "HOST", "SIZE", "USED", "REPLICAS",
                                            "LEADERS", "ADDRESS", "PROBLEM", NULL);

    for (size_t i = 0; i < count; i++) {
        const Fb__Osd *o = rows[i].osd;
        const Fb__OsdUsage *u = rows[i].usage;
        const char *address = o->n_shard > 0 && o->shard[0]->address ? o->shard[0]->address : "";
        json_array_append_new(list, row_json(&rows[i]));
        cmd_table_row(table, cmd_text("osd.%u", o->id), state_text(o), o->host, cmd_size_text(o->size_bytes),
                      u ? cmd_size_text(u->used_bytes) : "?", cmd_text("%u", u ? u->replicas : 0),
                      cmd_text("%u", u ? u->leaders : 0), address, u && u->failed ? u->failed : "");
    }
    cmd_table_print(table, args, list);
}

int cmd_osd_ls(struct cmd_args *args)
{
    return with_rows(args, ls_show);
}

static void tree_show(struct cmd_args *args, struct row *rows, size_t count)
{
    json_t *list = json_array();
    struct cmd_table *table = cmd_table_new("llrr", "PLACE", "STATE", "WEIGHT", "SIZE", NULL);

    qsort(rows, count, sizeof(*rows), compare_place);
    for (size_t i = 0; i < count; i++) {
        const Fb__Osd *o = rows[i].osd, *before = i ? rows[i - 1].osd : NULL;
        bool new_zone = !before || strcmp(before->zone, o->zone);
        bool new_rack = new_zone || strcmp(before->rack, o->rack);
        if (new_zone && o->zone[0])
            cmd_table_row(table, cmd_text("zone %s", o->zone), "", "", "");
        if (new_rack && o->rack[0])
            cmd_table_row(table, cmd_text("rack %s", o->rack), "", "", "");
        if (new_rack || strcmp(before->host, o->host))
            cmd_table_row(table, cmd_text("  host %s", o->host), "", "", "");
        cmd_table_row(table, cmd_text("    osd.%u", o->id), state_text(o), weight_text(o),
                      cmd_size_text(o->size_bytes));
        json_array_append_new(list, row_json(&rows[i]));
    }
    cmd_table_print(table, args, list);
}

int cmd_osd_tree(struct cmd_args *args)
{
    return with_rows(args, tree_show);
}

static void df_show(struct cmd_args *args, struct row *rows, size_t count)
{
    json_t *list = json_array();
    struct cmd_table *table = cmd_table_new("lrrrrrrr", "OSD", "WEIGHT", "SIZE", "USED", "FREE", "FULL",
                                            "OF MEAN", "REPLICAS", NULL);
    uint64_t used = 0, size = 0;

    for (size_t i = 0; i < count; i++) {
        used += rows[i].usage ? rows[i].usage->used_bytes : 0;
        size += rows[i].usage ? rows[i].usage->used_bytes + rows[i].usage->free_bytes : 0;
    }
    double mean = size ? 100.0 * (double)used / (double)size : 0;
    for (size_t i = 0; i < count; i++) {
        const Fb__OsdUsage *u = rows[i].usage;
        double full = full_percent(u), of_mean = mean > 0 ? full / mean : 0;
        json_t *json = row_json(&rows[i]);
        json_object_set_new(json, "full_percent", json_real(full));
        json_object_set_new(json, "of_mean", json_real(of_mean));
        json_array_append_new(list, json);
        cmd_table_row(table, cmd_text("osd.%u", rows[i].osd->id), weight_text(rows[i].osd),
                      cmd_size_text(rows[i].osd->size_bytes), cmd_size_text(u ? u->used_bytes : 0),
                      cmd_size_text(u ? u->free_bytes : 0), cmd_text("%.1f%%", full),
                      cmd_text("%.2f", of_mean), cmd_text("%u", u ? u->replicas : 0));
    }
    cmd_table_print(table, args, list);
}

int cmd_osd_df(struct cmd_args *args)
{
    return with_rows(args, df_show);
}

/* ---- demote ---- */

int cmd_osd_demote(struct cmd_args *args)
{
    struct cmd_session s;
    struct cmd_call call;
    Fb__OsdDemote demote = FB__OSD_DEMOTE__INIT;
    if (!cmd_parse_osd(args->positional[0], &demote.osd))
        return CMD_USAGE;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_OSD_DEMOTE;
    request.osd_demote = &demote;
    int result = CMD_FAILED;
    if (cmd_mon_call(&s, &call, &request, cmd_text("cannot demote osd.%u", demote.osd))) {
        result = CMD_OK;
        cmd_call_end(&call);
    }
    /* Wait until it leads nothing any more, so that the next command may stop it. */
    uint32_t leaders = 1;
    uint64_t give_up_ns = core_now_ns(s.core) + 10 * NS_PER_S;
    while (result == CMD_OK && leaders > 0 && !cmd_interrupted()) {
        Fb__MonReply *reply = cmd_status_get(&s, &call);
        if (!reply) {
            result = CMD_FAILED;
            break;
        }
        leaders = 0;
        for (size_t i = 0; i < reply->status->n_usage; i++)
            if (reply->status->usage[i]->osd == demote.osd)
                leaders = reply->status->usage[i]->leaders;
        cmd_call_end(&call);
        if (leaders > 0 && core_now_ns(s.core) > give_up_ns) {
            result = cmd_fail(
                "osd.%u still leads %u PGs: their other members may be down or behind; see `fastblock pg ls`",
                demote.osd, leaders);
            break;
        }
        if (leaders > 0)
            cmd_sleep(&s, 100);
    }
    if (result == CMD_OK && leaders > 0)
        result = cmd_fail("interrupted: osd.%u may still lead PGs", demote.osd);
    if (result == CMD_OK) {
        if (args->json)
            cmd_print_json(
                json_pack("{s:I, s:I}", "osd", (json_int_t)demote.osd, "leaders", (json_int_t)leaders));
        else
            printf("osd.%u leads no PG any more\n", demote.osd);
    }
    cmd_session_close(&s);
    return result;
}
