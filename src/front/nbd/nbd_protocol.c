/* SPDX-License-Identifier: Apache-2.0
 *
 * The state machine:
 *
 *     FLAGS -> OPTION -> OPTION_DATA -> OPTION ... -> TRANSMISSION
 *                 \-> OPTION_SKIP -> OPTION             (by EXPORT_NAME or GO)
 *
 * Every length that the client names is checked against what has really arrived before it is used.
 */
#include "front/nbd/nbd_protocol.h"

#include "front/nbd/be.h"

#define OPTION_HEADER_SIZE 16

/* ---- output ---- */

static uint8_t *out_room(struct nbd_protocol *p, size_t len)
{
    ASSERT(p->out_len + len <= NBD_OUT_MAX);
    uint8_t *at = p->out + p->out_len;
    p->out_len += (uint32_t)len;
    return at;
}

/* The header of a reply to the current option; returns the place for its data. */
static uint8_t *option_reply(struct nbd_protocol *p, uint32_t type, size_t len)
{
    uint8_t *at = out_room(p, 20 + len);

    at = be_put_u64(at, NBD_MAGIC_OPTION_REPLY);
    at = be_put_u32(at, p->option);
    at = be_put_u32(at, type);
    return be_put_u32(at, (uint32_t)len);
}

static enum nbd_step option_ack(struct nbd_protocol *p)
{
    option_reply(p, NBD_REP_ACK, 0);
    return NBD_STEP_MORE;
}

static enum nbd_step option_error(struct nbd_protocol *p, uint32_t type, const char *text)
{
    size_t len = strlen(text);

    memcpy(option_reply(p, type, len), text, len);
    return NBD_STEP_MORE;
}

