/* test_session.c - calls, replies, names, buffers and waiting, from both ends of a session. How sessions end:
 * test_session_end.c. */
#include "session_tools.h"

#include <stdio.h>
#include <sys/wait.h>

/* ThreadSanitizer forbids threads in a process forked from one with threads. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0";
}

/* ---- calls ---- */

static void call_reaches_the_peer_and_its_answer_the_caller(void **state) {
    (void)state;
    piso_call call;
    piso_writer w;
    piso_writer_init(&w);
    piso_write_int(&w, 7);
    assert_int_equal(piso_session_call(pair.host, &call, 3, 9, PISO_CALL_KWARGS, 0, PISO_NO_DEADLINE, &w), 0);
    piso_writer_fini(&w);
    expect_nothing(pair.host);
    piso_event event = {.size = sizeof event};
    take(pair.child, PISO_EVENT_REQUEST, &event);
    assert_int_equal(event.object, 3);
    assert_int_equal(event.method, 9);
    assert_int_equal(event.flags, PISO_CALL_KWARGS);
    assert_int_equal(event.deadline_ns, PISO_NO_DEADLINE);
    assert_int_equal(event.nspans, 0);
    assert_ptr_equal(event.session, pair.child);
    assert_int_equal(integer_in(&event), 7);
    piso_event_fini(&event);
    assert_int_equal(send_reply(pair.child, event.id, 8), 0);
    take_result(pair.host, &call, 8);
    expect_nothing(pair.host);
    expect_nothing(pair.child);
}

static void exception_is_told_from_a_result(void **state) {
    (void)state;
    piso_call call;
    assert_int_equal(send_call(pair.host, &call, 1, PISO_NO_DEADLINE), 0);
    piso_writer w;
    piso_writer_init(&w);
    piso_write_int(&w, 13);
    assert_int_equal(piso_session_reply(pair.child, take_request(pair.child, 1), true, &w), 0);
    piso_writer_fini(&w);
    piso_event event = {.size = sizeof event};
    take(pair.host, PISO_EVENT_ERROR, &event);
    assert_ptr_equal(event.call, &call);
    assert_int_equal(integer_in(&event), 13);
    piso_event_fini(&event);
}

static void call_without_reply_cannot_be_answered(void **state) {
    (void)state;
    assert_int_equal(send_call(pair.host, NULL, 1, PISO_NO_DEADLINE), 0);
    piso_event event = {.size = sizeof event};
    take(pair.child, PISO_EVENT_REQUEST, &event);
    assert_int_equal(event.flags, PISO_CALL_NO_REPLY);
    piso_event_fini(&event);
    assert_int_equal(send_reply(pair.child, event.id, 1), -ENOENT);
    expect_nothing(pair.host);
}

static void answers_may_come_in_any_order(void **state) {
    (void)state;
    enum { COUNT = 300 };
    static piso_call calls[COUNT];
    uint64_t requests[COUNT];
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(send_call(pair.host, &calls[i], i, PISO_NO_DEADLINE), 0);
    for (int i = 0; i < COUNT; i++)
        requests[i] = take_request(pair.child, i);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(send_reply(pair.child, requests[i * 7 % COUNT], i * 7 % COUNT), 0);
    for (int i = 0; i < COUNT; i++)
        take_result(pair.host, &calls[i * 7 % COUNT], i * 7 % COUNT);
}

static void handler_may_call_back_before_it_answers(void **state) {
    (void)state;
    enum { DEPTH = 50 };
    static piso_call calls[DEPTH];
    uint64_t requests[DEPTH];
    for (int i = 0; i < DEPTH; i++) {
        assert_int_equal(send_call(i % 2 ? pair.child : pair.host, &calls[i], i, PISO_NO_DEADLINE), 0);
        requests[i] = take_request(i % 2 ? pair.host : pair.child, i);
    }
    for (int i = DEPTH; i-- > 0;) {
        assert_int_equal(send_reply(i % 2 ? pair.host : pair.child, requests[i], i), 0);
        take_result(i % 2 ? pair.child : pair.host, &calls[i], i);
    }
}

