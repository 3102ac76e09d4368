/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock osd out, in, drain, reweight, remove; host maintenance; cluster set, unset; rebalance limit;
 * events: what operators say of OSDs and of the cluster.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cmd/cmd.h"

#define DRAIN_STUCK_LOOKS 10 /* one every 500 ms: nothing moves, for lack of a place */

/* ---- OSDs ---- */

static int change(struct cmd_args *args, Fb__OsdAction action, uint32_t weight, const char *verb,
                  const char *done)
{
    Fb__OsdChange osd_change = FB__OSD_CHANGE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    if (!cmd_parse_osd(args->positional[0], &osd_change.osd))
        return CMD_USAGE;
    osd_change.action = action;
    osd_change.weight = weight;
    request.call_case = FB__MON_REQUEST__CALL_OSD_CHANGE;
    request.osd_change = &osd_change;
    return cmd_order(args, &request, cmd_text("cannot %s osd.%u", verb, osd_change.osd),
                     json_pack("{s:I, s:s}", "osd", (json_int_t)osd_change.osd, "done", args->command->name),
                     cmd_text("osd.%u %s", osd_change.osd, done));
}

int cmd_osd_out(struct cmd_args *args)
{
    return change(args, FB__OSD_ACTION__OSD_ACTION_OUT, 0, "put out",
                  "is out: its data is made anew on other OSDs; `fastblock status` shows how far it is");
}

int cmd_osd_in(struct cmd_args *args)
{
    return change(args, FB__OSD_ACTION__OSD_ACTION_IN, 0, "take in", "is in");
}

int cmd_osd_remove(struct cmd_args *args)
{
    return change(args, FB__OSD_ACTION__OSD_ACTION_REMOVE, 0, "remove",
                  "is removed; its device can be formatted as a new OSD");
}

int cmd_osd_reweight(struct cmd_args *args)
{
    const char *text = args->positional[1];
    char *end;
    double weight = strtod(text, &end);

    if (end == text || *end || !(weight >= 0 && weight <= 1))
        return cmd_usage("'%s' is no weight: it is 0 to 1, for example 0.8", text);
    return change(args, FB__OSD_ACTION__OSD_ACTION_REWEIGHT, (uint32_t)(weight * 1000 + 0.5), "reweight",
                  cmd_text("has weight %.3f", weight));
}

/* Of the OSD; -1: it is not in the status. */
static int64_t replicas_of(const Fb__ClusterStatus *status, uint32_t osd)
{
    for (size_t i = 0; i < status->n_usage; i++)
        if (status->usage[i]->osd == osd)
            return status->usage[i]->replicas;
    return -1;
}

/* Is nothing going to move that could? */
static bool is_stuck(const Fb__ClusterStatus *status)
{
    const Fb__MoveProgress *m = status->progress;

    return m && m->stuck && !m->under_way && !m->urgent && !m->misplaced;
}

/* Until it has no replicas any more. */
static int drain_wait(struct cmd_session *s, struct cmd_args *args, uint32_t osd)
{
    int64_t left = 1, shown = -1;
    uint32_t stuck = 0;

    while (left > 0 && stuck < DRAIN_STUCK_LOOKS && !cmd_interrupted()) {
        struct cmd_call call;
        Fb__MonReply *reply = cmd_status_get(s, &call);
        if (!reply)
            return CMD_FAILED;
        left = replicas_of(reply->status, osd);
        stuck = is_stuck(reply->status) ? stuck + 1 : 0;
        cmd_call_end(&call);
        if (left > 0 && left != shown && !args->json)
            fprintf(stderr, "osd.%u: %" PRId64 " replicas left\n", osd, left);
        shown = left;
        if (left > 0)
            cmd_sleep(s, 500);
    }
    if (stuck == DRAIN_STUCK_LOOKS)
        return cmd_fail(
            "osd.%u still has %" PRId64
            " replicas, and no OSD in another failure domain has room for them: add OSDs, and it goes on by "
            "itself; or `fastblock osd in osd.%u`",
            osd, left, osd);
    if (left > 0)
        return cmd_fail("interrupted: osd.%u stays out and goes on being drained; it has %" PRId64
                        " replicas left",
                        osd, left);
    return CMD_OK;
}

int cmd_osd_drain(struct cmd_args *args)
{
    Fb__OsdChange osd_change = FB__OSD_CHANGE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    struct cmd_session s;
    struct cmd_call call;
    int result = CMD_FAILED;

    if (!cmd_parse_osd(args->positional[0], &osd_change.osd))
        return CMD_USAGE;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    osd_change.action = FB__OSD_ACTION__OSD_ACTION_OUT;
    request.call_case = FB__MON_REQUEST__CALL_OSD_CHANGE;
    request.osd_change = &osd_change;
    if (cmd_mon_call(&s, &call, &request, cmd_text("cannot drain osd.%u", osd_change.osd))) {
        cmd_call_end(&call);
        result = cmd_option(args, "no-wait") ? CMD_OK : drain_wait(&s, args, osd_change.osd);
    }
    if (!result && args->json)
        cmd_print_json(json_pack("{s:I, s:b}", "osd", (json_int_t)osd_change.osd, "empty",
                                 !cmd_option(args, "no-wait")));
    else if (!result && cmd_option(args, "no-wait"))
        printf("osd.%u is being drained; `fastblock status` shows how far it is\n", osd_change.osd);
    else if (!result)
        printf("osd.%u has no replicas any more: stop it, then `fastblock osd remove osd.%u`\n",
               osd_change.osd, osd_change.osd);
    cmd_session_close(&s);
    return result;
}

