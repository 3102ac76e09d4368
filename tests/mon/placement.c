/* SPDX-License-Identifier: Apache-2.0
 *
 * Placement: properties over many clusters: domains are never violated, replicas, leaders and shards are
 * even, sizes count, and the same input gives the same answer.
 */
#include "mon/placement.h"

#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "tests/tap.h"

#define OSDS_MAX 48

struct cluster {
    struct placement_osd osds[OSDS_MAX];
    uint32_t count;
    char names[OSDS_MAX][2][16];
};

static void cluster_make(struct cluster *c, uint32_t osds, uint32_t per_host, uint32_t hosts_per_rack,
                         uint32_t shards)
{
    memset(c, 0, sizeof(*c));
    c->count = osds;
    for (uint32_t i = 0; i < osds; i++) {
        snprintf(c->names[i][0], 16, "h%u", i / per_host);
        snprintf(c->names[i][1], 16, "r%u", i / per_host / hosts_per_rack);
        c->osds[i] = (struct placement_osd){.osd = i,
                                            .host = c->names[i][0],
                                            .rack = c->names[i][1],
                                            .size_bytes = 100ull << 30,
                                            .shard_count = shards};
        for (uint32_t s = 0; s < shards; s++)
            c->osds[i].shard_usable[s] = true;
    }
}

static bool distinct(const struct cluster *c, const struct placement_member *members, uint32_t replicas,
                     enum placement_domain domain)
{
    for (uint32_t a = 0; a < replicas; a++)
        for (uint32_t b = 0; b < a; b++) {
            const struct placement_osd *x = &c->osds[members[a].osd], *y = &c->osds[members[b].osd];
            if (x == y || (domain == PLACEMENT_HOST && !strcmp(x->host, y->host)) ||
                (domain == PLACEMENT_RACK && !strcmp(x->rack, y->rack)))
                return false;
        }
    return true;
}

static void place(struct cluster *c, enum placement_domain domain, uint32_t pool, uint32_t replicas,
                  uint32_t pgs)
{
    struct placement_member members[7];

    for (uint32_t n = 0; n < pgs; n++) {
        CHECK_EQ(placement_choose(c->osds, c->count, domain, (uint64_t)pool << 32 | n, replicas, members), 0);
        CHECK(distinct(c, members, replicas, domain));
        for (uint32_t r = 0; r < replicas; r++)
            CHECK(members[r].shard < c->osds[members[r].osd].shard_count);
    }
}

struct spread {
    uint32_t load_min, load_max, leaders_min, leaders_max, shard_min, shard_max;
};

static struct spread measure(const struct cluster *c)
{
    struct spread s = {UINT32_MAX, 0, UINT32_MAX, 0, UINT32_MAX, 0};

    for (uint32_t i = 0; i < c->count; i++) {
        const struct placement_osd *o = &c->osds[i];
        s.load_min = MIN(s.load_min, o->load);
        s.load_max = MAX(s.load_max, o->load);
        s.leaders_min = MIN(s.leaders_min, o->leaders);
        s.leaders_max = MAX(s.leaders_max, o->leaders);
        for (uint32_t k = 0; k < o->shard_count; k++) {
            s.shard_min = MIN(s.shard_min, o->shard_load[k]);
            s.shard_max = MAX(s.shard_max, o->shard_load[k]);
        }
    }
    return s;
}

static void equal_osds_are_even(void)
{
    static const struct {
        uint32_t osds, per_host, hosts_per_rack, shards, replicas, pgs;
        enum placement_domain domain;
    } rows[] = {
        {3, 1, 1, 1, 3, 64, PLACEMENT_HOST},   {3, 3, 1, 1, 3, 64, PLACEMENT_OSD},
        {3, 1, 1, 4, 3, 64, PLACEMENT_HOST},   {5, 1, 1, 1, 3, 128, PLACEMENT_HOST},
        {7, 1, 1, 2, 3, 100, PLACEMENT_OSD},   {12, 3, 1, 2, 3, 256, PLACEMENT_HOST},
        {24, 4, 2, 4, 3, 512, PLACEMENT_RACK}, {48, 4, 4, 1, 3, 1024, PLACEMENT_RACK},
        {10, 1, 1, 1, 5, 333, PLACEMENT_OSD},  {9, 3, 1, 1, 1, 90, PLACEMENT_HOST},
        {8, 2, 1, 1, 2, 127, PLACEMENT_HOST},  {14, 2, 1, 1, 7, 200, PLACEMENT_HOST},
        {6, 1, 1, 64, 3, 2000, PLACEMENT_OSD},
    };
    static struct cluster c;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cluster_make(&c, rows[i].osds, rows[i].per_host, rows[i].hosts_per_rack, rows[i].shards);
        place(&c, rows[i].domain, 1, rows[i].replicas, rows[i].pgs);
        struct spread s = measure(&c);
        CHECK(s.load_max - s.load_min <= 2);
        CHECK(s.leaders_max - s.leaders_min <= 2);
        CHECK(s.shard_max - s.shard_min <= 2);
        /* A second pool goes where the first left room. */
        place(&c, rows[i].domain, 2, 1, rows[i].osds);
        s = measure(&c);
        CHECK(s.load_max - s.load_min <= 2);
    }
}

