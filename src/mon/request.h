/* SPDX-License-Identifier: Apache-2.0
 *
 * A call that somebody makes, and the methods that carry calls out (mon_request.c).
 */
#ifndef MON_REQUEST_H
#define MON_REQUEST_H

#include "mon/change.h"

struct mon;

/* One call, from the frame to the reply. Calls that only look are answered in the handler of the frame; those
 * that change something are ops: [WAITING (for a proof) ->] QUEUED (no turn yet) -> LOADING (memory was
 * stale) -> COMMITTING -> answered. */
struct mon_request {
    struct op op;
    struct mon *mon;
    struct rpc_ticket ticket;
    struct rpc_identity who;
    uint64_t session;
    struct wire_arena arena;
    Fb__MonRequest *call;
    const struct mon_method *method;
    struct mon_turn turn;
    struct mon_change change;
    struct list waiting; /* in mon->waiting */
    uint64_t waiting_ns; /* alive time at which the wait for the proof began; 0: it did not */
    uint64_t leaving_ns; /* the same of the wait for someone to leave */
    uint32_t conflicts;  /* how often it had to be built again */
    bool nothing;        /* `build` found that all is as asked: no commit */
    Fb__MonReply reply;
    char message[MON_MESSAGE_MAX];
    /* Kept by build() for done(). */
    uint64_t image;
    uint8_t former_client[16];
};

/* A call that changes something. `build` runs with the turn and puts into r->change, or answers an error with
 * r->message. `done` runs after the commit, before the reply. */
struct mon_method {
    int (*build)(struct mon_request *r);
    void (*done)(struct mon_request *r);
    /* Gives out an id or an incarnation: a monitor whose data is from a backup would give out one that is in
     * use. So after a start it waits until an OSD has said what it knows, unless none was ever started. */
    bool needs_proof;
    /* May be NULL. True: someone is in the way who is probably just leaving. Asked again for MON_LEAVE_NS. */
    bool (*waits)(const struct mon_request *r);
};

/* Says what failed, for people, and returns `error` (negative). */
int mon_fail(struct mon_request *r, int error, const char *format, ...) PRINTF_LIKE(3, 4);
/* How many of these fit in one page of a list. Fewer than all: the reply says that there are more. */
size_t mon_page(struct mon_request *r, ProtobufCMessage *const *messages, size_t count);
void mon_reply(struct mon_request *r, int result);
/* A change is being written, or it is not known whether one was: by a monitor that follows, its epochs and
 * image may have come round to others before we know of them. How many epochs; 0: nothing is newer than what
 * we have.
 */
uint64_t mon_epochs_under_way(const struct mon *mon);
/* `who` knows this epoch and this image. If that is more than `since` (the epoch that we have, or had at the
 * start), or an image beyond ours, and not from a change under way, changes stop. */
void mon_note_knowledge(struct mon *mon, const char *who, uint64_t since, uint64_t epoch,
                        uint64_t image_id_max);
/* Once nothing of the monitor runs any more. */
void mon_memory_free(struct mon *mon);
/* 1 to MON_NAME_MAX characters of [A-Za-z0-9._-]. */
bool mon_name_valid(const char *name);
/* Printable, at most MON_TEXT_MAX - 1 characters; may be empty. */
bool mon_text_valid(const char *text);

#endif
