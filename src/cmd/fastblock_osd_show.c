/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock-osd show: whose device this is, by its label. Reads, asks nobody, changes nothing.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "base/uuid.h"
#include "cmd/osd.h"

#define SHOW_ARENA (4u << 20)

static void print_label(const struct osd_options *o, const struct device_label *label, uint64_t size_bytes)
{
    struct uuid cluster, osd;
    char cluster_text[UUID_TEXT_SIZE], osd_text[UUID_TEXT_SIZE], size[TEXT_SIZE_MAX];

    memcpy(cluster.bytes, label->cluster, sizeof(cluster.bytes));
    memcpy(osd.bytes, label->osd_uuid, sizeof(osd.bytes));
    uuid_format(&cluster, cluster_text);
    uuid_format(&osd, osd_text);
    if (o->json) {
        json_t *json =
            json_pack("{s:s, s:i, s:s, s:s, s:i, s:I, s:I}", "device", o->device, "osd", (int)label->osd,
                      "cluster", cluster_text, "uuid", osd_text, "shards", (int)label->slice_count,
                      "size_bytes", (json_int_t)size_bytes, "starts", (json_int_t)label->start_counter);
        json_dumpf(json, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(json);
        return;
    }
    printf("osd.%u of cluster %s\n  uuid    %s\n  size    %s\n  shards  %u\n  starts  %" PRIu64 "\n",
           label->osd, cluster_text, osd_text, text_format_size(size_bytes, size), label->slice_count,
           label->start_counter);
}

int osd_show(const struct osd_options *o)
{
    struct uring_core_opts opts = {.arena_bytes = SHOW_ARENA, .log_level = o->log_level};
    struct uring_core *uring;
    struct uring_dev *dev = NULL;
    struct device_label label;
    int result = DAEMON_OK, error = uring_core_new(&opts, &uring);

    if (error)
        return daemon_fail("cannot start: %s", uring_core_error_text(error));
    error = uring_dev_open(o->device, URING_CACHE_ASK, true, &dev);
    if (error == -ERR_LOCKED)
        result =
            daemon_fail("%s is in use, probably by the fastblock-osd that serves it: `fastblock osd tree` "
                        "tells more",
                        o->device);
    else if (error)
        result = daemon_fail("cannot open %s: %s", o->device, error_text(error));
    else if ((error = osd_read_label(uring, dev, &label)))
        result = daemon_fail("%s: %s%s", o->device, error_text(error),
                             error == -ERR_FORMAT ? ": it is no OSD" : "");
    else
        print_label(o, &label, uring_dev_size(dev));
    uring_dev_close(dev);
    uring_core_free(uring);
    return result;
}
