/* SPDX-License-Identifier: Apache-2.0
 *
 * Health: every problem of the cluster, what is known of it, what the cluster does about it, and what to do.
 * The kinds of problems are in mon/health.h.
 */
#include "mon/status.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LOOK_NS    (5 * NS_PER_S)
#define EXAMPLES   3 /* PGs named in a problem */
#define OSD_DOING  "its data is made anew on other OSDs"
#define NO_SUBJECT UINT32_MAX

static const char *const code_names[] = {
#define X(code, text) #code,
    HEALTH_TABLE(X)
#undef X
};

/* ---- a problem ---- */

/* When this one was first seen; from now on if it is new. */
static uint64_t since_us(struct mon *mon, enum health_code code, uint32_t subject)
{
    struct mon_since *free_row = NULL;

    for (uint32_t i = 0; i < MON_SINCE_MAX; i++) {
        struct mon_since *row = &mon->since[i];
        if (!row->since_us) {
            free_row = free_row ? free_row : row;
        } else if (row->code == (uint32_t)code && row->subject == subject) {
            row->seen = true;
            return row->since_us;
        }
    }
    uint64_t now_us = mon->core->env->wall_us(mon->core->env_self);
    if (free_row)
        *free_row =
            (struct mon_since){.code = (uint32_t)code, .subject = subject, .since_us = now_us, .seen = true};
    return now_us;
}

/* `subject`: an OSD or a pool, or NO_SUBJECT. To be filled with SAY(). */
static struct mon_problem *problem(struct mon_status *st, bool error, enum health_code code, uint32_t subject)
{
    size_t n = st->message.n_detail;
    bool room = subject == NO_SUBJECT || st->subjects++ < STATUS_SUBJECTS_MAX;
    struct mon_problem *p = &st->problem[room ? n : STATUS_PROBLEMS_MAX];

    *(error ? &st->error : &st->warning) = true;
    p->what[0] = p->doing[0] = p->todo[0] = 0;
    if (!room || n == STATUS_PROBLEMS_MAX)
        return p;
    Fb__HealthProblem *detail = st->details[n] = &st->detail[n];
    fb__health_problem__init(detail);
    detail->code = (char *)code_names[code];
    detail->error = error;
    detail->what = p->what;
    detail->doing = p->doing;
    detail->todo = p->todo;
    detail->since_us = since_us(st->mon, code, subject);
    st->message.n_detail++;
    return p;
}

static void say(char *to, size_t size, const char *format, ...) PRINTF_LIKE(3, 4);
static void say(char *to, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(to, size, format, args);
    va_end(args);
}
#define SAY(field, ...) say(field, sizeof(field), __VA_ARGS__)

void mon_status_note_pg(struct mon_status *st, enum pg_problem what, uint64_t pg)
{
    size_t used = strlen(st->pg_examples[what]);

    if (st->pg_count[what]++ < EXAMPLES)
        snprintf(st->pg_examples[what] + used, sizeof(st->pg_examples[what]) - used, "%s%u.%x",
                 used ? ", " : "", mon_pg_pool(pg), mon_pg_number(pg));
    else if (st->pg_count[what] == EXAMPLES + 1)
        snprintf(st->pg_examples[what] + used, sizeof(st->pg_examples[what]) - used, ", ...");
}

static bool starting(const struct mon *mon)
{
    return mon->alive_ns < mon->config.osd_down_after_ns;
}

/* ---- OSDs ---- */

/* Why what is on an OSD that is down, or on a shard that has failed, is not moved; false: it is. `who`: what
 * stays. */
