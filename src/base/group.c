/* SPDX-License-Identifier: Apache-2.0 */
#include "base/group.h"

#include "base/error.h"

bool group_validate(const struct group *g)
{
    uint32_t voters = 0;

    if (!g->count || g->count > GROUP_MEMBERS_MAX)
        return false;
    for (uint32_t i = 0; i < g->count; i++) {
        if (!g->members[i].replica || g->members[i].flags & ~(uint32_t)(GROUP_VOTER | GROUP_VOTER_OLD))
            return false;
        for (uint32_t j = 0; j < i; j++)
            if (g->members[j].replica == g->members[i].replica)
                return false;
        voters += (g->members[i].flags & GROUP_VOTER) != 0;
    }
    return voters > 0;
}

bool group_joint(const struct group *g)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (g->members[i].flags & GROUP_VOTER_OLD)
            return true;
    return false;
}

const struct group_member *group_find(const struct group *g, uint32_t replica)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (g->members[i].replica == replica)
            return &g->members[i];
    return NULL;
}

const struct group_member *group_on_shard(const struct group *g, uint32_t osd, uint32_t shard)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (g->members[i].osd == osd && g->members[i].shard == shard)
            return &g->members[i];
    return NULL;
}

void group_to_entry(const struct group *g, uint32_t words[GROUP_WORDS_MAX], struct entry *ret)
{
    for (uint32_t i = 0; i < g->count; i++) {
        const struct group_member *m = &g->members[i];
        uint32_t *to = &words[i * GROUP_WORDS];

        to[0] = m->replica;
        to[1] = m->osd;
        to[2] = m->shard;
        to[3] = m->flags;
    }
    *ret = (struct entry){
        .type = ENTRY_GROUP, .block_count = g->count * GROUP_WORDS, .epoch = g->epoch, .crc = words};
}

int group_from_entry(const struct entry *e, struct group *ret)
{
    struct group g = {.count = e->block_count / GROUP_WORDS};

    if (e->type == ENTRY_GROUP) {
        g.index = e->index;
        g.epoch = e->epoch;
    } else if (e->type != ENTRY_SPLIT) {
        return -ERR_PROTOCOL;
    }
    if (!e->crc || e->block_count % GROUP_WORDS || e->block_count > GROUP_WORDS_MAX)
        return -ERR_PROTOCOL;
    for (uint32_t i = 0; i < g.count; i++) {
        const uint32_t *from = &e->crc[i * GROUP_WORDS];

        if (from[2] > GROUP_SHARD_MAX)
            return -ERR_PROTOCOL;
        g.members[i] = (struct group_member){from[0], from[1], from[2], from[3]};
        if (group_on_shard(&g, from[1], from[2]) != &g.members[i])
            return -ERR_PROTOCOL;
    }
    if (!group_validate(&g))
        return -ERR_PROTOCOL;
    *ret = g;
    return 0;
}
