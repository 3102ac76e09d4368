/* SPDX-License-Identifier: Apache-2.0
 *
 * What the store's files share: memory by size class, checksums of formats, requests.
 */
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

static const size_t SLAB_SIZE[SLAB_CLASSES] = {16, 32, 64, 128, 176, 256, 512, 1536, 2560, 4352, 16384};
#define SLAB_REGION_BYTES CORE_MEMORY_ALIGN
#define SLAB_RUN_BYTES    (64u << 10) /* of that, for one class */
#define SLAB_LINE         64u

static uint32_t slab_class(size_t size)
{
    for (uint32_t i = 0; i < SLAB_CLASSES; i++)
        if (size <= SLAB_SIZE[i])
            return i;
    UNREACHABLE();
}

/* The first line of a region links it; of a run it stays empty. */
static bool slab_fill(struct slab *slab, uint32_t class)
{
    if (slab->left < SLAB_RUN_BYTES) {
        uint8_t *region = core_memory(slab->core, SLAB_REGION_BYTES);
        if (!region)
            return false;
        *(void **)region = slab->regions;
        slab->regions = region;
        slab->at = region;
        slab->left = SLAB_REGION_BYTES;
    }
    uint8_t *run = slab->at;
    size_t count = (SLAB_RUN_BYTES - SLAB_LINE) / SLAB_SIZE[class];
    slab->at += SLAB_RUN_BYTES;
    slab->left -= SLAB_RUN_BYTES;
    for (uint8_t *at = run + SLAB_LINE + count * SLAB_SIZE[class]; at > run + SLAB_LINE;) {
        at -= SLAB_SIZE[class];
        *(void **)at = slab->free[class];
        slab->free[class] = at;
    }
    return true;
}

void *slab_get(struct slab *slab, size_t size)
{
    uint32_t class = slab_class(size);

    if (!slab->free[class] && !slab_fill(slab, class))
        return NULL;
    void *got = slab->free[class];
    void *next = slab->free[class] = *(void **)got;
    /* The next one has not been touched for long: it shall be in the cache when it is wanted. */
    for (size_t at = 0; at < MIN(size, 4 * SLAB_LINE); at += SLAB_LINE)
        PREFETCH(next, at);
    memset(got, 0, size);
    return got;
}

void slab_put(struct slab *slab, void *at, size_t size)
{
    uint32_t class = slab_class(size);

    *(void **)at = slab->free[class];
    slab->free[class] = at;
}

void slab_fini(struct slab *slab)
{
    while (slab->regions) {
        void *next = *(void **)slab->regions;
        free(slab->regions);
        slab->regions = next;
    }
    *slab = (struct slab){0};
}

uint32_t format_crc(const void *at, size_t len, size_t crc_offset)
{
    const uint8_t *bytes = at;
    static const uint32_t zero;
    uint32_t crc = crc32c(0, bytes, crc_offset);

    crc = crc32c(crc, &zero, sizeof(zero));
    return crc32c(crc, bytes + crc_offset + sizeof(zero), len - crc_offset - sizeof(zero));
}

void io_start(struct blk *blk, struct blk_io *io, struct iovec *iov, enum blk_type type, uint32_t flags,
              uint64_t block, void *data, uint64_t blocks, struct op *waiter)
{
    *iov = (struct iovec){.iov_base = data, .iov_len = block_offset(blocks)};
    *io = (struct blk_io){.type = type,
                          .flags = flags,
                          .offset = block_offset(block),
                          .len = block_offset(blocks),
                          .iov = iov,
                          .iov_count = blocks ? 1 : 0};
    blk_submit(blk, io, waiter);
}

void scatter_init(struct scatter *sc, struct blk *blk, struct op *op, struct scatter_io *at, uint32_t count)
{
    *sc = (struct scatter){.blk = blk, .op = op, .at = at, .depth = count};
}

int scatter_slot(const struct scatter *sc)
{
    for (uint32_t i = 0; i < sc->depth; i++)
        if (!(sc->pending >> i & 1))
            return (int)i;
    return -1;
}

void scatter_submit(struct scatter *sc, int slot, enum blk_type type, uint32_t flags, uint64_t block,
                    uint32_t iov_count, uint64_t tag)
{
    struct scatter_io *at = &sc->at[slot];
    uint64_t len = 0;

    for (uint32_t i = 0; i < iov_count; i++)
        len += at->iov[i].iov_len;
    at->io = (struct blk_io){.type = type,
                             .flags = flags,
                             .offset = block_offset(block),
                             .len = len,
                             .iov = at->iov,
                             .iov_count = iov_count};
    at->tag = tag;
    sc->pending |= 1u << slot;
    blk_submit(sc->blk, &at->io, sc->op);
}

int scatter_reap(struct scatter *sc)
{
    for (uint32_t left = sc->pending; left; left &= left - 1) {
        int i = __builtin_ctz(left);
        if (!sc->at[i].io.pending) {
            sc->pending &= ~(1u << i);
            return i;
        }
    }
    return -1;
}
