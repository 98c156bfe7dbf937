/* test_session_segments.c - memory shared by descriptor. The descriptor is sent once, the memory is recognised
 * when it comes back, and its ids live until both sides have retired them. A peer that lies about it loses the
 * session. */
#include <sys/resource.h>

#include "segment_tools.h"
#include "skipping.h"

/* hand_over: sends a segment, and takes it at the other end. */
static void hand_over(piso_session *from, piso_session *to, piso_segment *segment, uint64_t length) {
    piso_span span;
    bool ours;
    send_segment(from, segment, 0, length);
    piso_segment_unref(take_segment(to, &span, &ours));
}

static void it_crosses_once_and_comes_back(void **state) {
    (void)state;
    ends e = open_sharing_pair();
    piso_segment *segment = new_segment(8192);
    piso_span span;
    bool ours;
    for (int i = 0; i < 3; i++) {
        send_segment(e.host, segment, 64, 100);
        piso_segment *there = take_segment(e.child, &span, &ours);
        assert_false(ours);
        assert_int_equal(span.offset, 64);
        assert_int_equal(span.length, 100);
        assert_int_equal(piso_segment_size(there), 8192);
        send_segment(e.child, there, 0, 8192);
        piso_segment_unref(there);
        piso_segment *back = take_segment(e.host, &span, &ours);
        assert_true(ours);
        assert_ptr_equal(back, segment);
        piso_segment_unref(back);
    }
    assert_int_equal(stats_of(e.host).segments, 1);
    assert_int_equal(stats_of(e.child).segments, 1);
    piso_segment_unref(segment);
    close_pair(&e);
}

static void a_retired_id_is_free_again(void **state) {
    (void)state;
    ends e = open_sharing_pair();
    int fds = count_fds();
    piso_span span;
    bool ours;
    for (int i = 0; i < 1000; i++) {
        piso_segment *segment = new_segment(1);
        send_segment(e.host, segment, 0, 1);
        piso_segment_unref(take_segment(e.child, &span, &ours));
        piso_session_retire(e.host, segment);
        piso_segment_unref(segment);
        piso_event event = {.size = sizeof event};
        take(e.child, PISO_EVENT_RETIRED, &event);
        assert_non_null(event.segment);
        piso_event_fini(&event);
        settle(&e);
    }
    assert_true(e.host->given_capacity <= 16);
    assert_int_equal(stats_of(e.host).segments, 0);
    assert_int_equal(stats_of(e.child).segments, 0);
    assert_int_equal(count_fds(), fds);
    close_pair(&e);
}

static void a_retirement_that_cannot_be_answered_keeps_nothing(void **state) {
    (void)state;
    int fds = count_fds();
    ends e = open_sharing_pair();
    piso_segment *segment = new_segment(100);
    hand_over(e.child, e.host, segment, 100);
    fill_ring(e.host);
    atomic_store(&e.host->channel->tx.shared->consumed, UINT64_C(1) << 40);
    piso_session_retire(e.child, segment);
    piso_segment_unref(segment);
    expect_end(e.host, PISO_EPROTO);
    close_pair(&e);
    assert_int_equal(count_fds(), fds);
}

/* Messages that the child sent before it read the retirement still name the segment. */
static void an_id_outlives_what_is_under_way(void **state) {
    (void)state;
    ends e = open_sharing_pair();
    piso_segment *segment = new_segment(100), *first = segment;
    piso_span span;
    bool ours;
    send_segment(e.host, segment, 0, 100);
    piso_segment *there = take_segment(e.child, &span, &ours);
    piso_session_retire(e.host, segment);
    segment = piso_segment_unref(segment);
    send_segment(e.child, there, 0, 100); /* the retirement has not been read */
    piso_segment *back = take_segment(e.host, &span, &ours);
    assert_ptr_equal(back, first);
    send_segment(e.host, back, 1, 2); /* under a new id */
    piso_event event = {.size = sizeof event};
    take(e.child, PISO_EVENT_RETIRED, &event);
    piso_event_fini(&event);
    piso_segment *again = take_segment(e.child, &span, &ours);
    assert_ptr_equal(again, there);
    assert_int_equal(span.offset, 1);
    settle(&e);
    assert_int_equal(stats_of(e.host).segments, 1);
    piso_segment_unref(there);
    piso_segment_unref(again);
    piso_segment_unref(back);
    close_pair(&e);
}

