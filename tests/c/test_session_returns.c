/* test_session_returns.c - received buffers that are returned to their sender: without a copy, once, and only
 * those that were really received. */
#include "session_tools.h"

#include <errno.h>

#define SIZE ((size_t)100000)

/* lend: sends a buffer to the child, which takes it. The call that brought it is open. */
static void *lend(piso_call *call, piso_span *ret_span, uint64_t *ret_request) {
    piso_event event = {.size = sizeof event};
    send_buffers(pair.host, call, 0, 1, SIZE);
    take(pair.child, PISO_EVENT_REQUEST, &event);
    void *data = piso_event_take_span(&event, 0, ret_span);
    assert_non_null(data);
    *ret_request = event.id;
    piso_event_fini(&event);
    return data;
}

/* reply_with: the child answers with the given span, valid or not. */
static void reply_with(uint64_t request, int count, const piso_span *spans) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_nil(&w);
    for (int i = 0; i < count; i++)
        assert_int_equal(piso_writer_add_span(&w, &spans[i]), i);
    assert_int_equal(piso_session_reply(pair.child, request, false, &w), 0);
    piso_writer_fini(&w);
}

static void send_back(uint64_t request, const piso_span *span, size_t length) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_nil(&w);
    assert_int_equal(piso_session_return_span(pair.child, &w, span, length), 0);
    assert_int_equal(piso_session_reply(pair.child, request, false, &w), 0);
    piso_writer_fini(&w);
}

/* expect_refusal: checks that the session has ended, and with it the call. */
static void expect_refusal(piso_call *call) {
    take_failure(pair.host, call, PISO_EPROTO);
    expect_end(pair.host, PISO_EPROTO);
}

/* ---- what it is for ---- */

static void comes_back_as_the_same_memory(void **state) {
    (void)state;
    piso_call call;
    piso_span span;
    piso_event event = {.size = sizeof event};
    uint64_t request;
    uint8_t *theirs = lend(&call, &span, &request);
    uint64_t live = stats_of(pair.host).arena_live;
    theirs[7] = 77;
    send_back(request, &span, 5000);
    assert_int_equal(stats_of(pair.child).spans_held, 0);
    assert_int_equal(stats_of(pair.child).arena_live, 0);
    take(pair.host, PISO_EVENT_REPLY, &event);
    uint8_t *ours = piso_event_take_span(&event, 0, &span);
    assert_int_equal(ours[7], 77);
    theirs[8] = 88;
    assert_int_equal(ours[8], 88);
    assert_int_equal(span.length, 5000);
    piso_event_fini(&event);
    assert_int_equal(stats_of(pair.host).arena_live, live);
    assert_int_equal(stats_of(pair.host).spans_held, 1);
    piso_session_release(pair.host, &span);
    assert_int_equal(stats_of(pair.host).arena_live, 0);
    assert_int_equal(stats_of(pair.host).spans_held, 0);
}

static void travels_on_and_on(void **state) {
    (void)state;
    piso_call call;
    piso_span span;
    piso_event event = {.size = sizeof event};
    uint64_t request;
    lend(&call, &span, &request);
    uint64_t live = stats_of(pair.host).arena_live;
    for (int i = 0; i < 5; i++) {
        send_back(request, &span, SIZE);
        take(pair.host, PISO_EVENT_REPLY, &event);
        assert_non_null(piso_event_take_span(&event, 0, &span));
        piso_event_fini(&event);
        piso_writer w;
        piso_writer_init(&w);
        assert_int_equal(piso_session_return_span(pair.host, &w, &span, SIZE), 0);
        assert_int_equal(piso_session_call(pair.host, &call, 0, 0, 0, 0, PISO_NO_DEADLINE, &w), 0);
        piso_writer_fini(&w);
        take(pair.child, PISO_EVENT_REQUEST, &event);
        assert_non_null(piso_event_take_span(&event, 0, &span));
        request = event.id;
        piso_event_fini(&event);
        assert_int_equal(stats_of(pair.host).arena_live, live);
    }
    piso_session_release(pair.child, &span);
    piso_session_flush(pair.child);
    expect_nothing(pair.host);
    assert_int_equal(stats_of(pair.host).arena_live, 0);
    assert_int_equal(stats_of(pair.child).arena_live, 0);
}

static void is_freed_when_nobody_takes_it(void **state) {
    (void)state;
    piso_call call;
    piso_span span;
    piso_event event = {.size = sizeof event};
    uint64_t request;
    lend(&call, &span, &request);
    send_back(request, &span, SIZE);
    take(pair.host, PISO_EVENT_REPLY, &event);
    piso_event_fini(&event);
    assert_int_equal(stats_of(pair.host).arena_live, 0);

    lend(&call, &span, &request);
    piso_session_forget(pair.host, &call, false);
    send_back(request, &span, SIZE);
    expect_nothing(pair.host);
    assert_int_equal(stats_of(pair.host).arena_live, 0);
    assert_int_equal(stats_of(pair.host).spans_held, 0);
}

