/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock pg show, pg scrub, pg repair, scrub pause and resume.
 */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"

#define ULL(x) ((unsigned long long)(x))

/* ---- pg show ---- */

static json_t *result_json(const Fb__ScrubResult *r)
{
    json_t *versions = json_array();

    if (!r) {
        json_decref(versions);
        return json_null();
    }
    for (size_t i = 0; i < r->n_version; i++) {
        const Fb__ScrubVersion *v = r->version[i];
        json_array_append_new(versions,
                              json_pack("{s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:b}", "image",
                                        (json_int_t)v->image, "object", (json_int_t)v->object, "replica",
                                        (json_int_t)v->replica, "osd", (json_int_t)v->osd, "index",
                                        (json_int_t)v->index, "checksum", cmd_text("%08x", v->digest),
                                        "absent", v->absent, "made_equal", v->equalized));
    }
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "kind",
                     r->deep ? "deep" : "light", "replicas", (json_int_t)r->replicas, "objects",
                     (json_int_t)r->objects, "bytes", (json_int_t)r->bytes, "found", (json_int_t)r->found,
                     "repaired", (json_int_t)r->repaired, "left", (json_int_t)r->left, "skipped",
                     (json_int_t)r->skipped, "differing", (json_int_t)r->differing, "made_equal",
                     (json_int_t)r->equalized, "versions", versions);
}

/* The runs of blocks in the bitmap, one call each. */
static void each_run(const Fb__PgDamage *d, void (*run)(void *owner, uint32_t first, uint32_t count),
                     void *owner)
{
    uint32_t count = 0, blocks = (uint32_t)d->blocks.len * 8;

    for (uint32_t b = 0; b <= blocks; b++) {
        if (b < blocks && d->blocks.data[b / 8] >> b % 8 & 1) {
            count++;
        } else if (count) {
            run(owner, b - count, count);
            count = 0;
        }
    }
}

static void run_json(void *owner, uint32_t first, uint32_t count)
{
    json_array_append_new(owner,
                          json_pack("{s:I, s:I}", "first", (json_int_t)first, "count", (json_int_t)count));
}

static void run_print(void *owner, uint32_t first, uint32_t count)
{
    const Fb__PgDamage *d = owner;

    printf("damage   image %llu object %llu, blocks %u to %u, since %s\n", ULL(d->image), ULL(d->object),
           first, first + count - 1, cmd_time_text(d->since_us));
}

static json_t *replicas_json(Fb__PgMember *const *rows, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:b}", "replica", (json_int_t)rows[i]->replica,
                                              "osd", (json_int_t)rows[i]->osd, "shard",
                                              (json_int_t)rows[i]->shard, "learner", rows[i]->learner));
    return list;
}

static void print_replicas(const char *what, Fb__PgMember *const *rows, size_t count)
{
    if (!count)
        return;
    printf("%-8s", what);
    for (size_t i = 0; i < count; i++)
        printf(" osd.%u (shard %u, replica %u%s)", rows[i]->osd, rows[i]->shard, rows[i]->replica,
               rows[i]->learner ? ", learner" : "");
    printf("\n");
}

static bool force_waits(const Fb__Pg *pg)
{
    for (size_t i = 0; i < pg->n_member; i++)
        if (pg->member[i]->replica == pg->force->replica)
            return pg->member[i]->birth && !pg->member[i]->born;
    return false;
}

static json_t *force_json(const Fb__Pg *pg)
{
    const Fb__PgForce *f = pg->force;

    if (!f)
        return json_null();
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b}", "time_us", (json_int_t)f->time_us,
                     "survivor", (json_int_t)f->survivor, "replica", (json_int_t)f->replica, "log_term",
                     (json_int_t)f->log_term, "log_index", (json_int_t)f->log_index, "leader_commit",
                     (json_int_t)f->leader_commit, "leader_us", (json_int_t)f->leader_us, "writes_lost",
                     (json_int_t)f->entries_lost, "waits", force_waits(pg), "acknowledged", f->acknowledged);
}