/* More descriptors than a socket holds, with nobody reading: they wait, in order. */
/* A prefetched segment may be dropped before the peer reads the message: it gets both in order, and nothing
 * stays. */
static void a_segment_may_be_dropped_before_the_peer_looks(void **state) {
    (void)state;
    ends e = open_sharing_pair();
    int fds = count_fds();
    for (int i = 0; i < 16; i++) {
        piso_segment *segment = new_segment(100);
        send_segment(e.host, segment, 0, 100);
        piso_session_retire(e.host, segment);
        piso_segment_unref(segment);
    }
    for (int i = 0; i < 16; i++) {
        piso_span span;
        bool ours;
        piso_segment_unref(take_segment(e.child, &span, &ours));
        piso_event event = {.size = sizeof event};
        take(e.child, PISO_EVENT_RETIRED, &event);
        piso_event_fini(&event);
    }
    settle(&e);
    assert_int_equal(stats_of(e.host).segments, 0);
    assert_int_equal(stats_of(e.child).segments, 0);
    assert_int_equal(count_fds(), fds);
    close_pair(&e);
}

/* A peer that ends without reading leaves nothing, not even what is in the socket. */
static void a_segment_that_nobody_looks_at_goes_with_the_session(void **state) {
    (void)state;
    int fds = count_fds();
    ends e = open_sharing_pair();
    piso_segment *segment = new_segment(100);
    send_segment(e.host, segment, 0, 100);
    piso_segment_unref(segment);
    close_pair(&e);
    assert_int_equal(count_fds(), fds);
}

static void a_flood_waits_in_order(void **state) {
    (void)state;
    enum { COUNT = 1000 };
    ends e = open_sharing_pair();
    piso_span span;
    bool ours;
    for (int i = 0; i < COUNT; i++) {
        piso_segment *segment = new_segment((uint64_t)i + 1);
        send_segment(e.host, segment, (uint64_t)i, 1);
        piso_segment_unref(segment);
    }
    assert_false(piso_session_ready(e.host)); /* nothing to do before the peer has answered */
    for (int i = 0; i < COUNT; i++) {
        while (!piso_session_ready(e.child))
            expect_nothing(e.host);
        piso_event event = {.size = sizeof event};
        if (piso_session_next(e.child, &event) == 0) {
            i--;
            expect_nothing(e.host);
            continue;
        }
        piso_segment *there = piso_event_take_segment(&event, 0, &span, &ours);
        assert_int_equal(span.offset, i);
        assert_int_equal(piso_segment_size(there), i + 1);
        piso_segment_unref(there);
        piso_event_fini(&event);
    }
    close_pair(&e);
}

static void both_sides_share_with_each_other(void **state) {
    (void)state;
    ends e = open_sharing_pair();
    piso_segment *a = new_segment(10), *b = new_segment(20);
    piso_span span;
    bool ours;
    send_segment(e.host, a, 0, 10);
    send_segment(e.child, b, 0, 20);
    piso_segment *a2 = take_segment(e.child, &span, &ours), *b2 = take_segment(e.host, &span, &ours);
    assert_false(ours);
    assert_ptr_equal(a2, a);
    assert_ptr_equal(b2, b);
    piso_session_retire(e.child, a2); /* not the child's to retire: nothing happens */
    settle(&e);
    assert_int_equal(stats_of(e.host).segments, 2);
    piso_segment_unref(a2);
    piso_segment_unref(b2);
    piso_segment_unref(a);
    piso_segment_unref(b);
    close_pair(&e);
}