static void request_is_answered_once(void **state) {
    (void)state;
    piso_call call;
    assert_int_equal(send_call(pair.host, &call, 1, PISO_NO_DEADLINE), 0);
    uint64_t request = take_request(pair.child, 1);
    assert_int_equal(send_reply(pair.child, request + 1, 1), -ENOENT);
    assert_int_equal(send_reply(pair.child, UINT64_MAX, 1), -ENOENT);
    assert_int_equal(send_reply(pair.child, request, 2), 0);
    assert_int_equal(send_reply(pair.child, request, 3), -ENOENT);
    take_result(pair.host, &call, 2);
    expect_nothing(pair.host);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    piso_call call = {0};
    piso_writer w;
    piso_writer_init(&w);
    piso_write_nil(&w);
    assert_int_equal(piso_session_call(pair.host, NULL, 0, 0, 0, 0, PISO_NO_DEADLINE, &w), -EINVAL);
    assert_int_equal(piso_session_call(pair.host, &call, 0, 0, 4, 0, PISO_NO_DEADLINE, &w), -EINVAL);
    w.error = PISO_EDEPTH;
    assert_int_equal(piso_session_call(pair.host, &call, 0, 0, 0, 0, PISO_NO_DEADLINE, &w), PISO_EDEPTH);
    piso_writer_fini(&w);
    expect_nothing(pair.child);
}

/* ---- bodies ---- */

static const size_t body_sizes[] = {0,    1,    32,   33,   500,   PISO_EVENT_INLINE, PISO_EVENT_INLINE + 1,
                                    4000, 4090, 4096, 4097, 70000, (size_t)3 << 20};
#define BODY_COUNT (sizeof body_sizes / sizeof *body_sizes)

static void write_body(piso_writer *w, size_t size) {
    static uint8_t chunk[4096];
    memset(chunk, (int)(size % 251), sizeof chunk);
    while (w->size < size) {
        size_t left = size - w->size;
        piso_write_raw(w, chunk, left < sizeof chunk ? left : sizeof chunk);
    }
}

static void check_body(const piso_event *event, size_t size) {
    assert_int_equal(event->body_size, size);
    assert_int_equal(event->nspans, 0);
    for (size_t i = 0; i < size; i++)
        if (event->body[i] != size % 251)
            fail_msg("byte %zu of %zu is wrong", i, size);
}

static void bodies_of_all_sizes_arrive_in_order(void **state) {
    (void)state;
    for (size_t i = 0; i < BODY_COUNT; i++) {
        piso_writer w;
        piso_writer_init(&w);
        write_body(&w, body_sizes[i]);
        assert_int_equal(piso_session_call(pair.host, NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w), 0);
        piso_writer_fini(&w);
    }
    assert_true(stats_of(pair.host).arena_live > (size_t)3 << 20);
    for (size_t i = 0; i < BODY_COUNT; i++) {
        piso_event event = {.size = sizeof event};
        take(pair.child, PISO_EVENT_REQUEST, &event);
        check_body(&event, body_sizes[i]);
        piso_event_fini(&event);
    }
    piso_session_flush(pair.child);
    expect_nothing(pair.host);
    assert_int_equal(stats_of(pair.host).arena_live, 0);
}

/* ---- more than the ring holds ---- */

static void flood_without_a_receiver_waits_in_memory(void **state) {
    (void)state;
    enum { COUNT = 100000 };
    piso_call *calls = calloc(COUNT, sizeof *calls);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(send_call(pair.host, &calls[i], i, PISO_NO_DEADLINE), 0);
    assert_true(stats_of(pair.host).queued > COUNT / 2);
    int received = 0, answered = 0;
    while (answered < COUNT) {
        piso_event event = {.size = sizeof event};
        while (piso_session_next(pair.child, &event) == 1) {
            assert_int_equal(integer_in(&event), received++);
            assert_int_equal(send_reply(pair.child, event.id, -received), 0);
            piso_event_fini(&event);
        }
        while (piso_session_next(pair.host, &event) == 1) {
            assert_ptr_equal(event.call, &calls[answered]);
            assert_int_equal(integer_in(&event), -++answered);
            piso_event_fini(&event);
        }
    }
    assert_int_equal(stats_of(pair.host).queued, 0);
    assert_int_equal(stats_of(pair.child).queued, 0);
    free(calls);
}

