/* SPDX-License-Identifier: Apache-2.0
 *
 * Is a history of reads and writes of one register (a sector of an image) linearizable: could each operation
 * have taken effect at one moment between its start and its end, so that every read shows the newest write?
 *
 * Writers give every write a value of its own. Then it is decided in n log n, by the zones of Gibbons and
 * Korach ("Testing shared memories", SIAM J. Comput. 26, 1997). Values that several operations write (zeros,
 * by discards) are decided by search in the way of Wing and Gong with Lowe's memory of configurations
 * ("Testing for linearizability", 2016), within a budget. A write whose outcome is unknown (timed out, client
 * dead) may take effect at any time after its start, or never.
 */
#ifndef SIM_CHECK_LINEAR_H
#define SIM_CHECK_LINEAR_H

#include "base/base.h"

#define LINEAR_NEVER UINT64_MAX /* as `end`: no limit */

struct linear_op {
    uint64_t start, end; /* stamps of one counter: of two operations, one precedes if its end is below the
                            other's start */
    uint64_t value;      /* written, or read */
    bool is_write;
    bool maybe;           /* a write that may never have happened; if it did, then by `end` */
    uint32_t line;        /* of writers that supersede each other; for reads: who, for the report */
    uint32_t incarnation; /* in the line: a higher one fences the lower ones */
    uint64_t returned;    /* a maybe-write whose writer has given it up: the stamp of that; 0: not yet */
    bool loses;           /* open when the register went back: what was done of it before that may be gone */
};

enum linear_verdict { LINEAR_OK, LINEAR_VIOLATION, LINEAR_UNDECIDED };

struct linear_report {
    enum linear_verdict verdict;
    char text[256]; /* what contradicts what */
};

/* Reads without an answer must be left out. `initial` is what the register held before. The array is sorted
 * in place. `budget` bounds the search, in steps. */
void linear_check(struct linear_op *ops, uint32_t count, uint64_t initial, uint64_t budget,
                  struct linear_report *ret_report);

/* A recorder: the histories of many registers. */
struct linear_history;

struct linear_history *linear_history_new(uint32_t register_count);
/* The caller's word that no value but `initial` is written to a register twice: then most reads need not be
 * kept. */
void linear_history_distinct(struct linear_history *h, uint64_t initial);
void linear_history_free(struct linear_history *h);
/* Stamps: each call gives a higher one. */
uint64_t linear_stamp(struct linear_history *h);
/* A write that covers a register begins: from now on its value may be seen. Returns its number there. */
uint32_t linear_write_begin(struct linear_history *h, uint32_t reg, uint64_t start, uint64_t value,
                            uint32_t line, uint32_t incarnation);
/* It was acknowledged. From now on unknown writes of the same line that were given up before it began, and
 * all open ones of lower incarnations, can no longer take effect on this register. */
void linear_write_done(struct linear_history *h, uint32_t reg, uint32_t number);
/* From now on no write of a lower incarnation of the line can take effect anywhere, open or not begun. There
 * is one line that is fenced. */
void linear_fence(struct linear_history *h, uint32_t line, uint32_t incarnation);
/* Whether writes of this incarnation that begin now are fenced. */
bool linear_is_fenced(const struct linear_history *h, uint32_t incarnation);
/* Forgets all about the registers from `first` on; they hold `initial` again. Check them before. */
void linear_forget(struct linear_history *h, uint32_t first);
/* The register went back to an earlier state: of what was acknowledged before the stamp `since` nothing is
 * lost, but each later write may be, or may not; what was not done by now is not done any more, but for what
 * is still open: that may be done, or, though it is acknowledged later, be gone (a request whose other parts
 * took longer). Reads that were open then, or saw something since `since`, say nothing. Returns how many
 * acknowledged writes that are. Check the register before. */
uint32_t linear_rollback(struct linear_history *h, uint32_t reg, uint64_t since);
/* Checks one register, and leaves its history as it is. */
void linear_register_check(const struct linear_history *h, uint32_t reg, uint64_t initial, uint64_t budget,
                           struct linear_report *ret_report);
/* The writer gave it up without an answer: it may or may not take effect. */
void linear_write_unknown(struct linear_history *h, uint32_t reg, uint32_t number);
/* A definite answer that it did not happen and never will. */
void linear_write_refused(struct linear_history *h, uint32_t reg, uint32_t number);
/* A read is recorded when its answer is there. */
void linear_read(struct linear_history *h, uint32_t reg, uint64_t start, uint64_t value, uint32_t who);
uint64_t linear_history_ops(const struct linear_history *h);
/* Checks the registers from `first` on. Returns the number of undecided ones; on a violation ret_register
 * names one (else UINT32_MAX). */
uint32_t linear_history_check(struct linear_history *h, uint32_t first, uint64_t initial, uint64_t budget,
                              uint32_t *ret_register, struct linear_report *ret_report);

#endif
