/* test_ring.c - one thread plays both ends of a ring, then each end gets a lying peer. stress_ring.c and
 * tests/model/ test two threads at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "memory/ring.h"

typedef struct fixture {
    piso__ring_shared shared;
    piso__ring_producer producer;
    piso__ring_consumer consumer;
    uint8_t sent[PISO__RING_MESSAGE_MAX], taken[PISO__RING_MESSAGE_MAX];
} fixture;

static int setup(void **state) {
    fixture *f = aligned_alloc(PISO__CACHE_LINE, sizeof *f);
    if (!f)
        return -1;
    memset(f, 0, sizeof *f);
    for (size_t i = 0; i < sizeof f->sent; i++)
        f->sent[i] = (uint8_t)(i * 31 + (i >> 8));
    piso__ring_producer_init(&f->producer, &f->shared);
    piso__ring_consumer_init(&f->consumer, &f->shared);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    free(*state);
    return 0;
}

static int send_bytes(fixture *f, size_t size) {
    piso__ring_part part = {f->sent, size};
    return piso__ring_send(&f->producer, &part, 1);
}

/* take_bytes: takes the next message and compares it. Returns whether the producer must be woken. */
static bool take_bytes(fixture *f, size_t size) {
    bool wake = true;
    assert_true(piso__ring_ready(&f->consumer));
    assert_int_equal(piso__ring_peek(&f->consumer), size);
    memset(f->taken, 0xAA, sizeof f->taken);
    assert_int_equal(piso__ring_take(&f->consumer, f->taken, size, &wake), 0);
    assert_memory_equal(f->taken, f->sent, size);
    size_t end = (size + PISO__RING_CHUNK - 1) / PISO__RING_CHUNK * PISO__RING_CHUNK;
    if (end < sizeof f->taken)
        assert_int_equal(f->taken[end], 0xAA); /* not a chunk more */
    return wake;
}

static void assert_empty(fixture *f) {
    assert_false(piso__ring_ready(&f->consumer));
    assert_int_equal(piso__ring_peek(&f->consumer), 0);
}

/* fill_ring: sends messages of one slot until there is no room. */
static void fill_ring(fixture *f) {
    for (uint32_t i = 0; i < PISO__RING_SLOTS; i++)
        assert_int_equal(send_bytes(f, 8), 0);
    assert_int_equal(send_bytes(f, 8), -EAGAIN);
}

/* ---- messages ---- */

static void carries_every_size(void **state) {
    fixture *f = *state;
    const size_t edges[] = {1, 8, 55, 56, 57, 111, 112, 113, 4096, PISO__RING_MESSAGE_MAX - 1, PISO__RING_MESSAGE_MAX};
    assert_empty(f);
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        assert_int_equal(send_bytes(f, edges[i]), 0);
        take_bytes(f, edges[i]);
        assert_empty(f);
    }
}

static void carries_many_laps_in_order(void **state) {
    fixture *f = *state;
    enum { AHEAD = 20 };
    size_t sizes[AHEAD];
    uint32_t random = 7;
    for (uint32_t i = 0; i < 20000; i++) {
        if (i >= AHEAD)
            take_bytes(f, sizes[i % AHEAD]);
        random = random * 1664525u + 1013904223u;
        sizes[i % AHEAD] = 1 + (random >> 8) % 2000;
        assert_int_equal(send_bytes(f, sizes[i % AHEAD]), 0);
    }
    assert_true(f->consumer.position > 100 * PISO__RING_SLOTS);
}

static void gathers_parts(void **state) {
    fixture *f = *state;
    const piso__ring_part parts[] = {{NULL, 0},           {f->sent, 40},      {f->sent + 40, 16}, {NULL, 0},
                                     {f->sent + 56, 200}, {f->sent + 256, 1}, {NULL, 0}};
    assert_int_equal(piso__ring_send(&f->producer, parts, 7), 0);
    take_bytes(f, 257);
    assert_empty(f);
}

