/* SPDX-License-Identifier: Apache-2.0
 *
 * Zones. All operations on one value form a cluster: its write and the reads that saw it. Let f be the
 * earliest end and s the latest start in the cluster. If f < s the value must have been in the register from
 * f to s (a forward zone): no two of these may overlap. If not, all operations of the cluster overlap in [s,
 * f] (a backward zone), and some moment of it must be outside of the forward zones of others. Besides, no
 * read may end before its write began.
 *
 * Search. Calls and returns in a list, in order of time. Take the first call whose operation the register's
 * value allows, remove both entries, start over; at a return, what was called must have been taken: go back.
 * Configurations (which are taken, which value) that were tried once are not tried again. Reaching the return
 * of an operation of unknown outcome, which stands behind all others, means that everything definite found
 * its place.
 */
#include "sim/check_linear.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "sim/heap.h"

/* ---- zones
 * ---------------------------------------------------------------------------------------------------- */

struct zone {
    uint64_t low, high;
    uint64_t value;
    bool forward;
};

static int by_value(const void *a, const void *b)
{
    const struct linear_op *x = a, *y = b;

    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    if (x->is_write != y->is_write)
        return x->is_write ? -1 : 1;
    return x->start < y->start ? -1 : x->start > y->start;
}

static int by_low(const void *a, const void *b)
{
    const struct zone *x = a, *y = b;

    return x->low < y->low ? -1 : x->low > y->low;
}

static void violation(struct linear_report *report, const char *format, ...) PRINTF_LIKE(2, 3);

static void violation(struct linear_report *report, const char *format, ...)
{
    va_list args;

    report->verdict = LINEAR_VIOLATION;
    va_start(args, format);
    vsnprintf(report->text, sizeof(report->text), format, args);
    va_end(args);
}

#define ULL(x) ((unsigned long long)(x))

/* The zone of ops[0 .. count), all of one value, the write (if any) first. */
static bool cluster_zone(const struct linear_op *ops, uint32_t count, uint64_t initial, struct zone *ret_zone,
                         struct linear_report *report)
{
    struct zone zone = {.value = ops[0].value};
    uint64_t first_end = UINT64_MAX, last_start = 0, write_start = 0;

    if (ops[0].is_write) {
        write_start = ops[0].start;
    } else if (ops[0].value == initial) {
        first_end = 0; /* written before the beginning of time */
    } else {
        violation(report, "line %u read %llx at %llu..%llu, which nobody ever wrote", ops[0].line,
                  ULL(ops[0].value), ULL(ops[0].start), ULL(ops[0].end));
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!ops[i].is_write && ops[i].end < write_start) {
            violation(report, "line %u read %llx at %llu..%llu, before it was written at %llu", ops[i].line,
                      ULL(ops[i].value), ULL(ops[i].start), ULL(ops[i].end), ULL(write_start));
            return false;
        }
        first_end = MIN(first_end, ops[i].end);
        last_start = MAX(last_start, ops[i].start);
    }
    zone.forward = first_end < last_start;
    zone.low = MIN(first_end, last_start);
    zone.high = MAX(first_end, last_start);
    *ret_zone = zone;
    return true;
}

static void zones_check(struct zone *zones, uint32_t count, struct linear_report *report)
{
    const struct zone *widest = NULL; /* the forward zone that reaches furthest so far */

    qsort(zones, count, sizeof(*zones), by_low);
    for (uint32_t i = 0; i < count; i++) {
        const struct zone *z = &zones[i];
        if (z->forward) {
            if (widest && z->low < widest->high) {
                violation(report, "%llx was there during %llu..%llu and %llx during %llu..%llu",
                          ULL(widest->value), ULL(widest->low), ULL(widest->high), ULL(z->value), ULL(z->low),
                          ULL(z->high));
                return;
            }
            widest = z;
        } else if (widest && widest->low < z->low && z->high < widest->high) {
            violation(report, "%llx was there during %llu..%llu, but all on %llx happened within %llu..%llu",
                      ULL(widest->value), ULL(widest->low), ULL(widest->high), ULL(z->value), ULL(z->low),
                      ULL(z->high));
            return;
        }
    }
}

