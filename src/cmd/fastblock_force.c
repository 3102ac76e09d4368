/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock osd lost, pg force-recover, pg acknowledge: what is said when data is gone for good.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"

int cmd_osd_lost(struct cmd_args *args)
{
    Fb__OsdChange change = FB__OSD_CHANGE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    if (!cmd_parse_osd(args->positional[0], &change.osd))
        return CMD_USAGE;
    if (!cmd_option(args, "yes-it-is-gone"))
        return cmd_fail(
            "osd.%u would never be taken back, nor anything that it has, whatever turns up later. If that is "
            "meant: --yes-it-is-gone",
            change.osd);
    change.action = FB__OSD_ACTION__OSD_ACTION_LOST;
    request.call_case = FB__MON_REQUEST__CALL_OSD_CHANGE;
    request.osd_change = &change;
    return cmd_order(
        args, &request, cmd_text("cannot give osd.%u up", change.osd),
        json_pack("{s:I, s:s}", "osd", (json_int_t)change.osd, "done", "lost"),
        cmd_text("osd.%u is lost: its replicas are made anew where a majority is left; `fastblock "
                 "health detail` tells of PGs where none is",
                 change.osd));
}

/* ---- what is left of a PG ---- */

static const char *const states[] = {"whole", "half copied", "log damaged", "in its parent"};

static const char *standing_text(const Fb__PgStanding *s)
{
    return !s->voter ? "learner" : (size_t)s->state < ARRAY_LEN(states) ? states[s->state] : "?";
}

static const char *verdict_name(Fb__ForceVerdict verdict)
{
    static const char *const names[] = {"possible",  "leads",   "majority",     "waits",
                                        "osds-down", "unheard", "nothing-left", "fails"};

    return (size_t)verdict < ARRAY_LEN(names) ? names[verdict] : "unknown";
}