static json_t *show_json(const char *name, const Fb__Pg *pg, const Fb__MonReply *reply)
{
    const Fb__PgScrub *scrub = reply->scrub;
    const Fb__PgReport *report = reply->pg_reports[0];
    json_t *damage = json_array();

    for (size_t i = 0; i < scrub->n_damage; i++) {
        json_t *runs = json_array();
        each_run(scrub->damage[i], run_json, runs);
        json_array_append_new(damage,
                              json_pack("{s:I, s:I, s:I, s:o}", "image", (json_int_t)scrub->damage[i]->image,
                                        "object", (json_int_t)scrub->damage[i]->object, "since_us",
                                        (json_int_t)scrub->damage[i]->since_us, "blocks", runs));
    }
    bool log_damaged = report->state == FB__PG_STATE__PG_DAMAGED;
    return json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:b, s:o, s:o, s:o, s:o, s:o}", "pg",
                     name, "members", replicas_json(pg->member, pg->n_member), "wanted",
                     replicas_json(pg->wanted, pg->n_wanted), "to_be_deleted",
                     replicas_json(pg->dropped, pg->n_dropped), "group_index", (json_int_t)pg->group_index,
                     "term", (json_int_t)report->term, "objects", (json_int_t)report->objects,
                     "light_scrub_us", (json_int_t)scrub->light_us, "deep_scrub_us",
                     (json_int_t)scrub->deep_us, "scrub_due", scrub->order != scrub->done, "scrub_under_way",
                     scrub->order != scrub->done ? result_json(report->scrub) : json_null(), "last_scrub",
                     result_json(scrub->result), "damage", damage, "log_damaged_osd",
                     log_damaged ? json_integer(report->damaged_osd) : json_null(), "forced", force_json(pg));
}

static void print_result(const char *what, const Fb__ScrubResult *r)
{
    printf(
        "%s %s, %u replicas, %llu objects, %s read; damaged blocks: %llu found, %llu repaired, %llu left\n",
        what, r->deep ? "deep" : "light", r->replicas, ULL(r->objects), cmd_size_text(r->bytes),
        ULL(r->found), ULL(r->repaired), ULL(r->left));
    if (r->skipped)
        printf("         %llu objects were written to all the time and could not be compared\n",
               ULL(r->skipped));
    if (r->differing || r->equalized)
        printf("         objects that differ though their checksums are right: %llu, made equal: %llu\n",
               ULL(r->differing), ULL(r->equalized));
    for (size_t i = 0; i < r->n_version; i++) {
        const Fb__ScrubVersion *v = r->version[i], *before = i ? r->version[i - 1] : NULL;
        if (!before || before->image != v->image || before->object != v->object)
            printf("differs  image %llu object %llu%s\n", ULL(v->image), ULL(v->object),
                   v->equalized ? ", made equal since" : "");
        if (v->absent)
            printf("         replica %u on osd.%u: no such object\n", v->replica, v->osd);
        else
            printf("         replica %u on osd.%u: index %llu, checksum %08x\n", v->replica, v->osd,
                   ULL(v->index), v->digest);
    }
}

static void show_print(const char *name, const Fb__Pg *pg, const Fb__MonReply *reply)
{
    const Fb__PgScrub *scrub = reply->scrub;
    const Fb__PgReport *report = reply->pg_reports[0];
    bool due = scrub->order != scrub->done;

    printf("pg       %s\n", name);
    print_replicas("members", pg->member, pg->n_member);
    print_replicas("wanted", pg->wanted, pg->n_wanted);
    print_replicas("leaving", pg->leaving, pg->n_leaving);
    print_replicas("dropped", pg->dropped, pg->n_dropped);
    if (pg->force)
        printf(
            "forced   %s, by an operator: %s replica %u alone, which had entries to %llu/%llu (term/index); %s%s\n",
            cmd_time_text(pg->force->time_us),
            force_waits(pg) ? "to go on, when the others have ended, with" : "went on with",
            pg->force->survivor, ULL(pg->force->log_term), ULL(pg->force->log_index),
            cmd_lost_text(pg->force->entries_lost), pg->force->acknowledged ? " (acknowledged)" : "");
    if (report->state == FB__PG_STATE__PG_DAMAGED)
        printf("damaged  the log of the replica on osd.%u: it is made whole from the others\n",
               report->damaged_osd);
    printf("objects  %llu\n", ULL(report->objects));
    printf("scrubs   light %s, deep %s%s\n", cmd_time_text(scrub->light_us), cmd_time_text(scrub->deep_us),
           !due          ? ""
           : scrub->deep ? "; a deep one is to be done"
                         : "; a light one is to be done");
    if (due && report->scrub)
        print_result("now     ", report->scrub);
    if (scrub->result)
        print_result("last    ", scrub->result);
    for (size_t i = 0; i < scrub->n_damage; i++)
        each_run(scrub->damage[i], run_print, scrub->damage[i]);
}

