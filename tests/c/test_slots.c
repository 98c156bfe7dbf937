/* test_slots.c - ids come back from an untrusted peer: a stale or invented id must find nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/slots.h"

#define COUNT 5000

static int things[COUNT];

static int setup(void **state) {
    piso__slots *t = malloc(sizeof *t);
    if (!t)
        return -1;
    piso__slots_init(t);
    *state = t;
    return 0;
}

static int teardown(void **state) {
    piso__slots_fini(*state);
    free(*state);
    return 0;
}

static void finds_what_was_added(void **state) {
    piso__slots *t = *state;
    static uint64_t ids[COUNT];
    for (int i = 0; i < COUNT; i++) {
        ids[i] = piso__slots_add(t, &things[i]);
        assert_int_not_equal(ids[i], 0);
    }
    assert_int_equal(t->live, COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_ptr_equal(piso__slots_get(t, ids[i]), &things[i]);
}

static void refuses_a_stale_id(void **state) {
    piso__slots *t = *state;
    uint64_t old = piso__slots_add(t, &things[0]);
    assert_ptr_equal(piso__slots_remove(t, old), &things[0]);
    assert_null(piso__slots_get(t, old));
    assert_null(piso__slots_remove(t, old));

    uint64_t new = piso__slots_add(t, &things[1]);
    assert_int_equal((uint32_t) new, (uint32_t)old); /* the same slot again */
    assert_int_not_equal(new, old);
    assert_null(piso__slots_get(t, old));
    assert_null(piso__slots_remove(t, old));
    assert_ptr_equal(piso__slots_get(t, new), &things[1]);
}

static void refuses_invented_ids(void **state) {
    piso__slots *t = *state;
    assert_null(piso__slots_get(t, 1)); /* nothing is there yet */
    uint64_t id = piso__slots_add(t, &things[0]);
    const uint64_t invented[] = {0,          id + 1,     id - 1,    id | (uint64_t)1 << 32, id | (uint64_t)1 << 63,
                                 UINT32_MAX, UINT64_MAX, INT64_MAX, (uint64_t)1 << 32};
    for (size_t i = 0; i < sizeof invented / sizeof *invented; i++) {
        assert_null(piso__slots_get(t, invented[i]));
        assert_null(piso__slots_remove(t, invented[i]));
    }
    assert_ptr_equal(piso__slots_get(t, id), &things[0]);
    assert_int_equal(t->live, 1);
}

/* A table of a few slots under random additions and removals agrees with a list of its ids. */
static void agrees_with_a_list(void **state) {
    piso__slots *t = *state;
    enum { LIVE = 64 };
    struct {
        uint64_t id;
        void *pointer;
    } list[LIVE];
    uint32_t live = 0, random = 1;
    for (int step = 0; step < 100000; step++) {
        random = random * 1664525u + 1013904223u;
        uint32_t choice = random >> 8;
        if (live < LIVE && (live == 0 || random >> 31)) {
            list[live].pointer = &things[choice % COUNT];
            list[live].id = piso__slots_add(t, list[live].pointer);
            live++;
        } else {
            uint32_t victim = choice % live;
            uint64_t id = list[victim].id;
            assert_ptr_equal(piso__slots_remove(t, id), list[victim].pointer);
            assert_null(piso__slots_get(t, id));
            list[victim] = list[--live];
        }
        assert_int_equal(t->live, live);
        if (live)
            assert_ptr_equal(piso__slots_get(t, list[choice % live].id), list[choice % live].pointer);
    }
    assert_true(t->capacity <= LIVE); /* freed slots are used again */
}

static void drains(void **state) {
    piso__slots *t = *state;
    uint64_t ids[100];
    for (int i = 0; i < 100; i++)
        ids[i] = piso__slots_add(t, &things[i]);
    for (int i = 0; i < 100; i += 3)
        piso__slots_remove(t, ids[i]);
    int taken = 0;
    bool seen[100] = {false};
    for (int *thing; (thing = piso__slots_take_any(t)); taken++) {
        assert_false(seen[thing - things]);
        seen[thing - things] = true;
    }
    assert_int_equal(taken, 66);
    assert_int_equal(t->live, 0);
}

static void works_after_draining(void **state) {
    piso__slots *t = *state;
    assert_null(piso__slots_take_any(t));
    /* only free slots, then free slots above and below a live one */
    for (int live = 0; live <= 1; live++) {
        uint64_t ids[3];
        for (int i = 0; i < 3; i++)
            ids[i] = piso__slots_add(t, &things[i]);
        piso__slots_remove(t, ids[0]);
        piso__slots_remove(t, ids[2]);
        if (!live)
            piso__slots_remove(t, ids[1]);
        assert_ptr_equal(piso__slots_take_any(t), live ? &things[1] : NULL);
        assert_null(piso__slots_take_any(t));

        uint64_t id = piso__slots_add(t, &things[7]);
        assert_ptr_equal(piso__slots_get(t, id), &things[7]);
        assert_ptr_equal(piso__slots_take_any(t), &things[7]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finds_what_was_added, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_a_stale_id, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_invented_ids, setup, teardown),
        cmocka_unit_test_setup_teardown(agrees_with_a_list, setup, teardown),
        cmocka_unit_test_setup_teardown(drains, setup, teardown),
        cmocka_unit_test_setup_teardown(works_after_draining, setup, teardown),
    };
    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
