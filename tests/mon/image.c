/* SPDX-License-Identifier: Apache-2.0
 *
 * Images: what may be created, writers and their incarnations, resize and removal by order.
 */
#include <string.h>

#include "tests/mon/world.h"

#define MON_NAME 64

struct setup {
    struct world *w;
    struct caller a, b, osds[3];
};

static void setup(struct setup *s)
{
    s->w = world_new();
    client_start(&s->a, s->w, 1);
    client_start(&s->b, s->w, 2);
    osds_up(s->w, s->osds, 3);
    CHECK_EQ(pool_create(&s->a, "rbd", 3, 8, "osd"), 0);
}

static void teardown(struct setup *s)
{
    for (int i = 0; i < 3; i++)
        caller_stop(&s->osds[i]);
    caller_stop(&s->a);
    caller_stop(&s->b);
    world_free(s->w);
}

/* Reports of living OSDs, second by second. */
static void live_ms(struct setup *s, uint64_t ms)
{
    for (uint64_t done = 0; done < ms; done += 500) {
        for (int i = 0; i < 3; i++)
            osd_report(&s->osds[i], 0, NULL);
        world_run_ms(s->w, 500);
    }
}

static const Fb__Image *image_of(const struct caller *c)
{
    static const Fb__Image none = FB__IMAGE__INIT;
    CHECK(c->answer && c->answer->image);
    return c->answer && c->answer->image ? c->answer->image : &none;
}

static void creates(void)
{
    struct setup s;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "nope", "x", 4096), -ERR_NOT_FOUND);
    CHECK_EQ(image_create(&s.a, "rbd", "", 4096), -ERR_INVALID);
    CHECK_EQ(image_create(&s.a, "rbd", "a b", 4096), -ERR_INVALID);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 0), -ERR_TOO_SMALL);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 4095), -ERR_TOO_SMALL);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 5000), -ERR_INVALID);
    CHECK(strstr(said(&s.a), "use 4096 or 8192"));
    CHECK_EQ(image_create(&s.a, "rbd", "x", (8ull << 50) + 4096), -ERR_TOO_LARGE);
    CHECK_EQ(image_create(&s.a, "rbd", "x", UINT64_MAX), -ERR_TOO_LARGE);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 4096), 0);
    CHECK_EQ(image_of(&s.a)->id, 1);
    CHECK_EQ(image_of(&s.a)->generation, 1);
    CHECK_EQ(image_of(&s.a)->placement_key, 1);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 4096), -ERR_EXISTS);
    CHECK_EQ(image_create(&s.a, "rbd", "largest", 8ull << 50), 0);
    CHECK_EQ(image_get(&s.a, "rbd", "largest"), 0);
    CHECK_EQ(image_of(&s.a)->id, 2);
    CHECK_EQ(image_get(&s.a, "rbd", "y"), -ERR_NOT_FOUND);

    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__ImageList list = FB__IMAGE_LIST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_LIST;
    request.image_list = &list;
    CHECK_EQ(call(&s.a, &request), 0);
    CHECK_EQ(s.a.answer->n_images, 2);
    CHECK(!strcmp(s.a.answer->images[1]->name, "largest"));
    CHECK(!s.a.answer->more);
    list.after_id = 1;
    CHECK_EQ(call(&s.a, &request), 0);
    CHECK_EQ(s.a.answer->n_images, 1);
    list.pool = (char *)"nope";
    CHECK_EQ(call(&s.a, &request), -ERR_NOT_FOUND);
    teardown(&s);
}

