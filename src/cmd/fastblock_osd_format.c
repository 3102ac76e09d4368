/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock-osd format: makes a device, or a file, an OSD of the cluster.
 *
 * Slices first, then the id from the monitor, the label last: without a label a device is nobody's, so an
 * attempt that was cut short is simply made again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/text.h"
#include "base/uuid.h"
#include "client/client.h"
#include "cmd/osd.h"
#include "store/format.h"

#define PROBE_BYTES  (128u << 10)
#define FORMAT_ARENA (16u << 20)
#define FORMAT_CACHE (8u << 20)
/* A slice's beginning, up to the end of its ring, is less than an eighth of it, and within these bounds. */
#define WRITTEN_BYTES_MIN (192ull << 20)
#define WRITTEN_BYTES_MAX (5ull << 30)

/* ---- what is on the device already ---- */

static const struct {
    const char *what;
    uint32_t offset, len;
    const char *bytes;
} signatures[] = {
    {"an OSD whose label is damaged", LABEL_OFFSET_A, 8, "FLABL001"},
    {"an OSD whose label is damaged", LABEL_OFFSET_B, 8, "FLABL001"},
    {"an ext2/3/4 file system", 1080, 2, "\x53\xef"},
    {"an xfs file system", 0, 4, "XFSB"},
    {"a btrfs file system", 65536 + 64, 8, "_BHRfS_M"},
    {"a LUKS volume", 0, 6, "LUKS\xba\xbe"},
    {"an LVM physical volume", 512, 8, "LABELONE"},
    {"swap space", 4086, 10, "SWAPSPACE2"},
    {"a GPT partition table", 512, 8, "EFI PART"},
    {"a GPT partition table", 4096, 8, "EFI PART"},
    {"a software RAID member", 4096, 4, "\xfc\x4e\x2b\xa9"},
    {"a Ceph OSD", 0, 22, "bluestore block device"},
    {"a boot sector or partition table", 510, 2, "\x55\xaa"},
};

static const char *find_signature(const char *path)
{
    uint8_t *bytes = calloc(1, PROBE_BYTES);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const char *found = NULL;

    /* What cannot be read shows no signature; the format itself will say why. */
    if (bytes && fd >= 0 && pread(fd, bytes, PROBE_BYTES, 0) > 0)
        for (size_t i = 0; i < ARRAY_LEN(signatures) && !found; i++)
            if (!memcmp(bytes + signatures[i].offset, signatures[i].bytes, signatures[i].len))
                found = signatures[i].what;
    if (fd >= 0)
        close(fd);
    free(bytes);
    return found;
}

/* Refuses a device that holds something. */
static int check_contents(struct uring_core *uring, struct uring_dev *dev, const struct osd_options *o)
{
    struct device_label label;
    char cluster[UUID_TEXT_SIZE];
    struct uuid uuid;

    if (o->force)
        return DAEMON_OK;
    int error = uring_dev_size(dev) < PROBE_BYTES ? -ERR_FORMAT : osd_read_label(uring, dev, &label);
    if (!error) {
        memcpy(uuid.bytes, label.cluster, sizeof(uuid.bytes));
        return daemon_fail(
            "%s is osd.%u of cluster %s already: formatting it deletes all its data. If that is meant, use --force",
            o->device, label.osd, uuid_format(&uuid, cluster));
    }
    if (error == -ERR_VERSION)
        return daemon_fail(
            "%s is an OSD of another version of fastblock: formatting it deletes all its data. If that is meant, use "
            "--force",
            o->device);
    if (error == -ERR_TOO_SMALL)
        return daemon_fail(
            "%s is an OSD that was made when the device was larger: formatting it deletes all its data. Make the device "
            "as large as it was; or if deleting is meant, use --force",
            o->device);
    if (error != -ERR_FORMAT)
        return daemon_fail("cannot read %s: %s", o->device, error_text(error));
    const char *found = find_signature(o->device);
    if (found)
        return daemon_fail("%s holds %s: formatting it deletes that. If that is meant, use --force",
                           o->device, found);
    return DAEMON_OK;
}

