/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock status, pg ls, pg leader: what the cluster is doing, and moving leaders.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cmd/cmd.h"

Fb__MonReply *cmd_status_get(struct cmd_session *s, struct cmd_call *call)
{
    Fb__Status status = FB__STATUS__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_STATUS;
    request.status = &status;
    Fb__MonReply *reply = cmd_mon_call(s, call, &request, "cannot get the status");
    if (reply && !reply->status) {
        cmd_call_end(call);
        cmd_fail("the monitor sent no status");
        return NULL;
    }
    return reply;
}

static json_t *status_json(const Fb__ClusterStatus *st)
{
    json_t *problems = json_array();
    for (size_t i = 0; i < st->n_problem; i++)
        json_array_append_new(problems, json_string(st->problem[i]));
    return json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:b, s:I, s:I}", "health",
                     st->health, "problems", problems, "osds", (json_int_t)st->osds, "osds_up",
                     (json_int_t)st->osds_up, "pools", (json_int_t)st->pools, "pgs", (json_int_t)st->pgs,
                     "pgs_active", (json_int_t)st->pgs_active, "pgs_degraded", (json_int_t)st->pgs_degraded,
                     "images", (json_int_t)st->images, "epoch", (json_int_t)st->epoch, "version", st->version,
                     "scrubs_due", (json_int_t)st->scrubs_due, "scrub_paused", st->scrub_paused,
                     "damaged_blocks", (json_int_t)st->damaged_blocks, "differing_objects",
                     (json_int_t)st->differing);
}

int cmd_status(struct cmd_args *args)
{
    struct cmd_session s;
    struct cmd_call call;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__MonReply *reply = cmd_status_get(&s, &call);
    if (reply) {
        const Fb__ClusterStatus *st = reply->status;
        uint64_t used = 0, free_bytes = 0;
        for (size_t i = 0; i < st->n_usage; i++) {
            used += st->usage[i]->used_bytes;
            free_bytes += st->usage[i]->free_bytes;
        }
        if (args->json) {
            cmd_print_json(status_json(st));
        } else {
            printf("health   %s\n", st->health);
            for (size_t i = 0; i < st->n_problem; i++)
                printf("         %s\n", st->problem[i]);
            printf("osds     %u, %u up\n", st->osds, st->osds_up);
            printf("pgs      %u in %u pools: %u active, %u degraded\n", st->pgs, st->pools, st->pgs_active,
                   st->pgs_degraded);
            printf("images   %u\n", st->images);
            printf("scrub    %s, %u PGs to be scrubbed\n", st->scrub_paused ? "paused" : "active",
                   st->scrubs_due);
            printf("space    %s used, %s free (raw, over all OSDs)\n", cmd_size_text(used),
                   cmd_size_text(free_bytes));
            printf("map      epoch %llu\n", (unsigned long long)st->epoch);
        }
        cmd_call_end(&call);
    }
    cmd_session_close(&s);
    return reply ? CMD_OK : CMD_FAILED;
}

static const char *pg_state(const Fb__Pg *pg, const Fb__PgReport *r, bool up)
{
    if (!pg->born && !r)
        return "creating";
    if (!r || !up)
        return "no leader";
    if (r->recovering)
        return "active, recovering";
    return r->in_contact < pg->n_member ? "active, degraded" : "active";
}

static bool osd_is_up(const Fb__ClusterMap *map, uint32_t osd)
{
    for (size_t i = 0; i < map->n_osd; i++)
        if (map->osd[i]->id == osd)
            return map->osd[i]->up;
    return false;
}

static void after_page(Fb__MonRequest *request, const Fb__MonReply *page)
{
    request->pg_list->after_pg = page->pg_reports[page->n_pg_reports - 1]->pg;
}

static int compare_reports(const void *a, const void *b)
{
    const Fb__PgReport *left = *(Fb__PgReport *const *)a, *right = *(Fb__PgReport *const *)b;

    return (left->pg > right->pg) - (left->pg < right->pg);
}

#define NO_LEADER 3 /* state of a PG that nobody has reported */

