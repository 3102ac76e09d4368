/* SPDX-License-Identifier: Apache-2.0
 *
 * Script tests of raft: a file is a story in commands, each block of commands followed by what happened:
 *
 *     # comment
 *     group 3
 *     tick 1
 *     deliver
 *     ----
 *     1>2 PRE_VOTE term 1 log 0/0
 *     ...
 *     (an empty line ends the block)
 *
 * `script FILE...` runs the files and compares; with --rewrite it writes what happens now into them. Nothing
 * happens by itself: time stands still but for `time`, `tick` and one microsecond per delivered message,
 * messages lie in one queue until they are delivered or dropped, and disks are fast (a write is done before
 * the next message is delivered) unless held.
 *
 * Before the start:
 *     group N [L]           N replicas of a group just born, and starts them; L is a learner
 *     replicas N [L]        declares N replicas, without starting them
 *     log R T T T ...       entries of these terms are on the disk of R
 *     vote R TERM VOTE      term and vote on the disk of R
 *     start R               R starts (and so has promised to whoever was there)
 * Inputs of replica R (`*`: of everybody):
 *     tick R [D]            D passes (such as 200ms), then R looks at its timers
 *     time D                time passes
 *     heartbeat R           R sends merged heartbeats, if it leads
 *     propose R [N]         N entries
 *     transfer R S [short]  R is to hand leadership over to S; as it is
 *     members R S Tl ...    R changes the group: S a voter, T a learner
 *     join R                one more replica, which knows of the group what R does
 *     abstain R on|off      and the same for `recovering`
 *     compact R I           R drops its log up to I
 *     lost R S [replaced]   R has lost the connection to S; its process was replaced
 *     probe R               raft_probe()
 *     unreachable R S       R has no connection to S any more
 *     found R S             it has one again
 *     moved R S             R has lost one of two connections to S
 *     lose R                the store of R refuses what is not on its disk yet
 *     cut-log R I           raft_cut()
 *     refused R S           S had no memory for the entries that R sent behind its match
 *     batch R N             R puts at most N entries into one APPEND
 *     crash R [kept]        what is not on disk is lost, or is not
 *     damage R I            R, which is down, loses its log above I, and knows
 *     restart R
 * Disk and network:
 *     hold R, release R     the disk of R stands still
 *     durable R [vote|log [N]]   finishes writes of a disk that stands still
 *     deliver               everything, until all is quiet
 *     deliver A>B [N]       what is in the queue from A to B, the first N of it
 *     deliver *             what is in the queue now, but no answers to it
 *     drop, dup, reverse [A>B]   what is in the queue
 *     cut A>B, heal         what is sent from A to B from now on is lost
 * Looking:
 *     show [R], lease R, trace on|off
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "sim/raft_host.h"

#define PACKETS_MAX 4096
#define GROUPS_MAX  64

struct script {
    struct raft_host hosts[RAFT_MEMBERS_MAX];
    uint32_t count;
    struct group *groups[GROUPS_MAX]; /* all that there ever were */
    uint32_t group_count;
    bool held[RAFT_MEMBERS_MAX], cut[RAFT_MEMBERS_MAX][RAFT_MEMBERS_MAX];
    struct raft_packet *queue[PACKETS_MAX];
    uint32_t queued;
    uint64_t now_ns, value;
    bool quiet;
    char *out;
    size_t out_len, out_cap;
    const char *error;
};

static void out(struct script *s, const char *format, ...) PRINTF_LIKE(2, 3);
static void out(struct script *s, const char *format, ...)
{
    va_list args;
    char line[512];
    int len;

    if (s->quiet)
        return;
    va_start(args, format);
    len = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    line[len++] = '\n';
    if (s->out_len + (size_t)len + 1 > s->out_cap) {
        s->out_cap = s->out_cap * 2 + 1024;
        s->out = realloc(s->out, s->out_cap);
    }
    memcpy(s->out + s->out_len, line, (size_t)len);
    s->out_len += (size_t)len;
    s->out[s->out_len] = 0;
}

/* ---- what happens ---- */

static const char *type_name(uint32_t type)
{
    static const char *const names[] = {"?",      "PRE_VOTE",     "PRE_VOTE_REPLY", "VOTE",   "VOTE_REPLY",
                                        "APPEND", "APPEND_REPLY", "TIMEOUT_NOW",    "INSTALL"};

    switch (type) {
    case RAFT_HOST_HEARTBEAT:
        return "HEARTBEAT";
    case RAFT_HOST_HEARTBEAT_REPLY:
        return "HEARTBEAT_REPLY";
    case RAFT_HOST_PULL:
        return "PULL";
    case RAFT_HOST_STATE:
        return "STATE";
    default:
        return type < ARRAY_LEN(names) ? names[type] : "?";
    }
}

