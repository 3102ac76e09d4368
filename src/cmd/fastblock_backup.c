/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock mon backup, restore, migrate: the metadata of the monitors, copied to a file, from a file, or
 * from one store to another.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cmd/meta_set.h"

#define BACKUP_TRIES 20

/* ---- from the monitor that leads ---- */

/* CMD_OK, CMD_FAILED, or -1: something was changed meanwhile. */
static int dump_once(struct cmd_session *s, struct meta_set *set)
{
    Fb__MonDump dump = FB__MON_DUMP__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    uint64_t epoch = 0;

    request.call_case = FB__MON_REQUEST__CALL_MON_DUMP;
    request.mon_dump = &dump;
    for (bool more = true; more;) {
        struct cmd_call call;
        Fb__MonReply *reply = cmd_mon_call(s, &call, &request, "cannot copy the metadata");
        int error = 0;
        if (!reply)
            return CMD_FAILED;
        bool same = !dump.started || reply->epoch == epoch;
        for (size_t i = 0; same && i < reply->n_entries && !error; i++) {
            const Fb__MonEntry *e = reply->entries[i];
            error = meta_set_put(set, e->key, e->value.data, e->value.len);
            dump.kind = e->kind;
            dump.id = e->id;
        }
        more = reply->more && reply->n_entries;
        if (same && !more && !error)
            error = meta_set_put(set, "cluster", reply->state.data, reply->state.len);
        epoch = reply->epoch;
        dump.started = true;
        cmd_call_end(&call);
        if (error)
            return cmd_fail("cannot copy the metadata: %s", error_text(error));
        if (!same)
            return -1;
    }
    return CMD_OK;
}

int cmd_mon_backup(struct cmd_args *args)
{
    struct cmd_session s;
    struct meta_set set = {0};
    int result = -1;

    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    for (int tries = 0; tries < BACKUP_TRIES && result < 0; tries++) {
        meta_set_free(&set);
        result = dump_once(&s, &set);
    }
    cmd_session_close(&s);
    if (result < 0)
        result = cmd_fail("the metadata changed all the time: try again");
    if (!result)
        result = meta_set_write(&set, args->positional[0]);
    if (!result && args->json)
        cmd_print_json(json_pack("{s:s, s:I}", "file", args->positional[0], "keys", (json_int_t)set.count));
    else if (!result)
        printf("%u keys written to %s\n", set.count, args->positional[0]);
    meta_set_free(&set);
    return result;
}

/* ---- to a store ---- */

static int fill(const char *to, const struct meta_set *set, const struct cmd_args *args)
{
    struct meta_place place;
    int result = meta_place_open(&place, to, true);

    if (result)
        return result;
    result = meta_place_fill(&place, set);
    meta_place_close(&place);
    if (!result && args->json)
        cmd_print_json(json_pack("{s:s, s:I}", "store", to, "keys", (json_int_t)set->count));
    else if (!result)
        printf("%u keys written to %s\n", set->count, to);
    return result;
}

int cmd_mon_restore(struct cmd_args *args)
{
    const char *to = cmd_option(args, "to");
    struct meta_set set;

    if (!to)
        return cmd_usage("--to STORE is needed: a new data directory, or etcd://...");
    int result = meta_set_read(&set, args->positional[0]);
    if (result)
        return result;
    result = fill(to, &set, args);
    meta_set_free(&set);
    return result;
}

int cmd_mon_migrate(struct cmd_args *args)
{
    const char *from = args->positional[0], *to = args->positional[1];
    struct meta_place place;
    struct meta_set set;
    char moved[sizeof(place.path) + 16];

    if (!strncmp(from, "etcd://", 7))
        return cmd_usage(
            "%s: it is a data directory that is migrated; from etcd use `mon backup` and `mon restore`",
            from);
    int result = meta_place_open(&place, from, false);
    if (result)
        return result;
    result = meta_place_load(&place, &set);
    if (!result) {
        result = fill(to, &set, args); /* the lock on the old one is held */
        meta_set_free(&set);
    }
    snprintf(moved, sizeof(moved), "%s.migrated", place.path);
    if (!result && rename(place.path, moved) < 0)
        result = cmd_fail("all is copied, but %s cannot be renamed: never start a monitor on it again",
                          place.path);
    meta_place_close(&place);
    return result;
}