static void is_released_when_the_message_is_not_sent(void **state) {
    (void)state;
    piso_call call;
    piso_span span;
    uint64_t request;
    lend(&call, &span, &request);
    piso_writer w;
    piso_writer_init(&w);
    assert_int_equal(piso_session_return_span(pair.child, &w, &span, SIZE + 1), -EINVAL);
    assert_int_equal(piso_session_return_span(pair.child, &w, &span, 0), -EINVAL);
    assert_int_equal(piso_session_return_span(pair.child, &w, &span, SIZE), 0);
    assert_int_equal(piso_session_reply(pair.child, request + 1, false, &w), -ENOENT);
    piso_session_discard_spans(pair.child, &w);
    piso_writer_fini(&w);
    assert_int_equal(stats_of(pair.child).spans_held, 0);
    piso_session_flush(pair.child);
    expect_nothing(pair.host);
    assert_int_equal(stats_of(pair.host).arena_live, 0);
}

/* ---- a peer that lies ---- */

enum { GENERATION, LENGTH, EMPTY, OFFSET, INSIDE, FAR_AWAY, SEGMENT, LIES };

static void a_buffer_that_the_peer_does_not_hold_ends_the_session(void **state) {
    (void)state;
    for (int lie = GENERATION; lie < LIES; lie++) {
        piso_call call;
        piso_span span;
        uint64_t request;
        lend(&call, &span, &request);
        span.segment = PISO_SPAN_RETURNED;
        span.generation += lie == GENERATION;
        span.length = lie == LENGTH ? SIZE * 2 : lie == EMPTY ? 0 : SIZE;
        span.offset += lie == OFFSET ? 1 << 20 : lie == INSIDE ? 4096 : 0;
        span.offset = lie == FAR_AWAY ? UINT64_MAX - 63 : span.offset;
        span.segment += lie == SEGMENT;
        reply_with(request, 1, &span);
        expect_refusal(&call);
        close_pair(&pair);
        pair = open_pair();
    }
}

static void a_buffer_is_returned_once(void **state) {
    (void)state;
    piso_call call;
    piso_span spans[2];
    uint64_t request;
    lend(&call, &spans[0], &request);
    spans[0].segment = PISO_SPAN_RETURNED;
    spans[1] = spans[0];
    reply_with(request, 2, spans);
    expect_refusal(&call);
}

static void a_returned_buffer_is_not_released_by_the_peer(void **state) {
    (void)state;
    piso_call call;
    piso_span span, ours;
    piso_event event = {.size = sizeof event};
    uint64_t request;
    lend(&call, &span, &request);
    send_back(request, &span, SIZE);
    take(pair.host, PISO_EVENT_REPLY, &event);
    assert_non_null(piso_event_take_span(&event, 0, &ours));
    piso_event_fini(&event);
    uint64_t live = stats_of(pair.host).arena_live;
    piso_session_release(pair.child, &span); /* a lie: it has given it back */
    piso_session_flush(pair.child);
    expect_nothing(pair.host);
    assert_int_equal(stats_of(pair.host).arena_live, live);
    piso_session_release(pair.host, &ours);
    assert_int_equal(stats_of(pair.host).arena_live, 0);
}

static void a_buffer_that_was_not_sent_is_not_the_peers(void **state) {
    (void)state;
    piso_call call;
    piso_span span;
    void *data;
    assert_int_equal(piso_session_alloc(pair.host, SIZE, &span, &data), 0);
    uint64_t live = stats_of(pair.host).arena_live;
    piso_session_release(pair.child, &span); /* a lie: it never had it */
    piso_session_flush(pair.child);
    expect_nothing(pair.host);
    assert_int_equal(stats_of(pair.host).arena_live, live);

    assert_int_equal(send_call(pair.host, &call, 1, PISO_NO_DEADLINE), 0);
    span.segment = PISO_SPAN_RETURNED;
    reply_with(take_request(pair.child, 1), 1, &span);
    expect_refusal(&call);
}

static void a_lie_in_an_answer_that_nobody_waits_for(void **state) {
    (void)state;
    piso_call call;
    piso_span span;
    uint64_t request;
    lend(&call, &span, &request);
    piso_session_forget(pair.host, &call, false);
    span.segment = PISO_SPAN_RETURNED;
    span.generation++;
    reply_with(request, 1, &span);
    expect_end(pair.host, PISO_EPROTO);
}

static void a_body_is_never_in_a_returned_buffer(void **state) {
    (void)state;
    piso_call call;
    piso_span span;
    uint64_t request;
    lend(&call, &span, &request);
    span.segment = PISO_SPAN_RETURNED;
    piso__frame frame = {.type = PISO__FRAME_REPLY, .flags = PISO__FRAME_BODY_SPAN, .nspans = 1, .id = request};
    piso__session_lock(pair.child);
    assert_int_equal(piso__session_send(pair.child, &frame, &span, NULL, 0), 0);
    piso__session_unlock(pair.child);
    expect_refusal(&call);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, open_ends, close_ends)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_PAIR(comes_back_as_the_same_memory),
        WITH_PAIR(travels_on_and_on),
        WITH_PAIR(is_freed_when_nobody_takes_it),
        WITH_PAIR(is_released_when_the_message_is_not_sent),
        WITH_PAIR(a_buffer_that_the_peer_does_not_hold_ends_the_session),
        WITH_PAIR(a_buffer_is_returned_once),
        WITH_PAIR(a_returned_buffer_is_not_released_by_the_peer),
        WITH_PAIR(a_buffer_that_was_not_sent_is_not_the_peers),
        WITH_PAIR(a_lie_in_an_answer_that_nobody_waits_for),
        WITH_PAIR(a_body_is_never_in_a_returned_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