static void one_writer(void)
{
    struct setup s;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 1 << 20), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", NULL, false, false), 0);
    CHECK_EQ(image_of(&s.a)->incarnation, 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), 0);
    CHECK_EQ(image_of(&s.a)->incarnation, 1);

    /* Another name is refused, with a message that says who and what to do; force takes over and tells the
     * first. */
    CHECK_EQ(image_open(&s.b, "rbd", "x", "wb", false, false), -ERR_WRITER_EXISTS);
    CHECK(strstr(said(&s.b), "wa at 10.0.0.2:1, since"));
    CHECK(strstr(said(&s.b), "--force"));
    CHECK_EQ(image_open(&s.b, "rbd", "x", "wb", true, false), 0);
    CHECK_EQ(image_of(&s.b)->incarnation, 2);
    WAIT_FOR(s.w, 1000, s.a.image_incarnation == 2);

    /* The same name opens again, and fences its former self. */
    CHECK_EQ(image_open(&s.b, "rbd", "x", "wb", false, false), 0);
    CHECK_EQ(image_of(&s.b)->incarnation, 3);

    /* A close of what is not registered any more changes nothing; the right one gives the image free. */
    CHECK_EQ(image_close(&s.a, 1, "wa", 1), 0);
    CHECK_EQ(image_close(&s.b, 1, "wb", 2), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), -ERR_WRITER_EXISTS);
    CHECK_EQ(image_close(&s.b, 1, "wb", 3), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), 0);
    CHECK_EQ(image_of(&s.a)->incarnation, 4);
    CHECK_EQ(image_open(&s.b, "rbd", "x", "", false, false), -ERR_INVALID);
    CHECK_EQ(image_open(&s.b, "rbd", "x", NULL, false, false), 0); /* to read */
    teardown(&s);
}

static size_t markers(struct setup *s, uint64_t since)
{
    size_t count = 0;

    CHECK_EQ(get_map(&s->b, since), 0);
    for (size_t i = 0; s->b.answer && i < s->b.answer->map->n_order; i++)
        count += s->b.answer->map->order[i]->removed;
    return count;
}

/* The marker of an order that is done goes when every OSD has saved a map with it, not before. */
static void prunes_orders(void)
{
    struct setup s;
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 8 << 20), 0);
    CHECK_EQ(get_map(&s.b, 0), 0);
    uint64_t before = s.b.answer->map->epoch;
    CHECK_EQ(image_remove(&s.a, "rbd", "x"), 0);
    osds_confirm(s.osds, 3);
    live_ms(&s, 500);
    CHECK_EQ(markers(&s, before), 1);
    report.epoch = s.b.answer->map->order[0]->epoch;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(osd_report(&s.osds[i], 0, &report), 0);
    world_run_ms(s.w, 500);
    CHECK_EQ(markers(&s, before), 1);
    report.epoch--;
    CHECK_EQ(osd_report(&s.osds[2], 0, &report), 0);
    world_run_ms(s.w, 500);
    CHECK_EQ(markers(&s, before), 1);

    /* A monitor that was started again has to hear it from all again. */
    world_crash_mon(s.w);
    report.epoch++;
    for (uint8_t i = 0; i < 3; i++) {
        char address[32];
        snprintf(address, sizeof(address), "10.0.1.%u:7000", i);
        CHECK_EQ(osd_boot(&s.osds[i], i + 1, 0, 1, address), 0);
        CHECK_EQ(markers(&s, before), 1);
        CHECK_EQ(osd_report(&s.osds[i], 0, &report), 0);
    }
    world_run_ms(s.w, 500);
    CHECK_EQ(markers(&s, before), 0);
    world_crash_mon(s.w);
    CHECK_EQ(markers(&s, before), 0); /* in the store too */
    CHECK_EQ(image_create(&s.a, "rbd", "x", 8 << 20), 0);
    CHECK_EQ(image_of(&s.a)->id, 2);
    teardown(&s);
}

/* A list that is larger than a page (MON_PAGE_BYTES). */
static void lists_in_pages(void)
{
    enum { IMAGES = 7000 };
    struct setup s;
    char name[MON_NAME];
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__ImageList list = FB__IMAGE_LIST__INIT;
    uint64_t seen = 0, pages = 0;

    setup(&s);
    memset(name, 'n', sizeof(name));
    for (uint32_t i = 0; i < IMAGES; i++) {
        snprintf(name + 50, sizeof(name) - 50, "%u", i);
        if (image_create(&s.a, "rbd", name, 4096))
            break;
        if (i % 100 == 0)
            live_ms(&s, 500);
    }
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_LIST;
    request.image_list = &list;
    do {
        CHECK_EQ(call(&s.a, &request), 0);
        if (!s.a.answer || !s.a.answer->n_images)
            break;
        for (size_t i = 0; i < s.a.answer->n_images; i++)
            CHECK_EQ(s.a.answer->images[i]->id, ++seen);
        list.after_id = seen;
        pages++;
    } while (s.a.answer->more);
    CHECK_EQ(seen, IMAGES);
    CHECK(pages >= 2);
    teardown(&s);
}