static void check_zones(const struct linear_op *ops, uint32_t count, uint64_t initial,
                        struct linear_report *report)
{
    struct zone *zones = calloc(count ? count : 1, sizeof(*zones));
    uint32_t zone_count = 0;

    ASSERT(zones);
    for (uint32_t i = 0, next; i < count && report->verdict == LINEAR_OK; i = next) {
        for (next = i + 1; next < count && ops[next].value == ops[i].value;)
            next++;
        if (cluster_zone(ops + i, next - i, initial, &zones[zone_count], report))
            zone_count++;
    }
    if (report->verdict == LINEAR_OK)
        zones_check(zones, zone_count, report);
    free(zones);
}

/* ---- search
 * --------------------------------------------------------------------------------------------------- */

struct entry_at {
    uint64_t at;
    uint32_t op;
    bool is_return;
    int32_t next, prev; /* in the list; 0 is its head */
};

struct search {
    const struct linear_op *ops;
    struct entry_at *entries;     /* 1 ..; two for each op */
    int32_t *call_of, *return_of; /* by op */
    struct {
        int32_t entry;
        uint64_t value;
        bool skipped; /* taken as something that never happened */
    } * stack;
    uint64_t *seen; /* open addressing; 0: empty */
    uint64_t seen_cap, seen_count;
    uint64_t value, taken; /* `taken`: a hash of the set of operations taken */
    uint32_t depth;
};

#define TAKEN_SALT 0x6c696e

static int by_time(const void *a, const void *b)
{
    const struct entry_at *x = a, *y = b;

    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op;
}

static void list_out(struct search *s, int32_t at)
{
    s->entries[s->entries[at].prev].next = s->entries[at].next;
    if (s->entries[at].next)
        s->entries[s->entries[at].next].prev = s->entries[at].prev;
}

static void list_back(struct search *s, int32_t at)
{
    s->entries[s->entries[at].prev].next = at;
    if (s->entries[at].next)
        s->entries[s->entries[at].next].prev = at;
}

static bool seen_add(struct search *s, uint64_t key);

static void seen_grow(struct search *s)
{
    uint64_t *old = s->seen, old_cap = s->seen_cap;

    s->seen_cap = old_cap ? old_cap * 2 : 1024;
    s->seen = calloc(s->seen_cap, sizeof(*s->seen));
    s->seen_count = 0;
    ASSERT(s->seen);
    for (uint64_t i = 0; i < old_cap; i++)
        if (old[i])
            seen_add(s, old[i]);
    free(old);
}

/* False: it was there. */
static bool seen_add(struct search *s, uint64_t key)
{
    if (s->seen_count * 2 >= s->seen_cap)
        seen_grow(s);
    key = key ? key : 1;
    uint64_t at = hash_u64(key) & (s->seen_cap - 1);
    for (; s->seen[at]; at = (at + 1) & (s->seen_cap - 1))
        if (s->seen[at] == key)
            return false;
    s->seen[at] = key;
    s->seen_count++;
    return true;
}

/* Takes an operation out; false if that configuration has been tried. */
static bool take(struct search *s, uint32_t op, uint64_t value_after, bool skipped)
{
    uint64_t after = s->taken ^ hash_pair(op, TAKEN_SALT);

    if (!seen_add(s, hash_pair(after, value_after)))
        return false;
    s->stack[s->depth].entry = s->call_of[op];
    s->stack[s->depth].value = s->value;
    s->stack[s->depth++].skipped = skipped;
    s->taken = after;
    s->value = value_after;
    list_out(s, s->call_of[op]);
    list_out(s, s->return_of[op]);
    return true;
}

/* Undoes the newest choice that has an alternative; the entry to go on with, or 0: there is none. */
static int32_t go_back(struct search *s)
{
    while (s->depth) {
        s->depth--;
        int32_t at = s->stack[s->depth].entry;
        uint32_t op = s->entries[at].op;
        s->value = s->stack[s->depth].value;
        s->taken ^= hash_pair(op, TAKEN_SALT);
        list_back(s, s->return_of[op]);
        list_back(s, at);
        if (!s->stack[s->depth].skipped)
            return s->entries[at].next;
    }
    return 0;
}

