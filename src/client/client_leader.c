/* SPDX-License-Identifier: Apache-2.0
 *
 * Whom a piece asks: the replica that is believed to lead; without one the members in turn, the preferred
 * leader first. Every answer tells term and leader, and redirects cost no pause until each member was asked
 * once. What is learned is kept with the PG, so that all pieces have it.
 */
#include "base/placement.h"
#include "base/plant.h"
#include "client/impl.h"

uint32_t client_image_pg_number(const struct client_image *image, uint64_t object)
{
    return placement_pg_number(image->key, object, image->pg_count);
}

uint64_t client_piece_pg(const struct client_piece *p)
{
    return placement_pg_id(p->image->pool, p->pg_number);
}

/* One that is wanted may be a member, and lead, before a monitor has heard of it, which may be long when none
 * is there. Where a replica is never changes. */
static const Fb__PgMember *pg_member(const Fb__Pg *pg, uint32_t replica)
{
    for (size_t i = 0; i < pg->n_member; i++)
        if (pg->member[i]->replica == replica)
            return pg->member[i];
    for (size_t i = 0; i < pg->n_wanted; i++)
        if (pg->wanted[i]->replica == replica)
            return pg->wanted[i];
    return NULL;
}

bool client_piece_choose(struct client_piece *p)
{
    struct client_pg *pg = client_map_pg(p->client, client_piece_pg(p));

    if (!pg || pg->pg->n_member == 0)
        return false;
    const Fb__PgMember *member = pg->leader ? pg_member(pg->pg, pg->leader) : NULL;
    if (!member)
        member = pg->pg->member[p->cursor % pg->pg->n_member];
    p->target_replica = member->replica;
    p->target_osd = member->osd;
    p->target_shard = member->shard;
    return true;
}

/* Only one that the target was said to lead in, or was in itself when it served us. One that only others have
 * heard of it may win later, after a leader of an earlier term has committed what was written meanwhile: and
 * what is long given up, and comes late, would be proposed behind that. */
uint64_t client_piece_term(const struct client_piece *p)
{
    const struct client_pg *pg = client_map_pg(p->client, client_piece_pg(p));

    if (!pg || (pg->leader != p->target_replica && !PLANT(CLIENT_TERM_UNWON)))
        return 0;
    return pg->term;
}

bool client_piece_next(struct client_piece *p)
{
    struct client_pg *pg = client_map_pg(p->client, client_piece_pg(p));

    p->cursor++;
    p->hops++;
    if (!pg)
        return true;
    if (pg->leader == p->target_replica)
        pg->leader = 0;
    return p->hops >= pg->pg->n_member;
}

bool client_piece_redirect(struct client_piece *p, const struct client_answer *answer)
{
    struct client_pg *pg = client_map_pg(p->client, client_piece_pg(p));

    p->hops++;
    if (!pg)
        return true;
    /* Whoever says that it leads itself is believed about its term, even if another has mentioned a higher
     * one: a term that nobody won is no reason to stay away from the leader of the one before. */
    bool leads = answer->leader == p->target_replica && answer->leader != 0;
    if (leads || answer->term > pg->term) {
        pg->term = answer->term;
        pg->leader = answer->leader;
    } else if (answer->term == pg->term && answer->leader) {
        pg->leader = answer->leader;
    } else if (pg->leader == p->target_replica) {
        pg->leader = 0;
    }
    if (!leads)
        p->cursor++;
    return p->hops > pg->pg->n_member + 1;
}

void client_piece_learn(struct client_piece *p, const struct client_answer *answer)
{
    struct client_pg *pg = client_map_pg(p->client, client_piece_pg(p));

    if (!pg || answer->term < pg->term || answer->term == 0)
        return;
    pg->term = answer->term;
    pg->leader = p->target_replica; /* it has just served as such */
}
