/* SPDX-License-Identifier: Apache-2.0
 *
 * Who gets a piece of the pool when there are few: each PG its share, and of those who wait each one in turn.
 */
#include <string.h>

#include "client/impl.h"

static void piece_wake_first(struct list *queue)
{
    struct client_wait *first = list_first(queue, struct client_wait, link);

    if (first)
        op_wake(first->op);
}

static struct client_share *piece_share(const struct client_image *image, uint32_t pg_number)
{
    uint64_t hash = hash_pair(image->pool, pg_number);

    return &image->client->shares[hash & (CLIENT_SHARES - 1)];
}

static void piece_wait_in(struct list *queue, struct client_wait *wait)
{
    if (list_linked(&wait->link) && wait->queue == queue)
        return;
    if (!list_linked(&wait->link))
        wait->since_ns = core_recent_ns(wait->op->core);
    client_piece_wait_end(wait);
    wait->queue = queue;
    list_push_back(queue, &wait->link);
}

void client_piece_wait_end(struct client_wait *wait)
{
    if (!list_linked(&wait->link))
        return;
    list_remove(&wait->link);
    piece_wake_first(wait->queue);
}

/* May `wait` pass: is it the first of the queue, or would be? */
static bool piece_is_first(const struct list *queue, const struct client_wait *wait)
{
    return list_empty(queue) || queue->next == &wait->link;
}

struct client_piece *client_piece_get(struct client_image *image, uint32_t pg_number,
                                      struct client_wait *wait)
{
    struct client *client = image->client;
    struct client_share *share = piece_share(image, pg_number);
    /* Who waits for any piece has had its turn among those of its PG. */
    bool passed = list_linked(&wait->link) && wait->queue == &client->piece_waiters;

    /* A third of what it leaves to the others. Who has none waits for any piece, whoever gives it back. */
    bool enough = share->count && 3 * share->count >= client->pieces.free_count;

    if (enough || (!passed && !piece_is_first(&share->waiters, wait))) {
        piece_wait_in(&share->waiters, wait);
        return NULL;
    }
    struct client_piece *p = piece_is_first(&client->piece_waiters, wait) ? pool_get(&client->pieces) : NULL;
    if (!p) {
        piece_wait_in(&client->piece_waiters, wait);
        return NULL;
    }
    share->count++;
    p->asked_ns = list_linked(&wait->link) ? wait->since_ns : core_recent_ns(client->core);
    client_piece_wait_end(wait);
    p->share = share;
    p->client = client;
    p->image = image;
    p->pg_number = pg_number;
    p->memory = NULL;
    p->data = (struct slice){0};
    p->deadline_ns = 0;
    memset(&p->call, 0, sizeof(p->call));
    list_init(&p->wait);
    list_init(&p->order);
    list_init(&p->peer_wait.link);
    p->peer_wait.op = &p->op;
    p->attaching = false;
    p->cursor = p->hops = p->pauses = p->checksum_failures = 0;
    p->target_osd = p->target_shard = p->target_replica = 0;
    p->sent_generation = 0;
    p->crc_count = 0;
    return p;
}

void client_piece_put(struct client_piece *p)
{
    struct client *client = p->client;
    struct client_share *share = p->share;

    share->count--;
    pool_put(&client->pieces, p);
    piece_wake_first(&share->waiters);
    piece_wake_first(&client->piece_waiters);
}
