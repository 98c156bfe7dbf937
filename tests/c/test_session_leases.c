/* test_session_leases.c - leases. Each comes back once: when the peer ends it, when the message was not sent or
 * not read, or when the session ends; whatever the peer sends. */
#include "session_tools.h"

static int cookies[8]; /* their addresses are the cookies */

/* lend: sends a message with a lease for each of `count` cookies, from `first` on. */
static void lend(piso_session *s, piso_call *call, uint64_t request, int first, int count) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_nil(&w);
    for (int i = 0; i < count; i++)
        assert_int_equal(piso_session_lease(s, &w, &cookies[first + i]), i);
    int r = request ? piso_session_reply(s, request, false, &w)
                    : piso_session_call(s, call, 0, 0, call ? 0 : PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w);
    assert_int_equal(r, 0);
    piso_writer_fini(&w);
}

/* expect_released: checks that the next event returns this cookie. */
static void expect_released(piso_session *s, int cookie) {
    piso_event event = {.size = sizeof event};
    take(s, PISO_EVENT_RELEASED, &event);
    assert_ptr_equal(event.cookie, &cookies[cookie]);
    piso_event_fini(&event);
}

static void it_comes_back_when_the_peer_ends_it(void **state) {
    (void)state;
    ends e = open_pair();
    lend(e.host, NULL, 0, 0, 2);
    assert_int_equal(stats_of(e.host).leases_given, 2);
    piso_event event = {.size = sizeof event};
    piso_span span;
    bool ours;
    take(e.child, PISO_EVENT_REQUEST, &event);
    assert_null(piso_event_take_span(&event, 0, &span));
    assert_null(piso_event_take_segment(&event, 0, &span, &ours));
    uint64_t first = piso_event_take_lease(&event, 0), second = piso_event_take_lease(&event, 1);
    assert_true(first && second && first != second);
    assert_int_equal(piso_event_take_lease(&event, 0), 0);
    assert_int_equal(piso_event_take_lease(&event, 2), 0);
    piso_event_fini(&event);
    piso_session_flush(e.child);
    expect_nothing(e.host);
    assert_int_equal(stats_of(e.child).leases_held, 2);
    piso_session_end_lease(e.child, second);
    expect_nothing(e.host); /* batched */
    piso_session_flush(e.child);
    expect_released(e.host, 1);
    piso_session_end_lease(e.child, first);
    piso_session_flush(e.child);
    expect_released(e.host, 0);
    expect_nothing(e.host);
    assert_int_equal(stats_of(e.host).leases_given, 0);
    assert_int_equal(stats_of(e.child).leases_held, 0);
    close_pair(&e);
}

static void what_is_not_looked_at_comes_back(void **state) {
    (void)state;
    ends e = open_pair();
    lend(e.host, NULL, 0, 0, 1);
    piso_event event = {.size = sizeof event};
    take(e.child, PISO_EVENT_REQUEST, &event);
    piso_event_fini(&event);
    piso_session_flush(e.child);
    expect_released(e.host, 0);
    close_pair(&e);
}

static void a_reply_that_nobody_waits_for_gives_it_back(void **state) {
    (void)state;
    ends e = open_pair();
    piso_call call;
    assert_int_equal(send_call(e.host, &call, 1, PISO_NO_DEADLINE), 0);
    uint64_t request = take_request(e.child, 1);
    piso_session_forget(e.host, &call, false);
    lend(e.child, NULL, request, 0, 3);
    expect_nothing(e.host);
    piso_session_flush(e.host);
    for (int i = 2; i >= 0; i--)
        expect_released(e.child, i);
    assert_int_equal(stats_of(e.host).leases_held, 0);
    close_pair(&e);
}

static void a_message_that_is_not_sent_gives_it_back(void **state) {
    (void)state;
    ends e = open_pair();
    piso_writer w;
    piso_writer_init(&w);
    assert_int_equal(piso_session_lease(e.host, &w, NULL), -EINVAL);
    assert_int_equal(piso_session_lease(e.host, &w, &cookies[0]), 0);
    assert_int_equal(piso_session_lease(e.host, &w, &cookies[1]), 1);
    piso_session_discard_spans(e.host, &w);
    assert_true(piso_session_ready(e.host));
    assert_true(is_readable(e.host)); /* a sleeping event loop is woken */
    expect_released(e.host, 1);
    expect_released(e.host, 0);
    expect_nothing(e.host);
    piso_session_discard_spans(e.host, &w);
    expect_nothing(e.host);
    piso_writer_fini(&w);
    close_pair(&e);
}

