/* test_session_tables.c - messages with more buffers than follow a header. They are sent in a table, in order,
 * and can be returned. A peer that lies in a table, or lends one block many times, loses the session. */
#include "session_tools.h"

#define MANY ((int)PISO__HEADER_SPANS + 500)

static void long_body(piso_writer *w) {
    static const char text[PISO_INLINE_BODY + 1];
    piso_write_bin(w, text, sizeof text);
}

/* add_many: adds buffers whose first byte is their index. */
static void add_many(piso_session *s, piso_writer *w, int count) {
    for (int i = 0; i < count; i++)
        add_buffer(s, w, 1 + (size_t)i % 3, i);
}

/* check_many: takes the buffers of an event and checks that all are there. */
static void check_many(piso_session *s, piso_event *event, int count) {
    assert_int_equal(event->nspans, count);
    for (int i = 0; i < count; i++) {
        piso_span span;
        const uint8_t *data = piso_event_take_span(event, (uint32_t)i, &span);
        assert_non_null(data);
        assert_int_equal(span.length, 1 + i % 3);
        assert_int_equal(*data, i & 0xff);
        piso_session_release(s, &span);
    }
}

static uint64_t live(piso_session *s) {
    return stats_of(s).arena_live;
}

static void settle(void) {
    for (int i = 0; i < 2; i++) {
        piso_session_flush(pair.host);
        piso_session_flush(pair.child);
        expect_nothing(pair.host);
        expect_nothing(pair.child);
    }
}

static void many_buffers_cross_and_go_back(void **state) {
    (void)state;
    for (int spilled = 0; spilled < 2; spilled++)
        for (int count = MANY - 502; count <= MANY; count += count < MANY - 498 ? 1 : 498) {
            piso_writer w;
            piso_writer_init(&w);
            if (spilled)
                long_body(&w);
            else
                piso_write_nil(&w);
            add_many(pair.host, &w, count);
            piso_call call;
            assert_int_equal(piso_session_call(pair.host, &call, 1, 2, 0, 0, PISO_NO_DEADLINE, &w), 0);
            piso_writer_fini(&w);
            piso_event event = {.size = sizeof event};
            take(pair.child, PISO_EVENT_REQUEST, &event);
            assert_int_equal(event.body_size, spilled ? PISO_INLINE_BODY + 4 : 1);
            check_many(pair.child, &event, count);
            piso_event_fini(&event);
            send_buffers(pair.child, NULL, event.id, 0, 0);
            take(pair.host, PISO_EVENT_REPLY, &event);
            piso_event_fini(&event);
            settle();
            assert_int_equal(live(pair.host), 0);
        }
}

static void buffers_of_a_table_are_returned_with_contents(void **state) {
    (void)state;
    piso_writer w;
    piso_writer_init(&w);
    piso_write_nil(&w);
    add_many(pair.host, &w, MANY);
    piso_call call;
    assert_int_equal(piso_session_call(pair.host, &call, 1, 2, 0, 0, PISO_NO_DEADLINE, &w), 0);
    piso_event event = {.size = sizeof event};
    take(pair.child, PISO_EVENT_REQUEST, &event);
    piso_write_nil(&w);
    for (uint32_t i = 0; i < (uint32_t)MANY; i++) {
        piso_span span;
        assert_non_null(piso_event_take_span(&event, i, &span));
        assert_int_equal(piso_session_return_span(pair.child, &w, &span, span.length), i);
    }
    piso_event_fini(&event);
    assert_int_equal(piso_session_reply(pair.child, event.id, false, &w), 0);
    piso_writer_fini(&w);
    take(pair.host, PISO_EVENT_REPLY, &event);
    check_many(pair.host, &event, MANY);
    piso_event_fini(&event);
    settle();
    assert_int_equal(live(pair.host), 0);
    assert_int_equal(live(pair.child), 0);
}

static void a_table_that_nobody_waits_for_goes_back(void **state) {
    (void)state;
    piso_call call;
    assert_int_equal(send_call(pair.host, &call, 1, PISO_NO_DEADLINE), 0);
    uint64_t id = take_request(pair.child, 1);
    piso_writer w;
    piso_writer_init(&w);
    long_body(&w);
    add_many(pair.child, &w, MANY);
    assert_int_equal(piso_session_reply(pair.child, id, false, &w), 0);
    piso_writer_fini(&w);
    piso_session_forget(pair.host, &call, false);
    settle();
    assert_int_equal(live(pair.child), 0);
}

static void a_table_waits_in_the_backlog(void **state) {
    (void)state;
    pair.host->call_limit = 1;
    piso_call first, second;
    assert_int_equal(send_call(pair.host, &first, 1, PISO_NO_DEADLINE), 0);
    piso_writer w;
    piso_writer_init(&w);
    long_body(&w);
    add_many(pair.host, &w, MANY);
    assert_int_equal(piso_session_call(pair.host, &second, 1, 2, 0, 0, PISO_NO_DEADLINE, &w), 0);
    piso_writer_fini(&w);
    uint64_t id = take_request(pair.child, 1);
    expect_nothing(pair.child);
    assert_int_equal(send_reply(pair.child, id, 1), 0);
    take_result(pair.host, &first, 1);
    piso_event event = {.size = sizeof event};
    take(pair.child, PISO_EVENT_REQUEST, &event);
    check_many(pair.child, &event, MANY);
    piso_event_fini(&event);
    settle();
    assert_int_equal(live(pair.host), 0);
}