static void random_clusters_keep_the_domain(void)
{
    static struct cluster c;
    uint64_t seed = 1;

    for (int run = 0; run < 300; run++) {
        uint32_t osds = 1 + (uint32_t)(hash_u64(seed++) % OSDS_MAX),
                 per_host = 1 + (uint32_t)(hash_u64(seed++) % 5);
        uint32_t replicas = 1 + (uint32_t)(hash_u64(seed++) % 7),
                 shards = 1 + (uint32_t)(hash_u64(seed++) % 4);
        enum placement_domain domain = (enum placement_domain)(hash_u64(seed++) % 3);
        cluster_make(&c, osds, per_host, 2, shards);
        for (uint32_t i = 0; i < osds; i++)
            c.osds[i].size_bytes = (1 + hash_u64(seed++) % 100) << 30;
        if (placement_domain_count(c.osds, c.count, domain) >= replicas) {
            place(&c, domain, 1, replicas, 50);
        } else {
            struct placement_member members[7];
            CHECK_EQ(placement_choose(c.osds, c.count, domain, 1, replicas, members), -ERR_TOO_FEW_OSDS);
            CHECK_EQ(measure(&c).load_max, 0);
        }
    }
}

static void sizes_count(void)
{
    static struct cluster c;

    cluster_make(&c, 6, 1, 1, 1);
    for (int i = 0; i < 3; i++)
        c.osds[i].size_bytes *= 3;
    place(&c, PLACEMENT_HOST, 1, 1, 1200);
    for (int i = 0; i < 3; i++)
        CHECK(c.osds[i].load >= 295 && c.osds[i].load <= 305);
    for (int i = 3; i < 6; i++)
        CHECK(c.osds[i].load >= 95 && c.osds[i].load <= 105);
}

static void is_deterministic(void)
{
    static struct cluster a, b;
    struct placement_member x[7], y[7];

    cluster_make(&a, 20, 2, 2, 2);
    cluster_make(&b, 20, 2, 2, 2);
    for (uint64_t pg = 0; pg < 500; pg++) {
        CHECK_EQ(placement_choose(a.osds, a.count, PLACEMENT_HOST, pg, 3, x), 0);
        CHECK_EQ(placement_choose(b.osds, b.count, PLACEMENT_HOST, pg, 3, y), 0);
        CHECK(!memcmp(x, y, 3 * sizeof(*x)));
    }
}

static void shards_that_cannot_are_left_out(void)
{
    static struct cluster c;
    struct placement_member members[7];

    cluster_make(&c, 4, 1, 1, 2);
    c.osds[0].shard_usable[0] = false;
    c.osds[1].shard_usable[0] = c.osds[1].shard_usable[1] = false;
    CHECK_EQ(placement_domain_count(c.osds, 4, PLACEMENT_HOST), 3);
    for (uint64_t pg = 0; pg < 100; pg++) {
        CHECK_EQ(placement_choose(c.osds, 4, PLACEMENT_HOST, pg, 3, members), 0);
        for (int r = 0; r < 3; r++) {
            CHECK(members[r].osd != 1);
            CHECK(members[r].osd != 0 || members[r].shard == 1);
        }
    }
    CHECK_EQ(placement_choose(c.osds, 4, PLACEMENT_HOST, 1, 4, members), -ERR_TOO_FEW_OSDS);
    /* A shard is full at some time. */
    c.osds[0].shard_load[1] = PLACEMENT_SHARD_PGS_MAX;
    CHECK_EQ(placement_choose(c.osds, 4, PLACEMENT_HOST, 1, 3, members), -ERR_TOO_FEW_OSDS);
}

static void domains_are_named(void)
{
    enum placement_domain domain;

    CHECK(!placement_domain_parse("rack", &domain) && domain == PLACEMENT_RACK);
    CHECK(!placement_domain_parse("", &domain) && domain == PLACEMENT_OSD);
    CHECK_EQ(placement_domain_parse("Host", &domain), -ERR_INVALID);
}

int main(void)
{
    TEST(equal_osds_are_even);
    TEST(random_clusters_keep_the_domain);
    TEST(sizes_count);
    TEST(is_deterministic);
    TEST(shards_that_cannot_are_left_out);
    TEST(domains_are_named);
    return tap_done();
}
