/* SPDX-License-Identifier: Apache-2.0
 *
 * A subcommand's connection to the cluster: a core of its own, driven by whoever waits.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/config.h"
#include "backend/backend.h"
#include "base/error.h"
#include "cmd/cmd.h"
#include "cmd/daemon.h"

#define MONITORS_MAX 8
#define BUSY_WAIT_MS 10000
#define BUSY_TELL_MS 1000

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

bool cmd_interrupted(void)
{
    return interrupted;
}

static bool cmd_monitors(const char *option, char *ret_text, size_t ret_size)
{
    int error = api_monitors(option, ret_text, ret_size);
    const char *unreadable = error == -ERR_NOT_FOUND ? config_unreadable() : NULL;

    if (unreadable)
        cmd_usage("the environment variable FASTBLOCK_CONF names %s: %s", unreadable, strerror(errno));
    else if (error == -ERR_NOT_FOUND)
        cmd_usage(
            "no monitor is known: give --mon ADDRESS:PORT, set FASTBLOCK_MON, or write `mon = ADDRESS:PORT` to "
            "/etc/fastblock.conf\n(for a trial cluster: eval \"$(fastblock cluster env DIR)\")");
    else if (error)
        cmd_usage("the list of monitors is too long");
    return !error;
}

int cmd_wait(struct cmd_session *s, struct op *op)
{
    return uring_core_run_op(s->uring, op);
}

void cmd_sleep(struct cmd_session *s, uint32_t ms)
{
    uint64_t end_ns = core_now_ns(s->core) + ms * NS_PER_MS;
    for (uint64_t now_ns; (now_ns = core_now_ns(s->core)) < end_ns && !interrupted;)
        uring_core_turn(s->uring, end_ns - now_ns);
}

bool cmd_session_open(struct cmd_session *s, const struct cmd_args *args, uint64_t memory_bytes,
                      uint32_t spin_us)
{
    char text[512];
    const char *monitors[MONITORS_MAX];
    uint32_t count = 0;
    *s = (struct cmd_session){0};
    if (!cmd_monitors(args->mon, text, sizeof(text)))
        return false;
    for (char *save, *word = strtok_r(text, ", ", &save); word && count < MONITORS_MAX;
         word = strtok_r(NULL, ", ", &save))
        monitors[count++] = word;
    if (count == 0) {
        cmd_usage("'%s' names no monitor", args->mon ? args->mon : "");
        return false;
    }

    /* The first asks the command to end in order; what it waits for may take long, and the second ends it. */
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    daemon_raise_files();

    struct uring_core_opts opts = {
        .arena_bytes = memory_bytes ? memory_bytes : (8u << 20), .spin_us = spin_us, .log_level = LOG_ERROR};
    int error = uring_core_new(&opts, &s->uring);
    if (error) {
        cmd_fail("cannot start: %s", uring_core_error_text(error));
        return false;
    }
    s->core = uring_core_core(s->uring);
    struct net *net = tcp_net_new(s->uring);
    if (!net) {
        cmd_fail("out of memory");
        uring_core_free(s->uring);
        return false;
    }
    s->net = net;
    char host[128] = "", name[192];
    gethostname(host, sizeof(host) - 1);
    snprintf(name, sizeof(name), "fastblock %s@%s:%d", args->command->name, host, (int)getpid());

    struct client_open open = {0};
    struct client_config config = {.core = s->core,
                                   .net = net,
                                   .monitors = monitors,
                                   .monitor_count = count,
                                   .name = name,
                                   .command = true};
    client_open_start(&open, &config, NULL);
    error = cmd_wait(s, &open.op);
    if (error) {
        cmd_fail("%s", open.ret_message[0] ? open.ret_message : error_text(error));
        tcp_net_free(net);
        uring_core_free(s->uring);
        return false;
    }
    s->client = open.ret_client;
    return true;
}

void cmd_session_close(struct cmd_session *s)
{
    client_free(s->client);
    tcp_net_free(s->net);
    uring_core_free(s->uring);
}

Fb__MonReply *cmd_mon_call(struct cmd_session *s, struct cmd_call *call, Fb__MonRequest *request,
                           const char *what)
{
    /* Busy: the monitor waits for OSDs to carry out an earlier change, a matter of moments. */
    uint64_t give_up_ns = core_now_ns(s->core) + BUSY_WAIT_MS * NS_PER_MS;
    uint64_t tell_ns = core_now_ns(s->core) + BUSY_TELL_MS * NS_PER_MS;
    int error;
    for (;;) {
        *call = (struct cmd_call){0};
        client_mon_call_start(&call->call, s->client, request, NULL);
        error = cmd_wait(s, &call->call.op);
        if (error != -ERR_BUSY || core_now_ns(s->core) > give_up_ns || interrupted)
            break;
        if (core_now_ns(s->core) > tell_ns) {
            fprintf(stderr, "fastblock: not yet possible, waiting for at most %u s: %s\n",
                    BUSY_WAIT_MS / 1000,
                    call->call.ret_reply ? call->call.ret_reply->message : error_text(error));
            tell_ns = UINT64_MAX;
        }
        client_mon_call_fini(&call->call);
        cmd_sleep(s, 100);
    }
    Fb__MonReply *reply = call->call.ret_reply;
    if (!error && reply)
        return reply;
    const char *message = reply && reply->message && *reply->message ? reply->message : error_text(error);
    /* Only a call that changes something, and that must not be made twice, ends so. */
    bool lost = !reply && (error == -ERR_TIMEOUT || error == -ERR_CLOSED || error == -ERR_CANCELLED);
    bool unread = !reply && error == -ERR_PROTOCOL;
    cmd_fail(
        "%s: %s%s", what, message,
        lost ? ". The monitor's answer is lost: it may or may not have been done; look before you try again"
        : unread
            ? ". The monitor's answer was not understood: what was asked for may have been done; look before you try again"
            : "");
    client_mon_call_fini(&call->call);
    return NULL;
}

