/* test_session_malformed.c - a peer that violates the protocol loses its session, and every call of it fails. */
#include "session_tools.h"

/* A message that an honest child would not send: header, one span if the header has any, bytes. */
typedef struct forgery {
    const char *what;
    piso__frame frame;
    piso_span span;
    size_t size;
    const char *bytes;
} forgery;

#define SPAN(seg, at, n) .span = {.segment = seg, .generation = 1, .offset = at, .length = n}
#define CALL             .type = PISO__FRAME_CALL
#define REPLY            .type = PISO__FRAME_REPLY

/* Meanwhile the host waits for call 1, and the child for its request 1. */
static const forgery forgeries[] = {
    {.what = "no type", .frame = {.type = 0}},
    {.what = "unknown type", .frame = {.type = PISO__FRAME_REFUSED + 1}},
    {.what = "unknown flag", .frame = {CALL, .id = 2, .flags = 8}},
    {.what = "call without id", .frame = {CALL}},
    {.what = "call that wants no reply with an id", .frame = {CALL, .id = 2, .flags = PISO_CALL_NO_REPLY}},
    {.what = "id of an open request", .frame = {CALL, .id = 1}},
    {.what = "id of an open request, of another generation", .frame = {CALL, .id = (uint64_t)1 << 32 | 1}},
    {.what = "id over the limit", .frame = {CALL, .id = PISO__MAX_OPEN_REQUESTS + 1}},
    {.what = "id without index", .frame = {CALL, .id = (uint64_t)1 << 32}},
    {.what = "reply to no call", .frame = {REPLY, .id = 2}},
    {.what = "reply without id", .frame = {REPLY}},
    {.what = "reply to a call of another generation", .frame = {REPLY, .id = (uint64_t)1 << 32 | 1}},
    {.what = "error for no call", .frame = {.type = PISO__FRAME_ERROR, .id = 2}},
    {.what = "reply with a method", .frame = {REPLY, .id = 1, .method = 1}},
    {.what = "span beyond the arena", .frame = {REPLY, .id = 1, .nspans = 1}, SPAN(0, SMALL_ARENA, 1)},
    {.what = "span that ends beyond the arena", .frame = {REPLY, .id = 1, .nspans = 1}, SPAN(0, SMALL_ARENA - 64, 65)},
    {.what = "span whose end overflows", .frame = {REPLY, .id = 1, .nspans = 1}, SPAN(0, 64, UINT64_MAX)},
    {.what = "span at an odd place", .frame = {CALL, .id = 2, .nspans = 1}, SPAN(0, 1, 1)},
    {.what = "empty span", .frame = {CALL, .id = 2, .nspans = 1}, SPAN(0, 0, 0)},
    {.what = "span of an unknown segment", .frame = {CALL, .id = 2, .nspans = 1}, SPAN(1, 0, 1)},
    {.what = "fewer spans than announced", .frame = {CALL, .id = 2, .nspans = 2}, SPAN(0, 0, 1)},
    {.what = "too many spans", .frame = {CALL, .id = 2, .nspans = PISO__HEADER_SPANS + 1}, SPAN(0, 0, 1)},
    {.what = "table of no spans", .frame = {CALL, .id = 2, .flags = PISO__FRAME_SPAN_TABLE}},
    {.what = "empty table", .frame = {CALL, .id = 2, .flags = PISO__FRAME_SPAN_TABLE, .nspans = 1}, SPAN(0, 0, 0)},
    {.what = "table of half a span",
     .frame = {CALL, .id = 2, .flags = PISO__FRAME_SPAN_TABLE, .nspans = 1},
     SPAN(0, 0, PISO__SPAN_SIZE / 2)},
    {.what = "table beyond the arena",
     .frame = {CALL, .id = 2, .flags = PISO__FRAME_SPAN_TABLE, .nspans = 1},
     SPAN(0, SMALL_ARENA, PISO__SPAN_SIZE)},
    {.what = "table of too many spans",
     .frame = {CALL, .id = 2, .flags = PISO__FRAME_SPAN_TABLE, .nspans = 1},
     SPAN(0, 0, (PISO_MAX_SPANS + 1) * PISO__SPAN_SIZE)},
    {.what = "table in a segment",
     .frame = {CALL, .id = 2, .flags = PISO__FRAME_SPAN_TABLE, .nspans = 1},
     SPAN(1, 0, PISO__SPAN_SIZE)},
    {.what = "table that goes back",
     .frame = {CALL, .id = 2, .flags = PISO__FRAME_SPAN_TABLE, .nspans = 1},
     SPAN(PISO_SPAN_RETURNED, 0, PISO__SPAN_SIZE)},
    {.what = "table of spans that are none", /* nothing was ever written there */
     .frame = {CALL, .id = 2, .flags = PISO__FRAME_SPAN_TABLE, .nspans = 1},
     SPAN(0, 0, PISO__SPAN_SIZE)},
    {.what = "body in no span", .frame = {CALL, .id = 2, .flags = PISO__FRAME_BODY_SPAN}},
    {.what = "body in a span and inline",
     .frame = {CALL, .id = 2, .flags = PISO__FRAME_BODY_SPAN, .nspans = 1},
     SPAN(0, 0, 1),
     .size = 1,
     .bytes = "x"},
    {.what = "body beyond the arena",
     .frame = {CALL, .id = 2, .flags = PISO__FRAME_BODY_SPAN, .nspans = 1},
     SPAN(0, SMALL_ARENA, 1)},
    {.what = "name out of order", .frame = {.type = PISO__FRAME_DEFINE, .method = 1}, .size = 1, .bytes = "x"},
    {.what = "empty name", .frame = {.type = PISO__FRAME_DEFINE}},
    {.what = "name with a zero", .frame = {.type = PISO__FRAME_DEFINE}, .size = 3, .bytes = "a\0b"},
    {.what = "empty release", .frame = {.type = PISO__FRAME_RELEASE}},
    {.what = "half a release", .frame = {.type = PISO__FRAME_RELEASE}, .size = 8, .bytes = "\0\0\0\0\0\0\0"},
    {.what = "release with more in it",
     .frame = {.type = PISO__FRAME_RELEASE},
     .size = 16,
     .bytes = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"},
    {.what = "cancellation with a body", .frame = {.type = PISO__FRAME_CANCEL, .id = 1}, .size = 1, .bytes = "x"},
    {.what = "farewell with an id", .frame = {.type = PISO__FRAME_GOODBYE, .id = 1}},
};

static void inject(piso_session *from, const void *data, size_t size) {
    piso__ring_part part = {data, size};
    assert_int_equal(piso__ring_send(&from->channel->tx, &part, 1), 0);
}

static void forge(const forgery *f) {
    uint8_t message[128];
    size_t size = PISO__FRAME_SIZE;
    piso__frame_encode(&f->frame, message);
    if (f->frame.nspans) {
        piso__span_encode(&f->span, message + size);
        size += PISO__SPAN_SIZE;
    }
    if (f->size)
        memcpy(message + size, f->bytes, f->size);
    inject(pair.child, message, size + f->size);
}

/* check_broken: checks that the host has ended the session, its call failed, and the child learns of it. */
static void check_broken(const piso_call *ours, const piso_call *theirs) {
    take_failure(pair.host, ours, PISO_EPROTO);
    expect_end(pair.host, PISO_EPROTO);
    take_request(pair.child, 1);
    take_failure(pair.child, theirs, PISO_EDIED);
    expect_end(pair.child, PISO_EDIED);
}

static void malformed_messages_end_the_session(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
        pair = open_pair();
        piso_call ours, theirs;
        print_message("           %s\n", forgeries[i].what);
        assert_int_equal(send_call(pair.host, &ours, 1, PISO_NO_DEADLINE), 0);
        assert_int_equal(send_call(pair.child, &theirs, 2, PISO_NO_DEADLINE), 0);
        assert_int_equal(take_request(pair.host, 2), 1);
        forge(&forgeries[i]);
        check_broken(&ours, &theirs);
        close_pair(&pair);
    }
}