int cmd_pg_show(struct cmd_args *args)
{
    struct cmd_session s;
    struct cmd_call call;
    Fb__PgShow show = FB__PG_SHOW__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    const Fb__Pg *pg = NULL;
    int result = CMD_FAILED;

    if (!cmd_parse_pg(args->positional[0], &show.pg))
        return CMD_USAGE;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    request.call_case = FB__MON_REQUEST__CALL_PG_SHOW;
    request.pg_show = &show;
    Fb__MonReply *reply = cmd_mon_call(&s, &call, &request, cmd_text("cannot show %s", args->positional[0]));
    if (reply) {
        const Fb__ClusterMap *map = client_map(s.client);
        for (size_t i = 0; i < map->n_pg; i++)
            if (map->pg[i]->id == show.pg)
                pg = map->pg[i];
        if (!pg || !reply->scrub || reply->n_pg_reports != 1) {
            cmd_fail("the monitor's answer does not fit its map: try again");
        } else {
            result = CMD_OK;
            if (args->json)
                cmd_print_json(show_json(args->positional[0], pg, reply));
            else
                show_print(args->positional[0], pg, reply);
        }
        cmd_call_end(&call);
    }
    cmd_session_close(&s);
    return result;
}

/* ---- orders ---- */

static int order_scrub(struct cmd_args *args, bool deep, bool repair)
{
    const char *name = args->positional[0];
    Fb__PgScrubRequest scrub = FB__PG_SCRUB_REQUEST__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    if (name && !cmd_parse_pg(name, &scrub.pg))
        return CMD_USAGE;
    scrub.deep = deep;
    scrub.repair = repair;
    request.call_case = FB__MON_REQUEST__CALL_PG_SCRUB;
    request.pg_scrub = &scrub;
    return cmd_order(args, &request, cmd_text("cannot order the scrub"),
                     json_pack("{s:s, s:b, s:b}", "pg", name ? name : "all", "deep", deep, "repair", repair),
                     cmd_text("%s: a %s scrub is ordered; `fastblock pg show PG` tells what comes of it",
                              name ? name : "all PGs", deep ? "deep" : "light"));
}

int cmd_pg_scrub(struct cmd_args *args)
{
    bool all = cmd_option(args, "all");

    if (all == (args->positional[0] != NULL))
        return cmd_usage("pg scrub needs a PG, or --all");
    return order_scrub(args, cmd_option(args, "deep"), false);
}

int cmd_pg_repair(struct cmd_args *args)
{
    return order_scrub(args, true, true);
}

static int order_pause(struct cmd_args *args, bool pause)
{
    Fb__ScrubPause scrub_pause = FB__SCRUB_PAUSE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    scrub_pause.pause = pause;
    request.call_case = FB__MON_REQUEST__CALL_SCRUB_PAUSE;
    request.scrub_pause = &scrub_pause;
    return cmd_order(args, &request, pause ? "cannot pause scrubs" : "cannot resume scrubs",
                     json_pack("{s:b}", "scrub_paused", pause),
                     pause ? "scrubs are paused; `fastblock scrub resume` lets them go on" : "scrubs go on");
}

int cmd_scrub_pause(struct cmd_args *args)
{
    return order_pause(args, true);
}

int cmd_scrub_resume(struct cmd_args *args)
{
    return order_pause(args, false);
}