void cmd_call_end(struct cmd_call *call)
{
    client_mon_call_fini(&call->call);
}

void cmd_note(const Fb__MonReply *reply)
{
    const char *kind = strncmp(reply->message, "warning: ", 9) ? "note: " : "";

    if (reply->message[0])
        fprintf(stderr, "fastblock: %s%s\n", kind, reply->message);
}

int cmd_order(struct cmd_args *args, Fb__MonRequest *request, const char *what, json_t *json,
              const char *said)
{
    struct cmd_session s;
    struct cmd_call call;
    int result = CMD_FAILED;

    if (!cmd_session_open(&s, args, 0, 0)) {
        json_decref(json);
        return CMD_FAILED;
    }
    Fb__MonReply *reply = cmd_mon_call(&s, &call, request, what);
    while (reply && reply->more) {
        cmd_call_end(&call);
        reply = cmd_mon_call(&s, &call, request, what);
    }
    if (reply) {
        result = CMD_OK;
        if (args->json)
            cmd_print_json(json_incref(json));
        else
            printf("%s\n", said);
        cmd_note(reply);
        cmd_call_end(&call);
    }
    json_decref(json);
    cmd_session_close(&s);
    return result;
}

void cmd_pages_free(struct cmd_pages *pages)
{
    while (pages) {
        struct cmd_pages *next = pages->next;
        cmd_call_end(&pages->call);
        free(pages);
        pages = next;
    }
}

struct cmd_pages *cmd_mon_pages(struct cmd_session *s, Fb__MonRequest *request, const char *what,
                                void (*advance)(Fb__MonRequest *request, const Fb__MonReply *page))
{
    struct cmd_pages *first = NULL, **link = &first;

    for (bool more = true; more;) {
        struct cmd_pages *page = calloc(1, sizeof(*page));
        if (page)
            page->reply = cmd_mon_call(s, &page->call, request, what);
        else
            cmd_fail("out of memory");
        if (!page || !page->reply) {
            free(page);
            cmd_pages_free(first);
            return NULL;
        }
        *link = page;
        link = &page->next;
        more = page->reply->more &&
               (page->reply->n_images || page->reply->n_pg_reports || page->reply->n_force_views);
        if (more)
            advance(request, page->reply);
    }
    return first;
}

struct client_image *cmd_image_open(struct cmd_session *s, const char *name, bool write, bool force)
{
    char pool[CMD_NAME_MAX], image[CMD_NAME_MAX], host[128] = "", writer[192];
    if (!cmd_split_image(name, pool, image))
        return NULL;
    gethostname(host, sizeof(host) - 1);
    snprintf(writer, sizeof(writer), "fastblock@%s:%d", host, (int)getpid());
    struct client_image_open open = {0};
    client_image_open_start(&open, s->client, pool, image, write, writer, force, false, NULL);
    int error = cmd_wait(s, &open.op);
    if (error) {
        if (open.ret_message[0])
            cmd_fail("cannot open %s", open.ret_message); /* begins with the image's name */
        else
            cmd_fail("cannot open %s: %s", name, error_text(error));
        return NULL;
    }
    return open.ret_image;
}

int cmd_image_close(struct cmd_session *s, struct client_image *image)
{
    struct client_image_close close = {0};
    client_image_close_start(&close, image, NULL);
    return cmd_wait(s, &close.op);
}

#define EXTENTS_OBJECTS_MIN 256u
#define EXTENTS_OBJECTS_MAX (1u << 20)

bool cmd_image_extents(struct cmd_session *s, struct client_image *image, uint64_t offset,
                       struct client_extent *ret_extents, uint32_t *ret_count)
{
    struct client_status status = {0};
    uint32_t objects = MAX(s->extents_objects, EXTENTS_OBJECTS_MIN);
    uint64_t size = client_image_size(image);
    if (offset >= size) {
        cmd_fail("the image has become smaller: it ends at byte %llu now", (unsigned long long)size);
        return false;
    }
    uint64_t len = MIN(size - offset, (uint64_t)objects * OBJECT_SIZE);
    client_status_start(&status, image, offset, len, ret_extents, CMD_EXTENTS_MAX, NULL);
    int error = cmd_wait(s, &status.op);
    if (error)
        cmd_fail("cannot read the block map at byte %llu: %s", (unsigned long long)offset,
                 cmd_io_text(error));
    *ret_count = status.ret_count;
    /* Where nothing is, that is soon known of more; elsewhere people are told how far it is. */
    bool empty = !error && status.ret_count == 1 && !ret_extents[0].written;
    s->extents_objects = empty ? MIN(objects * 2, EXTENTS_OBJECTS_MAX) : EXTENTS_OBJECTS_MIN;
    return !error;
}