/* ---- the steps ---- */

/* The layout for a device of this size, which may not go together with the number of shards. */
static int make_layout(uint64_t size_bytes, const struct osd_options *o, struct device_label *label)
{
    char size[TEXT_SIZE_MAX], least[TEXT_SIZE_MAX];

    *label = (struct device_label){0};
    if (!device_layout(size_bytes, (uint32_t)o->shards, label))
        return DAEMON_OK;
    return daemon_fail(
        "%s is too small: it has %s, %llu shard%s of at least %s and 1 MiB are needed. Use a larger device%s",
        o->device, text_format_size(size_bytes, size), (unsigned long long)o->shards,
        o->shards == 1 ? "" : "s", text_format_size(DEVICE_SLICE_MIN, least),
        o->shards == 1 ? "" : " or fewer shards");
}

static int make_file(const struct osd_options *o, bool *ret_made)
{
    struct stat st;
    struct device_label layout;
    char size[TEXT_SIZE_MAX];
    uint64_t size_bytes = ALIGN_UP(o->size_bytes, (uint64_t)CHUNK_SIZE);

    if (stat(o->device, &st) == 0) {
        if (o->size_bytes)
            return daemon_fail(
                "%s is there already: --size is for making a new file; leave it out to use what is there",
                o->device);
        return DAEMON_OK;
    }
    if (!o->size_bytes)
        return daemon_fail(
            "there is no %s (%s). To make a file of that name give its size, for example --size 8G",
            o->device, strerror(errno));
    if (size_bytes < o->size_bytes)
        return daemon_fail("%s: the size is too large", o->device);
    int result = make_layout(size_bytes, o, &layout);
    if (result)
        return result;
    int error = uring_dev_create(o->device, size_bytes);
    if (error)
        return daemon_fail("cannot make %s of %s: %s", o->device, text_format_size(o->size_bytes, size),
                           error == -ERR_NO_SPACE ? "not enough space on its file system"
                                                  : error_text(error));
    *ret_made = true;
    return DAEMON_OK;
}

static int format_slice(struct uring_core *uring, struct uring_dev *dev, const struct device_label *label,
                        uint32_t slice, bool is_file)
{
    struct store_format *format = calloc(1, sizeof(*format));
    struct store_config config = {.core = uring_core_core(uring),
                                  .slice = slice,
                                  .cache_bytes = FORMAT_CACHE,
                                  .pgs_max = STORE_PGS_MAX};
    int error = format ? 0 : -ERR_NO_MEMORY;

    memcpy(config.osd_uuid, label->osd_uuid, 16);
    /* In a file the ring's blocks are written once here, so that log writes later find their place. */
    uint64_t written = MIN(MAX(label->slice_size / 8, WRITTEN_BYTES_MIN), WRITTEN_BYTES_MAX);
    if (!error && is_file)
        error = uring_dev_write_out(dev, label->slice_offset[slice], MIN(label->slice_size, written));
    if (!error)
        error = uring_blk_new(uring, dev, label->slice_offset[slice], label->slice_size, &config.blk);
    if (!error) {
        store_format_start(format, &config, 0, NULL);
        error = uring_core_run_op(uring, &format->op);
        config.blk->ops->close(config.blk);
    }
    free(format);
    return error;
}

/* Asks the monitor for an id. */
static int register_osd(struct uring_core *uring, struct client *client, const struct osd_options *o,
                        uint64_t size_bytes, struct device_label *label)
{
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__OsdNew body = FB__OSD_NEW__INIT;
    struct client_mon_call call = {0};
    char host[256] = "";

    gethostname(host, sizeof(host) - 1);
    body.uuid = (ProtobufCBinaryData){16, label->osd_uuid};
    body.host = (char *)(o->host ? o->host : host);
    body.rack = (char *)(o->rack ? o->rack : "");
    body.zone = (char *)(o->zone ? o->zone : "");
    body.size_bytes = size_bytes;
    body.shards = (uint32_t)o->shards;
    request.call_case = FB__MON_REQUEST__CALL_OSD_NEW;
    request.osd_new = &body;
    client_mon_call_start(&call, client, &request, NULL);
    int error = uring_core_run_op(uring, &call.op), result = DAEMON_OK;
    const char *message =
        call.ret_reply && call.ret_reply->message[0] ? call.ret_reply->message : error_text(error);
    if (error) {
        result = daemon_fail("the monitor does not register the device: %s", message);
    } else if (!call.ret_reply || call.ret_reply->cluster.len != 16) {
        result = daemon_fail("the monitor's answer cannot be understood: is it of the same version?");
    } else {
        label->osd = call.ret_reply->osd;
        memcpy(label->cluster, call.ret_reply->cluster.data, 16);
    }
    client_mon_call_fini(&call);
    return result;
}

