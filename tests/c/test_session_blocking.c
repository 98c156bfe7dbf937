/* test_session_blocking.c - calls that block until their reply, by many threads on one session. */
#include "session_tools.h"

#include <pthread.h>

#include "os/os.h"

#define THREADS 4
#define CALLS   2000

enum { ECHO = 4, ASK_BACK, NEVER, LARGE, FAIL };

/* call: calls an object with one integer. */
static int call(piso_session *s, uint32_t object, int64_t value, int64_t timeout_ns, piso_event *ret_event) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_array(&w, 1);
    piso_write_int(&w, value);
    int r = piso_session_call_wait(s, object, 0, 0, 0, timeout_ns, &w, ret_event);
    piso_session_discard_spans(s, &w);
    piso_writer_fini(&w);
    return r;
}

/* asked: returns the integer of the reply, or a negative code. */
static int64_t asked(piso_session *s, uint32_t object, int64_t value, int64_t timeout_ns) {
    piso_event event;
    piso_event_init(&event);
    int r = call(s, object, value, timeout_ns, &event);
    if (r < 0)
        return r;
    piso_reader reader = {event.body, event.body + event.body_size};
    piso_item item = {.kind = PISO_NIL};
    int64_t result = -1;
    if (event.type == PISO_EVENT_REPLY && piso_read(&reader, &item) == 1 && item.kind == PISO_INT)
        result = item.as.integer;
    else if (event.type == PISO_EVENT_REPLY && item.kind == PISO_BIN)
        result = (int64_t)item.as.bytes.size;
    piso_event_fini(&event);
    return result;
}

static void reply_integer(piso_session *s, uint64_t request, bool is_error, int64_t value) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_int(&w, value);
    piso_session_reply(s, request, is_error, &w);
    piso_writer_fini(&w);
}

static void reply_large(piso_session *s, uint64_t request) {
    static const uint8_t bytes[PISO_EVENT_INLINE - 8];
    piso_writer w;
    piso_writer_init(&w);
    piso_write_bin(&w, bytes, sizeof bytes);
    piso_session_reply(s, request, false, &w);
    piso_writer_fini(&w);
}

static int64_t integer_of(const piso_event *event) {
    piso_reader reader = {event->body, event->body + event->body_size};
    piso_item item;
    return piso_read(&reader, &item) == 1 && piso_read(&reader, &item) == 1 ? item.as.integer : -1;
}

/* For both sides: replies with one more. Before it replies it may ask the other side. */
static _Atomic int handled, cancelled;

static void on_event(void *context, piso_event *event) {
    piso_session *s = context;
    handled++;
    if (event->type == PISO_EVENT_CANCEL)
        cancelled++;
    if (event->type != PISO_EVENT_REQUEST || event->flags & PISO_CALL_NO_REPLY)
        return;
    int64_t value = integer_of(event);
    if (event->object == ECHO)
        reply_integer(s, event->id, false, value + 1);
    else if (event->object == ASK_BACK)
        reply_integer(s, event->id, false, value ? asked(s, ASK_BACK, value - 1, -1) + 1 : 0);
    else if (event->object == LARGE)
        reply_large(s, event->id);
    else if (event->object == FAIL)
        reply_integer(s, event->id, true, value);
}

static void *serve(void *session) {
    return (void *)(intptr_t)piso_session_serve(session, -1);
}

typedef struct server {
    pthread_t thread;
} server;

static server start_serving(void) {
    server x;
    piso_session_on_event(pair.child, on_event, pair.child);
    piso_session_on_event(pair.host, on_event, pair.host);
    assert_int_equal(pthread_create(&x.thread, NULL, serve, pair.child), 0);
    return x;
}

static void stop_serving(server *x, int expected) {
    void *result;
    piso_session_close(pair.host);
    assert_int_equal(pthread_join(x->thread, &result), 0);
    assert_int_equal((int)(intptr_t)result, expected);
}

typedef struct caller {
    uint32_t object;
    int number, wrong;
} caller;

/* call_often: checks that each reply belongs to the thread's own call. */
static void *call_often(void *argument) {
    caller *me = argument;
    for (int i = 0; i < CALLS; i++) {
        int64_t value = (int64_t)me->number * CALLS + i;
        me->wrong += asked(pair.host, ECHO, value, i % 2 ? LONG_ENOUGH : -1) != value + 1;
    }
    return NULL;
}

static void each_thread_gets_its_own_answers(void **state) {
    (void)state;
    server child = start_serving();
    pthread_t threads[THREADS];
    caller callers[THREADS] = {{0}};
    for (int i = 0; i < THREADS; i++) {
        callers[i].number = i;
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &callers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(callers[i].wrong, 0);
    }
    stop_serving(&child, PISO_EDIED);
}

static void *ask_back_often(void *argument) {
    caller *me = argument;
    for (int i = 0; i < 50; i++)
        me->wrong += asked(pair.host, ASK_BACK, me->number, -1) != me->number;
    return NULL;
}

