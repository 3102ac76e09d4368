/* SPDX-License-Identifier: Apache-2.0
 *
 * nbd_protocol: one connection's side of the NBD protocol as a pure state machine: bytes in, replies and
 * commands out. No input or output, no allocation. The other half, the shape of replies to commands, is in
 * nbd_reply.h.
 *
 * How to drive it: nbd_protocol_start(), then again and again: send what is in `out`; receive exactly what
 * nbd_protocol_want() asks for; nbd_protocol_input(). During the handshake everything happens inside. In
 * transmission each input is one request header and gives one command; a WRITE's payload follows on the wire
 * and is the caller's business, as are all replies.
 *
 * It serves one export, under its name and as the default (the empty name). Fixed newstyle only.
 */
#ifndef FRONT_NBD_NBD_PROTOCOL_H
#define FRONT_NBD_NBD_PROTOCOL_H

#include "base/base.h"
#include "front/nbd/nbd_format.h"

#define NBD_PAYLOAD_MAX     (32u << 20) /* of one read or write, as the specification proposes */
#define NBD_DRAIN_MAX       (64u << 20) /* a longer write is not worth reading to its end */
#define NBD_PREFERRED       4096u
#define NBD_NAME_MAX        256
#define NBD_OPTION_MAX      8192 /* a longer option is skipped and refused */
#define NBD_OPTION_SKIP_MAX (1u << 20)
#define NBD_OUT_MAX         1024
#define NBD_CONTEXT_ID      1u /* of base:allocation, the only metadata context */
#define NBD_CONTEXT_NAME    "base:allocation"

struct nbd_export {
    char name[NBD_NAME_MAX];
    char description[128];
    uint64_t size_bytes;
    bool read_only;
};

enum nbd_phase {
    NBD_PHASE_FLAGS,
    NBD_PHASE_OPTION,
    NBD_PHASE_OPTION_DATA,
    NBD_PHASE_OPTION_SKIP,
    NBD_PHASE_TRANSMISSION
};

struct nbd_protocol {
    const struct nbd_export *export; /* the caller's; must outlive the connection */
    enum nbd_phase phase;
    bool no_zeroes, structured, allocation;
    uint32_t option, option_len, skip_left;
    uint32_t out_len; /* bytes to be sent before anything else; the caller sets it to 0 */
    uint8_t out[NBD_OUT_MAX];
    uint8_t in[NBD_OPTION_MAX];
};

struct nbd_command {
    enum nbd_command_type type;
    uint32_t flags;
    uint64_t cookie;
    uint64_t offset;
    uint32_t length;
    uint32_t
        payload_len; /* bytes that follow on the wire: to be written, or thrown away if there is an error */
    enum nbd_error error; /* not NBD_OK: nothing is to be done but to answer this */
};

enum nbd_step {
    NBD_STEP_MORE,       /* send `out`, receive on */
    NBD_STEP_COMMAND,    /* a command, and then as above */
    NBD_STEP_DISCONNECT, /* the client has said goodbye: answer what is under way, send `out`, close */
    NBD_STEP_CLOSE,      /* it does not speak the protocol: close */
};

void nbd_protocol_start(struct nbd_protocol *p, const struct nbd_export *export);
/* Where the next bytes are to go, and how many (at least one). */
uint8_t *nbd_protocol_want(struct nbd_protocol *p, size_t *ret_len);
/* They are there. */
enum nbd_step nbd_protocol_input(struct nbd_protocol *p, struct nbd_command *ret_command);

static inline bool nbd_protocol_transmits(const struct nbd_protocol *p)
{
    return p->phase == NBD_PHASE_TRANSMISSION;
}

#endif