/* Until every writer has a registration of its own. */
static void sharing_is_refused(void)
{
    struct setup s;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 1 << 20), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, true), -ERR_UNSUPPORTED);
    CHECK(strstr(said(&s.a), "several writers at once are not supported"));
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", true, true), -ERR_UNSUPPORTED);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), 0);
    CHECK_EQ(image_of(&s.a)->incarnation, 1);
    teardown(&s);
}

/* A name alone does not take over from a process that is there; from one that is gone it does, at once. */
static void one_process_per_name(void)
{
    struct setup s;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 1 << 20), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "w", false, false), 0);
    uint64_t began_ns = s.w->sim->now_ns;
    CHECK_EQ(image_open(&s.b, "rbd", "x", "w", false, false), -ERR_WRITER_EXISTS);
    CHECK(strstr(said(&s.b), "another process under the same name"));
    CHECK(s.w->sim->now_ns - began_ns >= 900 * NS_PER_MS && s.w->sim->now_ns - began_ns < 1500 * NS_PER_MS);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "w", false, false), 0);
    CHECK_EQ(image_of(&s.a)->incarnation, 2);
    CHECK_EQ(image_open(&s.b, "rbd", "x", "w", true, false), 0);
    CHECK_EQ(image_of(&s.b)->incarnation, 3);

    /* Killed and started again, without force. Its session goes while the call waits. */
    caller_stop(&s.a);
    client_start(&s.a, s.w, 3);
    WAIT_FOR(s.w, 1000, s.a.opened);
    began_ns = s.w->sim->now_ns;
    IN_CLIENT(s.w, rpc_peer_free(s.b.peer));
    s.b.peer = NULL;
    CHECK_EQ(image_open(&s.a, "rbd", "x", "w", false, false), 0);
    CHECK_EQ(image_of(&s.a)->incarnation, 4);
    CHECK(s.w->sim->now_ns - began_ns < 500 * NS_PER_MS);
    /* And through a restart of the monitor, which knows no sessions. */
    caller_stop(&s.a);
    world_crash_mon(s.w);
    client_start(&s.a, s.w, 4);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "w", false, false), 0);
    teardown(&s);
}

static int open_over(struct caller *c, const char *writer, uint64_t incarnation)
{
    Fb__ImageOpen body = FB__IMAGE_OPEN__INIT;
    REQUEST(image_open, IMAGE_OPEN);

    body.pool = (char *)"rbd";
    body.name = (char *)"x";
    body.write = body.force = true;
    body.writer = (char *)writer;
    body.address = (char *)"10.0.0.2:1";
    body.force_over = incarnation;
    return call(c, &request);
}

/* The answer was lost and the call is made again: that takes the image from who had it when it was first
 * asked for, and from oneself, but not from one that has come in between. */
static void force_is_repeated(void)
{
    struct setup s;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 1 << 20), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), 0);
    CHECK_EQ(open_over(&s.b, "wb", 1), 0);
    CHECK_EQ(image_of(&s.b)->incarnation, 2);
    CHECK_EQ(open_over(&s.b, "wb", 1), 0);
    CHECK_EQ(image_of(&s.b)->incarnation, 3);
    CHECK_EQ(open_over(&s.a, "wa", 3), 0);
    CHECK_EQ(image_of(&s.a)->incarnation, 4);
    CHECK_EQ(open_over(&s.b, "wb", 1), -ERR_WRITER_EXISTS);
    CHECK(strstr(said(&s.b), "was opened for writing by wa at"));
    /* Who has closed it loses nothing. */
    CHECK_EQ(image_close(&s.a, 1, "wa", 4), 0);
    CHECK_EQ(open_over(&s.b, "wb", 1), 0);
    CHECK_EQ(image_of(&s.b)->incarnation, 5);
    teardown(&s);
}

/* A monitor that begins anew has heard of no client. That the first one is there it learns while the second
 * one's call waits. */