static void describe(char *text, size_t size, const struct raft_packet *p)
{
    const struct raft_msg *m = &p->msg;
    int n = snprintf(text, size, "%u>%u %s term %lu", m->from, m->to, type_name(m->type), m->term);

    switch ((uint32_t)m->type) {
    case RAFT_PRE_VOTE:
    case RAFT_VOTE:
        n += snprintf(text + n, size - n, " log %lu/%lu", m->index, m->log_term);
        break;
    case RAFT_PRE_VOTE_REPLY:
    case RAFT_VOTE_REPLY:
        n += snprintf(text + n, size - n, " %s", m->reject ? "no" : "yes");
        break;
    case RAFT_APPEND:
        n += snprintf(text + n, size - n, " after %lu/%lu", m->index, m->log_term);
        if (m->last > m->index)
            n += snprintf(text + n, size - n, " entries");
        for (uint64_t i = 0; i < m->last - m->index; i++)
            n += snprintf(text + n, size - n, " %lu/%lu", p->entries[i].index, p->entries[i].term);
        if (m->group)
            n += snprintf(text + n, size - n, " group");
        n += snprintf(text + n, size - n, " commit %lu", m->commit);
        break;
    case RAFT_APPEND_REPLY:
        if (m->reject)
            n += snprintf(text + n, size - n, " no, perhaps %lu/%lu", m->index, m->log_term);
        else
            n += snprintf(text + n, size - n, " match %lu", m->index);
        break;
    case RAFT_INSTALL:
        n += snprintf(text + n, size - n, " first %lu", m->index);
        break;
    case RAFT_HOST_HEARTBEAT:
        n += snprintf(text + n, size - n, " commit %lu", m->commit);
        break;
    case RAFT_HOST_STATE:
        n += snprintf(text + n, size - n, " index %lu/%lu", m->index, p->base.term);
        break;
    default:
        break;
    }
    if (m->flags)
        snprintf(text + n, size - n, "%s%s", m->flags & RAFT_TRANSFER ? " transfer" : "",
                 m->flags & RAFT_RECOVERING ? " recovering" : "");
}

static void on_send(void *owner, struct raft_host *h, struct raft_packet *p)
{
    struct script *s = owner;
    char text[400];

    describe(text, sizeof text, p);
    if (s->cut[h->replica - 1][p->msg.to - 1] || s->queued == PACKETS_MAX) {
        out(s, "%s (lost)", text);
        free(p);
        return;
    }
    out(s, "%s", text);
    s->queue[s->queued++] = p;
}

static void on_appended(void *owner, struct raft_host *h, uint64_t first, uint64_t last)
{
    out(owner, "%u appends %lu..%lu", h->replica, first, last);
}

static void on_role(void *owner, struct raft_host *h)
{
    static const char *const names[] = {"follows", "asks for pre-votes", "is a candidate", "leads"};

    out(owner, "%u %s in term %lu", h->replica, names[h->raft.role], h->raft.term);
}

static void on_committed(void *owner, struct raft_host *h, uint64_t before)
{
    out(owner, "%u commits %lu", h->replica, h->raft.commit_index);
}

static uint64_t on_value(void *owner)
{
    return ++((struct script *)owner)->value;
}

static const struct group *on_group(void *owner, const struct group *group)
{
    struct script *s = owner;
    struct group *copy = malloc(sizeof *copy);

    ASSERT(copy && s->group_count < GROUPS_MAX);
    *copy = *group;
    return s->groups[s->group_count++] = copy;
}

static const struct raft_host_hooks HOOKS = {on_send, on_appended, on_role,  on_committed, NULL,
                                             NULL,    on_value,    on_group, NULL};

static void settle_disks(struct script *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        bool more = s->hosts[i].up && !s->held[i];

        while (more) {
            more = raft_host_write_done(&s->hosts[i], RAFT_HOST_QUEUE_VOTE, s->now_ns);
            more |= raft_host_write_done(&s->hosts[i], RAFT_HOST_QUEUE_LOG, s->now_ns);
        }
    }
}