/* queue_segment: makes a call with a segment, which waits in the backlog. The segment's user then drops it. */
static void queue_segment(piso_call *call, piso_segment *segment) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_nil(&w);
    assert_int_equal(piso_writer_add_segment(&w, segment, 0, 1), 0);
    assert_int_equal(piso_session_call(pair.host, call, 1, 2, 0, 0, PISO_NO_DEADLINE, &w), 0);
    piso_writer_fini(&w);
    piso_session_retire(pair.host, segment);
    piso_segment_unref(segment);
}

static void a_segment_that_ends_in_the_backlog_is_taken_back(void **state) {
    (void)state;
    int fds = count_fds();
    pair.host->call_limit = 1;
    piso_call first, second;
    piso_segment *segment;
    assert_int_equal(send_call(pair.host, &first, 1, PISO_NO_DEADLINE), 0);
    assert_int_equal(piso_segment_create(1, &segment), 0);
    queue_segment(&second, segment);
    assert_int_equal(send_reply(pair.child, take_request(pair.child, 1), 1), 0);
    take_result(pair.host, &first, 1);
    piso_event event = {.size = sizeof event};
    take(pair.child, PISO_EVENT_REQUEST, &event);
    assert_int_equal(event.nspans, 1);
    piso_event_fini(&event);
    take(pair.child, PISO_EVENT_RETIRED, &event);
    piso_event_fini(&event);
    settle();
    assert_int_equal(pair.host->given_count, 0);
    assert_int_equal(count_fds(), fds);
}

/* A call that cannot be sent when its turn comes fails, and no other one does. */
static void what_cannot_leave_the_backlog_fails_alone(void **state) {
    (void)state;
    pair.host->call_limit = 1;
    piso_call first, second, third;
    piso_segment *segment;
    assert_int_equal(send_call(pair.host, &first, 1, PISO_NO_DEADLINE), 0);
    assert_int_equal(piso_segment_create(1, &segment), 0);
    int fd = segment->fd;
    segment->fd = -1; /* as if it came from another peer */
    queue_segment(&second, segment);
    assert_int_equal(send_call(pair.host, &third, 3, PISO_NO_DEADLINE), 0);
    assert_int_equal(send_reply(pair.child, take_request(pair.child, 1), 1), 0);
    take_result(pair.host, &first, 1);
    piso_event event = {.size = sizeof event};
    take(pair.host, PISO_EVENT_FAILED, &event);
    assert_ptr_equal(event.call, &second);
    assert_int_equal(event.error, -EBADF);
    piso_event_fini(&event);
    assert_int_equal(send_reply(pair.child, take_request(pair.child, 3), 3), 0);
    take_result(pair.host, &third, 3);
    close(fd);
}