static int connect_monitor(struct uring_core *uring, struct net *net, const struct osd_options *o,
                           struct client **ret_client)
{
    struct client_open open = {0};
    struct client_config config = {.core = uring_core_core(uring),
                                   .net = net,
                                   .monitors = (const char *const *)o->monitors.address,
                                   .monitor_count = o->monitors.count,
                                   .name = "fastblock-osd format",
                                   .command = true};

    client_open_start(&open, &config, NULL);
    int error = uring_core_run_op(uring, &open.op);
    if (error)
        return daemon_fail("%s", open.ret_message[0] ? open.ret_message : error_text(error));
    *ret_client = open.ret_client;
    return DAEMON_OK;
}

static int format_device(struct uring_core *uring, struct client *client, struct uring_dev *dev,
                         const struct osd_options *o)
{
    struct core *core = uring_core_core(uring);
    struct device_label label;
    char cluster[UUID_TEXT_SIZE], size[TEXT_SIZE_MAX];
    int result = check_contents(uring, dev, o);

    if (!result)
        result = make_layout(uring_dev_size(dev), o, &label);
    if (result)
        return result;
    struct uuid uuid = uuid_make(core_random_u64(core), core_random_u64(core));
    memcpy(label.osd_uuid, uuid.bytes, 16);
    struct stat st;
    bool is_file = stat(o->device, &st) == 0 && S_ISREG(st.st_mode);
    /* Both copies of an old label go first: half of a new format under an old label would be worse than none.
     */
    int error = uring_dev_write_out(dev, 0, label.slice_offset[0]);
    for (uint32_t slice = 0; slice < label.slice_count && !error; slice++)
        error = format_slice(uring, dev, &label, slice, is_file);
    if (error)
        return daemon_fail("cannot write to %s: %s", o->device, error_text(error));
    result = register_osd(uring, client, o, uring_dev_size(dev), &label);
    if (result)
        return result;
    error = osd_write_label(uring, dev, &label);
    if (error)
        return daemon_fail("cannot write to %s: %s", o->device, error_text(error));
    memcpy(uuid.bytes, label.cluster, 16);
    printf("%s is osd.%u of cluster %s: %s, %u shard%s\n", o->device, label.osd, uuid_format(&uuid, cluster),
           text_format_size(uring_dev_size(dev), size), label.slice_count, label.slice_count == 1 ? "" : "s");
    return DAEMON_OK;
}

int osd_format(const struct osd_options *o)
{
    struct uring_core_opts opts = {.arena_bytes = FORMAT_ARENA, .log_level = o->log_level};
    struct uring_core *uring;
    struct uring_dev *dev = NULL;
    struct client *client = NULL;
    bool made = false;
    int error = uring_core_new(&opts, &uring);

    if (error)
        return daemon_fail("cannot start: %s", uring_core_error_text(error));
    struct net *net = tcp_net_new(uring);
    /* The monitor is asked first: without it nothing is touched. */
    int result = net ? connect_monitor(uring, net, o, &client) : daemon_fail("out of memory");
    if (!result)
        result = make_file(o, &made);
    if (!result)
        result = osd_open_device(o->device, &dev);
    if (!result)
        result = format_device(uring, client, dev, o);
    uring_dev_close(dev);
    if (result && made)
        unlink(o->device);
    if (client)
        client_free(client);
    if (net)
        tcp_net_free(net);
    uring_core_free(uring);
    return result;
}
