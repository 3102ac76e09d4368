/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock status, health, rebalance plan and status, pg ls, pg leader: what the cluster is doing, and
 * moving leaders.
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

/* ---- status ---- */

static json_t *progress_json(const Fb__MoveProgress *m)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "under_way", (json_int_t)m->under_way,
                     "urgent", (json_int_t)m->urgent, "misplaced", (json_int_t)m->misplaced, "stuck",
                     (json_int_t)m->stuck, "copies_left", (json_int_t)m->copies, "objects_left",
                     (json_int_t)m->objects_left, "objects_done", (json_int_t)m->objects_done, "left_ms",
                     (json_int_t)m->left_ms, "moves_max", (json_int_t)m->moves_max);
}

/* Raw: all replicas, over all OSDs. */
static void sum_space(const Fb__ClusterStatus *st, uint64_t *ret_used_bytes, uint64_t *ret_free_bytes)
{
    *ret_used_bytes = *ret_free_bytes = 0;
    for (size_t i = 0; i < st->n_usage; i++) {
        *ret_used_bytes += st->usage[i]->used_bytes;
        *ret_free_bytes += st->usage[i]->free_bytes;
    }
}

static json_t *status_json(const Fb__ClusterStatus *st)
{
    json_t *problems = json_array();
    uint64_t used, free_bytes;

    sum_space(st, &used, &free_bytes);
    for (size_t i = 0; i < st->n_problem; i++)
        json_array_append_new(problems, json_string(st->problem[i]));
    return json_pack(
        "{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:b, s:I, s:I, s:b, s:b, s:b, s:o}",
        "health", st->health, "problems", problems, "osds", (json_int_t)st->osds, "osds_up",
        (json_int_t)st->osds_up, "osds_in", (json_int_t)st->osds_in, "pools", (json_int_t)st->pools, "pgs",
        (json_int_t)st->pgs, "pgs_active", (json_int_t)st->pgs_active, "pgs_degraded",
        (json_int_t)st->pgs_degraded, "images", (json_int_t)st->images, "used_bytes", (json_int_t)used,
        "free_bytes", (json_int_t)free_bytes, "epoch", (json_int_t)st->epoch, "version", st->version,
        "scrubs_due", (json_int_t)st->scrubs_due, "scrub_paused", st->scrub_paused, "damaged_blocks",
        (json_int_t)st->damaged_blocks, "differing_objects", (json_int_t)st->differing, "noout", st->noout,
        "norebalance", st->norebalance, "pause", st->paused, "moves",
        st->progress ? progress_json(st->progress) : json_null());
}

static void print_moves(const Fb__MoveProgress *m)
{
    if (!m || (!m->under_way && !m->urgent && !m->misplaced && !m->stuck)) {
        printf("moves    none\n");
        return;
    }
    printf("moves    %u PGs under way, %u to be healed, %u to be moved", m->under_way, m->urgent,
           m->misplaced);
    if (m->stuck)
        printf(", %u without a place", m->stuck);
    if (m->under_way || m->urgent || m->misplaced)
        printf("; %llu objects left", (unsigned long long)m->objects_left);
    if (m->left_ms)
        printf(", about %llu s", (unsigned long long)(m->left_ms + 999) / 1000);
    printf("\n");
}

static void print_status(const Fb__ClusterStatus *st)
{
    uint64_t used, free_bytes;

    sum_space(st, &used, &free_bytes);
    printf("health   %s\n", st->health);
    for (size_t i = 0; i < st->n_problem; i++)
        printf("         %s\n", st->problem[i]);
    printf("osds     %u: %u up, %u in\n", st->osds, st->osds_up, st->osds_in);
    printf("pgs      %u in %u pool%s: %u active, %u degraded\n", st->pgs, st->pools,
           st->pools == 1 ? "" : "s", st->pgs_active, st->pgs_degraded);
    print_moves(st->progress);
    printf("images   %u\n", st->images);
    printf("scrub    %s, due for %u PGs\n", st->scrub_paused ? "paused" : "on", st->scrubs_due);
    printf("space    %s used (%.0f%%), %s free: raw, over all OSDs\n", cmd_size_text(used),
           used ? 100.0 * (double)used / (double)(used + free_bytes) : 0, cmd_size_text(free_bytes));
    printf("map      epoch %llu\n", (unsigned long long)st->epoch);
}