static bool say_stays(struct mon_problem *p, const struct mon *mon, enum mon_stays why, const char *who,
                      const char *goes, const char *then, uint64_t away_ns)
{
    uint64_t after_ns = mon->config.osd_out_after_ns;

    switch (why) {
    case MON_STAYS_NOT:
        return false;
    case MON_STAYS_WAITS:
        SAY(p->doing, "%s in %" PRIu64 " s%s", goes,
            (uint64_t)((after_ns - MIN(away_ns, after_ns)) / NS_PER_S), then);
        break;
    case MON_STAYS_NOOUT:
        SAY(p->doing, "%s, because noout is set", who);
        break;
    case MON_STAYS_MAINTENANCE:
        SAY(p->doing, "%s, because its host is under maintenance", who);
        break;
    case MON_STAYS_NEVER_OUT:
        SAY(p->doing, "%s, because the monitor was started with --osd-out-after 0", who);
        break;
    case MON_STAYS_MANY:
        SAY(p->doing,
            "%s, because more than one OSD in four is down or has failed: `fastblock osd out` puts single ones out",
            who);
        break;
    case MON_STAYS_DOMAINS:
        SAY(p->doing,
            "%s, because a pool needs as many failure domains as there are without it, or more: add OSDs",
            who);
        break;
    }
    return true;
}

static void osd_down_problem(struct mon_status *st, struct mon_osd *o)
{
    const struct mon *mon = st->mon;
    const Fb__Osd *osd = mon_osd_item(o);
    const struct mon_missed *missed = mon_status_missed(st, osd->id);
    char since[48] = "", lost[96] = "no PG is there";

    if (o->down_ns)
        snprintf(since, sizeof(since), " since %" PRIu64 " s",
                 (uint64_t)((mon->alive_ns - o->down_ns) / NS_PER_S));
    if (missed->pgs)
        snprintf(lost, sizeof(lost), "%u PGs have only %u of %u replicas", missed->pgs, missed->left,
                 missed->of);
    struct mon_problem *p =
        problem(st, missed->pgs && missed->left * 2 <= missed->of, HEALTH_OSD_DOWN, osd->id);
    SAY(p->what, "osd.%u is down%s: %s", osd->id, since, lost);
    SAY(p->todo,
        "start it again with `systemctl start fastblock-osd@DEVICE` on host %.64s (in a one-machine "
        "cluster: `fastblock cluster start DIR osd.%u`)",
        osd->host[0] ? osd->host : "?", osd->id);
    if (!say_stays(p, mon, mon_out_stays(mon, o), "it stays in", "it goes out", ", then " OSD_DOING,
                   mon_osd_down_ns(mon, o)) &&
        osd->out)
        SAY(p->doing, "it is out: " OSD_DOING);
    if (osd->out && !mon_status_usage(st, osd->id)->replicas && !mon_osd_replicas(mon, osd->id)) {
        SAY(p->doing, "it is out, and nothing is to be on it any more");
        SAY(p->todo, "if it is not to come back: `fastblock osd remove osd.%u`", osd->id);
    }
}

/* What its device lost or returned wrong since its process started. */
static void damage_problem(struct mon_status *st, const struct mon_osd *o)
{
    uint64_t logs = 0, objects = 0, repaired = 0, unrepaired = 0;
    uint32_t id = mon_osd_item(o)->id;

    for (size_t s = 0; s < mon_osd_item(o)->n_shard; s++) {
        logs += o->shard[s].damaged_logs;
        objects += o->shard[s].damaged_objects;
        repaired += o->shard[s].repaired_blocks;
        unrepaired += o->shard[s].unrepaired_reads;
    }
    if (unrepaired) {
        struct mon_problem *p = problem(st, true, HEALTH_OSD_UNREPAIRED, id);
        SAY(p->what,
            "osd.%u met damage that no other replica could repair: %" PRIu64 " reads ended with an error", id,
            unrepaired);
        SAY(p->todo, "look at its log, and replace its device: `fastblock osd drain osd.%u`", id);
    }
    if (logs || objects || repaired) {
        struct mon_problem *p = problem(st, false, HEALTH_OSD_DAMAGE, id);
        SAY(p->what,
            "osd.%u: its device returned wrong data since it was started: %" PRIu64
            " objects and the logs of %" PRIu64 " replicas were damaged, %" PRIu64
            " blocks have been restored from other replicas",
            id, objects, logs, repaired);
        SAY(p->doing, "what other replicas have is restored from them");
        SAY(p->todo, "consider replacing the device");
    }
}

