/* test_session_wait.c - polling, sleeping and the doorbell, which rings only when a thread sleeps and none
 * polls. */
#include "session_tools.h"

#include <pthread.h>
#include <sched.h>

#include "os/os.h"

/* notify_host: sends the host a message. */
static void notify_host(void) {
    assert_int_equal(send_call(pair.child, NULL, 0, PISO_NO_DEADLINE), 0);
}

static void drain(piso_session *s) {
    piso_event event = {.size = sizeof event};
    while (piso_session_next(s, &event) == 1)
        piso_event_fini(&event);
}

static void wait_tells_what_came(void **state) {
    (void)state;
    piso__autoclose int extra = piso__event_create();
    assert_int_equal(piso_session_wait(pair.host, extra, 0), 0);
    assert_int_equal(piso_session_wait(pair.host, -1, 1000), 0);
    piso__event_signal(extra);
    assert_int_equal(piso_session_wait(pair.host, extra, -1), 2);
    notify_host();
    assert_int_equal(piso_session_wait(pair.host, extra, -1), 1);
    drain(pair.host);
    assert_int_equal(piso_session_wait(pair.host, extra, -1), 2);
}

static void spin_sees_a_message_and_ends_without_one(void **state) {
    (void)state;
    assert_false(piso_session_ready(pair.host));
    assert_int_equal(piso_session_spin(pair.host), 0);
    notify_host();
    assert_true(piso_session_ready(pair.host));
    assert_int_equal(piso_session_spin(pair.host), 1);
    drain(pair.host);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(piso_session_spin(pair.host), 0);
}

static uint64_t yields_of_host(void) {
    return stats_of(pair.host).yields;
}

/* stay_here: keeps this thread on its processor; go_anywhere restores the mask. */
static cpu_set_t anywhere;

static void stay_here(void) {
    cpu_set_t here;
    assert_int_equal(sched_getaffinity(0, sizeof anywhere, &anywhere), 0);
    CPU_ZERO(&here);
    CPU_SET((size_t)piso__cpu_current(), &here);
    assert_int_equal(sched_setaffinity(0, sizeof here, &here), 0);
    atomic_store(&pair.host->processors, 2);
    atomic_store(&pair.child->processors, 2);
}

static void go_anywhere(void) {
    assert_int_equal(sched_setaffinity(0, sizeof anywhere, &anywhere), 0);
}

/* poll_in_vain: whether the host yielded, as it does when it polls for a peer that is awake. */
static bool poll_in_vain(void) {
    uint64_t before = yields_of_host();
    assert_int_equal(piso_session_spin(pair.host), 0);
    return yields_of_host() > before;
}

static void a_wait_polls_until_that_was_in_vain_some_times(void **state) {
    (void)state;
    atomic_store(&pair.host->processors, 2);
    int polled = 0, waits = 0;
    while (poll_in_vain() && waits++ < 100) /* each also ends when the processor comes back late */
        polled++;
    assert_true(polled < 10);
    for (int i = 0; i < 20; i++)
        assert_false(poll_in_vain());
}

static _Atomic bool hog_is_over;

static void *compute(void *unused) {
    while (!atomic_load(&hog_is_over))
        piso__relax();
    return unused;
}

static void who_got_its_processor_back_late_does_not_yield(void **state) {
    (void)state;
    stay_here();
    atomic_store(&hog_is_over, false);
    pthread_t hog; /* on this processor */
    pthread_create(&hog, NULL, compute, NULL);
    bool yielded = true;
    for (int i = 0; i < 1000 && yielded; i++) {
        atomic_store(&pair.host->misses[0], 0);
        yielded = poll_in_vain();
    }
    assert_false(yielded);
    notify_host();
    assert_int_equal(piso_session_spin(pair.host), 1); /* it still polls */
    atomic_store(&hog_is_over, true);
    pthread_join(hog, NULL);
    go_anywhere();
}

