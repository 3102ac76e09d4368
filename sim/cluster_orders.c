/* SPDX-License-Identifier: Apache-2.0
 *
 * What shards confirm to the monitor. That a replica is gone may only be said once the map that drops it is
 * saved: by an older one a restart might make it anew, empty, and under a number that nobody watches any
 * more. A crash in just that moment is rare; so it is looked at what is said.
 */
#include "sim/cluster.h"

#include "base/hash.h"
#include "mon/impl.h"
#include "osd/shard.h"

#define ULL(x) ((unsigned long long)(x))

static const struct osd_shard *shard_of(const struct cluster *c, const Fb__PgMember *m, uint64_t *ret_saved)
{
    for (uint32_t i = 0; i < c->osd_count; i++)
        if (c->osds[i].id == m->osd && m->shard < c->shard_count) {
            *ret_saved = c->osds[i].saved_epochs[m->shard];
            return c->osds[i].shards[m->shard];
        }
    return NULL;
}

void orders_audit(struct cluster *c)
{
    const struct mon *mon = mon_leader(c);

    if (!mon)
        return;
    uint64_t *looked = check_note(c, hash_pair(0, 12), 0); /* epoch */
    mon_for_each(mon, MON_PG, node)
    {
        const Fb__Pg *item = mon_pg_item(mon_pg_of(node));
        for (size_t i = 0; i < item->n_dropped && !c->sim->failed; i++) {
            const Fb__PgMember *m = item->dropped[i];
            uint64_t key = hash_pair(hash_pair(item->id, m->replica), 12), saved;
            uint64_t since = *check_note(c, key, *looked + 1); /* that it is listed; at the earliest */
            uint64_t *said = check_note(c, hash_pair(key, 1), 0);
            if (*said || !mon_confirmed(&mon_news(mon_pg_of(node))->dropped, m->replica))
                continue;
            *said = 1;
            const struct osd_shard *shard = shard_of(c, m, &saved);
            if (shard && MAX(saved, shard->map.saved_epoch) < since)
                sim_fail(
                    c->sim,
                    "osd.%u.%u says that replica %u of PG %llx is gone, and has saved epoch %llu of %llu",
                    m->osd, m->shard, m->replica, ULL(item->id), ULL(MAX(saved, shard->map.saved_epoch)),
                    ULL(since));
        }
    }
    *looked = mon->state.epoch;
}
