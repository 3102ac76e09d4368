/* SPDX-License-Identifier: Apache-2.0
 *
 * Every structure that the store has on a device, byte by byte; docs/format/store.md tells it in words.
 *
 * All integers are little-endian. These structs are laid over device blocks as they are, which is right on
 * little-endian machines only (asserted below). Each structure begins with a magic number and carries the
 * slice's format id, random at format time, so that nothing left over from an earlier format is taken for
 * current; each is covered by a crc32c that is computed with its own field as zero.
 */
#ifndef STORE_FORMAT_H
#define STORE_FORMAT_H

#include "base/group.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs are laid over device blocks");

#define FORMAT_VERSION  3
#define FORMAT_ID_BYTES 16

/* Raft indexes and terms, numbers of batches and versions, positions stay below: what is above is not ours.
 */
#define FORMAT_NUMBER_MAX (1ull << 60)

#define MAGIC_LABEL      0x3130304c42414c46ull /* "FLABL001" */
#define MAGIC_SUPERBLOCK 0x3130304250555346ull /* "FSUPB001" */
#define MAGIC_PG_TABLE   0x3130304254475046ull /* "FPGTB001" */
#define MAGIC_BLOB       0x313030424f4c4246ull /* "FBLOB001" */
#define MAGIC_CHECKPOINT 0x313030504b484346ull /* "FCHKP001" */
#define MAGIC_CKPT_BLOCK 0x31303042504b4346ull /* "FCKPB001" */
#define MAGIC_BATCH      0x3130304843544246ull /* "FBTCH001" */
#define MAGIC_PAGE       0x3130304547415046ull /* "FPAGE001" */

/* ---- the device ---------------------------------------------------------------------------------------- */

#define LABEL_OFFSET_A     0u
#define LABEL_OFFSET_B     (64u << 10)
#define DEVICE_HEADER_SIZE (1u << 20) /* slices begin here */

struct disk_label {
    uint64_t magic;
    uint32_t version;
    uint32_t crc;
    uint64_t start_counter; /* the copy with the higher one is newer */
    uint8_t cluster[16];
    uint8_t osd_uuid[16];
    uint32_t osd;
    uint32_t slice_count;
    uint64_t slice_size;
    uint64_t slice_offset[64];
    uint8_t unused[4096 - 72 - 512];
};
_Static_assert(sizeof(struct disk_label) == BLOCK_SIZE, "one block");

/* ---- the slice: superblock ----------------------------------------------------------------------------- */

#define SUPERBLOCK_A_BLOCK 0u
#define SUPERBLOCK_B_BLOCK 15u
#define SUPERBLOCK_BLOCKS  16u

/* Written once, when the slice is formatted. Places and sizes in blocks from the slice's start. */
struct disk_superblock {
    uint64_t magic;
    uint32_t version;
    uint32_t crc;
    uint8_t format_id[FORMAT_ID_BYTES];
    uint8_t osd_uuid[16];
    uint32_t slice;
    uint32_t pgs_max; /* records in the PG table */
    uint64_t slice_blocks;
    uint64_t table_block;      /* copy A; copy B follows */
    uint64_t table_blocks;     /* of one copy */
    uint64_t blob_block;       /* copy A; copy B follows */
    uint64_t blob_blocks;      /* of one copy, header included */
    uint64_t checkpoint_block; /* copy A; copy B follows */
    uint64_t checkpoint_blocks;
    uint64_t ring_block;
    uint64_t ring_blocks;
    uint64_t chunk_block; /* of chunk 1 */
    uint64_t chunk_count;
    uint32_t objects_max; /* live slots, at most */
    uint32_t images_max;  /* image records of all PGs, at most */
    uint8_t unused[4096 - 152];
};
_Static_assert(sizeof(struct disk_superblock) == BLOCK_SIZE, "one block");

/* ---- the PG table -------------------------------------------------------------------------------------- */

#define TABLE_RECORDS_PER_BLOCK 16u

struct disk_group_member {
    uint32_t replica;
    uint32_t osd;
    uint16_t shard;
    uint16_t flags; /* enum group_flags */
};
_Static_assert(sizeof(struct disk_group_member) == 12, "member size");

struct disk_pg {
    /* For life: what log entries, pages and records of this replica carry. Random; that of
     * a PG which was split off is its parent's, but for the bits in which their numbers differ. 0:
     * free. */
    uint64_t key;
    uint64_t pg;
    uint32_t replica;
    uint32_t vote;
    uint64_t term;
    uint64_t birth;
    uint64_t order; /* of creation */
    uint32_t state; /* enum store_pg_state */
    uint32_t group_count;
    uint64_t base_index, base_term;
    /* The group: as the newest applied entry that sets one does, or as the base has it, or the birth. */
    uint64_t group_index, group_epoch;
    struct disk_group_member group[GROUP_MEMBERS_MAX];
    uint32_t split_count; /* the PG count of its pool as of its newest split; 0: it was never split */
    uint8_t unused[248 - 92 - 12 * GROUP_MEMBERS_MAX];
};
_Static_assert(sizeof(struct disk_pg) == 248, "record size");