/* ---- hosts, flags ---- */

static bool parse_switch(const char *text, bool *ret_on)
{
    *ret_on = !strcmp(text, "on");
    if (*ret_on || !strcmp(text, "off"))
        return true;
    cmd_usage("'%s': it is on or off", text);
    return false;
}

int cmd_host_maintenance(struct cmd_args *args)
{
    Fb__HostMaintenance host = FB__HOST_MAINTENANCE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    bool on;

    if (!parse_switch(args->positional[1], &on))
        return CMD_USAGE;
    host.host = (char *)args->positional[0];
    host.on = on;
    request.call_case = FB__MON_REQUEST__CALL_HOST_MAINTENANCE;
    request.host_maintenance = &host;
    return cmd_order(
        args, &request, "cannot change the maintenance of the host",
        json_pack("{s:s, s:b}", "host", host.host, "maintenance", on),
        on ? cmd_text("host %s is under maintenance: its OSDs may be down for long and stay in", host.host)
           : cmd_text("the maintenance of host %s has ended", host.host));
}

static int set_flag(struct cmd_args *args, bool on)
{
    static const char *const names[] = {"", "noout", "norebalance", "pause"};
    Fb__ClusterSet set = FB__CLUSTER_SET__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    for (uint32_t i = 1; i < ARRAY_LEN(names); i++)
        if (!strcmp(args->positional[0], names[i]))
            set.flag = (Fb__ClusterFlag)i;
    if (!set.flag)
        return cmd_usage("there is no flag '%s': it is noout, norebalance or pause", args->positional[0]);
    set.on = on;
    request.call_case = FB__MON_REQUEST__CALL_CLUSTER_SET;
    request.cluster_set = &set;
    return cmd_order(args, &request, cmd_text("cannot change flag %s", args->positional[0]),
                     json_pack("{s:s, s:b}", "flag", args->positional[0], "set", on),
                     cmd_text("%s is %s", args->positional[0], on ? "set" : "not set any more"));
}

int cmd_cluster_set(struct cmd_args *args)
{
    return set_flag(args, true);
}

int cmd_cluster_unset(struct cmd_args *args)
{
    return set_flag(args, false);
}

int cmd_rebalance_limit(struct cmd_args *args)
{
    Fb__MovesLimit limit = FB__MOVES_LIMIT__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    char *end;
    unsigned long moves = strtoul(args->positional[0], &end, 10);

    if (args->positional[0][0] < '0' || args->positional[0][0] > '9' || *end || moves > 65536)
        return cmd_usage("'%s': it is a number of PGs; 0: the default", args->positional[0]);
    limit.moves = (uint32_t)moves;
    request.call_case = FB__MON_REQUEST__CALL_MOVES_LIMIT;
    request.moves_limit = &limit;
    return cmd_order(args, &request, "cannot set the limit",
                     json_pack("{s:I}", "moves_max", (json_int_t)moves),
                     moves ? cmd_text("at most %lu PGs move to or from an OSD at once", moves)
                           : "as many PGs move to or from an OSD at once as by default");
}

/* ---- events ---- */

static void event_print(struct cmd_args *args, const Fb__ClusterEvent *e)
{
    static const char *const levels[] = {"error", "warn", "info"};
    const char *level = e->level < ARRAY_LEN(levels) ? levels[e->level] : "info";

    if (args->json)
        cmd_print_json(json_pack("{s:I, s:I, s:s, s:s}", "number", (json_int_t)e->number, "time_us",
                                 (json_int_t)e->time_us, "level", level, "text", e->text));
    else
        printf("%s %-5s %s\n", cmd_time_text(e->time_us), level, e->text);
}

/* Nobody reads standard output any more, or nothing can be written there. */
static bool output_is_gone(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};

    return ferror(stdout) || (poll(&out, 1, 0) == 1 && out.revents & (POLLERR | POLLHUP));
}

int cmd_events(struct cmd_args *args)
{
    Fb__EventList list = FB__EVENT_LIST__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    bool follow = cmd_option(args, "follow"), ok = true;
    struct cmd_session s;

    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    request.call_case = FB__MON_REQUEST__CALL_EVENT_LIST;
    request.event_list = &list;
    for (;;) {
        struct cmd_call call;
        Fb__MonReply *reply = cmd_mon_call(&s, &call, &request, "cannot get the events");
        ok = reply;
        for (size_t i = 0; reply && i < reply->n_events; i++) {
            event_print(args, reply->events[i]);
            list.after = reply->events[i]->number;
        }
        if (reply)
            cmd_call_end(&call);
        fflush(stdout);
        if (!follow || cmd_interrupted() || output_is_gone())
            break;
        cmd_sleep(&s, 1000);
    }
    cmd_session_close(&s);
    return ok || cmd_interrupted() ? CMD_OK : CMD_FAILED;
}
