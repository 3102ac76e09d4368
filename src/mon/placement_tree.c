/* SPDX-License-Identifier: Apache-2.0
 *
 * The tree of winners of placement_impl.h.
 */
#include <stdlib.h>

#include "base/error.h"
#include "mon/placement_impl.h"

int place_tree_init(struct place_tree *t, uint32_t count)
{
    uint32_t leaves = 1;

    while (leaves < count)
        leaves *= 2;
    *t = (struct place_tree){.leaves = leaves,
                             .key = malloc(leaves * sizeof(*t->key)),
                             .best = malloc(2 * leaves * sizeof(*t->best))};
    if (!t->key || !t->best)
        return -ERR_NO_MEMORY;
    for (uint32_t i = 0; i < leaves; i++) {
        t->key[i] = INT64_MAX;
        t->best[leaves + i] = i;
    }
    place_tree_build(t);
    return 0;
}

void place_tree_fini(struct place_tree *t)
{
    free(t->key);
    free(t->best);
}

/* The better one; equal ones: the first, which stands on the left. */
static uint32_t better(const struct place_tree *t, uint32_t left, uint32_t right)
{
    return t->key[right] < t->key[left] ? right : left;
}

void place_tree_build(struct place_tree *t)
{
    for (uint32_t i = t->leaves - 1; i >= 1; i--)
        t->best[i] = better(t, t->best[2 * i], t->best[2 * i + 1]);
}

void place_tree_set(struct place_tree *t, uint32_t position, int64_t key)
{
    t->key[position] = key;
    for (uint32_t i = (t->leaves + position) / 2; i >= 1; i /= 2)
        t->best[i] = better(t, t->best[2 * i], t->best[2 * i + 1]);
}

static uint32_t or_none(const struct place_tree *t, uint32_t position)
{
    return t->key[position] == INT64_MAX ? PLACE_NONE : position;
}

uint32_t place_tree_best(const struct place_tree *t)
{
    return or_none(t, t->best[1]);
}

uint32_t place_tree_best_in(const struct place_tree *t, uint32_t first, uint32_t end)
{
    uint32_t best = PLACE_NONE;

    for (uint32_t l = t->leaves + first, r = t->leaves + end; l < r; l /= 2, r /= 2) {
        uint32_t found[2], count = 0;
        if (l & 1)
            found[count++] = t->best[l++];
        if (r & 1)
            found[count++] = t->best[--r];
        for (uint32_t i = 0; i < count; i++)
            if (best == PLACE_NONE || t->key[found[i]] < t->key[best] ||
                (t->key[found[i]] == t->key[best] && found[i] < best))
                best = found[i];
    }
    return best == PLACE_NONE ? PLACE_NONE : or_none(t, best);
}
