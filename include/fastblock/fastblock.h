/* SPDX-License-Identifier: Apache-2.0 */
/**
 * libfastblock: images of a fastblock cluster, for applications.
 *
 * A connection (struct fb_conn) is driven by the thread that uses it: nothing happens behind its back. Asynchronous calls start
 * work that goes on, and whose callbacks run, inside fb_poll(). Synchronous calls drive the same loop until they are done, so callbacks
 * of other requests may run inside them. There are no threads and no locks in the library: use a connection from one
 * thread at a time. Connections share nothing, not even a lock, so several threads scale by opening one each; an image
 * may be open for reading through any number of them, and for writing through one.
 *
 * Errors: functions return 0 or a negative errno value; fb_error() then gives a sentence that says what failed and what to do.
 *   -ETIMEDOUT   could not be served within the connection's timeout; whether a write took effect is unknown
 *   -ESHUTDOWN   fenced: another writer took the image over; nothing more can be written through this handle
 *   -ESTALE      the image was removed
 *   -ENOSPC, -EROFS, -EINVAL (outside of the image), -ENOENT, -EBUSY (open for writing elsewhere), -EHOSTUNREACH (no monitor)
 * A write that fails once it is under way may have taken effect, all of it or a part, whatever the error: that it was fenced, say, may
 * be the answer to its second attempt.
 *
 * Durability: a write that completed is on stable media of a majority of its replicas. fb_flush() is therefore cheap.
 */
#ifndef FASTBLOCK_FASTBLOCK_H
#define FASTBLOCK_FASTBLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FB_VERSION_MAJOR 0
#define FB_VERSION_MINOR 1

struct fb_conn;
struct fb_image;

struct fb_options {
    const char *monitors;   /**< "host:port[,host:port...]"; NULL: $FASTBLOCK_MON, then the config file */
    const char *name;       /**< shown to administrators; NULL: the program's name and pid */
    unsigned timeout_ms;    /**< of a request, before it ends with -ETIMEDOUT; 0: 60000. After half of it or more in which the process was suspended it counts anew */
    int spin_us;            /**< inside of the calls, poll for at most so long before sleeping, where that pays; 0: 100; -1: never */
    size_t memory_bytes;    /**< for data under way; 0: 64 MiB */
};

/** Connects to the cluster. `options` may be NULL. On failure *ret_conn is NULL and, if `error` is not, a sentence is put there. */
int fb_connect(const struct fb_options *options, struct fb_conn **ret_conn, char *error, size_t error_size);
/** Closes images that are still open and frees everything. Not from a callback. */
void fb_disconnect(struct fb_conn *conn);

/** The sentence for the last error of this connection; "" if there was none. */
const char *fb_error(const struct fb_conn *conn);

/** Runs what can be run and waits up to `timeout_ms` (-1: for ever, 0: not at all) until a callback has run; not at all when no
 * request is under way. Returns the number of callbacks run, or a negative errno. */
int fb_poll(struct fb_conn *conn, int timeout_ms);
/** A descriptor that becomes readable when fb_poll() has something to do; fb_poll() must also be called at least every 50 ms
 * while requests are under way, and every second while an image is open for writing: nobody else tells the cluster that this process
 * is there. After 15 s in which no function of the connection was called it counts as gone: others may open the image for writing
 * without force, which fences this handle, and shrink or remove it. */
int fb_fd(const struct fb_conn *conn);

enum fb_open_flags {
    FB_OPEN_READ_ONLY = 1,
    FB_OPEN_FORCE = 2,      /**< take the image over from another writer, who gets -ESHUTDOWN from then on */
};

/** Opens "pool/image". `writer`: a stable name for this writer: the same name may open again after a crash without force, and fences
 * its former self; NULL: a unique one. */
int fb_open(struct fb_conn *conn, const char *image, unsigned flags, const char *writer, struct fb_image **ret_image);
/** Waits for requests under way, and their callbacks; what those want to begin with the image is refused (-EINVAL). Not from a
 * callback that runs inside a synchronous call for the same image. */
int fb_close(struct fb_image *image);
uint64_t fb_size(const struct fb_image *image);

/* Synchronous; any offset and length within the image. `data` is copied (write) or filled (read). What it contains after a read that
 * failed is undefined. Whole 4 KiB blocks are received right into it, so reads aligned to them cost no copy. */
int fb_read(struct fb_image *image, void *data, size_t len, uint64_t offset);
int fb_write(struct fb_image *image, const void *data, size_t len, uint64_t offset);
int fb_discard(struct fb_image *image, uint64_t len, uint64_t offset);      /**< whole 4 KiB blocks inside the range read as zeros afterwards */
int fb_write_zeroes(struct fb_image *image, uint64_t len, uint64_t offset); /**< exact */
int fb_flush(struct fb_image *image);

/** `result`: 0 or a negative errno. Runs inside fb_poll() or a synchronous call; may start new requests. */
typedef void fb_callback(void *arg, int result);

/* Asynchronous; at most 2 MiB for reads and writes. -EAGAIN: too many requests under way, poll and try again. `data` of a write is
 * copied at once; that of a read belongs to the library until the callback, and is not touched any more then. */
int fb_aio_read(struct fb_image *image, void *data, size_t len, uint64_t offset, fb_callback *callback, void *arg);
int fb_aio_write(struct fb_image *image, const void *data, size_t len, uint64_t offset, fb_callback *callback, void *arg);
int fb_aio_discard(struct fb_image *image, uint64_t len, uint64_t offset, fb_callback *callback, void *arg);
int fb_aio_write_zeroes(struct fb_image *image, uint64_t len, uint64_t offset, fb_callback *callback, void *arg);
int fb_aio_flush(struct fb_image *image, fb_callback *callback, void *arg);

/** One extent of fb_block_status(). */
struct fb_extent {
    uint64_t len;
    bool written; /**< false: reads as zeros and takes no space */
};
/** Describes the image from `offset` on: up to `extents_max` extents, *ret_count of them, covering at most `len` bytes. */
int fb_block_status(struct fb_image *image, uint64_t offset, uint64_t len, struct fb_extent *extents,
                    unsigned extents_max, unsigned *ret_count);

/* Managing images; "pool/image". -ETIMEDOUT, -ECONNRESET, -ECANCELED: the monitor's answer is lost, and nothing is sent again by itself,
 * because others may have changed the image since: it may or may not have been done, look before you try again. The same goes for
 * -EPROTO, an answer that cannot be read, and -EIO, with which the monitor's own store failed while it wrote. */
int fb_image_create(struct fb_conn *conn, const char *image, uint64_t size_bytes);
enum fb_resize_flags {
    FB_RESIZE_LOSE_DATA = 1, /**< smaller is meant, too: what lies beyond the new size is lost for good */
};
/** Growing works while the image is in use. Shrinking is refused without FB_RESIZE_LOSE_DATA (-EINVAL), and while the image is open for
 * writing (-EBUSY). */
int fb_image_resize(struct fb_conn *conn, const char *image, uint64_t size_bytes, unsigned flags);
int fb_image_remove(struct fb_conn *conn, const char *image);

#ifdef __cplusplus
}
#endif

#endif