/* Pages stay as they are when objects go from one PG to another: those of a family count as one's own. */
#define KEY_NUMBER_BITS 16u
static inline bool key_is_family(uint64_t a, uint64_t b)
{
    return a >> KEY_NUMBER_BITS == b >> KEY_NUMBER_BITS;
}

/* Written to copy A, then to copy B; an update counts when both are durable. */
struct disk_table_block {
    uint64_t magic;
    uint32_t crc;
    uint32_t block; /* number within the table */
    uint8_t format_id[FORMAT_ID_BYTES];
    uint64_t seq;
    uint64_t ring_seq; /* newest batch known durable then */
    uint8_t unused[128 - 48];
    struct disk_pg records[TABLE_RECORDS_PER_BLOCK];
};
_Static_assert(sizeof(struct disk_table_block) == BLOCK_SIZE, "one block");

/* ---- the blob ------------------------------------------------------------------------------------------ */

struct disk_blob_header {
    uint64_t magic;
    uint32_t crc;      /* of this block */
    uint32_t data_crc; /* of the data that follows, `len` bytes */
    uint8_t format_id[FORMAT_ID_BYTES];
    uint64_t seq; /* the higher one is newer */
    uint32_t len;
    uint8_t unused[4096 - 44];
};
_Static_assert(sizeof(struct disk_blob_header) == BLOCK_SIZE, "one block");

/* ---- records: the store's own facts, in the ring and in checkpoints -------------------------------------
 */

enum record_type {
    RECORD_SLOT = 1,     /* the page in `slot` is the live one of the object; its older one is not any more */
    RECORD_DROP = 2,     /* the object has no page any more */
    RECORD_IMAGE = 3,    /* an image record as applied */
    RECORD_APPLIED = 4,  /* pages and records hold everything up to index (whose term is here) */
    RECORD_RESET = 5,    /* the PG's log so far is void; it begins above index */
    RECORD_TRUNCATE = 6, /* entries of the PG so far, from index on, are void */
    RECORD_FLOOR = 7,    /* the PG's floor is at least this epoch */
    RECORD_SPLIT = 8, /* the parent has none of the objects any more that are another PG's at this count, and
                         the child, if there is one, is born */
};
/* Flags of RECORD_IMAGE. Without NOW it counts from the PG's next RECORD_APPLIED that reaches its index.
 * FORGOTTEN: from then on there is no record of the image. */
enum { RECORD_IMAGE_DELETED = 1, RECORD_IMAGE_NOW = 2, RECORD_IMAGE_FORGOTTEN = 4 };
/* Flag of RECORD_RESET: it begins the records of a child that is to be born. Those before it are of an
 * attempt that did not come to an end. */
enum { RECORD_RESET_BIRTH = 1 };
/* Flag of RECORD_SPLIT: the child is born RECOVERING. */
enum { RECORD_SPLIT_RECOVERING = 1 };

struct disk_record {
    uint16_t type;
    uint16_t flags;
    uint32_t slot;
    uint64_t key; /* of the PG replica */
    uint64_t image;
    union {
        struct {
            uint64_t object;
            uint64_t index;
            uint64_t version; /* of the page */
            uint64_t unused[2];
        } slot_of;
        struct {
            uint64_t index;
            uint64_t incarnation;
            uint64_t generation;
            uint64_t size_bytes;
            uint64_t unused;
        } image_of;
        struct {
            uint64_t index;
            uint64_t term;
            uint64_t split_count; /* RESET: as in disk_pg, of the state that the PG is given */
            uint64_t unused[2];
        } log_of;
        struct {
            uint64_t epoch;
            uint64_t unused[4];
        } floor_of;
        /* Comes twice, as the parent's and as the child's record: either says it all. */
        struct {
            uint64_t parent_key;
            uint64_t child_key; /* 0: the objects are of no use here, and have gone */
            uint64_t split_count;
            uint64_t unused[2];
        } split_of;
    };
};
_Static_assert(sizeof(struct disk_record) == 64, "record size");

/* ---- the checkpoint ------------------------------------------------------------------------------------ */

#define CKPT_RECORDS_PER_BLOCK 63u

/* First block of a copy, written when all others are durable. */
struct disk_checkpoint {
    uint64_t magic;
    uint32_t crc;
    uint32_t blocks_crc; /* of the checksums of the blocks that follow; 0, as of before there was this: any */
    uint8_t format_id[FORMAT_ID_BYTES];
    uint64_t number;       /* the higher one is newer */
    uint64_t replay_seq;   /* records of batches from here on come on top */
    uint64_t ring_seq;     /* newest batch known durable then */
    uint64_t record_count; /* in ceil(count / 63) blocks that follow */
    uint8_t unused[4096 - 64];
};
_Static_assert(sizeof(struct disk_checkpoint) == BLOCK_SIZE, "one block");