static void search_run(struct search *s, uint64_t budget, struct linear_report *report)
{
    for (int32_t at = s->entries[0].next; at;) {
        const struct entry_at *entry = &s->entries[at];
        const struct linear_op *op = &s->ops[entry->op];
        if (budget-- == 0) {
            report->verdict = LINEAR_UNDECIDED;
            return;
        }
        if (!entry->is_return) {
            uint64_t after = op->is_write ? op->value : s->value;
            if ((op->is_write || op->value == s->value) && take(s, entry->op, after, false))
                at = s->entries[0].next;
            else
                at = entry->next;
            continue;
        }
        if (op->end == LINEAR_NEVER)
            return;
        if (op->maybe && take(s, entry->op, s->value, true)) {
            at = s->entries[0].next;
            continue;
        }
        at = go_back(s);
        if (!at) {
            violation(report, "line %u: no order explains the %s of %llx at %llu..%llu", op->line,
                      op->is_write ? "write" : "read", ULL(op->value), ULL(op->start), ULL(op->end));
            return;
        }
    }
}

static void check_search(const struct linear_op *ops, uint32_t count, uint64_t initial, uint64_t budget,
                         struct linear_report *report)
{
    struct search s = {.ops = ops, .value = initial};

    s.entries = calloc(2 * count + 1, sizeof(*s.entries));
    s.call_of = calloc(count + 1, sizeof(*s.call_of));
    s.return_of = calloc(count + 1, sizeof(*s.return_of));
    s.stack = calloc(count + 1, sizeof(*s.stack));
    ASSERT(s.entries && s.call_of && s.return_of && s.stack);
    for (uint32_t i = 0; i < count; i++) {
        s.entries[2 * i + 1] = (struct entry_at){.at = ops[i].start, .op = i};
        s.entries[2 * i + 2] = (struct entry_at){.at = ops[i].end, .op = i, .is_return = true};
    }
    qsort(s.entries + 1, 2 * (size_t)count, sizeof(*s.entries), by_time);
    for (uint32_t i = 0; i <= 2 * count; i++) {
        s.entries[i].prev = (int32_t)i - 1;
        s.entries[i].next = i < 2 * count ? (int32_t)i + 1 : 0;
        if (i)
            (s.entries[i].is_return ? s.return_of : s.call_of)[s.entries[i].op] = (int32_t)i;
    }
    search_run(&s, budget, report);
    free(s.entries);
    free(s.call_of);
    free(s.return_of);
    free(s.stack);
    free(s.seen);
}

/* ---- one register
 * --------------------------------------------------------------------------------------------- */

/* Drops writes that may never have happened and that nobody saw. Sorted by value. */
static uint32_t drop_unseen(struct linear_op *ops, uint32_t count)
{
    uint32_t kept = 0;

    for (uint32_t i = 0, next; i < count; i = next) {
        bool seen = false;
        for (next = i; next < count && ops[next].value == ops[i].value; next++)
            seen |= !ops[next].is_write;
        for (uint32_t j = i; j < next; j++)
            if (seen || !ops[j].maybe)
                ops[kept++] = ops[j];
    }
    return kept;
}

void linear_check(struct linear_op *ops, uint32_t count, uint64_t initial, uint64_t budget,
                  struct linear_report *ret_report)
{
    struct linear_report report = {.verdict = LINEAR_OK};
    bool unique = true;

    if (count) /* nothing has no place, either */
        qsort(ops, count, sizeof(*ops), by_value);
    count = drop_unseen(ops, count);
    for (uint32_t i = 0; i < count; i++)
        if (ops[i].is_write &&
            (ops[i].value == initial || (i && ops[i - 1].is_write && ops[i - 1].value == ops[i].value)))
            unique = false;
    if (unique)
        check_zones(ops, count, initial, &report);
    else
        check_search(ops, count, initial, budget, &report);
    *ret_report = report;
}

/* ---- many registers
 * ------------------------------------------------------------------------------------------- */

struct register_history {
    struct linear_op *ops;
    uint32_t count, cap;
    uint32_t first_open; /* before it there is no maybe-write without an end */
    uint64_t back;       /* stamp of the last linear_rollback() */
};