static void where_a_peer_says_that_it_waits_is_a_hint(void **state) {
    (void)state;
    stay_here();
    uint32_t here = (uint32_t)piso__cpu_current() + 1, said[] = {0, here, here + 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        atomic_store(&pair.child->channel->rx.shared->waits_on, said[i]);
        assert_int_equal(piso_session_spin(pair.host), 0);
        notify_host();
        assert_int_equal(piso_session_spin(pair.host), 1);
        drain(pair.host);
    }
    go_anywhere();
}

static void a_child_that_meets_its_host_on_a_processor_leaves_it(void **state) {
    (void)state;
    stay_here();
    assert_int_equal(piso_session_look(pair.host), 0);
    for (int i = 0; i < 10000 && pair.child->migrated_ns == 0; i++) { /* eight in a row must be short */
        assert_int_equal(piso_session_sleep_begin(pair.child), 0);
        assert_int_equal(send_call(pair.host, NULL, 1, PISO_NO_DEADLINE), 0);
        piso_session_sleep_end(pair.child);
        drain(pair.child);
    }
    assert_true(pair.child->migrated_ns > 0);
    assert_true(pair.host->migrated_ns == 0); /* its threads are the application's */
    go_anywhere();
}

static void who_had_to_wake_its_peer_does_not_yield(void **state) {
    (void)state;
    piso_call call;
    stay_here();
    assert_int_equal(piso_session_look(pair.child), 0);
    assert_int_equal(piso_session_sleep_begin(pair.child), 0);
    assert_int_equal(send_call(pair.host, &call, 1, PISO_NO_DEADLINE), 0);
    assert_false(poll_in_vain());
    piso_session_sleep_end(pair.child);
    uint64_t request = take_request(pair.child, 1);
    assert_int_equal(send_reply(pair.child, request, 1), 0);
    assert_int_equal(piso_session_spin(pair.host), 1);
    take_result(pair.host, &call, 1);
    go_anywhere();
}

static void with_one_processor_who_finds_nobody_else_sleeps(void **state) {
    (void)state;
    atomic_store(&pair.host->processors, 1);
    for (int i = 0; i < 100; i++) {
        uint64_t before = yields_of_host();
        assert_int_equal(piso_session_spin(pair.host), 0);
        assert_true(yields_of_host() - before < 50);
    }
    notify_host();
    assert_int_equal(piso_session_spin(pair.host), 1);
}

static void what_any_of_several_sends_ends_a_wait(void **state) {
    (void)state;
    ends other = open_pair();
    piso_session *both[2] = {other.host, pair.host};
    assert_int_equal(piso_sessions_poll(both, 2), 0);
    assert_int_equal(piso_sessions_wait(both, 2, -1, 0), 0);
    notify_host();
    assert_int_equal(piso_sessions_poll(both, 2), 1);
    assert_int_equal(piso_sessions_wait(both, 2, -1, -1), 1);
    drain(pair.host);
    piso__autoclose int extra = piso__event_create();
    piso__event_signal(extra);
    assert_int_equal(piso_sessions_wait(both, 2, extra, -1), 2);
    assert_int_equal(piso_sessions_wait(both, 2, -1, 1000), 0);
    close_pair(&other);
}

static void buffers_come_back_without_waking_anybody(void **state) {
    (void)state;
    piso_event event = {.size = sizeof event};
    send_buffers(pair.host, NULL, 0, 1, 10000);
    assert_int_equal(piso_session_sleep_begin(pair.host), 0);
    take(pair.child, PISO_EVENT_REQUEST, &event);
    piso_event_fini(&event);
    piso_session_flush(pair.child);
    assert_false(is_readable(pair.host));
    piso_session_sleep_end(pair.host);
    drain(pair.host);
    assert_int_equal(stats_of(pair.host).arena_live, 0);

    send_buffers(pair.host, NULL, 0, 1, 4 << 20); /* worth it */
    assert_int_equal(piso_session_sleep_begin(pair.host), 0);
    take(pair.child, PISO_EVENT_REQUEST, &event);
    piso_event_fini(&event);
    piso_session_flush(pair.child);
    assert_true(is_readable(pair.host));
    piso_session_sleep_end(pair.host);
    drain(pair.host);
    assert_int_equal(stats_of(pair.host).arena_live, 0);
}

static bool is_announced(void) {
    return atomic_load(&pair.child->channel->tx.shared->coming) != 0;
}