static void shard_problems(struct mon_status *st, const struct mon_osd *o)
{
    const Fb__Osd *osd = mon_osd_item(o);
    const struct mon *mon = st->mon;

    for (size_t s = 0; s < osd->n_shard; s++) {
        const struct mon_shard *shard = &o->shard[s];
        if (shard->failed[0]) {
            struct mon_problem *p = problem(st, true, HEALTH_SHARD_FAILED, osd->id);
            SAY(p->what, "osd.%u shard %zu took itself out of service: %s", osd->id, s, shard->failed);
            if (!say_stays(p, mon, mon_shard_stays(mon, o, (uint32_t)s), "its replicas stay there",
                           "its replicas are made anew elsewhere", "", mon->alive_ns - shard->failed_ns))
                SAY(p->doing, "its replicas are made anew elsewhere");
            SAY(p->todo,
                "restart the OSD, or replace the device: `fastblock osd out osd.%u` has its data made anew",
                osd->id);
        } else if (osd->up && !starting(mon) &&
                   mon->alive_ns - MAX(shard->heard_ns, (uint64_t)MON_TICK_NS) >=
                       mon->config.osd_down_after_ns) {
            struct mon_problem *p = problem(st, false, HEALTH_SHARD_SILENT, osd->id);
            SAY(p->what, "osd.%u is up, but its shard %zu does not report", osd->id, s);
            SAY(p->doing, "its PGs go on with their other replicas");
            SAY(p->todo, "look at the OSD's log on host %.64s, and restart it",
                osd->host[0] ? osd->host : "?");
        } else if (osd->up && shard->lacks_room) {
            struct mon_problem *p = problem(st, false, HEALTH_OSD_NO_ROOM, osd->id);
            SAY(p->what,
                "osd.%u shard %zu has no room to make %u replicas whole (such as that of PG %u.%x), which their PGs lack "
                "until then",
                osd->id, s, shard->lacks_room, mon_pg_pool(shard->lacks_room_pg),
                mon_pg_number(shard->lacks_room_pg));
            SAY(p->doing, "they go on as soon as there is room");
            SAY(p->todo,
                "remove or shrink images, or discard; or have it hold less: `fastblock osd reweight osd.%u`, when others "
                "have room",
                osd->id);
        }
    }
}

/* Its shards are full each by itself: the fullest refuses writes, whatever the others have. */
static void full_problem(struct mon_status *st, const struct mon_osd *o)
{
    const Fb__Osd *osd = mon_osd_item(o);
    uint64_t free_bytes = UINT64_MAX, size_bytes = 0;
    char shard[32] = "";

    for (size_t s = 0; s < osd->n_shard; s++) {
        if (!o->shard[s].reported || o->shard[s].free_bytes >= free_bytes)
            continue;
        free_bytes = o->shard[s].free_bytes;
        size_bytes = osd->shard[s]->size_bytes;
        if (osd->n_shard > 1)
            snprintf(shard, sizeof(shard), " shard %zu", s);
    }
    if (!size_bytes || free_bytes >= size_bytes / 10)
        return;
    struct mon_problem *p = problem(st, free_bytes < size_bytes / 50, HEALTH_OSD_FULL, osd->id);
    SAY(p->what, "osd.%u%s is %" PRIu64 "%% full: writes are refused when it is full", osd->id, shard,
        (size_bytes - free_bytes) * 100 / size_bytes);
    SAY(p->todo, "add OSDs, remove or shrink images, or discard what they do not need");
}

static void osd_problems(struct mon_status *st, struct mon_osd *o)
{
    const Fb__Osd *osd = mon_osd_item(o);
    const Fb__OsdUsage *usage = mon_status_usage(st, osd->id);

    if (!osd->incarnation) {
        struct mon_problem *p = problem(st, false, HEALTH_OSD_NEW, osd->id);
        SAY(p->what, "osd.%u was formatted but has never been started", osd->id);
        SAY(p->todo,
            "start it with `systemctl start fastblock-osd@DEVICE` on host %.64s (without systemd: `fastblock-osd run "
            "DEVICE --mon ADDR`), or take it back: `fastblock osd remove osd.%u`",
            osd->host[0] ? osd->host : "?", osd->id);
    } else if (!osd->up) {
        osd_down_problem(st, o);
    } else if (!mon_osd_in(osd) && usage && usage->replicas) {
        struct mon_problem *p = problem(st, false, HEALTH_OSD_OUT, osd->id);
        SAY(p->what, "osd.%u is out and has replicas of %u PGs", osd->id, usage->replicas);
        SAY(p->doing, OSD_DOING);
        SAY(p->todo,
            "nothing: `fastblock rebalance status` tells how far it is; `fastblock osd in osd.%u` ends it",
            osd->id);
    }
    damage_problem(st, o);
    shard_problems(st, o);
    full_problem(st, o);
}

