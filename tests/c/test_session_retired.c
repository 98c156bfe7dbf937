/* test_session_retired.c - segments that their giver retires. A side that still uses one, or has unread
 * messages with it, can send it back. What is kept for that is bounded, and a peer that lies about it loses the
 * session. */
#include <sys/resource.h>
#include <sys/wait.h>

#include "segment_tools.h"

/* send_memory: sends memory that this process does not know, as id 1. */
static void send_memory(piso_session *s) {
    int fd = odd_memory(0, SEALED, true);
    struct {
        uint32_t id, zero;
        uint64_t size;
    } packet = {1, 0, HUGE_PAGE};
    assert_int_equal(piso__send_fds(s->channel->socket_fd, &packet, sizeof packet, &fd, 1), 0);
    close(fd);
    send_frame(s, PISO__FRAME_ATTACH, 1);
    send_span(s, (piso_span){.segment = 1, .length = 1});
}

/* A segment that a peer has retired counts as the peer's while anybody here uses it. */
static void what_is_used_after_it_was_taken_back_counts(void **state) {
    (void)state;
    enum { COUNT = 5 };
    ends e = open_sharing_pair();
    piso_segment *used[COUNT];
    piso_span span;
    piso_event event = {.size = sizeof event};
    bool ours;
    for (int i = 0; i < COUNT; i++) {
        send_memory(e.child);
        used[i] = take_segment(e.host, &span, &ours);
        send_frame(e.child, PISO__FRAME_RETIRE, 1);
        take(e.host, PISO_EVENT_RETIRED, &event);
        piso_event_fini(&event);
    }
    assert_int_equal(e.host->taken_count, 0);
    assert_int_equal(e.host->share->segments, COUNT);
    uint64_t descriptors = piso__fd_share(), mappings = piso__segment_limit() / 2;
    uint32_t most = (uint32_t)(mappings < descriptors ? mappings : descriptors);
    atomic_fetch_add(&e.host->share->segments, most - COUNT); /* as if they were more */
    send_memory(e.child);
    take(e.host, PISO_EVENT_REQUEST, &event);
    assert_true(piso_event_refused(&event, 0) < 0);
    piso_event_fini(&event);
    assert_int_equal(piso_session_state(e.host), 0);
    atomic_fetch_sub(&e.host->share->segments, most - COUNT);
    close_pair(&e);
    for (int i = 0; i < COUNT; i++)
        piso_segment_unref(used[i]); /* it may outlive the session */
}

/* A side that has closed the descriptor can send the segment back while it uses it, whatever the giver does
 * with it. */
static void without_a_descriptor_the_id_stays(void **state) {
    (void)state;
    ends e = open_sharing_pair();
    piso_segment *segment = new_segment(100);
    piso_span span;
    bool ours;
    void *data;
    send_segment(e.host, segment, 0, 100);
    piso_segment *there = take_segment(e.child, &span, &ours);
    there->made = false; /* in one process it is the same object */
    assert_int_equal(piso_segment_map(there, false, &data), 0);
    assert_int_equal(piso_segment_fd(there), -1);
    piso_session_retire(e.host, segment);
    piso_event event = {.size = sizeof event};
    take(e.child, PISO_EVENT_RETIRED, &event);
    piso_event_fini(&event);
    settle(&e);
    assert_false(piso_session_has_segment(e.child, there));
    assert_int_equal(e.host->given_count, 1);
    send_segment(e.child, there, 0, 100);
    piso_segment_unref(take_segment(e.host, &span, &ours));
    assert_true(ours);
    piso_session_retire(e.child, there); /* nobody uses it there any more */
    settle(&e);
    assert_int_equal(e.host->given_count, 0);
    assert_int_equal(stats_of(e.child).segments, 0);
    piso_writer w;
    piso_writer_init(&w);
    assert_int_equal(piso_writer_add_segment(&w, there, 0, 100), 0);
    assert_int_equal(piso_session_call(e.child, NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w), -EBADF);
    piso_session_discard_spans(e.child, &w);
    piso_writer_fini(&w);
    piso_segment_unref(there);
    piso_segment_unref(segment);
    close_pair(&e);
}