/* Delivers the packet in place i of the queue. */
static void deliver_one(struct script *s, uint32_t i)
{
    struct raft_packet *p = s->queue[i];
    struct raft_host *h = &s->hosts[p->msg.to - 1];

    memmove(s->queue + i, s->queue + i + 1, (--s->queued - i) * sizeof *s->queue);
    s->now_ns += 1000;
    if (h->up)
        raft_host_step(h, p, s->now_ns);
    free(p);
    settle_disks(s);
}

/* ---- commands ---- */

static void declare(struct script *s, uint32_t n, uint32_t learner)
{
    struct group group = {.count = n};
    const struct group *kept;

    for (uint32_t i = 0; i < s->count; i++)
        raft_host_fini(&s->hosts[i]);
    for (uint32_t i = 0; i < n; i++) {
        group.members[i].replica = i + 1;
        group.members[i].flags = i + 1 == learner ? 0 : GROUP_VOTER;
    }
    kept = on_group(s, &group);
    for (uint32_t i = 0; i < n; i++)
        raft_host_init(&s->hosts[i], i + 1, kept, &RAFT_CONFIG_DEFAULT, &HOOKS, s);
    s->count = n;
}

/* A new replica, which knows the group as another knows it, and itself as a learner. */
static void join(struct script *s, struct raft_host *other)
{
    struct group group = *raft_host_group(other);

    group.index = 0;
    group.members[group.count].replica = s->count + 1;
    group.members[group.count++].flags = 0;
    raft_host_init(&s->hosts[s->count], s->count + 1, on_group(s, &group), &RAFT_CONFIG_DEFAULT, &HOOKS, s);
    s->count++;
    raft_host_start(&s->hosts[s->count - 1], false, s->count, s->now_ns);
}

/* "1", or "1l" for a learner. */
static int change(struct raft_host *h, char **words, uint64_t now_ns)
{
    struct group group = {0};

    for (; *words && group.count < RAFT_MEMBERS_MAX; words++) {
        group.members[group.count].replica = (uint32_t)atoi(*words);
        group.members[group.count++].flags = strchr(*words, 'l') ? 0 : GROUP_VOTER;
    }
    return raft_host_change(h, &group, now_ns);
}

static bool duration(const char *text, uint64_t *ret_ns)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);

    if (!strcmp(end, "ms"))
        *ret_ns = n * NS_PER_MS;
    else if (!strcmp(end, "us"))
        *ret_ns = n * NS_PER_US;
    else if (!strcmp(end, "s"))
        *ret_ns = n * NS_PER_S;
    else
        return false;
    return end != text;
}

/* "1>2": the link; "*" or nothing: all of them. */
static bool link_matches(const char *text, const struct raft_packet *p)
{
    unsigned from, to;

    if (!text || !strcmp(text, "*"))
        return true;
    return sscanf(text, "%u>%u", &from, &to) == 2 && from == p->msg.from && to == p->msg.to;
}

static void cmd_deliver(struct script *s, const char *link, const char *count)
{
    uint32_t n = count ? (uint32_t)atoi(count) : UINT32_MAX, end = s->queued, i = 0;

    settle_disks(s);
    if (!link) {
        for (uint32_t steps = 0; s->queued; steps++) {
            if (steps == 10000) {
                s->error = "deliver: does not come to rest";
                return;
            }
            deliver_one(s, 0);
        }
        return;
    }
    while (i < end && n) {
        if (!link_matches(link, s->queue[i])) {
            i++;
            continue;
        }
        deliver_one(s, i);
        end--;
        n--;
    }
}

static void cmd_queue(struct script *s, const char *what, const char *link)
{
    uint32_t end = s->queued, kept = 0, places[PACKETS_MAX], n = 0;

    for (uint32_t i = 0; i < end; i++) {
        struct raft_packet *p = s->queue[i];
        bool match = link_matches(link, p);

        if (match && !strcmp(what, "drop")) {
            char text[400];

            describe(text, sizeof text, p);
            out(s, "%s (dropped)", text);
            free(p);
            continue;
        }
        if (match && !strcmp(what, "dup") && s->queued < PACKETS_MAX) {
            size_t size = sizeof *p +
                          (p->msg.last - p->msg.index) * (p->msg.type == RAFT_APPEND) * sizeof p->entries[0];
            struct raft_packet *copy = malloc(size);

            memcpy(copy, p, size);
            copy->msg.entries = p->msg.entries ? copy->entries : NULL;
            s->queue[s->queued++] = copy;
        }
        if (match)
            places[n++] = kept;
        s->queue[kept++] = p;
    }
    if (!strcmp(what, "drop"))
        s->queued = kept;
    if (!strcmp(what, "reverse")) {
        for (uint32_t i = 0; i < n / 2; i++) {
            struct raft_packet *p = s->queue[places[i]];

            s->queue[places[i]] = s->queue[places[n - 1 - i]];
            s->queue[places[n - 1 - i]] = p;
        }
    }
}

