/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock-osd: what its commands share (fastblock_osd.c, fastblock_osd_format.c, fastblock_osd_show.c).
 */
#ifndef CMD_OSD_H
#define CMD_OSD_H

#include "backend/backend.h"
#include "cmd/daemon.h"
#include "store/store.h"

struct osd_options {
    const char *device, *listen, *host, *rack, *zone;
    struct daemon_monitors monitors;
    uint64_t shards;      /* format */
    uint64_t size_bytes;  /* format: 0: not given */
    bool force;           /* format */
    bool json;            /* show */
    uint64_t cache_bytes; /* run: of all shards */
    uint64_t spin_us;     /* run */
    const char *faults;   /* run: a file with rules, NULL: none */
    enum log_level log_level;
};

/* Reads the label of an open device. */
MUST_CHECK int osd_read_label(struct uring_core *uring, struct uring_dev *dev,
                              struct device_label *ret_label);
/* Writes it, durably. */
MUST_CHECK int osd_write_label(struct uring_core *uring, struct uring_dev *dev,
                               const struct device_label *label);

/* Opens the device; prints what is wrong and answers an exit code, or DAEMON_OK. */
int osd_open_device(const char *path, struct uring_dev **ret_dev);

/* The commands; return exit codes. */
int osd_format(const struct osd_options *options);
int osd_show(const struct osd_options *options);

#endif