static void a_failed_call_keeps_nothing(void **state) {
    (void)state;
    ends e = open_sharing_pair();
    int fds = count_fds();
    piso_segment *segment = new_segment(10);
    piso_writer w;
    piso_writer_init(&w);
    assert_int_equal(piso_writer_add_segment(&w, segment, 5, 6), -EINVAL);
    assert_int_equal(piso_writer_add_segment(&w, segment, 11, 1), -EINVAL);
    assert_int_equal(piso_writer_add_segment(&w, segment, 0, 10), 0);
    piso_session_close(e.host);
    assert_int_equal(piso_session_call(e.host, NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w), PISO_ECLOSED);
    piso_session_discard_spans(e.host, &w);
    piso_writer_fini(&w);
    piso_segment_unref(segment);
    assert_int_equal(count_fds(), fds);
    close_pair(&e);
}

static void an_ended_session_lets_go(void **state) {
    (void)state;
    int fds = count_fds();
    ends e = open_sharing_pair();
    for (int i = 0; i < 100; i++) {
        piso_segment *segment = new_segment(10);
        send_segment(i & 1 ? e.host : e.child, segment, 0, 10);
        piso_segment_unref(segment);
    }
    close_pair(&e);
    assert_int_equal(count_fds(), fds);
}

/* ---- lies ---- */

static void unasked_descriptors_end_the_session(void **state) {
    (void)state;
    ends e = open_pair();
    piso_segment *segment = new_segment(10);
    send_segment(e.child, segment, 0, 10);
    expect_end(e.host, PISO_EPROTO);
    piso_segment_unref(segment);
    close_pair(&e);
}

static void frames_out_of_turn_end_the_session(void **state) {
    (void)state;
    static const struct {
        piso__frame_type type;
        uint32_t id;
    } lies[] = {
        {PISO__FRAME_ATTACH, 1},   {PISO__FRAME_ATTACH, 0},   {PISO__FRAME_ATTACH, UINT32_MAX},
        {PISO__FRAME_ATTACHED, 0}, {PISO__FRAME_ATTACHED, 1}, {PISO__FRAME_ATTACHED, UINT32_MAX},
        {PISO__FRAME_RETIRE, 0},   {PISO__FRAME_RETIRE, 1},   {PISO__FRAME_RETIRE, UINT32_MAX},
        {PISO__FRAME_RETIRED, 0},  {PISO__FRAME_RETIRED, 1},  {PISO__FRAME_RETIRED, UINT32_MAX},
        {PISO__FRAME_REFUSED, 0},  {PISO__FRAME_REFUSED, 1},  {PISO__FRAME_REFUSED, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        ends e = open_sharing_pair();
        send_frame(e.child, lies[i].type, lies[i].id);
        expect_end(e.host, PISO_EPROTO);
        close_pair(&e);
    }
}

static void a_second_acknowledgement_ends_the_session(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        ends e = open_sharing_pair();
        piso_segment *segment = new_segment(10);
        hand_over(e.host, e.child, segment, 10);
        expect_nothing(e.host);
        send_frame(e.child, i ? PISO__FRAME_ATTACHED : PISO__FRAME_RETIRED, 1);
        expect_end(e.host, PISO_EPROTO);
        piso_segment_unref(segment);
        close_pair(&e);
    }
}

static void spans_outside_of_a_segment_end_the_session(void **state) {
    (void)state;
    const piso_span lies[] = {
        {.segment = 2, .length = 1},
        {.segment = 1, .length = 0},
        {.segment = 1, .length = 101},
        {.segment = 1, .offset = 100, .length = 1},
        {.segment = 1, .offset = UINT64_MAX, .length = 2},
        {.segment = 1, .offset = 1, .length = UINT64_MAX},
        {.segment = 1, .generation = 1, .length = 1},
        {.segment = 1 | PISO__SEGMENT_YOURS, .length = 1},
        {.segment = PISO__SEGMENT_YOURS, .length = 1},
        {.segment = UINT32_MAX, .length = 1},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        ends e = open_sharing_pair();
        piso_segment *segment = new_segment(100);
        hand_over(e.child, e.host, segment, 100);
        send_span(e.child, lies[i]);
        expect_end(e.host, PISO_EPROTO);
        piso_segment_unref(segment);
        close_pair(&e);
    }
}

