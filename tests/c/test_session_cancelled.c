/* test_session_cancelled.c - whether the peer still waits for a request, which may be in the ring only. */
#include "session_tools.h"

#include <errno.h>

static piso_call call;

static uint64_t open_a_request(int64_t deadline_ns) {
    assert_int_equal(send_call(pair.host, &call, 1, deadline_ns), 0);
    return take_request(pair.child, 1);
}

static void one_that_is_waited_for_is_not_cancelled(void **state) {
    (void)state;
    uint64_t request = open_a_request(PISO_NO_DEADLINE);
    assert_int_equal(piso_session_cancelled(pair.child, request), 0);
    assert_int_equal(send_reply(pair.child, request, 2), 0);
    take_result(pair.host, &call, 2);
    assert_int_equal(piso_session_cancelled(pair.child, request), -ENOENT);
    assert_int_equal(piso_session_cancelled(pair.child, 0), -ENOENT);
    assert_int_equal(piso_session_cancelled(pair.child, UINT64_MAX), -ENOENT);
}

static void what_is_read_early_keeps_its_order(void **state) {
    (void)state;
    enum { COUNT = 3000 }; /* more than the ring holds */
    static piso_call others[COUNT];
    uint64_t request = open_a_request(PISO_NO_DEADLINE);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(send_call(pair.host, &others[i], i, PISO_NO_DEADLINE), 0);
    piso_session_forget(pair.host, &call, true);
    int asked = 0;
    while (piso_session_cancelled(pair.child, request) == 0 && asked++ < 100)
        piso_session_flush(pair.host);
    assert_int_equal(piso_session_cancelled(pair.child, request), 1);
    for (int i = 0; i < COUNT; i++) {
        assert_true(piso_session_ready(pair.child));
        assert_int_equal(send_reply(pair.child, take_request(pair.child, i), i), 0);
        take_result(pair.host, &others[i], i);
    }
    piso_event event = {.size = sizeof event};
    take(pair.child, PISO_EVENT_CANCEL, &event);
    assert_int_equal(event.id, request);
    assert_int_equal(piso_session_cancelled(pair.child, request), 1);
    expect_nothing(pair.child);
}

static void another_request_is_not_cancelled(void **state) {
    (void)state;
    piso_call other;
    uint64_t request = open_a_request(PISO_NO_DEADLINE);
    assert_int_equal(send_call(pair.host, &other, 2, PISO_NO_DEADLINE), 0);
    piso_session_forget(pair.host, &other, true);
    assert_int_equal(piso_session_cancelled(pair.child, request), 0);
    uint64_t second = take_request(pair.child, 2);
    assert_int_equal(piso_session_cancelled(pair.child, second), 0); /* its CANCEL was read before it was open */
    piso_event event = {.size = sizeof event};
    take(pair.child, PISO_EVENT_CANCEL, &event);
    assert_int_equal(piso_session_cancelled(pair.child, second), 1);
    piso_session_forget(pair.host, &call, false);
}

static void its_time_is_over(void **state) {
    (void)state;
    uint64_t request = open_a_request(piso_now_ns() + 3600 * SECOND);
    assert_int_equal(piso_session_cancelled(pair.child, request), 0);
    pair.child->open_requests[(uint32_t)request - 1].deadline_ns = piso_now_ns() - SECOND;
    assert_int_equal(piso_session_cancelled(pair.child, request), 1);
    piso_session_forget(pair.host, &call, false);
}

static void the_end_of_the_session_cancels_it(void **state) {
    (void)state;
    uint64_t request = open_a_request(PISO_NO_DEADLINE);
    piso_session_close(pair.host);
    assert_int_equal(piso_session_cancelled(pair.child, request), 1);
    expect_end(pair.child, PISO_EDIED);
    assert_int_equal(piso_session_cancelled(pair.child, request), 1);
}

static void messages_that_are_read_early_have_a_limit(void **state) {
    (void)state;
    uint64_t request = open_a_request(PISO_NO_DEADLINE);
    static uint8_t text[3000];
    int sent = 0;
    for (; sent < 20000; sent++) {
        piso_writer w;
        piso_writer_init(&w);
        piso_write_str(&w, (const char *)text, sizeof text);
        assert_int_equal(piso_session_call(pair.host, NULL, 4, 5, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w), 0);
        piso_writer_fini(&w);
        if (sent % 16 == 0)
            assert_int_equal(piso_session_cancelled(pair.child, request), 0);
    }
    assert_true(pair.child->early_bytes < (17 << 20));
    piso_session_forget(pair.host, &call, false);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, open_ends, close_ends)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_PAIR(one_that_is_waited_for_is_not_cancelled), WITH_PAIR(what_is_read_early_keeps_its_order),
        WITH_PAIR(another_request_is_not_cancelled),        WITH_PAIR(its_time_is_over),
        WITH_PAIR(the_end_of_the_session_cancels_it),       WITH_PAIR(messages_that_are_read_early_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
