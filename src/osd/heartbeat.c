/* SPDX-License-Identifier: Apache-2.0
 *
 * The two sets of merged heartbeats; heartbeat.h says how they fit together. Entries are made and freed when
 * leadership changes, not on the data path.
 */
#include "osd/heartbeat.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/plant.h"

void heartbeat_out_init(struct heartbeat_out *out)
{
    *out = (struct heartbeat_out){0};
    map_init(&out->by_pg);
    list_init(&out->entries);
    list_init(&out->awake);
}

static void entry_free(struct heartbeat_out *out, struct heartbeat_entry *entry)
{
    map_remove(&out->by_pg, entry->group.pg);
    list_remove(&entry->link);
    if (list_linked(&entry->awake))
        list_remove(&entry->awake);
    free(entry);
}

void heartbeat_out_fini(struct heartbeat_out *out)
{
    list_for_each_safe (&out->entries, node)
        entry_free(out, list_entry(node, struct heartbeat_entry, link));
    map_fini(&out->by_pg);
}

static void entry_changed(struct heartbeat_out *out, struct heartbeat_entry *entry)
{
    entry->version = ++out->version;
    list_remove(&entry->link);
    list_push_back(&out->entries, &entry->link);
}

struct heartbeat_entry *heartbeat_out_find(const struct heartbeat_out *out, uint64_t pg)
{
    struct map_node *node = map_get(&out->by_pg, pg);

    return node ? map_entry(node, struct heartbeat_entry, by_pg) : NULL;
}

int heartbeat_out_set(struct heartbeat_out *out, const struct wire_heartbeat_group *group)
{
    struct heartbeat_entry *entry = heartbeat_out_find(out, group->pg);

    ASSERT(group->term);
    if (entry) {
        const struct wire_heartbeat_group *had = &entry->group;
        if (had->term == group->term && had->commit == group->commit && had->from == group->from &&
            had->to == group->to)
            return 0;
    } else {
        entry = calloc(1, sizeof(*entry));
        if (!entry)
            return -ERR_NO_MEMORY;
        list_init(&entry->link);
        list_push_back(&out->awake, &entry->awake);
        map_put(&out->by_pg, &entry->by_pg, group->pg);
    }
    if (!entry->group.term) {
        out->led_count++;
        out->dropped_count -= entry->version != 0;
    }
    entry->group = *group;
    entry_changed(out, entry);
    return 0;
}

void heartbeat_out_drop(struct heartbeat_out *out, uint64_t pg)
{
    struct heartbeat_entry *entry = heartbeat_out_find(out, pg);
    if (!entry || !entry->group.term)
        return;
    entry->group.term = 0;
    out->led_count--;
    out->dropped_count++;
    entry_changed(out, entry);
}

bool heartbeat_out_due(const struct heartbeat_out *out)
{
    return out->led_count || out->acked_version < out->version;
}

void heartbeat_out_next(struct heartbeat_out *out, struct wire_heartbeat *ret,
                        struct wire_heartbeat_group *groups)
{
    struct list *node = out->entries.prev;

    *ret = (struct wire_heartbeat){.seq = ++out->seq, .base_version = out->acked_version, .groups = groups};
    ret->set_version = out->version;
    while (node != &out->entries &&
           list_entry(node, struct heartbeat_entry, link)->version > out->acked_version)
        node = node->prev;
    for (node = node->next; node != &out->entries; node = node->next) {
        const struct heartbeat_entry *entry = list_entry(node, struct heartbeat_entry, link);
        if (ret->group_count == HEARTBEAT_GROUPS_MAX) {
            /* The rest with the next one: this one leads to the version of the last change that fitted. */
            ret->set_version = list_entry(node->prev, struct heartbeat_entry, link)->version;
            break;
        }
        if (entry->group.term || out->acked_version)
            groups[ret->group_count++] = entry->group;
    }
}

bool heartbeat_out_answer(struct heartbeat_out *out, const struct wire_heartbeat_reply *reply)
{
    if (reply->seq > out->seq || reply->seq <= out->answered_seq || reply->set_version > out->version)
        return false;
    out->answered_seq = reply->seq;
    if (reply->set_version < out->acked_version) {
        /* It started anew, and what was dropped since that version is not remembered here. */
        out->acked_version = 0;
        return false;
    }
    out->acked_version = reply->set_version;
    for (uint32_t i = 0; i < reply->refused_count && !PLANT(OSD_COUNT_REFUSED); i++) {
        struct heartbeat_entry *entry = heartbeat_out_find(out, reply->refused[i]);
        if (entry)
            entry->refused_seq = reply->seq;
    }
    for (struct list *node = out->entries.next, *next; out->dropped_count && node != &out->entries;
         node = next) {
        struct heartbeat_entry *entry = list_entry(node, struct heartbeat_entry, link);
        next = node->next;
        if (entry->version > out->acked_version)
            break;
        if (entry->group.term)
            continue;
        out->dropped_count--;
        entry_free(out, entry);
    }
    return true;
}

void heartbeat_in_init(struct heartbeat_in *in)
{
    *in = (struct heartbeat_in){0};
    map_init(&in->groups);
    list_init(&in->awake);
    list_init(&in->parked);
}

static void heard_free(struct heartbeat_in *in, struct heartbeat_heard *heard)
{
    ASSERT(!heard->parked);
    map_remove(&in->groups, heard->by_pg.key);
    list_remove(&heard->link);
    free(heard);
}

static void heard_clear(struct heartbeat_in *in)
{
    map_for_each (&in->groups, node)
        heard_free(in, map_entry(node, struct heartbeat_heard, by_pg));
    in->version = 0;
}

void heartbeat_in_fini(struct heartbeat_in *in)
{
    heard_clear(in);
    map_fini(&in->groups);
}

struct heartbeat_heard *heartbeat_in_find(const struct heartbeat_in *in, uint64_t pg)
{
    struct map_node *node = map_get(&in->groups, pg);

    return node ? map_entry(node, struct heartbeat_heard, by_pg) : NULL;
}

static bool heard_set(struct heartbeat_in *in, const struct wire_heartbeat_group *group)
{
    struct heartbeat_heard *heard = heartbeat_in_find(in, group->pg);

    if (!group->term) {
        if (heard)
            heard_free(in, heard);
        return true;
    }
    if (!heard) {
        heard = calloc(1, sizeof(*heard));
        if (!heard)
            return false;
        map_put(&in->groups, &heard->by_pg, group->pg);
        list_push_back(&in->awake, &heard->link);
    }
    ASSERT(!heard->parked);
    heard->group = *group;
    return true;
}

bool heartbeat_in_clears(const struct heartbeat_in *in, const struct wire_heartbeat *message)
{
    return message->incarnation > in->incarnation || !message->base_version;
}

bool heartbeat_in_take(struct heartbeat_in *in, const struct wire_heartbeat *message)
{
    if (message->incarnation < in->incarnation)
        return false;
    if (message->incarnation > in->incarnation) {
        heard_clear(in);
        in->incarnation = message->incarnation;
        in->seq = 0;
    }
    if (message->seq <= in->seq)
        return false;
    in->seq = message->seq;
    if (message->base_version > in->version)
        return true; /* the sender learns from the answer where we are */
    if (!message->base_version)
        heard_clear(in);
    for (uint32_t i = 0; i < message->group_count; i++)
        if (!heard_set(in, &message->groups[i]))
            return false; /* values newer than our version are told again, and not yet counted on */
    in->version = MAX(in->version, message->set_version);
    return true;
}
