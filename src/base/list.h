/* SPDX-License-Identifier: Apache-2.0
 *
 * Intrusive circular doubly linked list. A node is in at most one list; list_remove() leaves it
 * unlinked, so that list_linked() answers whether it is in one.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/base.h"

struct list {
    struct list *next, *prev;
};

#define LIST_INIT(name) {&(name), &(name)}

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* Only for nodes: a node must have been list_init()ed (or removed) before it is asked. */
static inline bool list_linked(const struct list *node)
{
    return node->next != node;
}

static inline void list_insert_before(struct list *at, struct list *node)
{
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}

static inline void list_push_back(struct list *l, struct list *node)
{
    list_insert_before(l, node);
}

static inline void list_push_front(struct list *l, struct list *node)
{
    list_insert_before(l->next, node);
}

static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

static inline struct list *list_pop_front(struct list *l)
{
    struct list *node = l->next;
    if (node == l)
        return NULL;
    list_remove(node);
    return node;
}

/* Moves all nodes of `from` to the end of `to`. */
static inline void list_splice_back(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define list_entry(node, type, member) container_of(node, type, member)
#define list_first(l, type, member)    (list_empty(l) ? NULL : list_entry((l)->next, type, member))

#define list_for_each(l, node) for (struct list *node = (l)->next; node != (l); node = node->next)
/* The current node may be removed (and freed) inside the loop. */
#define list_for_each_safe(l, node)                                                                               \
    for (struct list *node = (l)->next, *node##_next = node->next; node != (l);                                   \
         node = node##_next, node##_next = node->next)

#endif