static int with_status(struct cmd_args *args, void (*print)(const Fb__ClusterStatus *st),
                       json_t *(*json)(const Fb__ClusterStatus *st))
{
    struct cmd_session s;
    struct cmd_call call;

    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__MonReply *reply = cmd_status_get(&s, &call);
    if (reply) {
        if (args->json)
            cmd_print_json(json(reply->status));
        else
            print(reply->status);
        cmd_call_end(&call);
    }
    cmd_session_close(&s);
    return reply ? CMD_OK : CMD_FAILED;
}

int cmd_status(struct cmd_args *args)
{
    return with_status(args, print_status, status_json);
}

/* ---- health ---- */

static json_t *health_json(const Fb__ClusterStatus *st)
{
    json_t *list = json_array();

    for (size_t i = 0; i < st->n_detail; i++) {
        const Fb__HealthProblem *p = st->detail[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:s, s:s}", "code", p->code, "severity",
                                              p->error ? "error" : "warning", "what", p->what, "since_us",
                                              (json_int_t)p->since_us, "doing", p->doing, "todo", p->todo));
    }
    return json_pack("{s:s, s:o}", "health", st->health, "problems", list);
}

static void print_health_short(const Fb__ClusterStatus *st)
{
    printf("health is %s\n", st->health);
    for (size_t i = 0; i < st->n_detail; i++)
        printf("  %s (%s): %s\n", st->detail[i]->code, st->detail[i]->error ? "error" : "warning",
               st->detail[i]->what);
    if (st->n_detail)
        printf("`fastblock health detail` says what to do\n");
}

int cmd_health(struct cmd_args *args)
{
    return with_status(args, print_health_short, health_json);
}

static void print_health(const Fb__ClusterStatus *st)
{
    printf("health is %s\n", st->health);
    for (size_t i = 0; i < st->n_detail; i++) {
        const Fb__HealthProblem *p = st->detail[i];
        printf("\n%s (%s), since %s\n  %s\n", p->code, p->error ? "error" : "warning",
               cmd_time_text(p->since_us), p->what);
        if (p->doing[0])
            printf("  the cluster: %s\n", p->doing);
        if (p->todo[0])
            printf("  you: %s\n", p->todo);
    }
}

int cmd_health_detail(struct cmd_args *args)
{
    return with_status(args, print_health, health_json);
}

/* ---- rebalancing ---- */

static void osds_text(char *to, size_t size, const uint32_t *osds, size_t count)
{
    size_t used = 0;

    to[0] = 0;
    for (size_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(to + used, size - used, "%s%u", i ? "," : "", osds[i]);
}

static json_t *osds_json(const uint32_t *osds, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer(osds[i]));
    return list;
}

static void plan_show(struct cmd_args *args, const Fb__MonReply *reply)
{
    json_t *list = json_array();
    struct cmd_table *table = cmd_table_new("lllrl", "PG", "FROM", "TO", "COPIES", "WHY", NULL);

    for (size_t i = 0; i < reply->n_moves; i++) {
        const Fb__PlannedMove *m = reply->moves[i];
        char from[80], to[80];
        const char *why = m->missing                    ? "lacks replicas"
                          : m->copies                   ? ""
                          : m->n_to_osd < m->n_from_osd ? "fewer"
                                                        : "leader";
        osds_text(from, sizeof(from), m->from_osd, m->n_from_osd);
        osds_text(to, sizeof(to), m->to_osd, m->n_to_osd);
        cmd_table_row(table, cmd_pg_name(m->pg), from, to, cmd_text("%u", m->copies), why);
        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:I, s:I}", "pg", cmd_pg_name(m->pg), "from",
                                              osds_json(m->from_osd, m->n_from_osd), "to",
                                              osds_json(m->to_osd, m->n_to_osd), "copies",
                                              (json_int_t)m->copies, "missing", (json_int_t)m->missing));
    }
    cmd_table_print(table, args, list);
}

static int with_plan(struct cmd_args *args, void (*show)(struct cmd_args *args, const Fb__MonReply *reply))
{
    Fb__RebalancePlan plan = FB__REBALANCE_PLAN__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    struct cmd_session s;
    struct cmd_call call;

    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    request.call_case = FB__MON_REQUEST__CALL_REBALANCE_PLAN;
    request.rebalance_plan = &plan;
    Fb__MonReply *reply = cmd_mon_call(&s, &call, &request, "cannot get the plan");
    if (reply) {
        show(args, reply);
        cmd_call_end(&call);
    }
    cmd_session_close(&s);
    return reply ? CMD_OK : CMD_FAILED;
}

