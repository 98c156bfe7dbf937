/* segment_tools.h - shared by the tests of shared segments: sends and receives segments, forges frames and
 * spans, and makes memory that looks like a segment. */
#ifndef PISO_TESTS_SEGMENT_TOOLS_H
#define PISO_TESTS_SEGMENT_TOOLS_H

#include <fcntl.h>
#include <sys/mman.h>

#include "session_tools.h"

#define HUGE_PAGE ((off_t)2 << 20)

static inline ends open_sharing_pair(void) {
    ends e = open_pair();
    piso_session_share(e.host, true);
    return e;
}

static inline piso_segment *new_segment(uint64_t size) {
    piso_segment *segment;
    assert_int_equal(piso_segment_create(size, &segment), 0);
    return segment;
}

/* send_segment: sends a message with one span of the segment. */
static inline void send_segment(piso_session *s, piso_segment *segment, uint64_t offset, uint64_t length) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_nil(&w);
    assert_int_equal(piso_writer_add_segment(&w, segment, offset, length), 0);
    assert_int_equal(piso_session_call(s, NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w), 0);
    assert_int_equal(w.nsegments, 0);
    piso_writer_fini(&w);
}

/* take_segment: takes the segment of the next request. */
static inline piso_segment *take_segment(piso_session *s, piso_span *ret_span, bool *ret_ours) {
    piso_event event = {.size = sizeof event};
    take(s, PISO_EVENT_REQUEST, &event);
    assert_int_equal(event.nspans, 1);
    piso_span span;
    assert_null(piso_event_take_span(&event, 0, &span)); /* it is not in the arena */
    piso_segment *segment = piso_event_take_segment(&event, 0, ret_span, ret_ours);
    assert_non_null(segment);
    /* as often as the message names it */
    assert_ptr_equal(piso_event_take_segment(&event, 0, &span, ret_ours), segment);
    piso_segment_unref(segment);
    piso_event_fini(&event);
    return segment;
}

static inline void settle(ends *e) {
    expect_nothing(e->host);
    expect_nothing(e->child);
    expect_nothing(e->host);
}

/* fill_ring: sends messages that the peer does not read, until no further one fits. */
static inline void fill_ring(piso_session *s) {
    while (piso__ring_room(&s->channel->tx, PISO__FRAME_SIZE) == 0)
        assert_int_equal(send_call(s, NULL, 0, PISO_NO_DEADLINE), 0);
    assert_int_equal(stats_of(s).queued, 0);
}

static inline void send_frame(piso_session *s, piso__frame_type type, uint32_t id) {
    piso__frame frame = {.type = type, .method = id};
    piso__session_lock(s);
    assert_int_equal(piso__session_send(s, &frame, NULL, NULL, 0), 0);
    piso__session_unlock(s);
}

/* send_span: sends a call with the given span, valid or not. */
static inline void send_span(piso_session *s, piso_span span) {
    piso__frame frame = {.type = PISO__FRAME_CALL, .flags = PISO_CALL_NO_REPLY, .nspans = 1};
    piso__session_lock(s);
    assert_int_equal(piso__session_send(s, &frame, &span, "\xc0", 1), 0);
    piso__session_unlock(s);
}

#define SEALED (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static inline int odd_memory(unsigned flags, int seals, bool backed) {
    int fd = memfd_create("odd", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    if (fd < 0)
        return -1; /* a kernel without huge pages */
    assert_int_equal(ftruncate(fd, HUGE_PAGE), 0);
    if (backed)
        assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, HUGE_PAGE), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

#endif