/* ---- PGs ---- */

/* PGs whose majority is gone for good. */
static void force_problems(struct mon_status *st)
{
    const uint32_t *count = st->pg_count;
    struct mon_problem *p;

    if (count[PG_FORCE_DUE] && !starting(st->mon)) {
        p = problem(st, true, HEALTH_PG_MAJORITY_LOST, NO_SUBJECT);
        SAY(p->what, "%u PGs have lost most of their replicas for good (%s)", count[PG_FORCE_DUE],
            st->pg_examples[PG_FORCE_DUE]);
        SAY(p->todo,
            "`fastblock pg force-recover --all-lost` shows with which replica they can go on, and what would be lost");
    }
    if (count[PG_FORCE_WAITS]) {
        p = problem(st, true, HEALTH_PG_FORCE_WAITS, NO_SUBJECT);
        SAY(p->what, "%u PGs are to go on with one replica (%s)", count[PG_FORCE_WAITS],
            st->pg_examples[PG_FORCE_WAITS]);
        SAY(p->doing, "that replica waits until the others are known to have ended");
        SAY(p->todo,
            "if it takes long: `fastblock pg force-recover PG` says for which OSDs it waits: start them, "
            "or `fastblock osd lost OSD`");
    }
    if (count[PG_FORCE_FAILS]) {
        p = problem(st, true, HEALTH_PG_FORCE_FAILS, NO_SUBJECT);
        SAY(p->what, "%u PGs are to go on with a replica that cannot: it is lost, or not whole any more (%s)",
            count[PG_FORCE_FAILS], st->pg_examples[PG_FORCE_FAILS]);
        SAY(p->todo,
            "`fastblock pg force-recover PG --withdraw`, before the OSDs that it waits for are started: what they "
            "have not deleted yet can be gone on with");
    }
    if (count[PG_FORCE_NOTHING] && !starting(st->mon)) {
        p = problem(st, true, HEALTH_PG_NOTHING_LEFT, NO_SUBJECT);
        SAY(p->what, "%u PGs have no replica left that is whole (%s): their data is lost",
            count[PG_FORCE_NOTHING], st->pg_examples[PG_FORCE_NOTHING]);
        SAY(p->todo,
            "`fastblock pg force-recover PG` says what each replica is; restore the images from a backup");
    }
    if (count[PG_FORCED]) {
        p = problem(st, false, HEALTH_PG_FORCED, NO_SUBJECT);
        if (st->entries_lost)
            SAY(p->what,
                "%u PGs went on without a majority (%s): at least %" PRIu64
                " writes that were acknowledged are lost",
                count[PG_FORCED], st->pg_examples[PG_FORCED], st->entries_lost);
        else
            SAY(p->what,
                "%u PGs went on without a majority (%s): no acknowledged write is known to be lost, but for those of "
                "the last moment, which nobody knows",
                count[PG_FORCED], st->pg_examples[PG_FORCED]);
        SAY(p->todo, "check the images (`fastblock pg show PG` says as of when they are); then `fastblock pg "
                     "acknowledge --all`");
    }
}