static void a_long_message_is_announced_until_it_is_sent(void **state) {
    (void)state;
    piso_writer w;
    piso_writer_init(&w);
    add_buffer(pair.child, &w, 4096, 1);
    assert_false(is_announced());
    add_buffer(pair.child, &w, 2 << 20, 1);
    assert_true(is_announced());
    piso_session_discard_spans(pair.child, &w);
    assert_false(is_announced());
    add_buffer(pair.child, &w, 2 << 20, 1);
    assert_true(is_announced());
    assert_int_equal(piso_session_call(pair.child, NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w), 0);
    piso_writer_fini(&w);
    assert_false(is_announced());
    assert_int_equal(piso_session_spin(pair.host), 1);
}

static void who_announces_and_sends_nothing_is_not_waited_for_ever(void **state) {
    (void)state;
    atomic_store(&pair.child->channel->tx.shared->coming, UINT32_MAX);
    for (int i = 0; i < 100; i++)
        assert_int_equal(piso_session_spin(pair.host), 0);
    notify_host();
    assert_int_equal(piso_session_spin(pair.host), 1);
}

static void nobody_rings_for_who_is_awake(void **state) {
    (void)state;
    piso_session_poll_begin(pair.host);
    for (int i = 0; i < 100; i++)
        notify_host();
    assert_int_equal(piso_session_poll_end(pair.host), 1);
    drain(pair.host);
    assert_int_equal(stats_of(pair.child).doorbells_rung, 0);
    assert_false(is_readable(pair.host));
}

static void sleeper_is_rung_for_once(void **state) {
    (void)state;
    assert_int_equal(piso_session_sleep_begin(pair.host), 0);
    for (int i = 0; i < 100; i++)
        notify_host();
    assert_true(is_readable(pair.host));
    piso_session_sleep_end(pair.host);
    assert_false(is_readable(pair.host));
    drain(pair.host);
    assert_int_equal(stats_of(pair.child).doorbells_rung, 1);
    notify_host();
    assert_false(is_readable(pair.host));
    assert_int_equal(stats_of(pair.child).doorbells_rung, 1);
    assert_int_equal(piso_session_sleep_begin(pair.host), 1); /* it came before */
    piso_session_sleep_end(pair.host);
}

static void poller_spares_the_doorbell_of_a_sleeper(void **state) {
    (void)state;
    assert_int_equal(piso_session_sleep_begin(pair.host), 0);
    piso_session_poll_begin(pair.host);
    piso_session_poll_begin(pair.host);
    notify_host();
    assert_int_equal(stats_of(pair.child).doorbells_rung, 0);
    assert_int_equal(piso_session_poll_end(pair.host), 1);
    drain(pair.host);
    assert_int_equal(piso_session_poll_end(pair.host), 0);
    notify_host(); /* nobody polls any more */
    assert_true(is_readable(pair.host));
    piso_session_sleep_end(pair.host);
}

static void who_wakes_leaves_the_others_armed(void **state) {
    (void)state;
    assert_int_equal(piso_session_sleep_begin(pair.host), 0);
    assert_int_equal(piso_session_sleep_begin(pair.host), 0);
    notify_host();
    assert_true(is_readable(pair.host));
    piso_session_sleep_end(pair.host); /* leaves without having taken the message: the other one hears of it */
    assert_true(is_readable(pair.host));
    drain(pair.host);
    notify_host();
    assert_true(is_readable(pair.host));
    piso_session_sleep_end(pair.host);
    drain(pair.host);
    assert_false(is_readable(pair.host));
    assert_int_equal(stats_of(pair.child).doorbells_rung, 2);
}

/* Messages that wait in memory because the ring is full are sent when the peer has made room, for which the
 * peer rings. */
static void room_in_the_ring_wakes_the_sender(void **state) {
    (void)state;
    for (unsigned i = 0; i < 3 * PISO__RING_SLOTS; i++)
        notify_host();
    assert_int_equal(piso_session_sleep_begin(pair.child), 0);
    assert_false(is_readable(pair.child));
    drain(pair.host);
    assert_true(is_readable(pair.child));
    assert_true(piso_session_ready(pair.child));
    piso_session_sleep_end(pair.child);
    uint64_t queued = stats_of(pair.child).queued;
    assert_true(queued > 0);
    drain(pair.child);
    assert_true(stats_of(pair.child).queued < queued);
    assert_true(piso_session_ready(pair.host));
}