static void small_messages_do_not_overtake_large_ones(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    for (int sent = 0, received = 0; received < COUNT;) {
        if (sent < COUNT) {
            piso_writer w;
            piso_writer_init(&w);
            piso_write_int(&w, sent);
            write_body(&w, sent % 5 ? 8 : 4000);
            sent++;
            assert_int_equal(piso_session_call(pair.host, NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w), 0);
            piso_writer_fini(&w);
            if (sent % 3)
                continue;
        }
        piso_session_flush(pair.host);
        piso_event event = {.size = sizeof event};
        take(pair.child, PISO_EVENT_REQUEST, &event);
        assert_int_equal(integer_in(&event), received++);
        piso_event_fini(&event);
    }
    assert_int_equal(stats_of(pair.host).queued, 0);
}

/* The receiver has a limit, and the sender observes it. */
static void calls_in_flight_are_limited(void **state) {
    (void)state;
    piso_call *calls = calloc(PISO__MAX_OPEN_REQUESTS, sizeof *calls), more;
    for (unsigned i = 0; i < PISO__MAX_OPEN_REQUESTS; i++)
        assert_int_equal(send_call(pair.host, &calls[i], 0, PISO_NO_DEADLINE), 0);
    assert_int_equal(send_call(pair.host, &more, 1, PISO_NO_DEADLINE), 0);
    uint64_t first = take_request(pair.child, 0);
    for (unsigned i = 1; i < PISO__MAX_OPEN_REQUESTS; i++) {
        piso_session_flush(pair.host);
        take_request(pair.child, 0);
    }
    expect_nothing(pair.child);
    assert_int_equal(send_reply(pair.child, first, 0), 0);
    take_result(pair.host, &calls[0], 0);
    take_request(pair.child, 1);
    free(calls); /* nobody asks for their results */
}

/* A call that is made in the handler of another call names it, so that it can run where that call's caller
 * waits. */
static void call_names_the_request_that_it_is_made_for(void **state) {
    (void)state;
    piso_call outer, inner;
    piso_event event = {.size = sizeof event};
    piso_writer w;
    assert_int_equal(send_call(pair.host, &outer, 1, PISO_NO_DEADLINE), 0);
    uint64_t request = take_request(pair.child, 1);
    for (int i = 0; i < 3; i++) { /* while it is pending; when nobody waits for it; when it is unknown */
        piso_writer_init(&w);
        piso_write_int(&w, 7);
        assert_int_equal(piso_session_call(pair.child, &inner, 4, 5, 0, i < 2 ? request : 12345, PISO_NO_DEADLINE, &w),
                         0);
        piso_writer_fini(&w);
        if (i == 1)
            piso_session_forget(pair.host, &outer, false);
        take(pair.host, PISO_EVENT_REQUEST, &event);
        assert_ptr_equal(event.parent, i == 0 ? &outer : NULL);
        assert_int_equal(integer_in(&event), 7);
        piso_event_fini(&event);
        assert_int_equal(send_reply(pair.host, event.id, 0), 0);
        take_result(pair.child, &inner, 0);
    }
    assert_int_equal(send_call(pair.child, &inner, 8, PISO_NO_DEADLINE), 0);
    take(pair.host, PISO_EVENT_REQUEST, &event);
    assert_null(event.parent);
    piso_event_fini(&event);
}

/* ---- giving up ---- */

static void forgotten_call_is_heard_of_no_more(void **state) {
    (void)state;
    piso_call call, other;
    assert_int_equal(send_call(pair.host, &call, 1, PISO_NO_DEADLINE), 0);
    uint64_t request = take_request(pair.child, 1);
    piso_session_forget(pair.host, &call, false);
    assert_int_equal(call.id, 0);
    piso_session_forget(pair.host, &call, true); /* harmless */
    expect_nothing(pair.child);
    assert_int_equal(send_call(pair.host, &other, 2, PISO_NO_DEADLINE), 0);
    uint64_t other_request = take_request(pair.child, 2);
    assert_true(other_request != request);
    send_buffers(pair.child, NULL, request, 3, 10000);
    assert_int_equal(send_reply(pair.child, other_request, 3), 0);
    take_result(pair.host, &other, 3);
    piso_session_flush(pair.host);
    expect_nothing(pair.child);
    assert_int_equal(stats_of(pair.child).arena_live, 0);
}

static void cancellation_reaches_the_handler(void **state) {
    (void)state;
    piso_call call;
    piso_event event = {.size = sizeof event};
    assert_int_equal(send_call(pair.host, &call, 1, PISO_NO_DEADLINE), 0);
    uint64_t request = take_request(pair.child, 1);
    piso_session_forget(pair.host, &call, true);
    take(pair.child, PISO_EVENT_CANCEL, &event);
    assert_int_equal(event.id, request);
    piso_event_fini(&event);
    assert_int_equal(send_reply(pair.child, request, 2), 0); /* a handler always answers */
    expect_nothing(pair.host);
}

