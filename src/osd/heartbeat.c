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
}

static void entry_free(struct heartbeat_out *out, struct heartbeat_entry *entry)
{
    map_remove(&out->by_pg, entry->group.pg);
    list_remove(&entry->link);
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

int heartbeat_out_set(struct heartbeat_out *out, const struct wire_heartbeat_group *group)
{
    struct map_node *node = map_get(&out->by_pg, group->pg);
    struct heartbeat_entry *entry;

    ASSERT(group->term);
    if (node) {
        entry = map_entry(node, struct heartbeat_entry, by_pg);
        const struct wire_heartbeat_group *had = &entry->group;
        if (had->term == group->term && had->commit == group->commit && had->from == group->from &&
            had->to == group->to)
            return 0;
    } else {
        entry = calloc(1, sizeof(*entry));
        if (!entry)
            return -ERR_NO_MEMORY;
        list_init(&entry->link);
        map_put(&out->by_pg, &entry->by_pg, group->pg);
    }
    if (!entry->group.term)
        out->led_count++;
    entry->group = *group;
    entry_changed(out, entry);
    return 0;
}

void heartbeat_out_drop(struct heartbeat_out *out, uint64_t pg)
{
    struct map_node *node = map_get(&out->by_pg, pg);
    if (!node)
        return;
    struct heartbeat_entry *entry = map_entry(node, struct heartbeat_entry, by_pg);
    if (!entry->group.term)
        return;
    entry->group.term = 0;
    out->led_count--;
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
        if (ret->group_count == WIRE_GROUPS_MAX) {
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
        struct map_node *node = map_get(&out->by_pg, reply->refused[i]);
        if (node)
            map_entry(node, struct heartbeat_entry, by_pg)->refused_seq = reply->seq;
    }
    list_for_each_safe (&out->entries, node) {
        struct heartbeat_entry *entry = list_entry(node, struct heartbeat_entry, link);
        if (entry->version > out->acked_version)
            break;
        if (!entry->group.term)
            entry_free(out, entry);
    }
    return true;
}

void heartbeat_in_init(struct heartbeat_in *in)
{
    *in = (struct heartbeat_in){0};
    map_init(&in->groups);
}

static void heard_clear(struct heartbeat_in *in)
{
    map_for_each (&in->groups, node) {
        map_remove(&in->groups, node->key);
        free(map_entry(node, struct heartbeat_heard, by_pg));
    }
    in->version = 0;
}

void heartbeat_in_fini(struct heartbeat_in *in)
{
    heard_clear(in);
    map_fini(&in->groups);
}

static bool heard_set(struct heartbeat_in *in, const struct wire_heartbeat_group *group)
{
    struct map_node *node = map_get(&in->groups, group->pg);
    struct heartbeat_heard *heard = node ? map_entry(node, struct heartbeat_heard, by_pg) : NULL;

    if (!group->term) {
        if (heard) {
            map_remove(&in->groups, group->pg);
            free(heard);
        }
        return true;
    }
    if (!heard) {
        heard = calloc(1, sizeof(*heard));
        if (!heard)
            return false;
        map_put(&in->groups, &heard->by_pg, group->pg);
    }
    heard->group = *group;
    return true;
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
        if (!heard_set(in, &message->groups[i])) {
            heard_clear(in);
            return false;
        }
    in->version = MAX(in->version, message->set_version);
    return true;
}
