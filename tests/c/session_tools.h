/* session_tools.h - shared by the tests of sessions: two ends in one process, short functions to call and
 * answer. */
#ifndef PISO_TESTS_SESSION_TOOLS_H
#define PISO_TESTS_SESSION_TOOLS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <unistd.h>

#include "descriptors.h"
#include "session/send.h"

#define SMALL_ARENA ((size_t)64 << 20)
#define SECOND      INT64_C(1000000000)
#define LONG_ENOUGH (30 * SECOND) /* for events that happen at once unless something is broken */

typedef struct ends {
    piso_session *host, *child;
} ends;

static inline ends open_pair(void) {
    ends e;
    assert_int_equal(piso_session_pair(SMALL_ARENA, &e.host, &e.child), 0);
    return e;
}

static inline void close_pair(ends *e) {
    e->host = piso_session_unref(e->host);
    e->child = piso_session_unref(e->child);
}

/* open_ends, close_ends: a pair for each test, as cmocka's setup and teardown. */
static ends pair __attribute__((unused));

static inline int open_ends(void **state) {
    (void)state;
    pair = open_pair();
    return 0;
}

static inline int close_ends(void **state) {
    (void)state;
    close_pair(&pair);
    return 0;
}

static inline piso_stats stats_of(piso_session *s) {
    piso_stats stats = {.size = sizeof stats};
    piso_session_stats(s, &stats);
    return stats;
}

/* ---- sending ---- */

/* send_call: sends a call of method 5 of object 4 with an integer. Returns what piso_session_call returns. */
static inline int send_call(piso_session *s, piso_call *call, int64_t value, int64_t deadline_ns) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_int(&w, value);
    int r = piso_session_call(s, call, 4, 5, call ? 0 : PISO_CALL_NO_REPLY, 0, deadline_ns, &w);
    piso_writer_fini(&w);
    return r;
}

static inline int send_reply(piso_session *s, uint64_t request, int64_t value) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_int(&w, value);
    int r = piso_session_reply(s, request, false, &w);
    piso_writer_fini(&w);
    return r;
}

/* add_buffer: adds a shared buffer full of `value` to the writer, as its next span. */
static inline void add_buffer(piso_session *s, piso_writer *w, size_t size, int value) {
    piso_span span;
    void *data;
    assert_int_equal(piso_session_alloc(s, size, &span, &data), 0);
    memset(data, value, size);
    assert_true(piso_writer_add_span(w, &span) >= 0);
}

/* send_buffers: sends a call (or, with a request, its reply) that carries `count` buffers. */
static inline void send_buffers(piso_session *s, piso_call *call, uint64_t request, int count, size_t size) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_nil(&w);
    for (int i = 0; i < count; i++)
        add_buffer(s, &w, size, i);
    int r = request ? piso_session_reply(s, request, false, &w)
                    : piso_session_call(s, call, 0, 0, call ? 0 : PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w);
    assert_int_equal(r, 0);
    assert_int_equal(w.nspans, 0);
    piso_writer_fini(&w);
}

/* ---- receiving ---- */

/* take: takes the next event, which must be there and have this type. The caller ends it. */
static inline void take(piso_session *s, piso_event_type type, piso_event *ret_event) {
    assert_int_equal(piso_session_next(s, ret_event), 1);
    assert_int_equal(ret_event->type, type);
}

static inline int64_t integer_in(const piso_event *event) {
    piso_reader reader = {event->body, event->body + event->body_size};
    piso_item item;
    assert_int_equal(piso_read(&reader, &item), 1);
    assert_int_equal(item.kind, PISO_INT);
    return item.as.integer;
}

/* take_request: takes a request that carries `value`, and returns its id. */
static inline uint64_t take_request(piso_session *s, int64_t value) {
    piso_event event = {.size = sizeof event};
    take(s, PISO_EVENT_REQUEST, &event);
    assert_int_equal(integer_in(&event), value);
    piso_event_fini(&event);
    return event.id;
}

static inline void take_result(piso_session *s, const piso_call *call, int64_t value) {
    piso_event event = {.size = sizeof event};
    take(s, PISO_EVENT_REPLY, &event);
    assert_ptr_equal(event.call, call);
    assert_int_equal(call->id, 0);
    assert_int_equal(integer_in(&event), value);
    piso_event_fini(&event);
}

static inline void take_failure(piso_session *s, const piso_call *call, int error) {
    piso_event event = {.size = sizeof event};
    take(s, PISO_EVENT_FAILED, &event);
    assert_ptr_equal(event.call, call);
    assert_int_equal(call->id, 0);
    assert_int_equal(event.error, error);
    piso_event_fini(&event);
}

static inline void expect_nothing(piso_session *s) {
    piso_event event = {.size = sizeof event};
    assert_int_equal(piso_session_next(s, &event), 0);
}

/* expect_end: checks that no event comes any more, because of this error. */
static inline void expect_end(piso_session *s, int error) {
    piso_event event = {.size = sizeof event};
    for (int i = 0; i < 2; i++)
        assert_int_equal(piso_session_next(s, &event), error);
    assert_int_equal(piso_session_state(s), error);
}

static inline bool is_readable(piso_session *s) {
    int fd = piso_session_fd(s);
    return piso__poll_in(&fd, 1, 0) != 0;
}

/* await: waits for the next event. Returns what piso_session_next returns, or 0 if none came in time. */
static inline int await(piso_session *s, piso_event *ret_event) {
    for (;;) {
        int r = piso_session_next(s, ret_event);
        if (r != 0)
            return r;
        r = piso_session_wait(s, -1, LONG_ENOUGH);
        if (r <= 0 && r != -EINTR)
            return r;
    }
}

static inline uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

#endif