static void pg_problems(struct mon_status *st)
{
    const uint32_t *count = st->pg_count;
    const Fb__MoveProgress *m = &st->progress;
    struct mon_problem *p;

    if (starting(st->mon) && count[PG_NO_LEADER]) {
        p = problem(st, false, HEALTH_MON_STARTING, NO_SUBJECT);
        SAY(p->what, "the monitor has just started: %u PGs have not reported yet", count[PG_NO_LEADER]);
        SAY(p->doing, "it waits for them");
        SAY(p->todo, "nothing: ask again in a few seconds");
    } else if (count[PG_NO_LEADER]) {
        uint32_t told =
            count[PG_FORCE_DUE] + count[PG_FORCE_WAITS] + count[PG_FORCE_FAILS] + count[PG_FORCE_NOTHING];
        p = problem(st, true, HEALTH_PG_NO_LEADER, NO_SUBJECT);
        SAY(p->what, "%u PGs have no leader (%s): reads and writes there wait", count[PG_NO_LEADER],
            st->pg_examples[PG_NO_LEADER]);
        if (told == count[PG_NO_LEADER])
            SAY(p->todo, "the next problems say what each of them needs");
        else
            SAY(p->todo,
                "%sa majority of each PG's OSDs must be up: start what is down (`fastblock pg ls`). If one is gone "
                "for good: `fastblock pg force-recover --all-lost` tells what is left; then `fastblock osd lost OSD`, and "
                "it again",
                told ? "for those not named below: " : "");
    }
    force_problems(st);
    if (count[PG_DAMAGED]) {
        p = problem(st, false, HEALTH_PG_DAMAGED, NO_SUBJECT);
        SAY(p->what, "%u PGs have a replica whose log is damaged (%s)", count[PG_DAMAGED],
            st->pg_examples[PG_DAMAGED]);
        SAY(p->doing, "they go on with the others, and make it whole from these");
        SAY(p->todo,
            "look at the log of its OSD (`fastblock pg show PG` says which); consider replacing the device");
    }
    if (count[PG_RECOVERING]) {
        p = problem(st, false, HEALTH_PG_RECOVERING, NO_SUBJECT);
        SAY(p->what, "%u PGs are copying data to a replica that was away, or is new (%s)",
            count[PG_RECOVERING], st->pg_examples[PG_RECOVERING]);
        SAY(p->doing, "they go on with the replicas that are whole; what is copied stays copied");
        SAY(p->todo, "nothing: `fastblock pg ls` shows them");
    }
    if (count[PG_DEGRADED]) {
        p = problem(st, false, HEALTH_PG_DEGRADED, NO_SUBJECT);
        SAY(p->what, "%u PGs have fewer replicas in contact than they should (%s)", count[PG_DEGRADED],
            st->pg_examples[PG_DEGRADED]);
        if (m->under_way || m->urgent)
            SAY(p->doing, "%u PGs are getting other members, %u wait for that", m->under_way,
                m->urgent + m->misplaced);
        SAY(p->todo,
            "start the OSDs that are down; if all are up, `fastblock pg ls` shows which members are missing");
    }
    if (m->stuck) {
        p = problem(st, false, HEALTH_PG_STUCK, NO_SUBJECT);
        SAY(p->what,
            "%u PGs cannot get the members that they should have: no OSD in another failure domain has room for them",
            m->stuck);
        SAY(p->doing, "they stay as they are");
        SAY(p->todo, "add OSDs, or start those that are down; `fastblock osd tree` shows them");
    }
    const struct mon_moves *moves = &st->mon->moves;
    if (moves->kept) {
        uint32_t of = mon_pg_pool(moves->kept_pg);
        p = problem(st, false, HEALTH_PG_NOT_MOVED, NO_SUBJECT);
        SAY(p->what,
            "%u PGs should have other members, and stay where they are: PG %u.%x was split off PG %u.%x, which went on "
            "without that, and what is left of it may be there only",
            moves->kept, of, mon_pg_number(moves->kept_for), of, mon_pg_number(moves->kept_pg));
        SAY(p->doing, "they are moved as soon as that one has a leader");
        SAY(p->todo, "`fastblock pg force-recover %u.%x` says what it lacks", of,
            mon_pg_number(moves->kept_for));
    }
    const Fb__Pool *pool = mon_split_stuck(st->mon);
    if (pool) {
        p = problem(st, false, HEALTH_PG_UNSPLIT, NO_SUBJECT);
        SAY(p->what,
            "pool '%s' is to have %u PGs and has %u: PG %u.%x, which is the next to be split, is not",
            pool->name, pool->pg_target, pool->pg_count, pool->id, placement_pg_parent(pool->pg_count));
        SAY(p->doing,
            "it is as soon as all of its replicas are in contact, and none recovers, comes or goes");
        const Fb__PgMember *full = mon_split_full(st->mon, pool);
        if (full)
            SAY(p->todo,
                "osd.%u shard %u holds as many replicas as it can: add OSDs, and let them be spread (`fastblock rebalance "
                "status`), or remove pools",
                full->osd, full->shard);
        else
            SAY(p->todo,
                "start the OSDs that are down, or take them out; the logs of its OSDs tell of other reasons");
    }
    if (count[PG_LOST]) {
        p = problem(st, true, HEALTH_PG_BLOCKS_LOST, NO_SUBJECT);
        SAY(p->what,
            "%" PRIu64
            " blocks are damaged on every replica that could be asked, in %u PGs (%s): reading them fails, all else "
            "goes on",
            st->message.damaged_blocks, count[PG_LOST], st->pg_examples[PG_LOST]);
        SAY(p->todo,
            "`fastblock pg show PG` lists them; they are whole again once they are written, or when an OSD "
            "that has them comes back");
    }
    if (count[PG_DIFFERS]) {
        p = problem(st, true, HEALTH_PG_DIFFERS, NO_SUBJECT);
        SAY(p->what,
            "%" PRIu64
            " objects are not the same on all replicas though their checksums are right, in %u PGs (%s)",
            st->message.differing, count[PG_DIFFERS], st->pg_examples[PG_DIFFERS]);
        SAY(p->todo,
            "`fastblock pg show PG` tells which; `fastblock pg repair PG` makes them what most replicas have");
    }
    if (st->pools_going) {
        p = problem(st, false, HEALTH_PG_GOING, NO_SUBJECT);
        SAY(p->what, "%u PGs of removed pools still have data", st->pools_going);
        SAY(p->doing, "it is deleted once all of their OSDs are up");
        SAY(p->todo, "nothing if they are up");
    }
}