struct linear_history {
    struct register_history *registers;
    uint32_t register_count;
    uint64_t stamp, op_count;
    uint32_t fence; /* lower incarnations may not write */
    bool distinct;
    uint64_t initial;
};

struct linear_history *linear_history_new(uint32_t register_count)
{
    struct linear_history *h = sim_alloc(sizeof(*h));

    h->registers = sim_alloc(register_count * sizeof(*h->registers));
    h->register_count = register_count;
    return h;
}

void linear_history_free(struct linear_history *h)
{
    for (uint32_t i = 0; i < h->register_count; i++)
        free(h->registers[i].ops);
    free(h->registers);
    free(h);
}

uint64_t linear_stamp(struct linear_history *h)
{
    return ++h->stamp;
}

/* Marks a write that never happened, and reads of what did not last; left out by the check. */
#define NEVER_HAPPENED 0

static uint32_t history_add(struct linear_history *h, uint32_t reg, const struct linear_op *op)
{
    struct register_history *r = &h->registers[reg];

    ASSERT(reg < h->register_count);
    if (r->count == r->cap) {
        uint32_t cap = r->cap ? r->cap * 2 : 16;
        struct linear_op *ops = sim_alloc(cap * sizeof(*ops)); /* whoever's turn it is */
        if (r->count)
            memcpy(ops, r->ops, r->count * sizeof(*ops));
        free(r->ops);
        r->ops = ops;
        r->cap = cap;
    }
    h->op_count++;
    r->ops[r->count] = *op;
    return r->count++;
}

uint32_t linear_write_begin(struct linear_history *h, uint32_t reg, uint64_t start, uint64_t value,
                            uint32_t line, uint32_t incarnation)
{
    return history_add(h, reg,
                       &(struct linear_op){.start = start,
                                           .end = LINEAR_NEVER,
                                           .value = value,
                                           .is_write = true,
                                           .maybe = true,
                                           .line = line,
                                           .incarnation = incarnation});
}

static struct linear_op *open_write(struct linear_history *h, uint32_t reg, uint32_t number)
{
    ASSERT(reg < h->register_count && number < h->registers[reg].count);
    struct linear_op *op = &h->registers[reg].ops[number];
    ASSERT(op->is_write && op->maybe && !op->returned);
    return op;
}

/* Stamps only grow: an end that is set stays what it is. */
static uint32_t register_first_open(struct register_history *r)
{
    while (r->first_open < r->count &&
           (!r->ops[r->first_open].maybe || r->ops[r->first_open].end != LINEAR_NEVER))
        r->first_open++;
    return r->first_open;
}

void linear_write_done(struct linear_history *h, uint32_t reg, uint32_t number)
{
    struct register_history *r = &h->registers[reg];
    struct linear_op *op = open_write(h, reg, number);
    uint64_t stamp = ++h->stamp;

    op->maybe = op->loses;
    op->returned = stamp;
    op->end = MIN(op->end, stamp);
    for (uint32_t i = register_first_open(r); i < r->count; i++) {
        struct linear_op *old = &r->ops[i];
        if (!old->maybe || old->end != LINEAR_NEVER || old->line != op->line)
            continue;
        if (old->incarnation < op->incarnation ||
            (old->incarnation == op->incarnation && old->returned && old->returned < op->start))
            old->end = stamp;
    }
}

bool linear_is_fenced(const struct linear_history *h, uint32_t incarnation)
{
    return incarnation < h->fence;
}

void linear_fence(struct linear_history *h, uint32_t line, uint32_t incarnation)
{
    uint64_t stamp = ++h->stamp;

    h->fence = MAX(h->fence, incarnation);

    for (uint32_t reg = 0; reg < h->register_count; reg++) {
        struct register_history *r = &h->registers[reg];
        for (uint32_t i = register_first_open(r); i < r->count; i++) {
            struct linear_op *old = &r->ops[i];
            if (old->maybe && old->end == LINEAR_NEVER && old->line == line && old->incarnation < incarnation)
                old->end = stamp;
        }
    }
}