/* Within a page they are in order of their PGs. NULL: nobody leads it. */
static const Fb__PgReport *find_report(const struct cmd_pages *pages, uint64_t pg)
{
    Fb__PgReport key = FB__PG_REPORT__INIT, *key_pointer = &key, **found = NULL;

    key.pg = pg;
    for (; pages && !found; pages = pages->next)
        if (pages->reply->n_pg_reports)
            found = bsearch(&key_pointer, pages->reply->pg_reports, pages->reply->n_pg_reports,
                            sizeof(*found), compare_reports);
    return found && (*found)->state != NO_LEADER ? *found : NULL;
}

int cmd_pg_ls(struct cmd_args *args)
{
    struct cmd_session s;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    const Fb__ClusterMap *map = client_map(s.client);
    Fb__PgList pg_list = FB__PG_LIST__INIT;
    for (size_t i = 0; args->positional[0] && i < map->n_pool; i++)
        if (!map->pool[i]->removed && strcmp(map->pool[i]->name, args->positional[0]) == 0)
            pg_list.pool = map->pool[i]->id;
    if (args->positional[0] && !pg_list.pool) {
        cmd_session_close(&s);
        return cmd_fail("there is no pool '%s'; `fastblock pool ls` lists them", args->positional[0]);
    }
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_PG_LIST;
    request.pg_list = &pg_list;
    struct cmd_pages *pages = cmd_mon_pages(&s, &request, "cannot list the PGs", after_page);
    if (!pages) {
        cmd_session_close(&s);
        return CMD_FAILED;
    }
    map = client_map(s.client);
    json_t *list = json_array();
    struct cmd_table *table =
        cmd_table_new("llllrr", "PG", "STATE", "MEMBERS", "LEADER", "TERM", "OBJECTS", NULL);
    for (size_t i = 0; i < map->n_pg; i++) {
        const Fb__Pg *pg = map->pg[i];
        if (pg->removed || (pg_list.pool && pg->id >> 32 != pg_list.pool))
            continue;
        const Fb__PgReport *r = find_report(pages, pg->id);
        char members[128] = "";
        json_t *member_list = json_array();
        for (size_t j = 0; j < pg->n_member; j++) {
            size_t len = strlen(members);
            snprintf(members + len, sizeof(members) - len, "%s%u", j ? "," : "", pg->member[j]->osd);
            json_array_append_new(member_list, json_integer(pg->member[j]->osd));
        }
        const char *state = pg_state(pg, r, r && osd_is_up(map, r->leader_osd));
        cmd_table_row(table, cmd_pg_name(pg->id), state, members, r ? cmd_text("osd.%u", r->leader_osd) : "-",
                      cmd_text("%llu", (unsigned long long)(r ? r->term : 0)),
                      cmd_text("%llu", (unsigned long long)(r ? r->objects : 0)));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o, s:I, s:I}", "pg", cmd_pg_name(pg->id),
                                              "state", state, "members", member_list, "leader",
                                              r ? json_integer(r->leader_osd) : json_null(), "term",
                                              (json_int_t)(r ? r->term : 0), "objects",
                                              (json_int_t)(r ? r->objects : 0)));
    }
    cmd_table_print(table, args, list);
    cmd_pages_free(pages);
    cmd_session_close(&s);
    return CMD_OK;
}

int cmd_pg_leader(struct cmd_args *args)
{
    struct cmd_session s;
    struct cmd_call call;
    Fb__PgLeader leader = FB__PG_LEADER__INIT;
    if (!cmd_parse_pg(args->positional[0], &leader.pg) || !cmd_parse_osd(args->positional[1], &leader.osd))
        return CMD_USAGE;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_PG_LEADER;
    request.pg_leader = &leader;
    int result = CMD_FAILED;
    if (cmd_mon_call(&s, &call, &request,
                     cmd_text("cannot move the leadership of %s", args->positional[0]))) {
        result = CMD_OK;
        if (args->json)
            cmd_print_json(
                json_pack("{s:s, s:I}", "pg", args->positional[0], "leader", (json_int_t)leader.osd));
        else
            printf("%s: leadership is being handed to osd.%u\n", args->positional[0], leader.osd);
        cmd_call_end(&call);
    }
    cmd_session_close(&s);
    return result;
}
