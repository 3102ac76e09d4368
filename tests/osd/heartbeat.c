/* SPDX-License-Identifier: Apache-2.0
 *
 * The sets of merged heartbeats: what is told, what is acknowledged, and a long run over a link that loses,
 * repeats and reorders, in which no group may ever count as acknowledged that its member has not accepted in
 * that term.
 */
#include "osd/heartbeat.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tests/plants.h"
#include "tests/tap.h"

static struct wire_heartbeat_group group_of(uint64_t pg, uint64_t term, uint64_t commit)
{
    return (struct wire_heartbeat_group){.pg = pg, .term = term, .commit = commit, .from = 1, .to = 2};
}

static void set(struct heartbeat_out *out, uint64_t pg, uint64_t term, uint64_t commit)
{
    struct wire_heartbeat_group group = group_of(pg, term, commit);
    CHECK(heartbeat_out_set(out, &group) == 0);
}

static struct heartbeat_entry *entry_of(struct heartbeat_out *out, uint64_t pg)
{
    struct map_node *node = map_get(&out->by_pg, pg);
    return node ? map_entry(node, struct heartbeat_entry, by_pg) : NULL;
}

static bool contact(struct heartbeat_out *out, uint64_t pg)
{
    struct heartbeat_entry *entry = entry_of(out, pg);
    return entry && heartbeat_out_contact(out, entry);
}

/* One heartbeat there and its answer back; refuses what `refuse` says. */
static bool beat(struct heartbeat_out *out, struct heartbeat_in *in, const uint64_t *refused,
                 uint32_t refused_count)
{
    static struct wire_heartbeat_group groups[WIRE_GROUPS_MAX];
    struct wire_heartbeat message;

    heartbeat_out_next(out, &message, groups);
    message.incarnation = 7;
    if (!heartbeat_in_take(in, &message))
        return false;
    struct wire_heartbeat_reply reply = {
        .incarnation = 7,
        .seq = message.seq,
        .set_version = in->version,
        .refused_count = refused_count,
        .refused = refused,
    };
    return heartbeat_out_answer(out, &reply);
}

static void test_changes(void)
{
    struct heartbeat_out out;
    struct heartbeat_in in;
    struct wire_heartbeat_group groups[WIRE_GROUPS_MAX];
    struct wire_heartbeat message;

    heartbeat_out_init(&out);
    heartbeat_in_init(&in);
    CHECK(!heartbeat_out_due(&out));
    set(&out, 1, 5, 10);
    set(&out, 2, 6, 20);
    CHECK(heartbeat_out_due(&out));
    CHECK(!contact(&out, 1));
    CHECK(beat(&out, &in, NULL, 0));
    CHECK(contact(&out, 1) && contact(&out, 2));
    CHECK_EQ(in.groups.count, 2);

    /* Nothing new: an empty message. A new term: told again, and no contact before it is acknowledged. */
    heartbeat_out_next(&out, &message, groups);
    CHECK_EQ(message.group_count, 0);
    set(&out, 1, 8, 10);
    CHECK(!contact(&out, 1) && contact(&out, 2));
    heartbeat_out_next(&out, &message, groups);
    CHECK_EQ(message.group_count, 1);
    CHECK_EQ(message.groups[0].term, 8);
    CHECK(beat(&out, &in, NULL, 0));
    CHECK(contact(&out, 1));

    /* Refused: no contact, though the version is acknowledged; until it is accepted. */
    uint64_t refused = 2;
    CHECK(beat(&out, &in, &refused, 1));
    CHECK(contact(&out, 1) && !contact(&out, 2));
    CHECK(heartbeat_out_refused(&out, entry_of(&out, 2)));
    CHECK(beat(&out, &in, NULL, 0));
    CHECK(contact(&out, 2));

    /* The end of a group is told and then forgotten. */
    heartbeat_out_drop(&out, 1);
    CHECK(!contact(&out, 1));
    CHECK(beat(&out, &in, NULL, 0));
    CHECK(entry_of(&out, 1) == NULL);
    CHECK_EQ(in.groups.count, 1);
    heartbeat_out_drop(&out, 2);
    CHECK(heartbeat_out_due(&out));
    CHECK(beat(&out, &in, NULL, 0));
    CHECK(!heartbeat_out_due(&out));
    heartbeat_out_fini(&out);
    heartbeat_in_fini(&in);
}

static void test_cut(void)
{
    struct heartbeat_out out;
    struct heartbeat_in in;
    uint32_t contacts = 0;

    heartbeat_out_init(&out);
    heartbeat_in_init(&in);
    for (uint64_t pg = 1; pg <= 1200; pg++)
        set(&out, pg, 3, 0);
    CHECK(beat(&out, &in, NULL, 0));
    CHECK_EQ(in.groups.count, WIRE_GROUPS_MAX);
    for (uint64_t pg = 1; pg <= 1200; pg++)
        contacts += contact(&out, pg);
    CHECK_EQ(contacts, WIRE_GROUPS_MAX);
    CHECK(beat(&out, &in, NULL, 0));
    CHECK(beat(&out, &in, NULL, 0));
    CHECK_EQ(in.groups.count, 1200);
    CHECK(contact(&out, 1200) && contact(&out, 1));
    heartbeat_out_fini(&out);
    heartbeat_in_fini(&in);
}