static void cmd_show(struct script *s, struct raft_host *h)
{
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};
    static const char *const progress[] = {"probe", "replicate", "behind"};
    const struct raft *r = &h->raft;
    char text[400];
    int n;

    if (!h->up) {
        out(s, "%u: down", h->replica);
        return;
    }
    n = snprintf(
        text, sizeof text, "%u: %s term %lu vote %u leader %u commit %lu durable %lu log %lu:", h->replica,
        roles[r->role], r->term, r->vote, r->leader, r->commit_index, r->durable_index, r->first_index - 1);
    for (uint64_t i = r->first_index - 1; i <= r->last_index && n < 360; i++)
        n += snprintf(text + n, sizeof text - n, " %lu", raft_term_at(r, i));
    out(s, "%s", text);
    n = snprintf(text, sizeof text, "   group of %lu:", r->group.index);
    for (uint32_t i = 0; i < r->group.count; i++) {
        static const char *const kinds[] = {" learner", "", " out", " stays"};

        n += snprintf(
            text + n, sizeof text - n, "%s %u%s", i ? "," : "", r->group.members[i].replica,
            r->joint && r->group.members[i].flags == GROUP_VOTER ? " in" : kinds[r->group.members[i].flags]);
    }
    if (r->group.index)
        out(s, "%s", text);
    for (uint32_t i = 0; r->role == RAFT_LEADER && i < r->member_count; i++) {
        const struct raft_member *m = &r->members[i];

        if (m->replica != r->self)
            out(s, "   %u: %s match %lu next %lu inflight %u", m->replica, progress[m->progress], m->match,
                m->next, m->inflight_count);
    }
}