/* retire_in_hand: the giver retires a segment while the message with it is unread. */
static void retire_in_hand(ends *e, piso_segment *segment, piso_event *ret_event) {
    send_segment(e->host, segment, 0, 100);
    take(e->child, PISO_EVENT_REQUEST, ret_event);
    piso_session_retire(e->host, segment);
    piso_event event = {.size = sizeof event};
    take(e->child, PISO_EVENT_RETIRED, &event);
    assert_false(piso_session_has_segment(e->child, event.segment));
    piso_session_retire(e->child, event.segment); /* nobody uses it */
    piso_event_fini(&event);
    settle(e);
}

static void a_message_that_waits_can_still_be_answered_with_its_segment(void **state) {
    (void)state;
    for (int round = 0; round < 2; round++) {
        ends e = open_sharing_pair();
        piso_segment *segment = new_segment(100);
        segment->made = false; /* in one process it is the same object */
        void *data;
        if (round)
            assert_int_equal(piso_segment_map(segment, true, &data), 0);
        piso_event event = {.size = sizeof event};
        retire_in_hand(&e, segment, &event);
        piso_span span;
        bool ours;
        piso_segment *there = piso_event_take_segment(&event, 0, &span, &ours);
        assert_int_equal(piso_segment_map(there, false, &data), 0);
        *piso_segment_cell(there) = data; /* it is used */
        piso_event_fini(&event);
        send_segment(e.child, there, 0, 100);
        piso_segment_unref(take_segment(e.host, &span, &ours));
        assert_true(ours);
        assert_int_equal(e.host->given_count, 1);
        *piso_segment_cell(there) = NULL;
        piso_session_retire(e.child, there);
        settle(&e);
        assert_int_equal(e.host->given_count, 0);
        assert_int_equal(stats_of(e.child).segments, 0);
        piso_segment_unref(there);
        piso_segment_unref(segment);
        close_pair(&e);
    }
}

static void a_message_that_is_never_looked_at_keeps_no_id(void **state) {
    (void)state;
    for (int round = 0; round < 2; round++) {
        ends e = open_sharing_pair();
        piso_segment *segment = new_segment(100);
        segment->made = false;
        void *data;
        piso_event other = {.size = sizeof other}, event = {.size = sizeof event};
        send_segment(e.host, segment, 0, 100);
        take(e.child, PISO_EVENT_REQUEST, &other);
        if (round) /* as if it had been used */
            assert_int_equal(piso_segment_map(segment, false, &data), 0);
        retire_in_hand(&e, segment, &event);
        piso_event_fini(&event);
        settle(&e);
        assert_int_equal(e.host->given_count, 1); /* the other message names it too */
        piso_event_fini(&other);
        settle(&e);
        assert_int_equal(e.host->given_count, 0);
        assert_int_equal(stats_of(e.child).segments, 0);
        piso_segment_unref(segment);
        close_pair(&e);
    }
}

/* Segments that a peer has retired, but left in unread messages, count as the peer's. */
static void what_waits_in_messages_counts(void **state) {
    (void)state;
    ends e = open_sharing_pair();
    piso_event events[10];
    for (int i = 0; i < 10; i++)
        piso_event_init(&events[i]);
    for (int i = 0; i < 10; i++) {
        piso_segment *segment = new_segment(1);
        send_segment(e.child, segment, 0, 1);
        take(e.host, PISO_EVENT_REQUEST, &events[i]);
        piso_session_retire(e.child, segment);
        piso_segment_unref(segment);
        piso_event event = {.size = sizeof event};
        take(e.host, PISO_EVENT_RETIRED, &event);
        piso_event_fini(&event);
        settle(&e);
    }
    assert_int_equal(e.host->taken_count, 10);
    assert_int_equal(e.host->taken_bytes, 0); /* the memory belongs to this side by now */
    for (int i = 0; i < 10; i++)
        piso_event_fini(&events[i]);
    assert_int_equal(e.host->taken_count, 0);
    settle(&e);
    assert_int_equal(e.child->given_count, 0);
    close_pair(&e);
}

