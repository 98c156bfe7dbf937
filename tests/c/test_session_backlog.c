/* test_session_backlog.c - a peer answers some calls at once; further ones wait on their own side, in order. */
#include "session_tools.h"

#define LIMIT 4
#define MANY  20

static piso_call calls[MANY];

static int open_limited(void **state) {
    open_ends(state);
    pair.host->call_limit = LIMIT;
    pair.child->accepts = LIMIT;
    return 0;
}

static void send_many(int64_t deadline_ns) {
    for (int i = 0; i < MANY; i++)
        assert_int_equal(send_call(pair.host, &calls[i], i, deadline_ns), 0);
}

/* answer: takes the request that carries `value`, and answers it. */
static void answer(int value) {
    uint64_t request = take_request(pair.child, value);
    assert_int_equal(send_reply(pair.child, request, value), 0);
}

static void as_many_as_are_answered_at_once_are_sent(void **state) {
    (void)state;
    uint64_t requests[LIMIT];
    send_many(PISO_NO_DEADLINE);
    for (int i = 0; i < LIMIT; i++)
        requests[i] = take_request(pair.child, i);
    expect_nothing(pair.child);
    assert_int_equal(send_reply(pair.child, requests[2], 2), 0);
    take_result(pair.host, &calls[2], 2);
    answer(LIMIT);
    take_result(pair.host, &calls[LIMIT], LIMIT);
    for (int i = 0; i < LIMIT; i++)
        if (i != 2) {
            assert_int_equal(send_reply(pair.child, requests[i], i), 0);
            take_result(pair.host, &calls[i], i);
        }
    for (int i = LIMIT + 1; i < MANY; i++) {
        answer(i);
        take_result(pair.host, &calls[i], i);
    }
    expect_nothing(pair.child);
}

static void nothing_overtakes_what_waits(void **state) {
    (void)state;
    send_many(PISO_NO_DEADLINE);
    assert_int_equal(send_call(pair.host, NULL, 99, PISO_NO_DEADLINE), 0);
    for (int i = 0; i < MANY; i++) {
        answer(i);
        take_result(pair.host, &calls[i], i);
    }
    take_request(pair.child, 99);
}

static void one_that_is_given_up_is_not_sent(void **state) {
    (void)state;
    send_many(PISO_NO_DEADLINE);
    for (int i = LIMIT; i < MANY; i += 2)
        piso_session_forget(pair.host, &calls[i], true);
    for (int i = 0; i < MANY; i++) {
        if (i >= LIMIT && (i - LIMIT) % 2 == 0)
            continue;
        answer(i);
        take_result(pair.host, &calls[i], i);
    }
    expect_nothing(pair.child);
    expect_nothing(pair.host);
}

static void one_that_nobody_waits_for_is_sent_all_the_same(void **state) {
    (void)state;
    send_many(PISO_NO_DEADLINE);
    for (int i = LIMIT; i < MANY; i++)
        piso_session_forget(pair.host, &calls[i], false);
    for (int i = 0; i < MANY; i++) {
        answer(i);
        if (i < LIMIT)
            take_result(pair.host, &calls[i], i);
        else
            expect_nothing(pair.host);
    }
    expect_nothing(pair.child);
}

static void deadlines_pass_while_they_wait(void **state) {
    (void)state;
    send_many(piso_now_ns() + 1000000);
    piso_call later;
    assert_int_equal(send_call(pair.host, &later, 100, piso_now_ns() + 3600 * SECOND), 0);
    usleep(2000);
    int64_t next = piso_session_expire(pair.host);
    assert_true(next > piso_now_ns() && next != PISO_NO_DEADLINE);
    bool expired[MANY] = {false};
    for (int i = 0; i < MANY; i++) {
        piso_event event = {.size = sizeof event};
        take(pair.host, PISO_EVENT_FAILED, &event);
        assert_int_equal(event.error, -ETIMEDOUT);
        expired[event.call - calls] = true;
    }
    for (int i = 0; i < MANY; i++)
        assert_true(expired[i]);
    for (int i = 0; i < LIMIT; i++) /* these were sent, and are answered although nobody waits any more */
        answer(i);
    expect_nothing(pair.child); /* they are cancelled, too late */
    expect_nothing(pair.host);
    answer(100);
    take_result(pair.host, &later, 100);
}

