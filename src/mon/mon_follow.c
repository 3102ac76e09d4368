/* SPDX-License-Identifier: Apache-2.0
 *
 * Following: what the leading monitor writes, as the store tells it.
 *
 * A change counts from the transaction on that writes key "cluster", which comes last in it. What is told
 * before is kept until then, so that memory never shows part of a change; so is what a load finds of one. The
 * watch begins where the load began. If there were changes meanwhile, memory may have parts of some, and
 * subscribers are told nothing before it has all of these (mon_publish()).
 *
 * The keys "cluster/..." say who is there and who leads. The leader itself watches only these.
 */
#include "mon/impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"

#define KEPT_BYTES_MAX (64u << 20)

void mon_follow_drop(struct mon *mon)
{
    struct mon_follow *f = &mon->follow;

    for (uint32_t i = 0; i < f->count; i++)
        free((void *)(uintptr_t)f->kvs[i].key);
    free(f->kvs);
    f->kvs = NULL;
    f->count = f->cap = 0;
    f->bytes = 0;
}

/* Memory has to be loaded anew: on the next tick. */
static void lost_track(struct mon *mon)
{
    mon_follow_stop(mon);
    mon_settle_soon(mon);
}

void mon_follow_keep(struct mon *mon, const struct meta_kv *kv)
{
    struct mon_follow *f = &mon->follow;
    size_t key_size = strlen(kv->key) + 1;

    if (f->count == f->cap) {
        uint32_t cap = MAX(f->cap * 2, 64u);
        struct meta_kv *more = realloc(f->kvs, cap * sizeof(*more));
        if (more) {
            f->kvs = more;
            f->cap = cap;
        }
    }
    f->bytes += key_size + kv->value_len;
    char *memory = f->count < f->cap && f->bytes <= KEPT_BYTES_MAX ? malloc(key_size + kv->value_len) : NULL;
    if (!memory) {
        lost_track(mon);
        return;
    }
    memcpy(memory, kv->key, key_size);
    if (kv->value_len)
        memcpy(memory + key_size, kv->value, kv->value_len);
    f->kvs[f->count++] = (struct meta_kv){.key = memory,
                                          .value = kv->value ? memory + key_size : NULL,
                                          .value_len = kv->value_len,
                                          .mod_revision = kv->mod_revision};
}

static void take_effect(struct mon *mon, const struct meta_kv *state_kv)
{
    struct mon_follow *f = &mon->follow;
    int error = 0;
    Fb__MonState *state =
        state_kv->value ? mon_state_decode(state_kv->value, state_kv->value_len, &error) : NULL;

    if (!state) {
        lost_track(mon); /* the load says what is wrong: as a rule this monitor is to be upgraded */
        return;
    }
    /* A pool is written behind its PGs, which are none without it. */
    for (uint32_t i = 0; i < f->count && !error; i++)
        if (f->kvs[i].value && !strncmp(f->kvs[i].key, "pool/", 5))
            error = mon_item_load(mon, &f->kvs[i]);
    for (uint32_t i = 0; i < f->count && !error; i++) {
        if (!f->kvs[i].value)
            mon_item_unload(mon, f->kvs[i].key);
        else if (mon_key_known(f->kvs[i].key) && (error = mon_item_load(mon, &f->kvs[i])) == -ERR_NOT_FOUND)
            error = 0; /* of a creation that was interrupted */
    }
    if (error)
        lost_track(mon);
    else
        mon_state_install(mon, state, state_kv->mod_revision);
    fb__mon_state__free_unpacked(state, &mon_allocator);
    mon_follow_drop(mon);
    if (!error)
        mon_publish(mon);
}

/* ---- who is there ---- */

void mon_follow_forget(struct mon *mon, uint64_t seen_revision)
{
    mon->follow.seen_revision = seen_revision;
    mon->follow.leader[0] = 0;
    mon->follow.leader_revision = 0;
    mon->follow.present_count = 0;
}