void linear_forget(struct linear_history *h, uint32_t first)
{
    for (uint32_t reg = first; reg < h->register_count; reg++)
        h->registers[reg].count = h->registers[reg].first_open = 0;
    if (first == 0)
        h->fence = 0;
}

void linear_write_unknown(struct linear_history *h, uint32_t reg, uint32_t number)
{
    open_write(h, reg, number)->returned = ++h->stamp;
}

void linear_write_refused(struct linear_history *h, uint32_t reg, uint32_t number)
{
    struct linear_op *op = open_write(h, reg, number);

    op->returned = ++h->stamp;
    op->end = NEVER_HAPPENED;
}

uint32_t linear_rollback(struct linear_history *h, uint32_t reg, uint64_t since)
{
    struct register_history *r = &h->registers[reg];
    uint64_t stamp = r->back = ++h->stamp;
    uint32_t lost = 0;

    for (uint32_t i = 0; i < r->count; i++) {
        struct linear_op *op = &r->ops[i];
        op->loses |= op->is_write && op->maybe && op->end == LINEAR_NEVER;
        if (op->end <= since || (op->is_write && op->maybe))
            continue;
        op->maybe = op->is_write;
        op->end = op->is_write ? stamp : NEVER_HAPPENED;
        lost += op->is_write;
    }
    return lost;
}

void linear_history_distinct(struct linear_history *h, uint64_t initial)
{
    h->distinct = true;
    h->initial = initial;
}

/* Of reads that saw one value, one after the other, only the first and the last say something: the value was
 * there from the one to the other. True: the new one need not be kept, or has taken the place of the last. */
static bool read_folds(struct linear_history *h, struct register_history *r, const struct linear_op *read)
{
    if (!h->distinct || read->value == h->initial || r->count < 2)
        return false;
    const struct linear_op *first = &r->ops[r->count - 2];
    struct linear_op *last = &r->ops[r->count - 1];
    if (first->is_write || last->is_write || first->value != read->value || last->value != read->value)
        return false;
    /* One that began before the last and ends after it may stand where that one does. */
    if (read->start > last->start)
        *last = *read;
    h->op_count++;
    return true;
}

void linear_read(struct linear_history *h, uint32_t reg, uint64_t start, uint64_t value, uint32_t who)
{
    ASSERT(reg < h->register_count);
    struct linear_op read = {.start = start, .end = ++h->stamp, .value = value, .line = who};

    /* One that was open when the register went back may have seen what did not last. */
    if (start < h->registers[reg].back)
        return;
    if (!read_folds(h, &h->registers[reg], &read))
        history_add(h, reg, &read);
}

uint64_t linear_history_ops(const struct linear_history *h)
{
    return h->op_count;
}

void linear_register_check(const struct linear_history *h, uint32_t reg, uint64_t initial, uint64_t budget,
                           struct linear_report *ret_report)
{
    const struct register_history *r = &h->registers[reg];
    struct linear_op *ops = sim_alloc((r->count + 1) * sizeof(*ops));
    uint32_t count = 0;

    for (uint32_t i = 0; i < r->count; i++)
        if (r->ops[i].end != NEVER_HAPPENED)
            ops[count++] = r->ops[i];
    linear_check(ops, count, initial, budget, ret_report);
    free(ops);
}

uint32_t linear_history_check(struct linear_history *h, uint32_t first, uint64_t initial, uint64_t budget,
                              uint32_t *ret_register, struct linear_report *ret_report)
{
    uint32_t undecided = 0;

    *ret_register = UINT32_MAX;
    for (uint32_t i = first; i < h->register_count; i++) {
        struct register_history *r = &h->registers[i];
        uint32_t count = 0;
        for (uint32_t j = 0; j < r->count; j++)
            if (r->ops[j].end != NEVER_HAPPENED)
                r->ops[count++] = r->ops[j];
        r->count = count;
        struct linear_report report;
        linear_check(r->ops, r->count, initial, budget, &report);
        undecided += report.verdict == LINEAR_UNDECIDED;
        if (report.verdict == LINEAR_VIOLATION) {
            *ret_register = i;
            *ret_report = report;
            return undecided;
        }
    }
    return undecided;
}