/* The sequence is the low 32 bits of a 64-bit position: its wrap must not matter. */
static void survives_the_wrap_of_the_sequence(void **state) {
    fixture *f = *state;
    uint64_t start = ((uint64_t)1 << 32) - PISO__RING_SLOTS - 3;
    for (uint64_t position = start - PISO__RING_SLOTS; position < start; position++)
        f->shared.slots[position % PISO__RING_SLOTS].word = (uint32_t)position + 1;
    f->producer.position = f->producer.consumed_seen = f->consumer.position = f->consumer.published = start;
    f->shared.consumed = start;
    for (uint32_t i = 0; i < 3 * PISO__RING_SLOTS; i++) {
        assert_empty(f);
        assert_int_equal(send_bytes(f, 1 + i % 150), 0);
        take_bytes(f, 1 + i % 150);
    }
    assert_true(f->consumer.position >> 32 == 1);
}

/* ---- room ---- */

static void a_full_ring_asks_for_room_and_is_told(void **state) {
    fixture *f = *state;
    fill_ring(f);
    assert_int_equal(f->shared.want_space, 1);
    assert_true(take_bytes(f, 8)); /* "ring the producer's doorbell" */
    assert_int_equal(f->shared.want_space, 0);
    assert_int_equal(send_bytes(f, 8), 0);
    assert_int_equal(send_bytes(f, 8), -EAGAIN);
    assert_true(take_bytes(f, 8));
}

static void room_is_found_without_asking(void **state) {
    fixture *f = *state;
    fill_ring(f);
    f->shared.want_space = 0;
    for (uint32_t i = 0; i < PISO__RING_SLOTS / 4; i++)
        assert_false(take_bytes(f, 8)); /* nobody waits, so no doorbell */
    for (uint32_t i = 0; i < PISO__RING_SLOTS / 4; i++)
        assert_int_equal(send_bytes(f, 8), 0);
    assert_int_equal(f->shared.want_space, 0);
    assert_int_equal(send_bytes(f, 8), -EAGAIN);
}

static void a_refused_message_leaves_no_trace(void **state) {
    fixture *f = *state;
    for (uint32_t i = 0; i < PISO__RING_SLOTS - 2; i++)
        assert_int_equal(send_bytes(f, 8), 0);
    assert_int_equal(send_bytes(f, 3 * PISO__RING_CHUNK), -EAGAIN);
    assert_int_equal(send_bytes(f, 2 * PISO__RING_CHUNK), 0); /* exactly full */
    for (uint32_t i = 0; i < PISO__RING_SLOTS - 2; i++)
        take_bytes(f, 8);
    take_bytes(f, 2 * PISO__RING_CHUNK);
    assert_empty(f);
}

/* Otherwise a consumer that is busy with a queue looks like one that hangs. */
static void every_message_moves_the_cursor(void **state) {
    fixture *f = *state;
    fill_ring(f);
    for (uint32_t i = 1; i <= PISO__RING_SLOTS; i++) {
        take_bytes(f, 8);
        assert_int_equal(f->shared.consumed, i);
    }
}

/* The producer sets the flag after the consumer has taken its last message: the consumer sees it when it goes
 * to sleep. */
static void going_to_sleep_tells_of_room(void **state) {
    fixture *f = *state;
    fill_ring(f);
    f->shared.want_space = 0;
    take_bytes(f, 8);
    f->shared.want_space = 1; /* by a producer that has not seen the new cursor */
    assert_true(piso__ring_publish(&f->consumer));
    assert_false(piso__ring_publish(&f->consumer)); /* once */
    assert_int_equal(send_bytes(f, 8), 0);
}

/* ---- sleeping ---- */

static void wakes_a_sleeper_once(void **state) {
    fixture *f = *state;
    assert_int_equal(send_bytes(f, 8), 0);
    assert_false(piso__ring_must_wake(&f->producer)); /* awake */
    take_bytes(f, 8);
    assert_false(piso__ring_arm(&f->consumer));
    assert_int_equal(send_bytes(f, 8), 0);
    assert_int_equal(send_bytes(f, 8), 0);
    assert_true(piso__ring_must_wake(&f->producer));
    assert_false(piso__ring_must_wake(&f->producer));
}

static void does_not_sleep_on_a_message(void **state) {
    fixture *f = *state;
    assert_int_equal(send_bytes(f, 8), 0);
    assert_true(piso__ring_arm(&f->consumer));
    piso__ring_disarm(&f->consumer);
    assert_false(piso__ring_must_wake(&f->producer));
}