static struct mon_presence *presence(struct mon_follow *f, const char *address)
{
    for (uint32_t i = 0; i < f->present_count; i++)
        if (!strcmp(f->present[i].address, address))
            return &f->present[i];
    return NULL;
}

static void note_presence(struct mon_follow *f, const char *address, const Fb__MonLease *lease)
{
    struct mon_presence *p = presence(f, address);

    if (!lease) {
        if (p)
            *p = f->present[--f->present_count];
        return;
    }
    if (!p && f->present_count < MON_MONITORS_MAX)
        p = &f->present[f->present_count++];
    if (!p)
        return;
    *p = (struct mon_presence){.lease = lease->lease, .since_us = lease->since_us};
    snprintf(p->address, sizeof(p->address), "%s", address);
    snprintf(p->version, sizeof(p->version), "%.*s", (int)sizeof(p->version) - 1, lease->version);
}

void mon_follow_note(struct mon *mon, const struct meta_kv *kv)
{
    struct mon_follow *f = &mon->follow;
    Fb__MonLease *lease = kv->value ? fb__mon_lease__unpack(&mon_allocator, kv->value_len, kv->value) : NULL;
    bool good = !kv->value || (lease && mon_text_valid(lease->address) && mon_text_valid(lease->version));

    if (!good) {
        core_log(mon->core, LOG_ERROR, "mon", "the value of key '%.60s' is damaged", kv->key);
    } else if (!strcmp(kv->key, MON_LEADER_KEY) && kv->mod_revision >= f->leader_revision) {
        snprintf(f->leader, sizeof(f->leader), "%s", lease ? lease->address : "");
        f->leader_revision = lease ? kv->mod_revision : 0;
    } else if (!strncmp(kv->key, "cluster/mon/", 12) && mon_text_valid(kv->key + 12)) {
        note_presence(f, kv->key + 12, lease);
    }
    if (lease)
        fb__mon_lease__free_unpacked(lease, &mon_allocator);
}

/* ---- the watch ---- */

static void changed(void *owner, const struct meta_kv *kv)
{
    struct mon *mon = owner;

    if (!strncmp(kv->key, "cluster/", 8)) {
        if (kv->mod_revision <= mon->follow.seen_revision)
            return; /* the load has shown what came of it */
        mon_follow_note(mon, kv);
        mon_lead_look(mon);
        if (mon->leads)
            mon_settle_soon(mon); /* someone may be new */
    } else if (mon->lead.revision) {
        return; /* our own change */
    } else if (PLANT(MON_FOLLOWS_HALF) && kv->value && strcmp(kv->key, "cluster") != 0) {
        (void)(mon_item_load(mon, kv) == 0);
    } else if (strcmp(kv->key, "cluster") != 0) {
        mon_follow_keep(mon, kv);
    } else if (kv->mod_revision > mon->state_revision) {
        take_effect(mon, kv);
    } else {
        mon_follow_drop(mon); /* told again */
    }
}

static void compacted(void *owner, uint64_t oldest_revision)
{
    struct mon *mon = owner;

    lost_track(mon);
}

void mon_follow_start(struct mon *mon)
{
    struct mon_follow *f = &mon->follow;
    bool leads = mon->lead.revision;

    if (!mon->config.meta->ops->lease)
        return;
    f->watch = (struct meta_watch){.first = leads ? "cluster/" : "!",
                                   .end = leads ? "cluster0" : "~",
                                   .from_revision = mon->load.from_revision,
                                   .changed = changed,
                                   .compacted = compacted,
                                   .owner = mon};
    f->watching = true;
    mon->config.meta->ops->watch(mon->config.meta, &f->watch);
}

void mon_follow_stop(struct mon *mon)
{
    struct mon_follow *f = &mon->follow;

    if (f->watching)
        mon->config.meta->ops->unwatch(mon->config.meta, &f->watch);
    f->watching = false;
    mon_follow_drop(mon);
}