static void a_lease_travels_with_buffers_and_segments(void **state) {
    (void)state;
    ends e = open_pair();
    piso_segment *segment;
    assert_int_equal(piso_segment_create(4096, &segment), 0);
    piso_writer w;
    piso_writer_init(&w);
    for (int i = 0; i < 600; i++)
        piso_write_double(&w, i); /* the body goes into the arena */
    assert_int_equal(piso_writer_add_segment(&w, segment, 0, 4096), 0);
    assert_int_equal(piso_session_lease(e.host, &w, &cookies[0]), 1);
    add_buffer(e.host, &w, 3000, 7);
    assert_int_equal(piso_session_call(e.host, NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w), 0);
    piso_writer_fini(&w);
    piso_event event = {.size = sizeof event};
    take(e.child, PISO_EVENT_REQUEST, &event);
    assert_int_equal(event.nspans, 3);
    uint64_t id = piso_event_take_lease(&event, 1);
    assert_true(id != 0);
    piso_event_fini(&event);
    piso_session_end_lease(e.child, id);
    piso_session_flush(e.child);
    expect_released(e.host, 0);
    piso_segment_unref(segment);
    close_pair(&e);
}

static void the_end_of_the_session_gives_all_back(void **state) {
    (void)state;
    ends e = open_pair();
    lend(e.host, NULL, 0, 0, 2);
    piso_writer w;
    piso_writer_init(&w);
    assert_int_equal(piso_session_lease(e.host, &w, &cookies[2]), 0);
    piso_session_close(e.host);
    expect_released(e.host, 2);
    expect_released(e.host, 1);
    expect_released(e.host, 0);
    expect_end(e.host, PISO_ECLOSED);
    assert_int_equal(piso_session_lease(e.host, &w, &cookies[3]), PISO_ECLOSED);
    piso_session_discard_spans(e.host, &w); /* it was reported */
    expect_end(e.host, PISO_ECLOSED);
    piso_writer_fini(&w);
    close_pair(&e);
}

/* end_raw: the child sends a frame that ends these ids. */
static int end_raw(ends *e, const uint64_t *ids, size_t count) {
    piso__frame frame = {.type = PISO__FRAME_END_LEASES};
    piso__session_lock(e->child);
    int r = piso__session_send(e->child, &frame, NULL, ids, count * sizeof *ids);
    piso__session_unlock(e->child);
    return r;
}

static void ids_that_are_not_known_do_nothing(void **state) {
    (void)state;
    ends e = open_pair();
    lend(e.host, NULL, 0, 0, 1);
    piso_event event = {.size = sizeof event};
    take(e.child, PISO_EVENT_REQUEST, &event);
    uint64_t id = piso_event_take_lease(&event, 0);
    piso_event_fini(&event);
    const uint64_t ids[] = {0, 7, UINT64_MAX, id, id, id + (UINT64_C(1) << 32), id};
    assert_int_equal(end_raw(&e, ids, 7), 0);
    expect_released(e.host, 0);
    expect_nothing(e.host);
    lend(e.host, NULL, 0, 1, 1); /* in the same slot */
    assert_int_equal(end_raw(&e, &id, 1), 0);
    expect_nothing(e.host);
    assert_int_equal(stats_of(e.host).leases_given, 1);
    close_pair(&e);
}

static void malformed_leases_end_the_session(void **state) {
    (void)state;
    const piso_span bad[] = {
        {.segment = PISO__SEGMENT_LEASE},
        {.segment = PISO__SEGMENT_LEASE, .offset = 1, .length = 1},
        {.segment = PISO__SEGMENT_LEASE, .offset = 1, .generation = 1},
        {.segment = PISO__SEGMENT_LEASE | PISO_SPAN_RETURNED, .offset = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ends e = open_pair();
        piso__frame frame = {.type = PISO__FRAME_CALL, .flags = PISO_CALL_NO_REPLY, .nspans = 1};
        piso__session_lock(e.child);
        assert_int_equal(piso__session_send(e.child, &frame, &bad[i], NULL, 0), 0);
        piso__session_unlock(e.child);
        expect_end(e.host, PISO_EPROTO);
        close_pair(&e);
    }
}

static void many_are_ended_in_batches(void **state) {
    (void)state;
    ends e = open_pair();
    uint64_t ids[300];
    for (int i = 0; i < 300; i++) {
        lend(e.host, NULL, 0, 0, 1);
        piso_event event = {.size = sizeof event};
        take(e.child, PISO_EVENT_REQUEST, &event);
        ids[i] = piso_event_take_lease(&event, 0);
        piso_event_fini(&event);
    }
    for (int i = 0; i < 300; i++)
        piso_session_end_lease(e.child, ids[i]);
    piso_session_flush(e.child);
    for (int i = 0; i < 300; i++)
        expect_released(e.host, 0);
    expect_nothing(e.host);
    close_pair(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_comes_back_when_the_peer_ends_it),
        cmocka_unit_test(what_is_not_looked_at_comes_back),
        cmocka_unit_test(a_reply_that_nobody_waits_for_gives_it_back),
        cmocka_unit_test(a_message_that_is_not_sent_gives_it_back),
        cmocka_unit_test(a_lease_travels_with_buffers_and_segments),
        cmocka_unit_test(the_end_of_the_session_gives_all_back),
        cmocka_unit_test(ids_that_are_not_known_do_nothing),
        cmocka_unit_test(malformed_leases_end_the_session),
        cmocka_unit_test(many_are_ended_in_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