static void namesakes_after_a_restart(void)
{
    struct setup s;
    struct rpc_call open = {0};
    Fb__ImageOpen body = FB__IMAGE_OPEN__INIT;
    REQUEST(image_open, IMAGE_OPEN);
    int error;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 1 << 20), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "w", false, false), 0);
    world_crash_mon(s.w);
    WAIT_FOR(s.w, 5000, rpc_peer_is_open(s.b.peer));
    body.pool = (char *)"rbd";
    body.name = (char *)"x";
    body.write = true;
    body.writer = (char *)"w";
    body.address = (char *)"10.0.0.3:1";
    uint32_t len = (uint32_t)fb__mon_request__pack(&request, rpc_body(s.w->scratch));
    IN_CLIENT(s.w, error = rpc_call_start(&open, s.b.peer, NULL, METHOD_MON, rpc_body(s.w->scratch), len,
                                          NULL, 0, core_now_ns(&s.w->client_node->core) + 60 * NS_PER_S));
    CHECK_EQ(error, 0);
    live_ms(&s, 500);
    CHECK(open.pending);
    CHECK_EQ(say_writing(&s.a, 1), 0);
    WAIT_FOR(s.w, 5000, !open.pending);
    CHECK_EQ(open.result, -ERR_WRITER_EXISTS);
    CHECK_EQ(image_get(&s.a, "rbd", "x"), 0);
    CHECK_EQ(image_of(&s.a)->incarnation, 1);
    /* Nobody waits so when it is long known who is there. */
    caller_stop(&s.a);
    live_ms(&s, 3000);
    uint64_t began_ns = s.w->sim->now_ns;
    CHECK_EQ(image_open(&s.b, "rbd", "x", "w", false, false), 0);
    CHECK(s.w->sim->now_ns - began_ns < 500 * NS_PER_MS);
    teardown(&s);
}

static void lost_writers_are_replaced(void)
{
    struct setup s;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 1 << 20), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), 0);
    /* While its session is there it is never lost, however long it is silent. */
    live_ms(&s, 15000);
    CHECK_EQ(image_open(&s.b, "rbd", "x", "wb", false, false), -ERR_WRITER_EXISTS);
    /* A break of less than 10 s is none. */
    caller_stop(&s.a);
    live_ms(&s, 8000);
    CHECK_EQ(image_open(&s.b, "rbd", "x", "wb", false, false), -ERR_WRITER_EXISTS);
    client_start(&s.a, s.w, 1);
    s.a.self.session = 1000;
    CHECK_EQ(say_writing(&s.a, 1), 0);
    live_ms(&s, 5000);
    CHECK_EQ(image_open(&s.b, "rbd", "x", "wb", false, false), -ERR_WRITER_EXISTS);
    caller_stop(&s.a);
    live_ms(&s, 10500);
    CHECK_EQ(image_open(&s.b, "rbd", "x", "wb", false, false), 0);
    CHECK_EQ(image_of(&s.b)->incarnation, 2);

    /* After a restart of the monitor the time counts from its start, and a writer that comes back is not
     * lost. */
    world_crash_mon(s.w);
    client_start(&s.a, s.w, 3);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), -ERR_WRITER_EXISTS);
    CHECK_EQ(say_writing(&s.b, 1), 0);
    world_run_ms(s.w, 15000);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), -ERR_WRITER_EXISTS);
    world_crash_mon(s.w);
    caller_stop(&s.b);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), -ERR_WRITER_EXISTS);
    world_run_ms(s.w, 11000);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), 0);
    CHECK_EQ(image_of(&s.a)->incarnation, 3);
    teardown(&s);
}

/* Its client is there, but an answer to open or close was lost, and it has the image no more: it says so
 * again and again, which does not prolong anything. */