/* Commands on one replica. */
static void cmd_replica(struct script *s, struct raft_host *h, char **w, uint32_t n)
{
    uint64_t ns;
    int result = 0;

    if (!strcmp(w[0], "start") || !strcmp(w[0], "restart")) {
        raft_host_start(h, false, h->replica, s->now_ns);
    } else if (!strcmp(w[0], "log")) {
        uint64_t hash = 0;

        h->disk_cap = n;
        h->disk_log = realloc(h->disk_log, n * sizeof *h->disk_log);
        for (uint32_t i = 2; i < n; i++) {
            uint64_t term = strtoull(w[i], NULL, 10);

            hash += term;
            h->disk_log[i - 1] = (struct raft_item){.term = term, .hash = hash};
            h->disk_hs.term = MAX(h->disk_hs.term, term);
        }
        h->disk_last = n - 2;
    } else if (!strcmp(w[0], "vote") && n == 4) {
        h->disk_hs = (struct raft_hard_state){.term = strtoull(w[2], NULL, 10), .vote = (uint32_t)atoi(w[3])};
    } else if (!strcmp(w[0], "damage") && n == 3 && !h->up) {
        raft_host_damage(h, strtoull(w[2], NULL, 10));
    } else if (!h->up) {
        s->error = "the replica is down";
    } else if (!strcmp(w[0], "tick")) {
        if (n > 2 && duration(w[2], &ns))
            s->now_ns += ns;
        raft_host_tick(h, s->now_ns);
    } else if (!strcmp(w[0], "heartbeat")) {
        raft_host_heartbeat(h, s->now_ns);
    } else if (!strcmp(w[0], "propose")) {
        for (int i = 0; i < (n > 2 ? atoi(w[2]) : 1) && !result; i++)
            result = raft_host_propose(h, ++s->value, s->now_ns);
    } else if (!strcmp(w[0], "hold")) {
        s->held[h->replica - 1] = true;
    } else if (!strcmp(w[0], "release")) {
        s->held[h->replica - 1] = false;
    } else if (!strcmp(w[0], "durable")) {
        int max = n > 3 ? atoi(w[3]) : 1000;

        for (int i = 0; i < max && (n < 3 || !strcmp(w[2], "vote")); i++)
            raft_host_write_done(h, RAFT_HOST_QUEUE_VOTE, s->now_ns);
        for (int i = 0; i < max && (n < 3 || !strcmp(w[2], "log")); i++)
            raft_host_write_done(h, RAFT_HOST_QUEUE_LOG, s->now_ns);
    } else if (!strcmp(w[0], "crash")) {
        if (n > 2) {
            while (raft_host_write_done(h, RAFT_HOST_QUEUE_VOTE, s->now_ns))
                ;
            while (raft_host_write_done(h, RAFT_HOST_QUEUE_LOG, s->now_ns))
                ;
        }
        raft_host_crash(h, NULL);
    } else if (!strcmp(w[0], "transfer") && n >= 3) {
        result = n == 3 ? raft_transfer(&h->raft, (uint32_t)atoi(w[2]), s->now_ns)
                        : raft_transfer_short(&h->raft, (uint32_t)atoi(w[2]), s->now_ns);
    } else if (!strcmp(w[0], "members") && n > 2) {
        result = change(h, w + 2, s->now_ns);
    } else if (!strcmp(w[0], "join") && s->count < RAFT_MEMBERS_MAX) {
        join(s, h);
    } else if (!strcmp(w[0], "abstain") && n == 3) {
        raft_set_abstain(&h->raft, !strcmp(w[2], "on"));
    } else if (!strcmp(w[0], "recovering") && n == 3) {
        raft_set_recovering(&h->raft, !strcmp(w[2], "on"));
    } else if (!strcmp(w[0], "compact") && n == 3) {
        raft_host_compact(h, strtoull(w[2], NULL, 10));
    } else if (!strcmp(w[0], "lost") && n >= 3) {
        raft_peer_lost(&h->raft, (uint32_t)atoi(w[2]), n > 3, s->now_ns);
    } else if (!strcmp(w[0], "unreachable") && n == 3) {
        raft_peer_unreachable(&h->raft, (uint32_t)atoi(w[2]));
    } else if (!strcmp(w[0], "found") && n == 3) {
        out(s, "%u: %s", h->replica,
            raft_peer_found(&h->raft, (uint32_t)atoi(w[2])) ? "asks" : "does not ask");
    } else if (!strcmp(w[0], "moved") && n == 3) {
        raft_peer_moved(&h->raft, (uint32_t)atoi(w[2]), s->now_ns);
    } else if (!strcmp(w[0], "refused") && n == 3) {
        raft_append_failed(&h->raft, (uint32_t)atoi(w[2]),
                           raft_member(&h->raft, (uint32_t)atoi(w[2]))->match);
    } else if (!strcmp(w[0], "lose")) {
        raft_host_refuse(h);
    } else if (!strcmp(w[0], "cut-log") && n == 3) {
        out(s, "%u: %s", h->replica, raft_cut(&h->raft, strtoull(w[2], NULL, 10)) ? "cut" : "not cut");
    } else if (!strcmp(w[0], "batch") && n == 3) {
        h->append_max = (uint32_t)atoi(w[2]);
    } else if (!strcmp(w[0], "probe")) {
        raft_probe(&h->raft);
    } else if (!strcmp(w[0], "lease")) {
        out(s, "%u: %s", h->replica, raft_lease_valid(&h->raft, s->now_ns) ? "lease" : "no lease");
    } else {
        s->error = "unknown command";
    }
    if (result)
        out(s, "%u: %s", h->replica, error_name(result));
    if (h->up)
        raft_host_pump(h, s->now_ns);
}

static void command(struct script *s, char *line)
{
    char *w[64], *save = NULL;
    uint32_t n = 0;
    unsigned a, b;
    uint64_t ns;

    for (char *word = strtok_r(line, " \t", &save); word && n < 63; word = strtok_r(NULL, " \t", &save))
        w[n++] = word;
    w[n] = NULL;
    if (!n || w[0][0] == '#')
        return;
    if ((!strcmp(w[0], "group") || !strcmp(w[0], "replicas")) && n >= 2) {
        declare(s, (uint32_t)atoi(w[1]), n > 2 ? (uint32_t)atoi(w[2]) : 0);
        for (uint32_t i = 0; i < s->count && !strcmp(w[0], "group"); i++)
            raft_host_start(&s->hosts[i], true, i + 1, s->now_ns);
    } else if (!strcmp(w[0], "time") && n == 2 && duration(w[1], &ns)) {
        s->now_ns += ns;
    } else if (!strcmp(w[0], "deliver")) {
        cmd_deliver(s, w[1], n > 1 ? w[2] : NULL);
    } else if (!strcmp(w[0], "drop") || !strcmp(w[0], "dup") || !strcmp(w[0], "reverse")) {
        cmd_queue(s, w[0], w[1]);
    } else if (!strcmp(w[0], "cut") && n == 2 && sscanf(w[1], "%u>%u", &a, &b) == 2) {
        s->cut[a - 1][b - 1] = true;
    } else if (!strcmp(w[0], "heal")) {
        memset(s->cut, 0, sizeof s->cut);
    } else if (!strcmp(w[0], "trace") && n == 2) {
        s->quiet = !strcmp(w[1], "off");
    } else if (!strcmp(w[0], "show")) {
        for (uint32_t i = 0; i < s->count; i++) {
            if (n == 1 || (uint32_t)atoi(w[1]) == i + 1)
                cmd_show(s, &s->hosts[i]);
        }
    } else if (n >= 2 && !strcmp(w[1], "*")) {
        for (uint32_t i = 0; i < s->count && !s->error; i++)
            cmd_replica(s, &s->hosts[i], w, n);
    } else if (n >= 2 && atoi(w[1]) >= 1 && (uint32_t)atoi(w[1]) <= s->count) {
        cmd_replica(s, &s->hosts[atoi(w[1]) - 1], w, n);
    } else {
        s->error = "cannot be understood";
    }
    if (strcmp(w[0], "deliver"))
        settle_disks(s);
}