static void packets_that_are_no_attachments_end_the_session(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        ends e = open_sharing_pair();
        int fds = count_fds();
        struct {
            uint32_t id, zero;
            uint64_t size;
        } packet = {i == 0 ? 2 : 1, i == 1, i == 2 ? 11 : 10};
        piso_segment *segment = new_segment(10);
        int fd = i == 3 ? e.child->channel->socket_fd : piso_segment_fd(segment);
        assert_int_equal(piso__send_fds(e.child->channel->socket_fd, &packet, sizeof packet, &fd, 1), 0);
        send_frame(e.child, PISO__FRAME_ATTACH, 1);
        expect_end(e.host, PISO_EPROTO);
        piso_segment_unref(segment);
        assert_int_equal(count_fds(), fds);
        close_pair(&e);
    }
}

/* ---- memory that looks like a segment ---- */

/* Touching such memory could raise SIGBUS, allocate memory of the host, or fail where the host writes. */
static void odd_memory_is_refused(void **state) {
    (void)state;
    const int fds[] = {
        odd_memory(MFD_HUGETLB, SEALED, false),           odd_memory(0, SEALED, false),
        odd_memory(0, SEALED | F_SEAL_WRITE, true),       odd_memory(0, F_SEAL_SHRINK | F_SEAL_SEAL, true),
        odd_memory(0, F_SEAL_SHRINK | F_SEAL_GROW, true), open_again(odd_memory(0, SEALED, true), O_RDONLY),
        open_again(odd_memory(0, SEALED, true), O_PATH),  odd_memory(0, SEALED, true), /* this one is right */
    };
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (fds[i] < 0)
            continue;
        ends e = open_sharing_pair();
        struct {
            uint32_t id, zero;
            uint64_t size;
        } packet = {1, 0, HUGE_PAGE};
        assert_int_equal(piso__send_fds(e.child->channel->socket_fd, &packet, sizeof packet, &fds[i], 1), 0);
        send_frame(e.child, PISO__FRAME_ATTACH, 1);
        if (i == sizeof fds / sizeof *fds - 1)
            expect_nothing(e.host);
        else
            expect_end(e.host, PISO_EPROTO);
        close_pair(&e);
        close(fds[i]);
    }
}

/* The socket holds some hundred packets. A peer that acknowledges them, but leaves them there, blocks nobody. */
static void false_acknowledgements_do_not_block(void **state) {
    (void)state;
    ends e = open_sharing_pair();
    piso_event event = {.size = sizeof event};
    uint32_t i = 0;
    for (; i < 2000 && piso_session_state(e.host) == 0; i++) {
        piso_segment *segment = new_segment(1);
        send_segment(e.host, segment, 0, 1);
        piso_segment_unref(segment);
        send_frame(e.child, PISO__FRAME_ATTACHED, i + 1);
        piso_session_next(e.host, &event);
    }
    assert_in_range(i, PISO__ATTACH_CREDIT + 1, 1999); /* what is not in the socket cannot have been taken out */
    expect_end(e.host, PISO_EPROTO);
    close_pair(&e);
}

/* A segment that would take more descriptors, or more mappings, than a peer may have here is refused, and only
 * its message fails. The sender retires the id, and may send the segment again when there is room. */