static void unheard_closes_are_noticed(void)
{
    struct setup s;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 1 << 20), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), 0);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(say_writing(&s.a, 1), 0);
        CHECK_EQ(say_writing(&s.b, 1), 0); /* not its image: means nothing */
        live_ms(&s, 4000);
    }
    CHECK_EQ(image_remove(&s.b, "rbd", "x"), -ERR_WRITER_EXISTS);
    /* One that was registered a moment ago may not know it yet. */
    CHECK_EQ(say_writing(&s.a, 0), 0);
    live_ms(&s, 4000);
    CHECK_EQ(image_open(&s.b, "rbd", "x", "wb", false, false), -ERR_WRITER_EXISTS);
    CHECK_EQ(say_writing(&s.a, 1), 0);
    live_ms(&s, 8000);
    CHECK_EQ(image_open(&s.b, "rbd", "x", "wb", false, false), -ERR_WRITER_EXISTS);

    CHECK_EQ(say_writing(&s.a, 0), 0);
    live_ms(&s, 4000);
    CHECK_EQ(say_writing(&s.a, 0), 0);
    live_ms(&s, 5000);
    CHECK_EQ(image_resize(&s.b, "rbd", "x", 4096), -ERR_WRITER_EXISTS);
    CHECK_EQ(say_writing(&s.a, 0), 0);
    live_ms(&s, 1500);
    CHECK_EQ(image_resize(&s.b, "rbd", "x", 4096), 0);
    CHECK_EQ(image_open(&s.b, "rbd", "x", "wb", false, false), 0);
    teardown(&s);
}

/* A writer that is lost for long holds up neither removal nor shrinking; the generation goes up, which fences
 * it in the PGs. */
/* A writer takes over, and goes before it is told; nor is the monitor told that it was written. That the
 * former one is there says nothing of this one. */
static void takes_over_without_an_answer(void)
{
    struct setup s;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__ImageOpen open = FB__IMAGE_OPEN__INIT;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 1 << 20), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), 0);
    open.pool = (char *)"rbd";
    open.name = (char *)"x";
    open.writer = (char *)"wb";
    open.address = (char *)"10.0.0.2:1";
    open.write = open.force = true;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_OPEN;
    request.image_open = &open;
    s.w->trouble = FAIL_AFTER;
    s.w->trouble_at = s.w->txns + 1;
    sim_meta_set_faults(s.w->store, &(struct sim_meta_faults){.slow_ppm = 1000000, .slow_ns = NS_PER_S});
    call_and_leave(&s.b, &request, 20);
    sim_meta_set_faults(s.w->store, &(struct sim_meta_faults){0});
    live_ms(&s, 3000);
    CHECK_EQ(image_get(&s.a, "rbd", "x"), 0);
    CHECK(!strcmp(image_of(&s.a)->writer, "wb"));
    CHECK_EQ(image_remove(&s.a, "rbd", "x"), -ERR_WRITER_EXISTS); /* it may be about to say so */
    live_ms(&s, 11000);
    CHECK_EQ(image_remove(&s.a, "rbd", "x"), 0);
    client_start(&s.b, s.w, 2);
    teardown(&s);
}

static void lost_writers_do_not_block(void)
{
    struct setup s;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 1 << 20), 0);
    CHECK_EQ(image_create(&s.a, "rbd", "y", 1 << 20), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "y", "wa", false, false), 0);
    live_ms(&s, 15000);
    CHECK_EQ(image_remove(&s.b, "rbd", "x"), -ERR_WRITER_EXISTS);
    CHECK_EQ(image_resize(&s.b, "rbd", "y", 4096), -ERR_WRITER_EXISTS);
    caller_stop(&s.a);
    live_ms(&s, 8000);
    CHECK_EQ(image_remove(&s.b, "rbd", "x"), -ERR_WRITER_EXISTS);
    CHECK_EQ(image_resize(&s.b, "rbd", "y", 4096), -ERR_WRITER_EXISTS);
    CHECK_EQ(image_resize(&s.b, "rbd", "y", 2 << 20), 0); /* nobody loses by more */
    live_ms(&s, 2500);
    osds_confirm(s.osds, 3);
    live_ms(&s, 500);
    CHECK_EQ(get_map(&s.b, 0), 0);
    uint64_t before = s.b.answer->map->epoch;
    CHECK_EQ(image_remove(&s.b, "rbd", "x"), 0);
    CHECK_EQ(image_resize(&s.b, "rbd", "y", 4096), 0);
    CHECK_EQ(image_of(&s.b)->generation, 3);
    CHECK_EQ(get_map(&s.b, before), 0);
    CHECK_EQ(s.b.answer->map->n_order, 2);
    for (size_t i = 0; i < s.b.answer->map->n_order; i++) {
        const Fb__ImageOrder *order = s.b.answer->map->order[i];
        CHECK_EQ(order->generation, order->image == 1 ? 2 : 3);
        CHECK_EQ(order->deleted, order->image == 1);
    }

    /* It comes back, and finds what has become of its images. */
    client_start(&s.a, s.w, 1);
    s.a.self.session = 1000;
    CHECK_EQ(image_get(&s.a, "rbd", "x"), -ERR_NOT_FOUND);
    CHECK_EQ(image_get(&s.a, "rbd", "y"), 0);
    CHECK_EQ(image_of(&s.a)->generation, 3);
    CHECK_EQ(image_of(&s.a)->size_bytes, 4096);
    CHECK(s.a.answer->epoch > before);
    teardown(&s);
}