static void osds_text(char *to, size_t size, const uint32_t *osds, size_t count)
{
    size_t used = 0;

    to[0] = 0;
    for (size_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(to + used, size - used, "%sosd.%u", i ? ", " : "", osds[i]);
}

const char *cmd_lost_text(uint64_t writes)
{
    return writes ? cmd_text("at least %" PRIu64 " acknowledged writes are lost", writes)
                  : "no acknowledged write is known to be lost";
}

/* Of those that are known to have been committed, if this one goes on: as the monitor records it. */
static uint64_t entries_lost(const Fb__PgForceView *v, const Fb__PgStanding *s)
{
    uint64_t commit = v->leader_commit;

    for (size_t i = 0; i < v->n_standing; i++)
        commit = MAX(commit, v->standing[i]->commit_index);
    return s && commit > s->log_index ? commit - s->log_index : 0;
}

/* `chosen`: that is to go on. NULL: there is none. */
static void view_print(const Fb__PgForceView *v, const Fb__PgStanding *chosen)
{
    char osds[200];

    printf("pg %s: ", cmd_pg_name(v->pg));
    osds_text(osds, sizeof(osds), v->osds, v->n_osds);
    switch (v->verdict) {
    case FB__FORCE_VERDICT__FORCE_POSSIBLE:
        printf("no majority is left, and none can come back\n");
        break;
    case FB__FORCE_VERDICT__FORCE_LEADS:
        printf("it has a leader: nothing is to be recovered\n");
        break;
    case FB__FORCE_VERDICT__FORCE_MAJORITY:
        printf("a majority is there: it will have a leader without losing anything\n");
        break;
    case FB__FORCE_VERDICT__FORCE_WAITS:
        printf("replica %u is to go on; it waits%s%s\n", v->survivor, v->n_osds ? " for " : "", osds);
        if (v->n_osds)
            printf(
                "  to do  start these OSDs: they delete their replicas and say so (or go on, if it is the one). If one is "
                "gone for good: `fastblock osd lost OSD`\n");
        break;
    case FB__FORCE_VERDICT__FORCE_FAILS:
        printf(
            "replica %u is to go on and cannot: it is lost, or not whole any more; %s may still have others\n",
            v->survivor, osds);
        printf(
            "  to do  `fastblock pg force-recover %s --withdraw`, and only then start those OSDs that are down\n",
            cmd_pg_name(v->pg));
        break;
    case FB__FORCE_VERDICT__FORCE_OSDS_DOWN:
        printf(
            "%s may still come back: start what can be started, and say `fastblock osd lost OSD` of what is gone\n",
            osds);
        osds_text(osds, sizeof(osds), v->failed_osds, v->n_failed_osds);
        if (v->n_failed_osds)
            printf(
                "  runs   %s, but the shard with this replica has failed or hangs: restart that OSD; if it fails again, "
                "stop its process before `fastblock osd lost`\n",
                osds);
        break;
    case FB__FORCE_VERDICT__FORCE_UNHEARD:
        printf(
            "what %s has is not known yet (or it follows a leader that the monitor does not hear of): try again in a "
            "moment\n",
            osds);
        break;
    default:
        printf("no replica is left that is whole and had a vote: its data is lost\n");
        printf("  to do  restore the images of its pool from a backup, to another pool\n");
        break;
    }
    osds_text(osds, sizeof(osds), v->lost_osds, v->n_lost_osds);
    if (v->n_lost_osds)
        printf("  lost   %s, of %u voters\n", osds, v->voters);
    for (size_t i = 0; i < v->n_standing; i++) {
        const Fb__PgStanding *s = v->standing[i];
        printf("  there  replica %u on osd.%u: %s, log to %" PRIu64 "/%" PRIu64
               " (term/index), committed to %" PRIu64 ", %" PRIu64 " objects, no leader for %" PRIu64
               " s%s\n",
               s->replica, s->osd, standing_text(s), s->log_term, s->log_index, s->commit_index, s->objects,
               s->silent_ms / 1000,
               s->replica == v->survivor ? " <- the best to go on with"
               : s == chosen             ? " <- the one that --osd names"
                                         : "");
    }
    if (!v->survivor && v->verdict == FB__FORCE_VERDICT__FORCE_OSDS_DOWN)
        printf(
            "  loss   none that is there can be gone on with: if what is down is given up, all of its data\n");
    if (!chosen)
        return;
    if (v->leader_us)
        printf("  loss   with this one: %s; a leader last reported at %s that it was committed to %" PRIu64
               ", and what came in the moments after that is not known\n",
               cmd_lost_text(entries_lost(v, chosen)), cmd_time_text(v->leader_us), v->leader_commit);
    else
        printf(
            "  loss   how far it was committed is not known: the monitor has heard of no leader since it started\n");
}

static json_t *view_json(const Fb__PgForceView *v, const Fb__PgStanding *chosen, const char *done)
{
    json_t *standing = json_array(), *osds = json_array(), *lost = json_array(), *failed = json_array();

    for (size_t i = 0; i < v->n_standing; i++) {
        const Fb__PgStanding *s = v->standing[i];
        json_array_append_new(
            standing,
            json_pack("{s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I}", "replica", (json_int_t)s->replica, "osd",
                      (json_int_t)s->osd, "state", standing_text(s), "log_term", (json_int_t)s->log_term,
                      "log_index", (json_int_t)s->log_index, "commit_index", (json_int_t)s->commit_index,
                      "objects", (json_int_t)s->objects, "silent_ms", (json_int_t)s->silent_ms));
    }
    for (size_t i = 0; i < v->n_osds; i++)
        json_array_append_new(osds, json_integer(v->osds[i]));
    for (size_t i = 0; i < v->n_lost_osds; i++)
        json_array_append_new(lost, json_integer(v->lost_osds[i]));
    for (size_t i = 0; i < v->n_failed_osds; i++)
        json_array_append_new(failed, json_integer(v->failed_osds[i]));
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:s}", "pg", cmd_pg_name(v->pg),
                     "verdict", verdict_name(v->verdict), "in_the_way", osds, "failed_shards_of", failed,
                     "lost_osds", lost, "replicas", standing, "survivor",
                     (json_int_t)(chosen ? chosen->replica : v->survivor), "leader_commit",
                     (json_int_t)v->leader_commit, "leader_us", (json_int_t)v->leader_us, "writes_lost",
                     (json_int_t)entries_lost(v, chosen), "done", done);
}

/* ---- the orders ---- */

/* The replica to go on with: the best, or the one on the OSD that was named. NULL: it is not there. */
static const Fb__PgStanding *choose(const Fb__PgForceView *v, const uint32_t *osd)
{
    for (size_t i = 0; i < v->n_standing; i++)
        if (osd ? v->standing[i]->osd == *osd : v->standing[i]->replica == v->survivor)
            return v->standing[i];
    return NULL;
}

static bool give_order(struct cmd_session *s, const Fb__PgForceView *v, uint32_t survivor)
{
    Fb__PgForceOrder order = FB__PG_FORCE_ORDER__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    struct cmd_call call;

    order.pg = v->pg;
    order.survivor = survivor;
    request.call_case = FB__MON_REQUEST__CALL_PG_FORCE_ORDER;
    request.pg_force_order = &order;
    if (!cmd_mon_call(s, &call, &request, cmd_text("cannot recover pg %s", cmd_pg_name(v->pg))))
        return false;
    cmd_call_end(&call);
    return true;
}

static int withdraw(struct cmd_args *args)
{
    Fb__PgForceOrder order = FB__PG_FORCE_ORDER__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    const char *name = args->positional[0];

    if (!name || cmd_option(args, "all-lost") || cmd_option(args, "osd") || cmd_option(args, "yes-lose-data"))
        return cmd_usage("pg force-recover --withdraw needs a PG, and nothing else");
    if (!cmd_parse_pg(name, &order.pg))
        return CMD_USAGE;
    order.withdraw = true;
    request.call_case = FB__MON_REQUEST__CALL_PG_FORCE_ORDER;
    request.pg_force_order = &order;
    return cmd_order(
        args, &request, cmd_text("cannot withdraw the order for pg %s", name),
        json_pack("{s:s, s:s}", "pg", name, "done", "withdrawn"),
        cmd_text("pg %s is what it was before the order, but for what is deleted already; `fastblock pg "
                 "force-recover %s` shows what is left",
                 name, name));
}