static void what_there_is_no_room_for_is_refused(void **state) {
    (void)state;
    uint64_t share = piso__fd_share(), mappings = piso__segment_limit() / 2;
    for (int round = 0; round < 2; round++) {
        uint64_t most = round ? mappings : share;
        if (most > UINT32_MAX / 2 || (!round && mappings < share))
            continue; /* the other limit comes first */
        ends e = open_sharing_pair();
        int fds = count_fds();
        e.host->taken_count = (uint32_t)most; /* as if it had */
        piso_segment *segment = new_segment(1);
        for (int i = 0; i < 3; i++) {
            send_segment(e.child, segment, 0, 1);
            send_segment(e.child, segment, 0, 1);
            for (int j = 0; j < 2; j++) {
                piso_event event = {.size = sizeof event};
                piso_span span;
                bool ours;
                take(e.host, PISO_EVENT_REQUEST, &event);
                assert_int_equal(piso_event_refused(&event, 0), round ? -ENOBUFS : -EMFILE);
                assert_int_equal(piso_event_refused(&event, 1), 0);
                assert_null(piso_event_take_segment(&event, 0, &span, &ours));
                assert_null(piso_event_take_span(&event, 0, &span));
                piso_event_fini(&event);
            }
            expect_nothing(e.child);
            settle(&e);
            assert_int_equal(e.child->given_count, 0);
        }
        e.host->taken_count = 0;
        hand_over(e.child, e.host, segment, 1);
        piso_segment_unref(segment);
        close_pair(&e);
        assert_true(count_fds() < fds);
    }
}

/* An extension closes the descriptors of segments from its host, so it may keep more of them than it can have
 * descriptors. */
static void an_extension_counts_no_descriptors(void **state) {
    (void)state;
    if (piso__fd_share() >= piso__segment_limit() / 2)
        skip(); /* the other limit comes first */
    ends e = open_sharing_pair();
    e.child->taken_count = (uint32_t)piso__fd_share();
    piso_segment *segment = new_segment(1);
    hand_over(e.host, e.child, segment, 1);
    e.child->taken_count = 1;
    piso_segment_unref(segment);
    close_pair(&e);
}

/* A descriptor for which the process has no room is lost on its way out of the socket. */
static void a_process_without_descriptors_refuses(void **state) {
    (void)state;
    ends e = open_sharing_pair();
    piso_segment *segment = new_segment(1);
    send_segment(e.child, segment, 0, 1);
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    piso_event event = {.size = sizeof event};
    take(e.host, PISO_EVENT_REQUEST, &event);
    assert_int_equal(piso_event_refused(&event, 0), -EMFILE);
    piso_event_fini(&event);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    settle(&e);
    hand_over(e.child, e.host, segment, 1);
    piso_segment_unref(segment);
    close_pair(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_crosses_once_and_comes_back),
        cmocka_unit_test(a_retired_id_is_free_again),
        cmocka_unit_test(a_retirement_that_cannot_be_answered_keeps_nothing),
        cmocka_unit_test(an_id_outlives_what_is_under_way),
        cmocka_unit_test(a_segment_may_be_dropped_before_the_peer_looks),
        cmocka_unit_test(a_segment_that_nobody_looks_at_goes_with_the_session),
        cmocka_unit_test(a_flood_waits_in_order),
        cmocka_unit_test(both_sides_share_with_each_other),
        cmocka_unit_test(a_failed_call_keeps_nothing),
        cmocka_unit_test(an_ended_session_lets_go),
        cmocka_unit_test(unasked_descriptors_end_the_session),
        cmocka_unit_test(frames_out_of_turn_end_the_session),
        cmocka_unit_test(a_second_acknowledgement_ends_the_session),
        cmocka_unit_test(spans_outside_of_a_segment_end_the_session),
        cmocka_unit_test(packets_that_are_no_attachments_end_the_session),
        cmocka_unit_test(odd_memory_is_refused),
        cmocka_unit_test(false_acknowledgements_do_not_block),
        cmocka_unit_test(what_there_is_no_room_for_is_refused),
        cmocka_unit_test(an_extension_counts_no_descriptors),
        cmocka_unit_test(a_process_without_descriptors_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