static void resizes(void)
{
    struct setup s;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 8 << 20), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), 0);
    CHECK_EQ(image_resize(&s.b, "rbd", "y", 4 << 20), -ERR_NOT_FOUND);
    CHECK_EQ(image_resize(&s.b, "rbd", "x", 4097), -ERR_INVALID);
    CHECK_EQ(image_resize(&s.b, "rbd", "x", 4 << 20), -ERR_WRITER_EXISTS);
    CHECK(strstr(said(&s.b), "cannot shrink"));
    CHECK_EQ(image_resize(&s.b, "rbd", "x", 8 << 20), 0);
    CHECK_EQ(image_of(&s.b)->generation, 1);
    CHECK_EQ(image_resize(&s.b, "rbd", "x", 16 << 20), 0);
    CHECK_EQ(image_of(&s.b)->generation, 2);
    WAIT_FOR(s.w, 1000, s.a.image_events == 1);
    CHECK_EQ(s.a.image_generation, 2);
    CHECK_EQ(s.a.image_size, 16 << 20);

    /* The order is in the map until every PG has confirmed; before that there is no other resize. */
    CHECK_EQ(get_map(&s.b, 0), 0);
    CHECK_EQ(s.b.answer->map->n_order, 1);
    CHECK_EQ(s.b.answer->map->order[0]->generation, 2);
    CHECK_EQ(s.b.answer->map->order[0]->size_bytes, 16 << 20);
    CHECK_EQ(image_resize(&s.b, "rbd", "x", 32 << 20), -ERR_BUSY);
    osds_confirm(s.osds, 2);
    live_ms(&s, 500);
    CHECK_EQ(image_resize(&s.b, "rbd", "x", 32 << 20), -ERR_BUSY);
    osds_confirm(s.osds, 3);
    live_ms(&s, 500);
    CHECK_EQ(get_map(&s.b, 0), 0);
    CHECK_EQ(s.b.answer->map->n_order, 0);
    CHECK_EQ(image_close(&s.a, 1, "wa", 1), 0);
    /* Smaller: only when that is said to be meant, because somebody else may have made it larger meanwhile.
     */
    CHECK_EQ(image_grow(&s.b, "rbd", "x", 4 << 20), -ERR_INVALID);
    CHECK(strstr(said(&s.b), "16 MiB"));
    CHECK_EQ(image_grow(&s.b, "rbd", "x", 16 << 20), 0);
    CHECK_EQ(image_of(&s.b)->generation, 2);
    CHECK_EQ(image_resize(&s.b, "rbd", "x", 4 << 20), 0);
    CHECK_EQ(image_of(&s.b)->generation, 3);
    CHECK_EQ(image_of(&s.b)->size_bytes, 4 << 20);

    /* Confirmations of the former order do not count for this one, nor do they survive a restart. */
    Fb__PgConfirm old = FB__PG_CONFIRM__INIT, *olds[] = {&old};
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;
    report.confirm = olds;
    report.n_confirm = 1;
    old.image = 1;
    old.generation = 2;
    for (uint64_t n = 0; n < 8; n++) {
        old.pg = 1ull << 32 | n;
        for (int i = 0; i < 3; i++)
            CHECK_EQ(osd_report(&s.osds[i], 0, &report), 0);
    }
    live_ms(&s, 500);
    CHECK_EQ(get_map(&s.b, 0), 0);
    CHECK_EQ(s.b.answer->map->n_order, 1);
    teardown(&s);
}