/* A peer that never acknowledges retired segments takes half of the descriptors, and no more. */
static void what_is_never_given_up_is_bounded(void **state) {
    (void)state;
    struct rlimit before, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){.rlim_cur = 200, .rlim_max = 200};
    pid_t child = fork(); /* which cannot raise the limit again */
    if (child == 0) {
        ends e;
        piso_segment *segment;
        int sent = 0, r = setrlimit(RLIMIT_NOFILE, &low);
        if (r == 0)
            r = piso_session_pair(SMALL_ARENA, &e.host, &e.child);
        for (; r == 0 && sent < 150; sent++) {
            piso_writer w;
            piso_writer_init(&w);
            r = piso_segment_create(1, &segment);
            if (r == 0 && piso_writer_add_segment(&w, segment, 0, 1) >= 0)
                r = piso_session_call(e.host, NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w);
            piso_session_retire(e.host, segment);
            piso_segment_unref(segment);
        }
        _exit(sent == 101 && r == -EMFILE ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Messages that wait for room in the ring continue when there is room, even while no descriptor may be sent. */
static void a_full_ring_is_noticed_while_descriptors_wait(void **state) {
    (void)state;
    ends e = open_sharing_pair();
    fill_ring(e.host);
    e.host->attach_credit = 0;
    assert_int_equal(send_call(e.host, NULL, 0, PISO_NO_DEADLINE), 0);
    assert_int_equal(send_call(e.host, NULL, 0, PISO_NO_DEADLINE), 0);
    assert_int_equal(stats_of(e.host).queued, 2);
    piso_event event = {.size = sizeof event};
    while (piso_session_next(e.child, &event) == 1)
        piso_event_fini(&event);
    assert_true(piso_session_ready(e.host));
    expect_nothing(e.host);
    assert_int_equal(stats_of(e.host).queued, 0);
    e.host->attach_credit = PISO__ATTACH_CREDIT;
    close_pair(&e);
}

/* A queued descriptor has not been taken out of the socket, whatever the peer says. */
static void acknowledgements_of_what_waits_end_the_session(void **state) {
    (void)state;
    static const piso__frame_type types[] = {PISO__FRAME_ATTACHED, PISO__FRAME_REFUSED, PISO__FRAME_RETIRED};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        ends e = open_sharing_pair();
        piso_segment *segment = NULL;
        for (uint32_t j = 0; j <= PISO__ATTACH_CREDIT; j++) {
            piso_segment_unref(segment);
            segment = new_segment(1);
            send_segment(e.host, segment, 0, 1);
        }
        if (types[i] == PISO__FRAME_RETIRED)
            piso_session_retire(e.host, segment);
        piso_segment_unref(segment);
        send_frame(e.child, types[i], PISO__ATTACH_CREDIT + 1);
        expect_end(e.host, PISO_EPROTO);
        close_pair(&e);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_used_after_it_was_taken_back_counts),
        cmocka_unit_test(without_a_descriptor_the_id_stays),
        cmocka_unit_test(a_message_that_waits_can_still_be_answered_with_its_segment),
        cmocka_unit_test(a_message_that_is_never_looked_at_keeps_no_id),
        cmocka_unit_test(what_waits_in_messages_counts),
        cmocka_unit_test(what_is_never_given_up_is_bounded),
        cmocka_unit_test(a_full_ring_is_noticed_while_descriptors_wait),
        cmocka_unit_test(acknowledgements_of_what_waits_end_the_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
