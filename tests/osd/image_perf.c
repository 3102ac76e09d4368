/* SPDX-License-Identifier: Apache-2.0
 *
 * What a shard counts by image and PG, in a table that does not grow.
 */
#include "osd/image_perf.h"

#include <stdlib.h>

#include "tests/tap.h"

static struct image_perf perf;

static void counts(void)
{
    CHECK_EQ(image_perf_init(&perf), 0);
    struct image_perf_row *row = image_perf_row(&perf, 7, 1, 1000 * NS_PER_MS);
    row->writes = 2;
    row->write_ns = 50;
    row->write_buckets[3] = 2;
    CHECK(image_perf_row(&perf, 7, 1, 0) == row);
    image_perf_row(&perf, 7, 2, 1500 * NS_PER_MS)->write_buckets[3] = 1;
    image_perf_row(&perf, 8, 1, 0)->writes = 100;
    image_perf_row(&perf, 0, 1, 0)->writes = 100; /* a stranger may ask for anything */
    Fb__PerfReply *reply = image_perf_reply(&perf, 7, 2000 * NS_PER_MS);
    CHECK_EQ(reply->n_image, 2);
    CHECK_EQ(reply->image[0]->pg, 1);
    CHECK_EQ(reply->image[0]->writes, 2);
    CHECK_EQ(reply->image[0]->write_ns, 50);
    CHECK_EQ(reply->image[0]->age_ms, 1000);
    CHECK_EQ(reply->image[1]->age_ms, 500);
    CHECK_EQ(reply->write_bucket[3], 3);
    CHECK_EQ(reply->n_counter, 0);
    free(reply);
    reply = image_perf_reply(&perf, 9, 0);
    CHECK_EQ(reply->n_image, 0);
    free(reply);
    image_perf_fini(&perf);
}

/* The longest unused makes room, and who comes back begins anew. */
static void bounded(void)
{
    CHECK_EQ(image_perf_init(&perf), 0);
    for (uint64_t i = 0; i < IMAGE_PERF_ROWS; i++)
        image_perf_row(&perf, i, 1, 0)->writes = 1 + i;
    image_perf_row(&perf, 0, 1, 0); /* now 1 is the one */
    image_perf_row(&perf, 5000, 1, 0)->writes = 1;
    CHECK_EQ(perf.rows.count, IMAGE_PERF_ROWS);
    CHECK_EQ(image_perf_row(&perf, 0, 1, 0)->writes, 1);
    CHECK_EQ(image_perf_row(&perf, 2, 1, 0)->writes, 3);
    CHECK_EQ(image_perf_row(&perf, 1, 1, 0)->writes, 0);
    for (uint64_t i = 0; i < 5 * IMAGE_PERF_ROWS; i++)
        image_perf_row(&perf, i * i, i, 0)->writes++;
    CHECK_EQ(perf.rows.count, IMAGE_PERF_ROWS);
    image_perf_fini(&perf);
}

int main(void)
{
    TEST(counts);
    TEST(bounded);
    return tap_done();
}