static void garbage_in_the_ring_ends_the_session(void **state) {
    (void)state;
    piso_call ours, theirs;
    assert_int_equal(send_call(pair.host, &ours, 1, PISO_NO_DEADLINE), 0);
    assert_int_equal(send_call(pair.child, &theirs, 2, PISO_NO_DEADLINE), 0);
    assert_int_equal(take_request(pair.host, 2), 1);
    piso__ring_producer *tx = &pair.child->channel->tx;
    atomic_store(&tx->shared->slots[tx->position].word, UINT64_MAX);
    check_broken(&ours, &theirs);
}

static void impossible_cursor_ends_the_session(void **state) {
    (void)state;
    piso_call call;
    int r = 0;
    assert_int_equal(send_call(pair.host, &call, 1, PISO_NO_DEADLINE), 0);
    atomic_store(&pair.child->channel->rx.shared->consumed, 1 << 20);
    for (unsigned i = 0; i <= PISO__RING_SLOTS && r == 0; i++)
        r = send_call(pair.host, NULL, 1, PISO_NO_DEADLINE);
    assert_int_equal(r, PISO_EPROTO);
    take_failure(pair.host, &call, PISO_EPROTO);
    expect_end(pair.host, PISO_EPROTO);
}

/* A message with random fields, most of them small: many are valid. */
static void inject_random(uint64_t *random) {
    uint8_t message[PISO__FRAME_SIZE + 3 * PISO__SPAN_SIZE + 64];
    uint64_t r = next_random(random);
    piso__frame frame = {.type = (uint8_t)(r % 8),
                         .flags = (uint8_t)(r >> 8 & r >> 16 & 0x17),
                         .id = r >> 24 & 3,
                         .method = (uint32_t)(r >> 32 & r >> 34 & 3),
                         .nspans = (uint16_t)(r >> 40 & r >> 42 & 3)};
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (uint8_t)(next_random(random) % 64 ? 0 : next_random(random));
    piso__frame_encode(&frame, message);
    for (uint64_t i = 0; i < 3; i++) {
        piso_span span = {.segment = next_random(random) % 8 ? 0 : PISO_SPAN_RETURNED,
                          .offset = next_random(random) % 4 * 64,
                          .length = next_random(random) % 1000};
        piso__span_encode(&span, message + PISO__FRAME_SIZE + i * PISO__SPAN_SIZE);
    }
    inject(pair.child, message, PISO__FRAME_SIZE + frame.nspans * PISO__SPAN_SIZE + next_random(random) % 4 * 16);
}

static void random_messages_do_no_harm(void **state) {
    (void)state;
    uint64_t random = 88172645463325252u;
    int understood = 0;
    for (int round = 0; round < 2000; round++) {
        pair = open_pair();
        piso_call calls[2];
        for (int i = 0; i < 2; i++)
            assert_int_equal(send_call(pair.host, &calls[i], i, PISO_NO_DEADLINE), 0);
        int r = 0, ended = 0;
        for (int i = 0; i < 20 && r >= 0; i++) {
            inject_random(&random);
            piso_event event = {.size = sizeof event};
            while ((r = piso_session_next(pair.host, &event)) == 1) {
                understood++;
                ended += event.call != NULL && event.type >= PISO_EVENT_REPLY;
                piso_event_fini(&event);
            }
        }
        assert_true(r == 0 || (r == PISO_EPROTO && ended == 2) || (r == PISO_EDIED && ended == 2));
        close_pair(&pair);
    }
    assert_true(understood > 2000);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, open_ends, close_ends)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_messages_end_the_session),
        WITH_PAIR(garbage_in_the_ring_ends_the_session),
        WITH_PAIR(impossible_cursor_ends_the_session),
        cmocka_unit_test(random_messages_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