static void cancellation_that_crosses_the_answer_is_not_told(void **state) {
    (void)state;
    piso_call call;
    assert_int_equal(send_call(pair.host, &call, 1, PISO_NO_DEADLINE), 0);
    assert_int_equal(send_reply(pair.child, take_request(pair.child, 1), 2), 0);
    piso_session_forget(pair.host, &call, true);
    expect_nothing(pair.child);
    expect_nothing(pair.host);
}

static void deadline_ends_a_call_and_cancels_its_handler(void **state) {
    (void)state;
    piso_call hurried, patient, without;
    int64_t now = piso_now_ns(), late = now + 3600 * SECOND;
    assert_int_equal(piso_session_expire(pair.host), PISO_NO_DEADLINE);
    assert_int_equal(send_call(pair.host, &without, 0, PISO_NO_DEADLINE), 0);
    assert_int_equal(send_call(pair.host, &patient, 1, late), 0);
    assert_int_equal(send_call(pair.host, &hurried, 2, now), 0);
    take_request(pair.child, 0);
    piso_event event = {.size = sizeof event};
    take(pair.child, PISO_EVENT_REQUEST, &event);
    assert_true(event.deadline_ns >= late && event.deadline_ns < late + 60 * SECOND);
    piso_event_fini(&event);
    uint64_t request = take_request(pair.child, 2);
    expect_nothing(pair.host);
    assert_int_equal(piso_session_expire(pair.host), late);
    assert_true(piso_session_ready(pair.host));
    take_failure(pair.host, &hurried, -ETIMEDOUT);
    expect_nothing(pair.host);
    take(pair.child, PISO_EVENT_CANCEL, &event);
    assert_int_equal(event.id, request);
    assert_int_equal(send_reply(pair.child, request, 5), 0);
    expect_nothing(pair.host); /* too late */
    piso_session_forget(pair.host, &patient, false);
    piso_session_forget(pair.host, &without, false);
}