struct disk_checkpoint_block {
    uint64_t magic;
    uint32_t crc;
    uint32_t record_count;
    uint8_t format_id[FORMAT_ID_BYTES];
    uint64_t number; /* of the checkpoint */
    uint64_t block;  /* 0, 1 ... */
    uint8_t unused[64 - 48];
    struct disk_record records[CKPT_RECORDS_PER_BLOCK];
};
_Static_assert(sizeof(struct disk_checkpoint_block) == BLOCK_SIZE, "one block");

/* ---- the log ring -------------------------------------------------------------------------------------- */

#define BATCH_HEADER_BLOCKS_MAX  8u
#define BATCH_PGS_MAX            256u
#define BATCH_PAYLOAD_BLOCKS_MAX 384u
#define RING_BLOCKS_MIN          2048u

/* Positions in the ring count blocks and never wrap: block (position % ring_blocks). A batch does not wrap:
 * where it would, it begins at the next multiple of ring_blocks instead. Behind this follow: `pg_count`
 * disk_batch_pg of this batch, `prev_pg_count` of the one before, the entries (each followed by its
 * checksums and chunk numbers, padded to 8 bytes), the records. */
struct disk_batch {
    uint64_t magic;
    uint32_t crc;      /* of used_bytes */
    uint32_t prev_crc; /* that of batch prev_seq */
    uint8_t format_id[FORMAT_ID_BYTES];
    uint64_t seq;
    uint64_t prev_seq;    /* the batch before this one; what lies between is void */
    uint64_t durable_seq; /* newest batch known durable when this one was made */
    uint64_t position;
    uint64_t tail_seq; /* batches below are not needed any more */
    uint32_t used_bytes;
    uint32_t header_blocks;
    uint32_t payload_blocks;
    uint16_t pg_count;
    uint16_t prev_pg_count;
    uint32_t entry_count;
    uint32_t record_count;
    uint8_t unused[128 - 96];
};
_Static_assert(sizeof(struct disk_batch) == 128, "batch header");

/* A PG of which there are entries or records in the batch. */
struct disk_batch_pg {
    uint64_t key;
    uint64_t first_index, last_index; /* of its entries; 0: only records */
};
_Static_assert(sizeof(struct disk_batch_pg) == 24, "batch PG");

enum { DISK_ENTRY_COPIED = 1 }; /* copied forward: replaces nothing but itself */

struct disk_entry {
    uint16_t pg; /* number in the batch's PG list */
    uint8_t type;
    uint8_t copied;
    uint32_t flags;
    uint64_t index;
    uint64_t term;
    uint64_t prev_term; /* of index - 1 */
    uint64_t image;
    union {
        struct {
            uint64_t object;
            uint32_t first_block;
            uint32_t block_count;
            uint32_t payload_block; /* WRITE: first block, counted from the end of the header */
            uint32_t chunk_count; /* whole chunks that are not payload: their numbers follow the checksums */
        } data;
        struct {
            uint64_t incarnation;
            uint64_t generation;
            uint64_t size_bytes;
        } image_of;
        struct {
            uint64_t epoch;
            uint32_t unused0;
            uint32_t word_count; /* that follow: of base/group.h */
            uint64_t unused1;
        } group_of;
    };
};
_Static_assert(sizeof(struct disk_entry) == 64, "entry header");

/* ---- object pages -------------------------------------------------------------------------------------- */

#define SLOTS_PER_CHUNK 16u
#define PAGE_CLASS_2M   1u

struct disk_page {
    uint64_t magic;
    uint32_t crc;
    uint16_t size_class; /* PAGE_CLASS_2M */
    uint16_t flags;
    uint8_t format_id[FORMAT_ID_BYTES];
    uint64_t key; /* of the PG replica */
    uint64_t image;
    uint64_t object;
    uint64_t generation; /* of the object; 0 until there are snapshots */
    uint64_t index;      /* newest entry that it contains */
    uint64_t version;
    uint32_t slot;
    uint32_t unused0;
    uint64_t lost_index; /* no entry above it has touched a block that is marked in `lost`; 0: take `index` */
    uint8_t unused1[128 - 96];
    uint32_t chunk[CHUNKS_PER_OBJECT]; /* number of the chunk, from 1; 0: none */
    uint64_t written[BLOCKS_PER_OBJECT / 64];
    /* Content unknown, as an earlier page could not be read, or no replica had it; if `written`, too:
     * damaged, but the checksum is known. */
    uint64_t lost[BLOCKS_PER_OBJECT / 64];
    uint32_t block_crc[BLOCKS_PER_OBJECT];
    uint8_t unused[4096 - 128 - 128 - 64 - 64 - 2048]; /* room for per-block tags */
};
_Static_assert(sizeof(struct disk_page) == BLOCK_SIZE, "one block");
_Static_assert(offsetof(struct disk_page, lost_index) == 88 && offsetof(struct disk_page, chunk) == 128,
               "page layout");

#endif
