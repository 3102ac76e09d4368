/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock pool ...: create, list, set, remove.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cmd/cmd.h"

/* Distinct hosts among the OSDs that are up. */
static uint32_t count_hosts(const Fb__ClusterMap *map)
{
    uint32_t hosts = 0;
    for (size_t i = 0; i < map->n_osd; i++) {
        bool seen = !map->osd[i]->up;
        for (size_t j = 0; j < i && !seen; j++)
            seen = map->osd[j]->up && strcmp(map->osd[j]->host, map->osd[i]->host) == 0;
        hosts += !seen;
    }
    return hosts;
}

int cmd_pool_create(struct cmd_args *args)
{
    uint64_t replicas, pgs;
    if (!cmd_option_number(args, "replicas", 3, 1, 7, &replicas) ||
        !cmd_option_number(args, "pgs", 0, 1, 65536, &pgs))
        return CMD_USAGE;
    const char *domain = cmd_option(args, "failure-domain");
    if (domain && strcmp(domain, "osd") != 0 && strcmp(domain, "host") != 0 && strcmp(domain, "rack") != 0 &&
        strcmp(domain, "zone") != 0)
        return cmd_usage("--failure-domain %s: it is osd, host, rack or zone", domain);

    struct cmd_session s;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    if (!domain)
        domain = count_hosts(client_map(s.client)) >= replicas ? "host" : "osd";

    Fb__PoolCreate create = FB__POOL_CREATE__INIT;
    create.name = (char *)args->positional[0];
    create.replicas = (uint32_t)replicas;
    create.pg_count = (uint32_t)pgs;
    create.failure_domain = (char *)domain;
    create.placement = (char *)(cmd_option(args, "placement") ? cmd_option(args, "placement") : "");
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_POOL_CREATE;
    request.pool_create = &create;
    struct cmd_call call;
    Fb__MonReply *reply = cmd_mon_call(&s, &call, &request, cmd_text("cannot create pool %s", create.name));
    int result = CMD_FAILED;
    if (reply) {
        result = CMD_OK;
        if (args->json)
            cmd_print_json(json_pack("{s:s, s:I, s:i, s:i, s:s}", "name", create.name, "id",
                                     (json_int_t)reply->id, "replicas", (int)replicas, "pgs",
                                     (int)reply->pg_count, "failure_domain", domain));
        else
            printf("pool %s created: %d replicas, %d PGs, failure domain %s\n", create.name, (int)replicas,
                   (int)reply->pg_count, domain);
        cmd_note(reply);
        cmd_call_end(&call);
    }
    cmd_session_close(&s);
    return result;
}

int cmd_pool_ls(struct cmd_args *args)
{
    struct cmd_session s;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    const Fb__ClusterMap *map = client_map(s.client);
    json_t *list = json_array();
    struct cmd_table *table = cmd_table_new("lrrrl", "NAME", "ID", "REPLICAS", "PGS", "FAILURE DOMAIN", NULL);
    for (size_t i = 0; i < map->n_pool; i++) {
        const Fb__Pool *p = map->pool[i];
        if (p->removed)
            continue;
        json_array_append_new(
            list, json_pack("{s:s, s:I, s:I, s:I, s:I, s:s}", "name", p->name, "id", (json_int_t)p->id,
                            "replicas", (json_int_t)p->replicas, "pgs", (json_int_t)p->pg_count, "pgs_wanted",
                            (json_int_t)MAX(p->pg_count, p->pg_target), "failure_domain", p->failure_domain));
        cmd_table_row(table, p->name, cmd_text("%u", p->id), cmd_text("%u", p->replicas),
                      p->pg_target > p->pg_count ? cmd_text("%u of %u", p->pg_count, p->pg_target)
                                                 : cmd_text("%u", p->pg_count),
                      p->failure_domain);
    }
    cmd_table_print(table, args, list);
    cmd_session_close(&s);
    return CMD_OK;
}

int cmd_pool_rm(struct cmd_args *args)
{
    struct cmd_session s;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__PoolRemove remove = FB__POOL_REMOVE__INIT;
    remove.name = (char *)args->positional[0];
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_POOL_REMOVE;
    request.pool_remove = &remove;
    struct cmd_call call;
    int result = CMD_FAILED;
    if (cmd_mon_call(&s, &call, &request, cmd_text("cannot remove pool %s", remove.name))) {
        result = CMD_OK;
        if (args->json)
            cmd_print_json(json_pack("{s:s}", "removed", remove.name));
        else
            printf("pool %s removed\n", remove.name);
        cmd_call_end(&call);
    }
    cmd_session_close(&s);
    return result;
}

int cmd_pool_set(struct cmd_args *args)
{
    Fb__PoolSet set = FB__POOL_SET__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    uint64_t replicas = 0, pgs = 0;

    if (!cmd_option(args, "replicas") && !cmd_option(args, "pgs"))
        return cmd_usage("pool set needs --replicas N or --pgs N");
    if ((cmd_option(args, "replicas") && !cmd_option_number(args, "replicas", 3, 1, 7, &replicas)) ||
        (cmd_option(args, "pgs") && !cmd_option_number(args, "pgs", 1, 1, 65536, &pgs)))
        return CMD_USAGE;
    set.name = (char *)args->positional[0];
    set.replicas = (uint32_t)replicas;
    set.pg_count = (uint32_t)pgs;
    set.no_failover = cmd_option(args, "yes-no-failover") != NULL;
    request.call_case = FB__MON_REQUEST__CALL_POOL_SET;
    request.pool_set = &set;
    json_t *json = json_pack("{s:s}", "name", set.name);
    const char *many = "", *more = "";
    if (replicas) {
        json_object_set_new(json, "replicas", json_integer((json_int_t)replicas));
        many = cmd_text("pool %s is to have %u replicas; `fastblock rebalance status` shows how far it is",
                        set.name, set.replicas);
    }
    if (pgs) {
        json_object_set_new(json, "pgs", json_integer((json_int_t)pgs));
        more = cmd_text("pool %s is to have %u PGs; `fastblock pool ls` shows how far it is", set.name,
                        set.pg_count);
    }
    return cmd_order(args, &request, cmd_text("cannot change pool %s", set.name), json,
                     cmd_text("%s%s%s", many, replicas && pgs ? "\n" : "", more));
}