static void the_end_of_the_session_fails_them(void **state) {
    (void)state;
    send_many(PISO_NO_DEADLINE);
    piso_session_close(pair.child);
    bool failed[MANY] = {false};
    for (int i = 0; i < MANY; i++) {
        piso_event event = {.size = sizeof event};
        take(pair.host, PISO_EVENT_FAILED, &event);
        failed[event.call - calls] = true;
    }
    for (int i = 0; i < MANY; i++)
        assert_true(failed[i]);
    expect_end(pair.host, PISO_EDIED);
}

/* Nothing that a waiting call names may be lost or given away before the call is sent. */
static void buffers_and_segments_wait_with_it(void **state) {
    (void)state;
    piso_segment *segment;
    assert_int_equal(piso_segment_create(4096, &segment), 0);
    send_many(PISO_NO_DEADLINE);
    piso_writer w;
    piso_call call;
    piso_writer_init(&w);
    piso_write_int(&w, 7);
    add_buffer(pair.host, &w, 100000, 5);
    assert_true(piso_writer_add_segment(&w, segment, 0, 4096) >= 0);
    assert_int_equal(piso_session_call(pair.host, &call, 0, 0, 0, 0, PISO_NO_DEADLINE, &w), 0);
    assert_int_equal(w.nspans, 0);
    piso_writer_fini(&w);
    piso_session_retire(pair.host, segment); /* the peer did not know it yet */
    piso_segment_unref(segment);
    for (int i = 0; i < MANY; i++) {
        answer(i);
        take_result(pair.host, &calls[i], i);
    }
    piso_event event = {.size = sizeof event};
    take(pair.child, PISO_EVENT_REQUEST, &event);
    assert_int_equal(integer_in(&event), 7);
    assert_int_equal(event.nspans, 2);
    piso_span span;
    uint8_t *bytes = piso_event_take_span(&event, 0, &span);
    assert_non_null(bytes);
    assert_int_equal(bytes[99999], 5);
    piso_session_release(pair.child, &span);
    piso_event_fini(&event);
    piso_session_forget(pair.host, &call, true);
}

static void what_a_call_that_was_given_up_holds_is_free_again(void **state) {
    (void)state;
    send_many(PISO_NO_DEADLINE);
    uint64_t before = stats_of(pair.host).arena_live;
    piso_call call;
    send_buffers(pair.host, &call, 0, 3, 100000);
    assert_true(stats_of(pair.host).arena_live > before);
    piso_session_forget(pair.host, &call, true);
    assert_int_equal(stats_of(pair.host).arena_live, before);
}

static void who_does_not_wait_is_disconnected(void **state) {
    (void)state;
    pair.host->call_limit = PISO__MAX_OPEN_REQUESTS;
    send_many(PISO_NO_DEADLINE);
    for (int i = 0; i < LIMIT; i++)
        take_request(pair.child, i);
    expect_end(pair.child, PISO_EPROTO);
    assert_non_null(strstr(piso_session_fault(pair.child), "more calls open"));
}

#define WITH_LIMIT(test) cmocka_unit_test_setup_teardown(test, open_limited, close_ends)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_LIMIT(as_many_as_are_answered_at_once_are_sent),
        WITH_LIMIT(nothing_overtakes_what_waits),
        WITH_LIMIT(one_that_is_given_up_is_not_sent),
        WITH_LIMIT(one_that_nobody_waits_for_is_sent_all_the_same),
        WITH_LIMIT(deadlines_pass_while_they_wait),
        WITH_LIMIT(the_end_of_the_session_fails_them),
        WITH_LIMIT(buffers_and_segments_wait_with_it),
        WITH_LIMIT(what_a_call_that_was_given_up_holds_is_free_again),
        WITH_LIMIT(who_does_not_wait_is_disconnected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