static void *answer_one(void *argument) {
    piso_session *s = argument;
    piso_event event = {.size = sizeof event};
    assert_int_equal(await(s, &event), 1);
    uint64_t request = event.id;
    piso_event_fini(&event);
    assert_int_equal(send_reply(s, request, 2), 0);
    return NULL;
}

static void answer_wakes_the_caller(void **state) {
    (void)state;
    for (int i = 0; i < 50; i++) {
        pthread_t thread;
        piso_call call;
        piso_event event = {.size = sizeof event};
        assert_int_equal(pthread_create(&thread, NULL, answer_one, pair.child), 0);
        assert_int_equal(send_call(pair.host, &call, 1, PISO_NO_DEADLINE), 0);
        assert_int_equal(await(pair.host, &event), 1);
        assert_ptr_equal(event.call, &call);
        piso_event_fini(&event);
        pthread_join(thread, NULL);
    }
}

/* ---- failures ---- */

static void *sleep_until_the_end(void *argument) {
    piso_event event = {.size = sizeof event};
    return (void *)(intptr_t)await(argument, &event);
}

static void check_all_sleepers_hear(int expected, void (*cause)(void)) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sleep_until_the_end, pair.host), 0);
    while (atomic_load(&pair.host->sleepers) < THREADS)
        usleep(100);
    cause();
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_int_equal((intptr_t)result, expected);
    }
    assert_false(is_readable(pair.host)); /* otherwise an event loop would spin for ever */
}

static void close_peer(void) {
    piso_session_close(pair.child);
}

static void lose_peer(void) {
    atomic_store(&pair.child->state, PISO_EPROTO); /* says nothing */
    pair.child = piso_session_unref(pair.child);
}

static void close_own(void) {
    piso_session_close(pair.host);
}

static void every_sleeper_hears_of_the_end(void **state) {
    (void)state;
    check_all_sleepers_hear(PISO_EDIED, close_peer);
}

static void every_sleeper_hears_of_a_hang_up(void **state) {
    (void)state;
    check_all_sleepers_hear(PISO_EDIED, lose_peer);
}

static void every_sleeper_hears_of_close(void **state) {
    (void)state;
    check_all_sleepers_hear(PISO_ECLOSED, close_own);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, open_ends, close_ends)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_PAIR(wait_tells_what_came),
        WITH_PAIR(spin_sees_a_message_and_ends_without_one),
        WITH_PAIR(a_wait_polls_until_that_was_in_vain_some_times),
        WITH_PAIR(who_got_its_processor_back_late_does_not_yield),
        WITH_PAIR(where_a_peer_says_that_it_waits_is_a_hint),
        WITH_PAIR(a_child_that_meets_its_host_on_a_processor_leaves_it),
        WITH_PAIR(who_had_to_wake_its_peer_does_not_yield),
        WITH_PAIR(with_one_processor_who_finds_nobody_else_sleeps),
        WITH_PAIR(what_any_of_several_sends_ends_a_wait),
        WITH_PAIR(buffers_come_back_without_waking_anybody),
        WITH_PAIR(a_long_message_is_announced_until_it_is_sent),
        WITH_PAIR(who_announces_and_sends_nothing_is_not_waited_for_ever),
        WITH_PAIR(nobody_rings_for_who_is_awake),
        WITH_PAIR(sleeper_is_rung_for_once),
        WITH_PAIR(poller_spares_the_doorbell_of_a_sleeper),
        WITH_PAIR(who_wakes_leaves_the_others_armed),
        WITH_PAIR(room_in_the_ring_wakes_the_sender),
        WITH_PAIR(answer_wakes_the_caller),
        WITH_PAIR(every_sleeper_hears_of_the_end),
        WITH_PAIR(every_sleeper_hears_of_a_hang_up),
        WITH_PAIR(every_sleeper_hears_of_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