void nbd_protocol_start(struct nbd_protocol *p, const struct nbd_export *export)
{
    p->export = export;
    p->phase = NBD_PHASE_FLAGS;
    p->no_zeroes = p->structured = p->allocation = false;
    p->option = p->option_len = p->skip_left = p->out_len = 0;
    uint8_t *at = out_room(p, 18);
    at = be_put_u64(at, NBD_MAGIC_INIT);
    at = be_put_u64(at, NBD_MAGIC_OPTION);
    be_put_u16(at, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

uint8_t *nbd_protocol_want(struct nbd_protocol *p, size_t *ret_len)
{
    switch (p->phase) {
    case NBD_PHASE_FLAGS:
        *ret_len = 4;
        break;
    case NBD_PHASE_OPTION:
        *ret_len = OPTION_HEADER_SIZE;
        break;
    case NBD_PHASE_OPTION_DATA:
        *ret_len = p->option_len;
        break;
    case NBD_PHASE_OPTION_SKIP:
        *ret_len = MIN(p->skip_left, (uint32_t)NBD_OPTION_MAX);
        break;
    case NBD_PHASE_TRANSMISSION:
        *ret_len = NBD_REQUEST_SIZE;
        break;
    }
    return p->in;
}

/* ---- options ---- */

static uint16_t export_flags(const struct nbd_protocol *p)
{
    uint32_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN;

    if (p->export->read_only)
        flags |= NBD_FLAG_READ_ONLY;
    else
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    if (p->structured)
        flags |= NBD_FLAG_SEND_DF;
    return (uint16_t)flags;
}

static bool export_is(const struct nbd_protocol *p, const uint8_t *name, uint32_t len)
{
    return len == 0 || (len == strlen(p->export->name) && memcmp(name, p->export->name, len) == 0);
}

/* A cursor over an option's data. */
struct bytes {
    const uint8_t *at;
    uint32_t left;
};

static bool take_u32(struct bytes *b, uint32_t *ret)
{
    if (b->left < 4)
        return false;
    *ret = be_load_u32(b->at);
    b->at += 4;
    b->left -= 4;
    return true;
}

static bool take_u16(struct bytes *b, uint16_t *ret)
{
    if (b->left < 2)
        return false;
    *ret = be_load_u16(b->at);
    b->at += 2;
    b->left -= 2;
    return true;
}

static bool take_string(struct bytes *b, const uint8_t **ret_string, uint32_t *ret_len)
{
    uint32_t len;

    if (!take_u32(b, &len) || len > b->left)
        return false;
    *ret_string = b->at;
    *ret_len = len;
    b->at += len;
    b->left -= len;
    return true;
}

static enum nbd_step opt_export_name(struct nbd_protocol *p)
{
    /* There is no way to refuse it but to close. */
    if (!export_is(p, p->in, p->option_len))
        return NBD_STEP_CLOSE;
    uint8_t *at = out_room(p, p->no_zeroes ? 10 : 134);
    at = be_put_u64(at, p->export->size_bytes);
    at = be_put_u16(at, export_flags(p));
    if (!p->no_zeroes)
        memset(at, 0, 124);
    p->phase = NBD_PHASE_TRANSMISSION;
    return NBD_STEP_MORE;
}

static enum nbd_step opt_list(struct nbd_protocol *p)
{
    uint32_t len = (uint32_t)strlen(p->export->name);

    if (p->option_len)
        return option_error(p, NBD_REP_ERR_INVALID, "LIST has no data");
    uint8_t *at = option_reply(p, NBD_REP_SERVER, 4 + len);
    memcpy(be_put_u32(at, len), p->export->name, len);
    return option_ack(p);
}

static void info_string(struct nbd_protocol *p, uint16_t type, const char *text)
{
    size_t len = strlen(text);

    memcpy(be_put_u16(option_reply(p, NBD_REP_INFO, 2 + len), type), text, len);
}

static void info_block_size(struct nbd_protocol *p)
{
    uint8_t *at = option_reply(p, NBD_REP_INFO, 14);

    at = be_put_u16(at, NBD_INFO_BLOCK_SIZE);
    at = be_put_u32(at, 1);
    at = be_put_u32(at, NBD_PREFERRED);
    be_put_u32(at, NBD_PAYLOAD_MAX);
}

/* INFO and GO. */
static enum nbd_step opt_info(struct nbd_protocol *p)
{
    struct bytes b = {p->in, p->option_len};
    const uint8_t *name;
    uint32_t name_len;
    uint16_t count, type;
    bool wanted[4] = {false};

    if (!take_string(&b, &name, &name_len) || !take_u16(&b, &count) || b.left != count * 2u)
        return option_error(p, NBD_REP_ERR_INVALID, "lengths do not match");
    while (take_u16(&b, &type))
        if (type < ARRAY_LEN(wanted))
            wanted[type] = true;
    if (!export_is(p, name, name_len))
        return option_error(p, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
    uint8_t *at = option_reply(p, NBD_REP_INFO, 12);
    at = be_put_u16(at, NBD_INFO_EXPORT);
    at = be_put_u64(at, p->export->size_bytes);
    be_put_u16(at, export_flags(p));
    if (wanted[NBD_INFO_NAME])
        info_string(p, NBD_INFO_NAME, p->export->name);
    if (wanted[NBD_INFO_DESCRIPTION])
        info_string(p, NBD_INFO_DESCRIPTION, p->export->description);
    if (wanted[NBD_INFO_BLOCK_SIZE])
        info_block_size(p);
    if (p->option == NBD_OPT_GO)
        p->phase = NBD_PHASE_TRANSMISSION;
    return option_ack(p);
}

static enum nbd_step opt_structured_reply(struct nbd_protocol *p)
{
    if (p->option_len)
        return option_error(p, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY has no data");
    p->structured = true;
    return option_ack(p);
}

static bool string_is(const uint8_t *string, uint32_t len, const char *text)
{
    return len == strlen(text) && memcmp(string, text, len) == 0;
}

/* LIST and SET. A list may ask for a whole namespace, or for everything by asking for nothing. */
static enum nbd_step opt_meta_context(struct nbd_protocol *p)
{
    bool list = p->option == NBD_OPT_LIST_META_CONTEXT, found;
    struct bytes b = {p->in, p->option_len};
    const uint8_t *string;
    uint32_t len, count;

    if (!p->structured)
        return option_error(p, NBD_REP_ERR_INVALID, "structured replies have to be agreed upon first");
    if (!take_string(&b, &string, &len))
        return option_error(p, NBD_REP_ERR_INVALID, "lengths do not match");
    bool known = export_is(p, string, len);
    if (!take_u32(&b, &count))
        return option_error(p, NBD_REP_ERR_INVALID, "lengths do not match");
    found = list && count == 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!take_string(&b, &string, &len))
            return option_error(p, NBD_REP_ERR_INVALID, "lengths do not match");
        found =
            found || string_is(string, len, NBD_CONTEXT_NAME) || (list && string_is(string, len, "base:"));
    }
    if (b.left)
        return option_error(p, NBD_REP_ERR_INVALID, "lengths do not match");
    if (!list)
        p->allocation = false;
    if (!known)
        return option_error(p, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
    if (found) {
        size_t name_len = strlen(NBD_CONTEXT_NAME);
        uint8_t *at = option_reply(p, NBD_REP_META_CONTEXT, 4 + name_len);
        memcpy(be_put_u32(at, list ? 0 : NBD_CONTEXT_ID), NBD_CONTEXT_NAME, name_len);
        p->allocation = p->allocation || !list;
    }
    return option_ack(p);
}

static enum nbd_step option_complete(struct nbd_protocol *p)
{
    p->phase = NBD_PHASE_OPTION;
    switch (p->option) {
    case NBD_OPT_EXPORT_NAME:
        return opt_export_name(p);
    case NBD_OPT_ABORT:
        option_ack(p);
        return NBD_STEP_DISCONNECT;
    case NBD_OPT_LIST:
        return opt_list(p);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return opt_info(p);
    case NBD_OPT_STRUCTURED_REPLY:
        return opt_structured_reply(p);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return opt_meta_context(p);
    case NBD_OPT_STARTTLS:
        return option_error(p, NBD_REP_ERR_UNSUP, "this server has no TLS");
    default:
        return option_error(p, NBD_REP_ERR_UNSUP, "unknown option");
    }
}

static enum nbd_step option_begin(struct nbd_protocol *p)
{
    if (be_load_u64(p->in) != NBD_MAGIC_OPTION)
        return NBD_STEP_CLOSE;
    p->option = be_load_u32(p->in + 8);
    p->option_len = be_load_u32(p->in + 12);
    if (p->option_len == 0)
        return option_complete(p);
    if (p->option_len <= NBD_OPTION_MAX) {
        p->phase = NBD_PHASE_OPTION_DATA;
        return NBD_STEP_MORE;
    }
    if (p->option_len > NBD_OPTION_SKIP_MAX || p->option == NBD_OPT_EXPORT_NAME)
        return NBD_STEP_CLOSE;
    p->skip_left = p->option_len;
    p->phase = NBD_PHASE_OPTION_SKIP;
    return NBD_STEP_MORE;
}

static enum nbd_step option_skip(struct nbd_protocol *p)
{
    p->skip_left -= MIN(p->skip_left, (uint32_t)NBD_OPTION_MAX);
    if (p->skip_left)
        return NBD_STEP_MORE;
    p->phase = NBD_PHASE_OPTION;
    return option_error(p, NBD_REP_ERR_TOO_BIG, "longer than any valid option");
}

static enum nbd_step flags_complete(struct nbd_protocol *p)
{
    uint32_t flags = be_load_u32(p->in);

    if (flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
        return NBD_STEP_CLOSE;
    p->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    p->phase = NBD_PHASE_OPTION;
    return NBD_STEP_MORE;
}

/* ---- commands ---- */

static uint32_t command_flags_allowed(const struct nbd_protocol *p, uint32_t type)
{
    switch (type) {
    case NBD_CMD_READ:
        return NBD_CMD_FLAG_FUA | (p->structured ? NBD_CMD_FLAG_DF : 0);
    case NBD_CMD_WRITE_ZEROES:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    case NBD_CMD_BLOCK_STATUS:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
    default:
        return NBD_CMD_FLAG_FUA;
    }
}

static bool command_in_range(const struct nbd_protocol *p, const struct nbd_command *c)
{
    return c->offset <= p->export->size_bytes && c->length <= p->export->size_bytes - c->offset;
}

static enum nbd_error command_validate(const struct nbd_protocol *p, const struct nbd_command *c)
{
    bool changes = c->type == NBD_CMD_WRITE || c->type == NBD_CMD_TRIM || c->type == NBD_CMD_WRITE_ZEROES;

    if (c->flags & ~command_flags_allowed(p, c->type))
        return NBD_EINVAL;
    if (changes && p->export->read_only)
        return NBD_EPERM;
    switch (c->type) {
    case NBD_CMD_FLUSH:
        return c->offset || c->length ? NBD_EINVAL : NBD_OK;
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
        if (c->length > NBD_PAYLOAD_MAX)
            return NBD_EINVAL;
        break;
    case NBD_CMD_BLOCK_STATUS:
        if (!p->allocation || c->length == 0)
            return NBD_EINVAL;
        break;
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES:
        break;
    default:
        return NBD_EINVAL;
    }
    if (!command_in_range(p, c))
        return c->type == NBD_CMD_WRITE || c->type == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL;
    return NBD_OK;
}

static enum nbd_step command_complete(struct nbd_protocol *p, struct nbd_command *c)
{
    if (be_load_u32(p->in) != NBD_MAGIC_REQUEST)
        return NBD_STEP_CLOSE;
    *c = (struct nbd_command){
        .flags = be_load_u16(p->in + 4),
        .type = (enum nbd_command_type)be_load_u16(p->in + 6),
        .cookie = be_load_u64(p->in + 8),
        .offset = be_load_u64(p->in + 16),
        .length = be_load_u32(p->in + 24),
    };
    if (c->type == NBD_CMD_DISC)
        return NBD_STEP_DISCONNECT;
    if (c->type == NBD_CMD_WRITE) {
        if (c->length > NBD_DRAIN_MAX)
            return NBD_STEP_CLOSE;
        c->payload_len = c->length;
    }
    c->error = command_validate(p, c);
    return NBD_STEP_COMMAND;
}

enum nbd_step nbd_protocol_input(struct nbd_protocol *p, struct nbd_command *ret_command)
{
    switch (p->phase) {
    case NBD_PHASE_FLAGS:
        return flags_complete(p);
    case NBD_PHASE_OPTION:
        return option_begin(p);
    case NBD_PHASE_OPTION_DATA:
        return option_complete(p);
    case NBD_PHASE_OPTION_SKIP:
        return option_skip(p);
    case NBD_PHASE_TRANSMISSION:
        return command_complete(p, ret_command);
    }
    UNREACHABLE();
}
