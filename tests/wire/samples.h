/* SPDX-License-Identifier: Apache-2.0
 *
 * Random samples of the hot messages, each as our struct and, built field by field by name, as protobuf-c's:
 * the tests of the two codecs against each other, the fuzz targets and the benchmark share them.
 */
#ifndef TESTS_WIRE_SAMPLES_H
#define TESTS_WIRE_SAMPLES_H

#include <protobuf-c/protobuf-c.h>

#include "wire/wire.h"

/* The largest body that a sample can have. */
#define SAMPLE_BYTES_MAX (160u << 10)

/* A message of any hot type with the memory of its arrays. */
struct sample {
    union {
        struct wire_write_request write_request;
        struct wire_write_reply write_reply;
        struct wire_read_request read_request;
        struct wire_read_reply read_reply;
        struct wire_append_request append_request;
        struct wire_append_reply append_reply;
        struct wire_heartbeat heartbeat;
        struct wire_heartbeat_reply heartbeat_reply;
    } m;
    uint32_t crc[WIRE_APPEND_CRC_MAX];
    struct entry entries[WIRE_ENTRIES_MAX];
    struct wire_heartbeat_group groups[WIRE_GROUPS_MAX];
    uint64_t refused[WIRE_REFUSED_MAX];
};

struct sample_type {
    const char *name;
    const ProtobufCMessageDescriptor *descriptor;
    void (*make)(struct sample *sample, uint64_t *random);
    size_t (*size)(const struct sample *sample);
    size_t (*encode)(uint8_t *dst, const struct sample *sample);
    int (*decode)(const uint8_t *src, size_t len, struct sample *ret);
    bool (*equal)(const struct sample *a, const struct sample *b);
    /* Packs the same message by protobuf-c, from a struct of its own. */
    size_t (*pack)(uint8_t *dst, const struct sample *sample);
};

#define SAMPLE_TYPES 8
extern const struct sample_type sample_types[SAMPLE_TYPES];

uint64_t sample_random(uint64_t *random);

#endif