static void removes(void)
{
    struct setup s;

    setup(&s);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 8 << 20), 0);
    CHECK_EQ(image_open(&s.a, "rbd", "x", "wa", false, false), 0);
    CHECK_EQ(image_remove(&s.b, "rbd", "x"), -ERR_WRITER_EXISTS);
    CHECK(strstr(said(&s.b), "wa at"));
    CHECK_EQ(image_close(&s.a, 1, "wa", 1), 0);
    CHECK_EQ(image_remove(&s.b, "rbd", "x"), 0);
    CHECK_EQ(image_get(&s.b, "rbd", "x"), -ERR_NOT_FOUND);
    CHECK_EQ(image_remove(&s.b, "rbd", "x"), -ERR_NOT_FOUND);

    /* The name is free at once, the id never again; also after a restart. */
    world_crash_mon(s.w);
    CHECK_EQ(image_create(&s.a, "rbd", "x", 8 << 20), 0);
    CHECK_EQ(image_of(&s.a)->id, 2);
    CHECK_EQ(get_map(&s.b, 0), 0);
    CHECK_EQ(s.b.answer->map->n_order, 1);
    CHECK(s.b.answer->map->order[0]->deleted && s.b.answer->map->order[0]->image == 1);
    CHECK_EQ(s.b.answer->map->order[0]->generation, 2);
    CHECK_EQ(s.b.answer->map->image_id_max, 2);
    uint64_t epoch = s.b.answer->map->epoch;
    for (uint8_t i = 0; i < 3; i++) {
        char address[32];
        snprintf(address, sizeof(address), "10.0.1.%u:7000", i);
        CHECK_EQ(osd_boot(&s.osds[i], i + 1, 0, 1, address), 0);
    }
    osds_confirm(s.osds, 3);
    live_ms(&s, 500);
    CHECK_EQ(get_map(&s.b, epoch), 0);
    CHECK_EQ(s.b.answer->map->n_order, 1); /* the marker */
    CHECK(s.b.answer->map->order[0]->removed);
    CHECK_EQ(get_map(&s.b, 0), 0);
    CHECK_EQ(s.b.answer->map->n_order, 0);
    teardown(&s);
}

/* What waits for PGs that nobody leads must leave room in the maps that shards save. */
static void removes_no_more_than_fit(void)
{
    struct setup s;

    setup(&s);
    s.w->orders_max = 2;
    world_crash_mon(s.w);
    for (uint8_t i = 0; i < 3; i++) {
        char address[32];
        snprintf(address, sizeof(address), "10.0.1.%u:7000", i);
        CHECK_EQ(osd_boot(&s.osds[i], i + 1, 0, 1, address), 0);
    }
    CHECK_EQ(image_create(&s.a, "rbd", "x", 8 << 20), 0);
    CHECK_EQ(image_create(&s.a, "rbd", "y", 8 << 20), 0);
    CHECK_EQ(image_create(&s.a, "rbd", "z", 8 << 20), 0);
    CHECK_EQ(image_remove(&s.a, "rbd", "x"), 0);
    CHECK_EQ(image_resize(&s.a, "rbd", "y", 16 << 20), 0);
    CHECK_EQ(image_remove(&s.a, "rbd", "z"), -ERR_BUSY);
    CHECK(strstr(said(&s.a), "2 images"));
    CHECK_EQ(image_resize(&s.a, "rbd", "z", 16 << 20), -ERR_BUSY);
    osds_confirm(s.osds, 3);
    live_ms(&s, 500);
    CHECK_EQ(image_resize(&s.a, "rbd", "z", 16 << 20), 0);
    teardown(&s);
}

int main(void)
{
    TEST(creates);
    TEST(one_writer);
    TEST(prunes_orders);
    TEST(lists_in_pages);
    TEST(one_process_per_name);
    TEST(force_is_repeated);
    TEST(namesakes_after_a_restart);
    TEST(sharing_is_refused);
    TEST(lost_writers_are_replaced);
    TEST(unheard_closes_are_noticed);
    TEST(takes_over_without_an_answer);
    TEST(lost_writers_do_not_block);
    TEST(resizes);
    TEST(removes);
    TEST(removes_no_more_than_fit);
    return tap_done();
}
