/* SPDX-License-Identifier: Apache-2.0
 */
#include "base/list.h"

#include "tests/tap.h"

struct item {
    int value;
    struct list link;
};

static bool holds(struct list *l, const int *values, int count)
{
    int i = 0;

    list_for_each (l, node) {
        if (i >= count || list_entry(node, struct item, link)->value != values[i])
            return false;
        i++;
    }
    return i == count;
}

static void order(void)
{
    struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
    struct list l = LIST_INIT(l), m;

    CHECK(list_empty(&l));
    CHECK(list_first(&l, struct item, link) == NULL);
    CHECK(list_pop_front(&l) == NULL);
    list_push_back(&l, &items[1].link);
    list_push_back(&l, &items[2].link);
    list_push_front(&l, &items[0].link);
    CHECK(holds(&l, (int[]){0, 1, 2}, 3));
    list_insert_before(&items[1].link, &items[3].link);
    CHECK(holds(&l, (int[]){0, 3, 1, 2}, 4));
    CHECK(list_linked(&items[3].link));
    list_remove(&items[3].link);
    CHECK(!list_linked(&items[3].link));
    list_remove(&items[3].link); /* harmless */
    CHECK(list_first(&l, struct item, link) == &items[0]);
    CHECK(list_pop_front(&l) == &items[0].link);
    list_init(&m);
    list_push_back(&m, &items[3].link);
    list_splice_back(&m, &l);
    CHECK(list_empty(&l));
    CHECK(holds(&m, (int[]){3, 1, 2}, 3));
    list_splice_back(&m, &l);
    CHECK(holds(&m, (int[]){3, 1, 2}, 3));
    list_for_each_safe (&m, node)
        list_remove(node);
    CHECK(list_empty(&m));
}

int main(void)
{
    TEST(order);
    return tap_done();
}