static void test_restart(void)
{
    struct heartbeat_out out;
    struct heartbeat_in in;

    heartbeat_out_init(&out);
    heartbeat_in_init(&in);
    set(&out, 1, 5, 0);
    set(&out, 2, 5, 0);
    CHECK(beat(&out, &in, NULL, 0));
    heartbeat_out_drop(&out, 2);
    CHECK(beat(&out, &in, NULL, 0));
    /* The member's process starts anew: it says that it has nothing, and is told everything. */
    heartbeat_in_fini(&in);
    heartbeat_in_init(&in);
    CHECK(!beat(&out, &in, NULL, 0));
    CHECK(!contact(&out, 1));
    CHECK(beat(&out, &in, NULL, 0));
    CHECK(contact(&out, 1));
    CHECK_EQ(in.groups.count, 1);
    /* The leader's process starts anew: what its old one said is forgotten, and messages of that one are
     * ignored. */
    struct wire_heartbeat message = {.incarnation = 8, .seq = 1, .base_version = 0, .set_version = 0};
    CHECK(heartbeat_in_take(&in, &message));
    CHECK_EQ(in.groups.count, 0);
    message.incarnation = 7;
    message.seq = 99;
    CHECK(!heartbeat_in_take(&in, &message));
    heartbeat_out_fini(&out);
    heartbeat_in_fini(&in);
}

/* ---- a bad link ---- */

#define PGS  40
#define MAIL 8

struct letter {
    bool used;
    struct wire_heartbeat message;
    struct wire_heartbeat_group groups[WIRE_GROUPS_MAX];
    struct wire_heartbeat_reply reply;
    uint64_t refused[PGS];
    uint64_t promised[PGS]; /* term that the member has acknowledged by this reply; 0: none */
};

static uint64_t rnd(uint64_t *state)
{
    return hash_u64(*state += 0x9e3779b97f4a7c15ull);
}

static void member_answer(struct heartbeat_in *in, struct letter *from, struct letter *to,
                          const uint64_t *terms)
{
    to->used = true;
    memset(to->promised, 0, sizeof(to->promised));
    to->reply = (struct wire_heartbeat_reply){
        .incarnation = 7, .seq = from->message.seq, .set_version = in->version, .refused = to->refused};
    map_for_each (&in->groups, node) {
        const struct wire_heartbeat_group *group = &map_entry(node, struct heartbeat_heard, by_pg)->group;
        if (terms[group->pg] == group->term)
            to->promised[group->pg] = group->term;
        else
            to->refused[to->reply.refused_count++] = group->pg;
    }
}

static void run_bad_link(uint64_t seed)
{
    static struct letter there[MAIL], back[MAIL];
    struct heartbeat_out out;
    struct heartbeat_in in;
    uint64_t led[PGS] = {0}, follows[PGS] = {0}, s = seed;
    uint32_t counted = 0;

    memset(there, 0, sizeof(there));
    memset(back, 0, sizeof(back));
    heartbeat_out_init(&out);
    heartbeat_in_init(&in);
    for (int step = 0; step < 4000; step++) {
        uint64_t pg = 1 + rnd(&s) % (PGS - 1);
        struct letter *letter = &there[rnd(&s) % MAIL], *reply = &back[rnd(&s) % MAIL];

        switch (rnd(&s) % 8) {
        case 0:
            led[pg]++;
            set(&out, pg, led[pg], rnd(&s) % 3);
            break;
        case 1:
            heartbeat_out_drop(&out, pg);
            break;
        case 2:
            follows[pg] = led[pg];
            break;
        case 3:
            follows[pg] += rnd(&s) % 2;
            break;
        case 4: /* sent; perhaps over one that was never delivered */
            heartbeat_out_next(&out, &letter->message, letter->groups);
            letter->message.incarnation = 7;
            letter->used = true;
            break;
        case 5: /* delivered, perhaps not for the first time */
            if (letter->used && heartbeat_in_take(&in, &letter->message))
                member_answer(&in, letter, reply, follows);
            break;
        case 6:
            if (!reply->used || !heartbeat_out_answer(&out, &reply->reply))
                break;
            list_for_each (&out.entries, node) {
                struct heartbeat_entry *entry = list_entry(node, struct heartbeat_entry, link);
                if (!heartbeat_out_contact(&out, entry))
                    continue;
                CHECK_EQ(reply->promised[entry->group.pg], entry->group.term);
                counted++;
            }
            break;
        case 7: /* the member starts anew, rarely */
            if (rnd(&s) % 50 == 0) {
                heartbeat_in_fini(&in);
                heartbeat_in_init(&in);
                memset(back, 0, sizeof(back));
            }
            break;
        }
    }
    CHECK(counted > 0);
    heartbeat_out_fini(&out);
    heartbeat_in_fini(&in);
}

static void test_bad_link(void)
{
    for (uint64_t seed = 1; seed <= 200 && tap_ok; seed++)
        run_bad_link(seed);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_changes);
    TEST(test_cut);
    TEST(test_restart);
    TEST(test_bad_link);
    return tap_done();
}