struct force_sum {
    uint32_t seen, possible, ordered, failed;
    uint64_t lost;
};

static void handle(struct cmd_session *s, struct cmd_args *args, const Fb__PgForceView *v,
                   const uint32_t *osd, bool yes, struct force_sum *sum, json_t *list)
{
    bool possible = v->verdict == FB__FORCE_VERDICT__FORCE_POSSIBLE;
    const Fb__PgStanding *chosen = choose(v, possible ? osd : NULL);
    const char *done = "nothing";

    sum->seen++;
    if (!args->json)
        view_print(v, chosen);
    if (possible) {
        sum->possible++;
        sum->lost += entries_lost(v, chosen);
        if (!chosen) {
            sum->failed++;
            cmd_fail("pg %s has no replica on %s", cmd_pg_name(v->pg), cmd_option(args, "osd"));
        } else if (yes && give_order(s, v, chosen->replica)) {
            sum->ordered++;
            done = "ordered";
        } else {
            sum->failed += yes;
        }
    } else if (v->verdict != FB__FORCE_VERDICT__FORCE_WAITS) {
        sum->failed += yes;
    }
    json_array_append_new(list, view_json(v, chosen, done));
}

static void after_page(Fb__MonRequest *request, const Fb__MonReply *page)
{
    request->pg_force_look->after_pg = page->force_views[page->n_force_views - 1]->pg;
}

int cmd_pg_force_recover(struct cmd_args *args)
{
    bool all = cmd_option(args, "all-lost"), yes = cmd_option(args, "yes-lose-data");
    Fb__PgForceLook look = FB__PG_FORCE_LOOK__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    struct force_sum sum = {0};
    struct cmd_session s;
    uint32_t osd;

    if (cmd_option(args, "withdraw"))
        return withdraw(args);
    if (all == (args->positional[0] != NULL) || (all && cmd_option(args, "osd")))
        return cmd_usage("pg force-recover needs a PG (and perhaps --osd), or --all-lost");
    if (args->positional[0] && !cmd_parse_pg(args->positional[0], &look.pg))
        return CMD_USAGE;
    if (cmd_option(args, "osd") && !cmd_parse_osd(cmd_option(args, "osd"), &osd))
        return CMD_USAGE;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    request.call_case = FB__MON_REQUEST__CALL_PG_FORCE_LOOK;
    request.pg_force_look = &look;
    struct cmd_pages *pages = cmd_mon_pages(&s, &request, "cannot see what is left", after_page);
    json_t *list = json_array();
    for (const struct cmd_pages *p = pages; p; p = p->next)
        for (size_t i = 0; i < p->reply->n_force_views; i++)
            handle(&s, args, p->reply->force_views[i], cmd_option(args, "osd") ? &osd : NULL, yes, &sum,
                   list);
    bool failed = !pages || sum.failed;
    cmd_pages_free(pages);
    cmd_session_close(&s);
    if (args->json)
        cmd_print_json(list);
    else
        json_decref(list);
    if (!args->json && !failed && !sum.seen)
        printf("every PG has a leader\n");
    else if (!args->json && sum.ordered)
        printf(
            "%u PGs go on with one replica each (%s); they get new members by themselves. `fastblock health detail` tells "
            "of them until `fastblock pg acknowledge`\n",
            sum.ordered, cmd_lost_text(sum.lost));
    if (!failed && sum.possible && !yes)
        return cmd_fail(
            "nothing was done: %u PGs would go on with one replica each, and what only the others had would be "
            "lost for good. If that is meant: --yes-lose-data",
            sum.possible);
    return failed ? CMD_FAILED : CMD_OK;
}

int cmd_pg_acknowledge(struct cmd_args *args)
{
    Fb__PgForceAcknowledge acknowledge = FB__PG_FORCE_ACKNOWLEDGE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    const char *name = args->positional[0];

    if ((cmd_option(args, "all") != NULL) == (name != NULL))
        return cmd_usage("pg acknowledge needs a PG, or --all");
    if (name && !cmd_parse_pg(name, &acknowledge.pg))
        return CMD_USAGE;
    request.call_case = FB__MON_REQUEST__CALL_PG_FORCE_ACKNOWLEDGE;
    request.pg_force_acknowledge = &acknowledge;
    return cmd_order(args, &request, "cannot acknowledge",
                     json_pack("{s:s}", "acknowledged", name ? name : "all"),
                     "acknowledged: health does not tell of it any more; `fastblock pg show` does");
}