/* ---- the cluster ---- */

static void flag_problem(struct mon_status *st, bool set, enum health_code code, const char *what,
                         const char *todo)
{
    if (!set)
        return;
    struct mon_problem *p = problem(st, false, code, NO_SUBJECT);
    SAY(p->what, "%s", what);
    SAY(p->todo, "%s", todo);
}

static void monitors_problem(struct mon_status *st)
{
    char names[200];
    uint32_t down = mon_monitors_down(st->mon, names, sizeof(names));

    if (!down || starting(st->mon))
        return;
    struct mon_problem *p = problem(st, false, HEALTH_MON_DOWN, NO_SUBJECT);
    SAY(p->what, "%u monitors do not run, or do not reach the metadata store: %s", down, names);
    SAY(p->doing, "the others go on");
    SAY(p->todo, "start them; one that is gone for good: `fastblock mon rm ADDRESS`");
}

static void placement_problems(struct mon_status *st)
{
    mon_for_each(st->mon, MON_POOL, node)
    {
        const Fb__Pool *pool = mon_pool_item(mon_pool_of(node));
        if (pool->removed || !pool->placement[0] || mon_chooser_find(st->mon, pool->placement))
            continue;
        struct mon_problem *p = problem(st, false, HEALTH_POOL_PLACEMENT, pool->id);
        SAY(p->what, "pool %.64s is placed by '%.64s', which the monitor that leads has not loaded",
            pool->name, pool->placement);
        SAY(p->doing, "its PGs are placed as if it named none");
        SAY(p->todo, "start every monitor with `--placement-plugin PATH`");
    }
}