/* Each side waits inside its handler for the other, six deep, in several threads. */
static void handlers_call_back(void **state) {
    (void)state;
    server child = start_serving();
    pthread_t threads[THREADS];
    caller callers[THREADS] = {{0}};
    for (int i = 0; i < THREADS; i++) {
        callers[i].number = 3 + i;
        assert_int_equal(pthread_create(&threads[i], NULL, ask_back_often, &callers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(callers[i].wrong, 0);
    }
    stop_serving(&child, PISO_EDIED);
}

static void *call_in_vain(void *argument) {
    *(int64_t *)argument = asked(pair.host, NEVER, 0, -1);
    return NULL;
}

/* A thread with a short timeout joins one with a long timeout: the reader must wake for the short one. */
static void time_is_each_call_s_own(void **state) {
    (void)state;
    server child = start_serving();
    pthread_t patient;
    int64_t result = 0;
    cancelled = 0;
    assert_int_equal(pthread_create(&patient, NULL, call_in_vain, &result), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(asked(pair.host, NEVER, i, SECOND / 100), -ETIMEDOUT);
    assert_int_equal(asked(pair.host, ECHO, 1, LONG_ENOUGH), 2);
    assert_int_equal(cancelled, 3);
    piso_session_close(pair.host);
    assert_int_equal(pthread_join(patient, NULL), 0);
    assert_int_equal(result, PISO_ECLOSED);
    assert_int_equal(asked(pair.host, ECHO, 1, -1), PISO_ECLOSED);
    stop_serving(&child, PISO_EDIED);
}

/* call_until_the_end: returns what ended it; -1: a wrong reply. */
static void *call_until_the_end(void *argument) {
    int64_t *result = argument;
    do
        *result = asked(pair.host, ECHO, 1, -1);
    while (*result == 2);
    return NULL;
}

/* Whatever the threads do at that moment: one reads, others sleep, or are between two calls. */
static void the_end_reaches_every_thread(void **state) {
    (void)state;
    for (int round = 0; round < 20; round++) {
        pair = open_pair();
        server child = start_serving();
        pthread_t threads[THREADS];
        int64_t results[THREADS];
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, call_until_the_end, &results[i]), 0);
        usleep((unsigned)round * 50);
        bool by_peer = round % 2;
        piso_session_close(by_peer ? pair.child : pair.host);
        for (int i = 0; i < THREADS; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            assert_int_equal(results[i], by_peer ? PISO_EDIED : PISO_ECLOSED);
        }
        stop_serving(&child, by_peer ? PISO_ECLOSED : PISO_EDIED);
        close_pair(&pair);
    }
}

static void errors_are_answers(void **state) {
    (void)state;
    server child = start_serving();
    piso_event event;
    piso_event_init(&event);
    assert_int_equal(call(pair.host, FAIL, 8, -1, &event), 0);
    assert_int_equal(event.type, PISO_EVENT_ERROR);
    assert_null(event.call);
    piso_event_fini(&event);
    event.size = 0;
    assert_int_equal(call(pair.host, ECHO, 8, -1, &event), -EINVAL);
    stop_serving(&child, PISO_EDIED);
}

/* The event of a caller that was compiled with less room in it. */
static void a_body_finds_room(void **state) {
    (void)state;
    server child = start_serving();
    piso_event event;
    memset(&event, 0xa5, sizeof event);
    event.size = offsetof(piso_event, inline_body) + 16;
    assert_int_equal(call(pair.host, LARGE, 0, -1, &event), 0);
    assert_int_equal(event.body_size, PISO_EVENT_INLINE - 8 + 3);
    assert_int_equal(event.body[2], (PISO_EVENT_INLINE - 8) & 0xff);
    for (size_t i = event.size; i < sizeof event; i++)
        assert_int_equal(((uint8_t *)&event)[i], 0xa5);
    piso_event_fini(&event);
    assert_int_equal(atomic_load(&pair.host->event_bytes), 0);
    stop_serving(&child, PISO_EDIED);
}

static void without_a_handler_requests_are_refused(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, serve, pair.child), 0);
    piso_event event;
    piso_event_init(&event);
    assert_int_equal(call(pair.host, ECHO, 0, -1, &event), 0);
    assert_int_equal(event.type, PISO_EVENT_ERROR);
    piso_reader reader = {event.body, event.body + event.body_size};
    piso_item item;
    assert_int_equal(piso_read(&reader, &item), 1);
    assert_int_equal(item.kind, PISO_EXT);
    assert_int_equal(item.ext_type, PISO_EXT_EXCEPTION);
    piso_event_fini(&event);
    piso_session_close(pair.host);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* As in an event loop: handles what is there, and waits for nothing. */
static void serving_does_not_wait_unless_asked_to(void **state) {
    (void)state;
    piso_session_on_event(pair.child, on_event, pair.child);
    handled = 0;
    assert_int_equal(piso_session_serve(pair.child, 0), 0);
    piso_call calls[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(send_call(pair.host, &calls[i], i, PISO_NO_DEADLINE), 0);
    assert_int_equal(piso_session_serve(pair.child, 0), 0);
    assert_int_equal(handled, 3);
    assert_int_equal(piso_session_serve(pair.child, SECOND / 1000), 0);
    piso_session_close(pair.host);
    assert_int_equal(piso_session_serve(pair.child, -1), PISO_EDIED);
    assert_int_equal(piso_session_serve(pair.child, 0), PISO_EDIED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_thread_gets_its_own_answers, open_ends, close_ends),
        cmocka_unit_test_setup_teardown(handlers_call_back, open_ends, close_ends),
        cmocka_unit_test_setup_teardown(time_is_each_call_s_own, open_ends, close_ends),
        cmocka_unit_test(the_end_reaches_every_thread),
        cmocka_unit_test_setup_teardown(errors_are_answers, open_ends, close_ends),
        cmocka_unit_test_setup_teardown(a_body_finds_room, open_ends, close_ends),
        cmocka_unit_test_setup_teardown(without_a_handler_requests_are_refused, open_ends, close_ends),
        cmocka_unit_test_setup_teardown(serving_does_not_wait_unless_asked_to, open_ends, close_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