static void call_can_be_forgotten_after_its_deadline(void **state) {
    (void)state;
    piso_call calls[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(send_call(pair.host, &calls[i], i, INT64_MIN + i), 0);
    assert_int_equal(piso_session_expire(pair.host), PISO_NO_DEADLINE);
    piso_session_forget(pair.host, &calls[1], true);
    piso_event event = {.size = sizeof event};
    for (int i = 0; i < 2; i++) {
        take(pair.host, PISO_EVENT_FAILED, &event);
        assert_ptr_not_equal(event.call, &calls[1]);
    }
    expect_nothing(pair.host);
}

/* ---- names ---- */

static uint32_t intern(piso_session *s, const char *name) {
    uint32_t id;
    assert_int_equal(piso_session_intern(s, name, strlen(name), &id), 0);
    return id;
}

static void names_become_ids_that_the_peer_knows(void **state) {
    (void)state;
    char text[16];
    size_t size;
    for (uint32_t i = 0; i < 500; i++) {
        snprintf(text, sizeof text, "method%u", i);
        assert_int_equal(intern(pair.host, text), i);
    }
    assert_int_equal(intern(pair.host, "method321"), 321);
    expect_nothing(pair.child);
    assert_string_equal(piso_session_name(pair.child, 321, &size), "method321");
    assert_int_equal(size, 9);
    assert_null(piso_session_name(pair.child, 500, &size));
    assert_null(piso_session_name(pair.host, 0, &size)); /* each side has its own */
}

static void names_have_limits(void **state) {
    (void)state;
    char text[256];
    uint32_t id = 77;
    memset(text, 'x', sizeof text);
    assert_int_equal(piso_session_intern(pair.host, text, 0, &id), -EINVAL);
    assert_int_equal(piso_session_intern(pair.host, text, 256, &id), -EINVAL);
    assert_int_equal(piso_session_intern(pair.host, "a\0b", 3, &id), -EINVAL);
    assert_int_equal(id, 77);
    assert_int_equal(piso_session_intern(pair.host, text, 255, &id), 0);
    for (unsigned i = 1; i < PISO__MAX_NAMES; i++) {
        snprintf(text, sizeof text, "%u", i);
        assert_int_equal(intern(pair.host, text), i);
    }
    assert_int_equal(piso_session_intern(pair.host, "one more", 8, &id), -ENOSPC);
    assert_int_equal(intern(pair.host, "4711"), 4711);
}

/* ---- buffers ---- */

static void buffer_lives_until_its_receiver_releases_it(void **state) {
    (void)state;
    piso_event event = {.size = sizeof event};
    piso_span span;
    send_buffers(pair.host, NULL, 0, 1, 100000);
    take(pair.child, PISO_EVENT_REQUEST, &event);
    assert_int_equal(event.nspans, 1);
    uint8_t *data = piso_event_take_span(&event, 0, &span);
    assert_non_null(data);
    assert_int_equal(span.length, 100000);
    assert_null(piso_event_take_span(&event, 0, &span));
    assert_null(piso_event_take_span(&event, 1, &span));
    piso_event_fini(&event);
    piso_session_flush(pair.child);
    expect_nothing(pair.host);
    assert_int_equal(stats_of(pair.child).spans_held, 1);
    assert_true(stats_of(pair.host).arena_live >= 100000);
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(data[i], 0);
    piso_session_release(pair.child, &span);
    assert_int_equal(stats_of(pair.child).spans_held, 0);
    piso_session_flush(pair.child);
    expect_nothing(pair.host);
    assert_int_equal(stats_of(pair.host).arena_live, 0);
}

static void buffers_that_nobody_takes_are_released(void **state) {
    (void)state;
    piso_event event = {.size = sizeof event};
    piso_span span;
    send_buffers(pair.host, NULL, 0, 200, 5000);
    take(pair.child, PISO_EVENT_REQUEST, &event);
    assert_int_equal(stats_of(pair.child).spans_held, 200);
    assert_non_null(piso_event_take_span(&event, 150, &span));
    piso_event_fini(&event);
    assert_int_equal(stats_of(pair.child).spans_held, 1);
    piso_session_release(pair.child, &span);
    assert_int_equal(piso_session_sleep_begin(pair.child), 0); /* a sleeping side holds nothing back */
    piso_session_sleep_end(pair.child);
    expect_nothing(pair.host);
    assert_int_equal(stats_of(pair.host).arena_live, 0);
}

static void second_release_does_no_harm(void **state) {
    (void)state;
    piso_event event = {.size = sizeof event};
    piso_span span;
    send_buffers(pair.host, NULL, 0, 1, 5000);
    take(pair.child, PISO_EVENT_REQUEST, &event);
    assert_non_null(piso_event_take_span(&event, 0, &span));
    piso_event_fini(&event);
    piso_session_release(pair.child, &span);
    piso_session_flush(pair.child);
    expect_nothing(pair.host);
    send_buffers(pair.host, NULL, 0, 1, 5000); /* uses the same block */
    uint64_t live = stats_of(pair.host).arena_live;
    piso_session_release(pair.child, &span);
    piso_session_flush(pair.child);
    expect_nothing(pair.host);
    assert_int_equal(stats_of(pair.host).arena_live, live);
}

static void buffers_outlive_the_session_of_their_sender(void **state) {
    (void)state;
    piso_event event = {.size = sizeof event};
    piso_span span;
    send_buffers(pair.host, NULL, 0, 2, 5000);
    take(pair.child, PISO_EVENT_REQUEST, &event);
    uint8_t *data = piso_event_take_span(&event, 1, &span);
    piso_event_fini(&event);
    pair.host = piso_session_unref(pair.host);
    piso_session *kept = piso_session_ref(pair.child);
    pair.child = piso_session_unref(pair.child);
    for (size_t i = 0; i < 5000; i++)
        assert_int_equal(data[i], 1);
    piso_session_release(kept, &span);
    piso_session_unref(kept);
}

static void memory_that_is_not_in_use_is_given_back(void **state) {
    (void)state;
    piso_span span;
    void *data;
    piso_writer w;
    assert_int_equal(piso_session_alloc(pair.host, SMALL_ARENA + 1, &span, &data), -ENOMEM);
    piso_writer_init(&w);
    add_buffer(pair.host, &w, 8 << 20, 1);
    piso_session_discard_spans(pair.host, &w);
    piso_writer_fini(&w);
    assert_int_equal(stats_of(pair.host).arena_live, 0);
    assert_int_equal(stats_of(pair.host).arena_committed, 8 << 20);
    piso_session_trim(pair.host, 1 << 20);
    assert_int_equal(stats_of(pair.host).arena_committed, 1 << 20);
    piso_session_trim(pair.host, 0);
    assert_int_equal(stats_of(pair.host).arena_committed, 0);
}

/* ---- forks ---- */

/* in_fork: checks what a process forked from the owner may do with a session: nothing, safely. Returns its exit
 * status. */
static int in_fork(piso_event *event) {
    piso_call call = {.id = 1};
    piso_span span = {.length = 1}, taken;
    void *data;
    size_t size;
    uint32_t id;
    piso_event other = {.size = sizeof other};
    piso_session *s = pair.host;
    bool refused = send_call(s, &call, 1, PISO_NO_DEADLINE) == PISO_EFORKED && send_reply(s, 1, 1) == PISO_EFORKED &&
                   piso_session_next(s, &other) == PISO_EFORKED && piso_session_state(s) == PISO_EFORKED &&
                   piso_session_alloc(s, 1, &span, &data) == PISO_EFORKED &&
                   piso_session_intern(s, "x", 1, &id) == PISO_EFORKED && piso_session_fd(s) == PISO_EFORKED &&
                   piso_session_handshake(s, 0) == PISO_EFORKED && piso_session_sleep_begin(s) == PISO_EFORKED &&
                   piso_session_wait(s, -1, 0) == PISO_EFORKED && piso_session_ready(s) && piso_session_spin(s) == 1 &&
                   !piso_session_name(s, 0, &size) && piso_session_expire(s) == PISO_NO_DEADLINE &&
                   !piso_event_take_span(event, 0, &taken) && stats_of(s).calls_sent == 0;
    piso_session_poll_begin(s);
    refused = refused && piso_session_poll_end(s) == 1;
    piso_session_sleep_end(s);
    piso_session_forget(s, &call, true);
    piso_session_release(s, &span);
    piso_session_flush(s);
    piso_session_trim(s, 0);
    piso_event_fini(event);
    piso_session_close(s);
    close_pair(&pair);
    return refused ? 0 : 1;
}

static void forked_process_is_refused_and_does_no_harm(void **state) {
    (void)state;
    piso_call call;
    piso_event event = {.size = sizeof event};
    send_buffers(pair.child, NULL, 0, 1, 5000);
    take(pair.host, PISO_EVENT_REQUEST, &event);
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_fork(&event));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    piso_event_fini(&event);
    assert_int_equal(send_call(pair.host, &call, 1, PISO_NO_DEADLINE), 0);
    assert_int_equal(send_reply(pair.child, take_request(pair.child, 1), 2), 0);
    take_result(pair.host, &call, 2);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, open_ends, close_ends)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_PAIR(call_reaches_the_peer_and_its_answer_the_caller),
        WITH_PAIR(exception_is_told_from_a_result),
        WITH_PAIR(call_without_reply_cannot_be_answered),
        WITH_PAIR(answers_may_come_in_any_order),
        WITH_PAIR(handler_may_call_back_before_it_answers),
        WITH_PAIR(request_is_answered_once),
        WITH_PAIR(wrong_arguments_are_refused),
        WITH_PAIR(bodies_of_all_sizes_arrive_in_order),
        WITH_PAIR(flood_without_a_receiver_waits_in_memory),
        WITH_PAIR(small_messages_do_not_overtake_large_ones),
        WITH_PAIR(calls_in_flight_are_limited),
        WITH_PAIR(call_names_the_request_that_it_is_made_for),
        WITH_PAIR(forgotten_call_is_heard_of_no_more),
        WITH_PAIR(cancellation_reaches_the_handler),
        WITH_PAIR(cancellation_that_crosses_the_answer_is_not_told),
        WITH_PAIR(deadline_ends_a_call_and_cancels_its_handler),
        WITH_PAIR(call_can_be_forgotten_after_its_deadline),
        WITH_PAIR(names_become_ids_that_the_peer_knows),
        WITH_PAIR(names_have_limits),
        WITH_PAIR(buffer_lives_until_its_receiver_releases_it),
        WITH_PAIR(buffers_that_nobody_takes_are_released),
        WITH_PAIR(second_release_does_no_harm),
        WITH_PAIR(buffers_outlive_the_session_of_their_sender),
        WITH_PAIR(memory_that_is_not_in_use_is_given_back),
        WITH_PAIR(forked_process_is_refused_and_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