/* Many segments at once: one span for each, however often it is named, and more than fit into the socket. */
static void many_segments_cross_at_once(void **state) {
    (void)state;
    enum { COUNT = 1500 };
    int fds = count_fds();
    piso_segment *segments[COUNT];
    piso_writer w;
    piso_writer_init(&w);
    piso_write_nil(&w);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(piso_segment_create((uint64_t)i + 1, &segments[i]), 0);
        for (int j = 0; j < 3; j++)
            assert_int_equal(piso_writer_add_segment(&w, segments[i], 0, (uint64_t)i + 1), i);
    }
    assert_int_equal(piso_session_call(pair.host, NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w), 0);
    piso_writer_fini(&w);
    piso_event event = {.size = sizeof event};
    while (piso_session_next(pair.child, &event) == 0)
        expect_nothing(pair.host);
    assert_int_equal(event.nspans, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        for (int j = 0; j < 2; j++) {
            piso_span span;
            bool ours;
            piso_segment *there = piso_event_take_segment(&event, i, &span, &ours);
            assert_ptr_equal(there, segments[i]);
            piso_segment_unref(there);
        }
    piso_event_fini(&event);
    for (int i = 0; i < COUNT; i++) {
        piso_session_retire(pair.host, segments[i]);
        piso_segment_unref(segments[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        while (piso_session_next(pair.child, &event) == 0)
            expect_nothing(pair.host); /* the queued messages are sent */
        assert_int_equal(event.type, PISO_EVENT_RETIRED);
        piso_event_fini(&event);
    }
    settle();
    assert_int_equal(live(pair.host), 0);
    assert_int_equal(count_fds(), fds);
}

/* Both sides have sent as many descriptors as may be under way, and more are queued: the acknowledgements must
 * not wait behind these. */
static void floods_that_meet_do_not_block_each_other(void **state) {
    (void)state;
    enum { COUNT = 300 };
    piso_session *sides[] = {pair.host, pair.child};
    piso_session_share(pair.host, true);
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < COUNT; i++) {
            piso_segment *segment;
            piso_writer w;
            piso_writer_init(&w);
            piso_write_nil(&w);
            assert_int_equal(piso_segment_create(1, &segment), 0);
            assert_int_equal(piso_writer_add_segment(&w, segment, 0, 1), 0);
            int r = piso_session_call(sides[side], NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w);
            assert_int_equal(r, 0);
            piso_writer_fini(&w);
            piso_segment_unref(segment);
        }
    int received[2] = {0, 0};
    for (int turn = 0; turn < 100 * COUNT && received[0] + received[1] < 2 * COUNT; turn++) {
        piso_event event = {.size = sizeof event};
        while (piso_session_next(sides[turn % 2], &event) == 1) {
            received[turn % 2]++;
            piso_event_fini(&event);
        }
    }
    assert_int_equal(received[0], COUNT);
    assert_int_equal(received[1], COUNT);
}

/* ---- lies ---- */

/* send_table: sends a call whose table contains the same span `count` times. */
static void send_table(piso_span span, uint32_t count) {
    piso_session *s = pair.child;
    piso_span table;
    void *data;
    assert_int_equal(piso_session_alloc(s, count * sizeof span, &table, &data), 0);
    for (uint32_t i = 0; i < count; i++)
        memcpy((uint8_t *)data + i * sizeof span, &span, sizeof span);
    piso__frame frame = {.type = PISO__FRAME_CALL, .flags = PISO_CALL_NO_REPLY | PISO__FRAME_SPAN_TABLE, .nspans = 1};
    piso__session_lock(s);
    assert_int_equal(piso__session_send(s, &frame, &table, "\xc0", 1), 0);
    piso__session_unlock(s);
}

static void wrong_spans_in_a_table_end_the_session(void **state) {
    (void)state;
    const piso_span lies[] = {
        {.generation = 1, .offset = SMALL_ARENA, .length = 1},
        {.generation = 1, .offset = 1, .length = 1},
        {.generation = 1, .offset = 64, .length = UINT64_MAX},
        {.segment = PISO_SPAN_RETURNED, .generation = 1, .length = 1},
        {.segment = 1, .length = 1},
        {.segment = PISO__SEGMENT_LEASE},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        pair = open_pair();
        send_table(lies[i], 2000);
        expect_end(pair.host, PISO_EPROTO);
        close_pair(&pair);
    }
}

/* Copying each of them would take more memory than the sender has. */
static void one_place_many_times_ends_the_session(void **state) {
    (void)state;
    piso_span span;
    void *data;
    assert_int_equal(piso_session_alloc(pair.child, 65536, &span, &data), 0);
    send_table(span, 2000);
    expect_end(pair.host, PISO_EPROTO);
    assert_non_null(strstr(piso_session_fault(pair.host), "all the memory behind"));
}

/* Small messages that name one table and one body make large events: the number of waiting ones is bounded. */
static void what_waits_to_be_looked_at_is_bounded(void **state) {
    (void)state;
    enum { SPANS = 1000, SIZE = SPANS * 32 + 1 };
    piso_event events[10];
    for (int i = 0; i < 10; i++)
        piso_event_init(&events[i]);
    pair.host->event_limit = 5 * SIZE;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 6; i++) {
            send_table((piso_span){.segment = PISO__SEGMENT_LEASE, .offset = 1}, SPANS);
            take(pair.host, PISO_EVENT_REQUEST, &events[i]);
        }
        assert_int_equal(pair.host->event_bytes, 6 * SIZE);
        for (int i = 0; i < 6 && round == 0; i++)
            piso_event_fini(&events[i]);
    }
    send_table((piso_span){.segment = PISO__SEGMENT_LEASE, .offset = 1}, SPANS);
    expect_end(pair.host, PISO_EPROTO);
    for (int i = 0; i < 6; i++)
        piso_event_fini(&events[i]);
    assert_int_equal(pair.host->event_bytes, 0);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, open_ends, close_ends)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_PAIR(many_buffers_cross_and_go_back),
        WITH_PAIR(buffers_of_a_table_are_returned_with_contents),
        WITH_PAIR(a_table_that_nobody_waits_for_goes_back),
        WITH_PAIR(a_table_waits_in_the_backlog),
        WITH_PAIR(a_segment_that_ends_in_the_backlog_is_taken_back),
        WITH_PAIR(what_cannot_leave_the_backlog_fails_alone),
        WITH_PAIR(many_segments_cross_at_once),
        WITH_PAIR(floods_that_meet_do_not_block_each_other),
        cmocka_unit_test(wrong_spans_in_a_table_end_the_session),
        WITH_PAIR(one_place_many_times_ends_the_session),
        WITH_PAIR(what_waits_to_be_looked_at_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