/* ---- files ---- */

static char *file_read(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;
    ssize_t len;

    if (!f)
        return NULL;
    len = getdelim(&text, &size, 0, f);
    fclose(f);
    if (len < 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* Runs the text; the result is what the file should be. */
static char *run(const char *path, char *text, bool *ret_ok)
{
    struct script *s = calloc(1, sizeof *s);
    char *result = NULL, *save = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&result, &size);
    bool expected = false;
    uint32_t number = 0;

    s->now_ns = NS_PER_S;
    for (char *line = text; line; line = save) {
        char copy[1024];

        save = strchr(line, '\n');
        if (save)
            *save++ = 0;
        number++;
        if (!strcmp(line, "----")) {
            fprintf(f, "----\n%s", s->out_len ? s->out : "");
            s->out_len = 0;
            expected = true;
        } else if (expected) {
            if (!*line) {
                fprintf(f, "\n");
                expected = false;
            }
        } else {
            if (save || *line)
                fprintf(f, "%s\n", line);
            snprintf(copy, sizeof copy, "%s", line);
            command(s, copy);
            if (s->error) {
                printf("# %s:%u: %s: %s\n", path, number, line, s->error);
                *ret_ok = false;
                s->error = NULL;
            }
        }
    }
    for (uint32_t i = 0; i < s->queued; i++)
        free(s->queue[i]);
    for (uint32_t i = 0; i < s->count; i++)
        raft_host_fini(&s->hosts[i]);
    for (uint32_t i = 0; i < s->group_count; i++)
        free(s->groups[i]);
    fclose(f);
    free(s->out);
    free(s);
    return result;
}

/* Names the first line that differs. */
static void difference(const char *path, const char *expected, const char *got)
{
    uint32_t line = 1;
    const char *e = expected, *g = got;

    while (*e && *e == *g) {
        if (*e == '\n') {
            line++;
            expected = e + 1;
            got = g + 1;
        }
        e++;
        g++;
    }
    printf("# %s:%u: expected: %.*s\n", path, line, (int)strcspn(expected, "\n"), expected);
    printf("# %s:%u: happened: %.*s\n", path, line, (int)strcspn(got, "\n"), got);
}

int main(int argc, char **argv)
{
    bool rewrite = argc > 1 && !strcmp(argv[1], "--rewrite");
    int failed = 0, tests = 0;

    for (int i = rewrite ? 2 : 1; i < argc; i++) {
        char *text = file_read(argv[i]), *copy, *got;
        bool ok = true;

        if (!text) {
            printf("# cannot read %s\nnot ok %d - %s\n", argv[i], ++tests, argv[i]);
            failed++;
            continue;
        }
        copy = strdup(text);
        got = run(argv[i], copy, &ok);
        if (rewrite) {
            FILE *f = fopen(argv[i], "w");

            ok &= f && fputs(got, f) >= 0;
            ok &= f && !fclose(f);
        } else if (strcmp(text, got)) {
            difference(argv[i], text, got);
            ok = false;
        }
        failed += !ok;
        printf("%s %d - %s\n", ok ? "ok" : "not ok", ++tests,
               strrchr(argv[i], '/') ? strrchr(argv[i], '/') + 1 : argv[i]);
        free(text);
        free(copy);
        free(got);
    }
    printf("1..%d\n", tests);
    return failed != 0;
}