/* ---- peers that lie ---- */

static void refuses_words_that_cannot_be(void **state) {
    fixture *f = *state;
    const uint64_t size = (uint64_t)8 << 32, words[] = {
                                                 2 | size,                      /* a sequence of the future */
                                                 (1 - PISO__RING_SLOTS) | size, /* of the lap before the first */
                                                 UINT64_MAX,
                                                 1, /* no size */
                                                 1 | (uint64_t)(PISO__RING_MESSAGE_MAX + 1) << 32,
                                                 1 | (uint64_t)UINT32_MAX << 32,
                                             };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        f->shared.slots[0].word = words[i];
        assert_true(piso__ring_ready(&f->consumer)); /* there is something to report */
        assert_true(piso__ring_arm(&f->consumer));
        assert_int_equal(piso__ring_peek(&f->consumer), PISO_EPROTO);
    }
}

static void refuses_broken_continuations(void **state) {
    fixture *f = *state;
    bool wake;
    assert_int_equal(send_bytes(f, 3 * PISO__RING_CHUNK), 0);
    const uint64_t good = f->shared.slots[2].word;
    const uint64_t bad[] = {0, good + 1, good - 1, good | (uint64_t)1 << 32, UINT64_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        f->shared.slots[2].word = bad[i];
        assert_int_equal(piso__ring_take(&f->consumer, f->taken, 3 * PISO__RING_CHUNK, &wake), PISO_EPROTO);
    }
    f->shared.slots[2].word = good;
    take_bytes(f, 3 * PISO__RING_CHUNK); /* the refusals did not move the cursor */
}

static void refuses_cursors_that_cannot_be(void **state) {
    fixture *f = *state;
    for (int i = 0; i < 600; i++) {
        assert_int_equal(send_bytes(f, 8), 0);
        take_bytes(f, 8);
    }
    for (uint32_t i = 600; i < 2 * 600; i++)
        assert_int_equal(send_bytes(f, 8), 0);
    assert_int_equal(f->producer.consumed_seen, 600);
    const uint64_t bad[] = {0, 599, 1201, UINT64_MAX, (uint64_t)1 << 63, (uint64_t)1 << 32 | 600};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        f->shared.consumed = bad[i];
        assert_int_equal(send_bytes(f, PISO__RING_MESSAGE_MAX), PISO_EPROTO);
    }
    f->shared.consumed = 1200;
    assert_int_equal(send_bytes(f, PISO__RING_MESSAGE_MAX), 0);
}

/* Whatever the shared memory contains, the consumer stays inside its buffer (the sanitizers check that). */
static void takes_garbage_without_harm(void **state) {
    fixture *f = *state;
    uint32_t random = 99, refused = 0;
    for (int round = 0; round < 20000; round++) {
        random = random * 1664525u + 1013904223u;
        uint32_t size = random >> (8 + random % 17), sequence = (uint32_t)f->consumer.position + 1;
        f->shared.slots[f->consumer.position % PISO__RING_SLOTS].word = (uint64_t)size << 32 | sequence;
        int64_t found = piso__ring_peek(&f->consumer);
        bool wake;
        if (found <= 0 || piso__ring_take(&f->consumer, f->taken, (size_t)found, &wake) < 0)
            refused++;
    }
    assert_in_range(refused, 1, 19999);
}

int main(void) {
#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(carries_every_size),
        CASE(carries_many_laps_in_order),
        CASE(gathers_parts),
        CASE(survives_the_wrap_of_the_sequence),
        CASE(a_full_ring_asks_for_room_and_is_told),
        CASE(room_is_found_without_asking),
        CASE(a_refused_message_leaves_no_trace),
        CASE(every_message_moves_the_cursor),
        CASE(going_to_sleep_tells_of_room),
        CASE(wakes_a_sleeper_once),
        CASE(does_not_sleep_on_a_message),
        CASE(refuses_words_that_cannot_be),
        CASE(refuses_broken_continuations),
        CASE(refuses_cursors_that_cannot_be),
        CASE(takes_garbage_without_harm),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
