/* SPDX-License-Identifier: Apache-2.0
 *
 * Which batches of a ring count: tables of headers, as crashes and recoveries leave them.
 */
#include <stdlib.h>
#include <string.h>

#include "store/opening.h"
#include "tests/tap.h"

#define CRC(seq) ((uint32_t)(seq)*7)

struct header {
    uint64_t seq, prev_seq, tail_seq, durable_seq;
    uint64_t position; /* 0: behind the one before */
};

static struct scan scan;

/* The chain's numbers as one decimal number, two digits each; a gap before one adds 80. */
static uint64_t chain(const struct header *headers, uint64_t durable_seq, uint64_t end_seq)
{
    uint64_t said = 0;

    free(scan.headers);
    free(scan.chain);
    scan = (struct scan){.durable_seq = durable_seq};
    for (uint32_t i = 0; headers[i].seq; i++)
        scan.count++;
    scan.headers = calloc(scan.count, sizeof(*scan.headers));
    for (uint32_t i = 0; i < scan.count; i++) {
        const struct header *h = &headers[i];
        scan.headers[i] = (struct scan_header){.seq = h->seq,
                                               .prev_seq = h->prev_seq,
                                               .position = h->position ? h->position : i,
                                               .tail_seq = h->tail_seq,
                                               .durable_seq = h->durable_seq,
                                               .crc = CRC(h->seq),
                                               .prev_crc = CRC(h->prev_seq)};
        scan.durable_seq = MAX(scan.durable_seq, h->durable_seq);
    }
    CHECK_EQ(scan_chain(&scan, end_seq), 0);
    for (uint64_t i = 0; i < scan.chain_count; i++)
        said = said * 100 + scan.chain[i].seq + (scan.chain[i].gap ? 80 : 0);
    return said;
}

static void the_tail_is_told_by_the_newest(void)
{
    const struct header headers[] = {{3, 2, 1, 0, 0}, {4, 3, 3, 2, 0}, {5, 4, 4, 3, 0}, {0, 0, 0, 0, 0}};

    CHECK_EQ(chain(headers, 0, UINT64_MAX), 405);
    /* Without the newest one the tail is where the one before says. */
    CHECK_EQ(chain(headers, 0, 4), 304);
}

static void a_torn_tail_ends_the_chain(void)
{
    const struct header headers[] = {
        {3, 2, 3, 2, 0}, {4, 3, 3, 2, 0}, {6, 5, 4, 2, 0}, {7, 6, 5, 2, 0}, {0, 0, 0, 0, 0}};

    CHECK_EQ(chain(headers, 0, UINT64_MAX), 304);
    CHECK(!scan.end_gone);
    /* It was durable, somebody says: then it is damage. */
    CHECK_EQ(chain(headers, 5, UINT64_MAX), 8607);
    CHECK(scan.chain[0].gap_named);
}

static void one_lost_batch_is_named(void)
{
    const struct header headers[] = {
        {3, 2, 3, 2, 0}, {4, 3, 3, 2, 0}, {6, 5, 3, 5, 0}, {7, 6, 3, 5, 0}, {0, 0, 0, 0, 0}};

    CHECK_EQ(chain(headers, 0, UINT64_MAX), 3048607);
    CHECK(scan.chain[2].gap_named);
}

/* Batch 5 was torn, 6 was written and knew of a tail that relied on 5. The recovery went on with 7 where 5
 * had been. Nothing that 6 says counts, now or at the next start. */
static void what_was_cut_off_says_nothing(void)
{
    const struct header headers[] = {
        {3, 2, 3, 2, 0}, {4, 3, 3, 2, 0}, {6, 5, 4, 2, 9}, {7, 4, 3, 4, 0}, {0, 0, 0, 0, 0}};

    CHECK_EQ(chain(headers, 0, UINT64_MAX), 30407);
    /* Nor does it take the place of one that is missing. */
    const struct header missing[] = {{3, 2, 3, 2, 0}, {4, 3, 3, 2, 0}, {6, 5, 4, 2, 9},
                                     {8, 7, 3, 7, 0}, {9, 8, 3, 8, 0}, {0, 0, 0, 0, 0}};
    CHECK_EQ(chain(missing, 0, UINT64_MAX), 3048809);
}

int main(void)
{
    TEST(the_tail_is_told_by_the_newest);
    TEST(a_torn_tail_ends_the_chain);
    TEST(one_lost_batch_is_named);
    TEST(what_was_cut_off_says_nothing);
    free(scan.headers);
    free(scan.chain);
    return tap_done();
}