int cmd_rebalance_plan(struct cmd_args *args)
{
    return with_plan(args, plan_show);
}

static void progress_show(struct cmd_args *args, const Fb__MonReply *reply)
{
    const Fb__MoveProgress *m = reply->progress;

    if (args->json) {
        cmd_print_json(m ? progress_json(m) : json_null());
        return;
    }
    print_moves(m);
    if (m && m->begun_us)
        printf("begun    %s; %llu objects copied since\n", cmd_time_text(m->begun_us),
               (unsigned long long)m->objects_done);
    if (m)
        printf("limit    %u PGs at once to or from an OSD\n", m->moves_max);
}

int cmd_rebalance_status(struct cmd_args *args)
{
    return with_plan(args, progress_show);
}

/* ---- PGs ---- */

static const char *pg_state(const Fb__Pg *pg, const Fb__PgReport *r, bool up)
{
    if (!pg->born && !r)
        return "creating";
    if (!r || !up)
        return "no leader";
    if (r->state == FB__PG_STATE__PG_DAMAGED)
        return pg->n_wanted ? "active, damaged, moving" : "active, damaged";
    if (r->recovering)
        return pg->n_wanted ? "active, recovering, moving" : "active, recovering";
    if (r->in_contact < pg->n_member)
        return pg->n_wanted ? "active, degraded, moving" : "active, degraded";
    return pg->n_wanted ? "active, moving" : "active";
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

/* Within a page they are in order of their PGs. NULL: nobody leads it. */
static const Fb__PgReport *find_report(const struct cmd_pages *pages, uint64_t pg)
{
    Fb__PgReport key = FB__PG_REPORT__INIT, *key_pointer = &key, **found = NULL;

    key.pg = pg;
    for (; pages && !found; pages = pages->next)
        if (pages->reply->n_pg_reports)
            found = bsearch(&key_pointer, pages->reply->pg_reports, pages->reply->n_pg_reports,
                            sizeof(*found), compare_reports);
    return found && (*found)->state != FB__PG_STATE__PG_NO_LEADER ? *found : NULL;
}

/* OSDs, as text and as a list; learners come with a plus sign, and not in the list. */
static json_t *members_text(char *to, size_t size, Fb__PgMember *const *rows, size_t count)
{
    json_t *list = json_array();
    size_t used = 0;

    to[0] = 0;
    for (size_t i = 0; i < count && used < size; i++) {
        used += (size_t)snprintf(to + used, size - used, "%s%s%u", i ? "," : "", rows[i]->learner ? "+" : "",
                                 rows[i]->osd);
        if (!rows[i]->learner)
            json_array_append_new(list, json_integer(rows[i]->osd));
    }
    return list;
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
        cmd_table_new("lllllrr", "PG", "STATE", "MEMBERS", "WANTED", "LEADER", "TERM", "OBJECTS", NULL);
    for (size_t i = 0; i < map->n_pg; i++) {
        const Fb__Pg *pg = map->pg[i];
        if (pg->removed || (pg_list.pool && pg->id >> 32 != pg_list.pool))
            continue;
        const Fb__PgReport *r = find_report(pages, pg->id);
        char members[160], wanted[160];
        json_t *member_list = members_text(members, sizeof(members), pg->member, pg->n_member);
        json_t *wanted_list = members_text(wanted, sizeof(wanted), pg->wanted, pg->n_wanted);
        const char *state = pg_state(pg, r, r && osd_is_up(map, r->leader_osd));
        cmd_table_row(table, cmd_pg_name(pg->id), state, members, wanted[0] ? wanted : "-",
                      r ? cmd_text("osd.%u", r->leader_osd) : "-",
                      r ? cmd_text("%llu", (unsigned long long)r->term) : "-",
                      r ? cmd_text("%llu", (unsigned long long)r->objects) : "-");
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o, s:o, s:o, s:I, s:I}", "pg", cmd_pg_name(pg->id), "state", state,
                            "members", member_list, "wanted", wanted_list, "leader",
                            r ? json_integer(r->leader_osd) : json_null(), "term",
                            (json_int_t)(r ? r->term : 0), "objects", (json_int_t)(r ? r->objects : 0)));
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
