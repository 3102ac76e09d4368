/* SPDX-License-Identifier: Apache-2.0
 *
 * What happened in the cluster, for people: the last MON_EVENTS_MAX log lines that concern it, in memory.
 * Numbers are wall-clock times where these grow, so that they go on growing when the monitor starts again,
 * and whoever follows the events misses none for it.
 */
#include "mon/impl.h"

#include <stdarg.h>
#include <stdio.h>

static struct mon_note *note_at(struct mon *mon, uint32_t index)
{
    return &mon->notes[index % MON_EVENTS_MAX];
}

void mon_note(struct mon *mon, enum log_level level, const char *format, ...)
{
    struct mon_note *note = note_at(mon, mon->note_count);
    uint64_t last = mon->note_count ? note_at(mon, mon->note_count - 1)->number : 0;
    va_list args;

    note->time_us = mon->core->env->wall_us(mon->core->env_self);
    note->number = MAX(last + 1, note->time_us);
    note->level = level;
    va_start(args, format);
    vsnprintf(note->text, sizeof(note->text), format, args);
    va_end(args);
    mon->note_count++;
    core_log(mon->core, level, "mon", "%s", note->text);
}

void mon_event_list(struct mon_request *r)
{
    struct mon *mon = r->mon;
    uint32_t held = MIN(mon->note_count, (uint32_t)MON_EVENTS_MAX), count = 0;
    Fb__ClusterEvent *events = wire_arena_alloc(&r->arena, (held + 1) * sizeof(*events));
    Fb__ClusterEvent **pointers = wire_arena_alloc(&r->arena, (held + 1) * sizeof(*pointers));

    for (uint32_t i = mon->note_count - held; events && pointers && i != mon->note_count; i++) {
        struct mon_note *note = note_at(mon, i);
        if (note->number <= r->call->event_list->after)
            continue;
        pointers[count] = &events[count];
        fb__cluster_event__init(&events[count]);
        events[count].number = note->number;
        events[count].time_us = note->time_us;
        events[count].level = (uint32_t)note->level;
        events[count++].text = note->text;
    }
    r->reply.events = pointers;
    r->reply.n_events = count;
    mon_reply(r, events && pointers ? 0 : -ERR_NO_MEMORY);
}