static void cluster_problems(struct mon_status *st)
{
    const struct mon *mon = st->mon;
    uint32_t maintenance = 0;
    const char *host = "";
    struct mon_problem *p;

    if (mon->behind[0]) {
        p = problem(st, true, HEALTH_MON_BEHIND, NO_SUBJECT);
        SAY(p->what, "%.300s", mon->behind);
        SAY(p->doing, "it changes nothing any more; reads and writes go on");
        SAY(p->todo,
            "stop the monitor and start it on its newest data; if there are none, `fastblock mon rebuild` makes "
            "them anew from the OSDs");
    }
    if (mon->stale) {
        p = problem(st, true, HEALTH_MON_METADATA, NO_SUBJECT);
        SAY(p->what, "the monitor cannot write its metadata");
        SAY(p->doing, "it goes on with the map as it is, and tries again");
        SAY(p->todo, "look at its log, and at the disk under its data directory or at etcd");
    }
    monitors_problem(st);
    placement_problems(st);
    if (!st->message.osds) {
        p = problem(st, false, HEALTH_OSD_NONE, NO_SUBJECT);
        SAY(p->what, "there are no OSDs yet");
        SAY(p->todo, "format a device with `fastblock-osd format DEVICE --mon ADDR` and run it");
    }
    flag_problem(st, mon->state.noout, HEALTH_FLAG_NOOUT, "noout is set: no OSD goes out by itself",
                 "`fastblock cluster unset noout` when the work is done");
    flag_problem(st, mon->state.norebalance, HEALTH_FLAG_NOREBALANCE,
                 "norebalance is set: data is not spread evenly",
                 "`fastblock cluster unset norebalance` when the work is done");
    flag_problem(st, mon->state.paused, HEALTH_FLAG_PAUSE, "pause is set: no reads and writes begin",
                 "`fastblock cluster unset pause` lets them go on");
    flag_problem(st, mon->state.scrub_paused, HEALTH_SCRUB_PAUSED, "scrubs are paused",
                 "`fastblock scrub resume` lets them go on");
    mon_for_each(mon, MON_OSD, node)
    {
        const Fb__Osd *osd = mon_osd_item(mon_osd_of(node));
        if (!osd->maintenance || osd->removed)
            continue;
        maintenance++;
        host = osd->host;
    }
    if (maintenance) {
        p = problem(st, false, HEALTH_HOST_MAINTENANCE, NO_SUBJECT);
        SAY(p->what, "%u OSDs are on hosts under maintenance: they stay in however long they are down",
            maintenance);
        SAY(p->todo,
            "`fastblock host maintenance %.64s off` when the work is done (`fastblock osd tree` shows all of them)",
            host);
    }
}

static void omitted_problem(struct mon_status *st)
{
    if (st->subjects <= STATUS_SUBJECTS_MAX)
        return;
    struct mon_problem *p = problem(st, false, HEALTH_OMITTED, NO_SUBJECT);
    SAY(p->what, "%u more problems of single OSDs and pools are not listed",
        st->subjects - STATUS_SUBJECTS_MAX);
    SAY(p->todo, "`fastblock osd ls` shows all OSDs; they are listed when others have gone");
}

static void compose(struct mon_status *st)
{
    for (size_t i = 0; i < st->message.n_detail; i++) {
        struct mon_problem *p = &st->problem[i];
        say(p->text, sizeof(p->text), "%s%s%s%s%s", p->what, p->todo[0] ? "; " : "", p->todo,
            p->doing[0] ? "; " : "", p->doing);
        st->texts[i] = p->text;
    }
    st->message.detail = st->details;
    st->message.problem = st->texts;
    st->message.n_problem = st->message.n_detail;
    st->message.health = (char *)(st->error ? "error" : st->warning ? "warning" : "ok");
}

void mon_health_fill(struct mon_status *st)
{
    struct mon *mon = st->mon;

    for (uint32_t i = 0; i < MON_SINCE_MAX; i++)
        mon->since[i].seen = false;
    cluster_problems(st);
    for (size_t i = 0; i < st->message.n_usage; i++)
        osd_problems(st, mon_osd_find(mon, st->message.usage[i]->osd));
    pg_problems(st);
    omitted_problem(st);
    for (uint32_t i = 0; i < MON_SINCE_MAX; i++)
        if (!mon->since[i].seen)
            mon->since[i].since_us = 0;
    compose(st);
}

void mon_health_look(struct mon *mon)
{
    if (mon->alive_ns - mon->health_looked_ns < LOOK_NS)
        return;
    mon->health_looked_ns = mon->alive_ns;
    struct mon_status *st = mon_status_new(mon);
    if (st && strcmp(st->message.health, mon->health)) {
        mon_note(mon,
                 st->error     ? LOG_ERROR
                 : st->warning ? LOG_WARN
                               : LOG_INFO,
                 "health is %s%s%.150s", st->message.health, st->message.n_problem ? ": " : "",
                 st->message.n_problem ? st->problem[0].what : "");
        say(mon->health, sizeof(mon->health), "%s", st->message.health);
    }
    mon_status_free(st);
}
