/* test_session_end.c - how sessions end: closed, by a process that dies, by a start that fails. The children of
 * these tests are this program again, with an argument. */
#include "emulation.h"
#include "session_tools.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>

extern char **environ;

/* ---- closing ---- */

static void close_ends_pending_calls_on_both_sides(void **state) {
    (void)state;
    piso_call ours[3], theirs[2];
    for (int i = 0; i < 3; i++)
        assert_int_equal(send_call(pair.host, &ours[i], i, PISO_NO_DEADLINE), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(send_call(pair.child, &theirs[i], i, PISO_NO_DEADLINE), 0);
    uint64_t request = take_request(pair.host, 0);
    piso_session_forget(pair.host, &ours[1], false);
    assert_int_equal(send_reply(pair.host, request, 5), 0);
    piso_session_close(pair.host);
    piso_session_close(pair.host);
    assert_int_equal(piso_session_state(pair.host), PISO_ECLOSED);
    take_failure(pair.host, &ours[2], PISO_ECLOSED);
    take_failure(pair.host, &ours[0], PISO_ECLOSED);
    expect_end(pair.host, PISO_ECLOSED);
    for (int i = 0; i < 3; i++)
        take_request(pair.child, i);
    take_result(pair.child, &theirs[0], 5); /* what was sent before still arrives */
    take_failure(pair.child, &theirs[1], PISO_EDIED);
    expect_end(pair.child, PISO_EDIED);
}

static void closed_session_refuses_and_takes_nothing(void **state) {
    (void)state;
    piso_call call;
    piso_writer w;
    uint32_t id;
    assert_int_equal(send_call(pair.child, &call, 1, PISO_NO_DEADLINE), 0);
    uint64_t request = take_request(pair.host, 1);
    piso_writer_init(&w);
    piso_write_nil(&w);
    add_buffer(pair.host, &w, 5000, 1);
    piso_session_close(pair.host);
    assert_int_equal(piso_session_call(pair.host, &call, 0, 0, 0, 0, PISO_NO_DEADLINE, &w), PISO_ECLOSED);
    assert_int_equal(piso_session_reply(pair.host, request, false, &w), PISO_ECLOSED);
    assert_int_equal(piso_session_intern(pair.host, "name", 4, &id), PISO_ECLOSED);
    assert_int_equal(w.nspans, 1);
    piso_session_discard_spans(pair.host, &w);
    assert_int_equal(stats_of(pair.host).arena_live, 0);
    piso_writer_fini(&w);
}

/* A session that has ended keeps no descriptor open, however many references and buffers there are. */
static void descriptors_go_before_the_last_reference(void **state) {
    (void)state;
    piso_event event = {.size = sizeof event};
    piso_span span;
    piso_writer w;
    int before = count_fds();
    piso_writer_init(&w);
    piso_write_nil(&w);
    add_buffer(pair.child, &w, 100000, 7);
    assert_int_equal(piso_session_call(pair.child, NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w), 0);
    piso_writer_fini(&w);
    assert_int_equal(piso_session_next(pair.host, &event), 1);
    uint8_t *buffer = piso_event_take_span(&event, 0, &span);
    piso_event_fini(&event);
    assert_int_equal(piso_session_disconnect(pair.host, 0), -EBUSY);
    piso_session_close(pair.host);
    assert_int_equal(piso_session_disconnect(pair.host, 0), 1);
    assert_int_equal(piso_session_disconnect(pair.host, 0), 1);
    assert_int_equal(count_fds(), before - 4);
    assert_int_equal(buffer[99999], 7);
    piso_session_release(pair.host, &span);
    assert_int_equal(piso_session_fd(pair.host), PISO_ECLOSED);
    assert_int_equal(piso_session_wait(pair.host, -1, LONG_ENOUGH), 1); /* it reports its end for ever */
    expect_end(pair.host, PISO_ECLOSED);
    piso_session_trim(pair.host, 0);
    piso_session_flush(pair.host);
    expect_end(pair.child, PISO_EDIED); /* hung up */
    assert_int_equal(piso_session_disconnect(pair.child, 0), 1);
    assert_int_equal(count_fds(), before - 10); /* and the pair of beacons */
}

static void *wait_for_the_end(void *argument) {
    while (piso_session_state(argument) == 0)
        piso_session_wait(argument, -1, LONG_ENOUGH);
    return NULL;
}

static void descriptors_stay_while_somebody_uses_them(void **state) {
    (void)state;
    pthread_t threads[2];
    int before = count_fds();
    piso_session_keep_fd(pair.host, true);
    piso_session_keep_fd(pair.host, true);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, wait_for_the_end, pair.host);
    while (atomic_load(&pair.host->sleepers) < 2)
        sched_yield();
    piso_session_close(pair.host);
    assert_int_equal(piso_session_disconnect(pair.host, 0), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(piso_session_disconnect(pair.host, SECOND / 50), 0);
    assert_int_equal(count_fds(), before);
    assert_true(piso_session_fd(pair.host) >= 0);
    piso_session_keep_fd(pair.host, false);
    assert_int_equal(count_fds(), before);
    piso_session_keep_fd(pair.host, false);
    assert_int_equal(count_fds(), before - 4);
}

static void farewell_waits_for_room_in_the_ring(void **state) {
    (void)state;
    const unsigned count = 3 * PISO__RING_SLOTS;
    piso_event event = {.size = sizeof event};
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(send_call(pair.host, NULL, i, PISO_NO_DEADLINE), 0);
    piso_session_close(pair.host);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(piso_session_next(pair.host, &event), PISO_ECLOSED);
        take(pair.child, PISO_EVENT_REQUEST, &event);
        assert_int_equal(integer_in(&event), i);
        piso_event_fini(&event);
    }
    assert_int_equal(piso_session_next(pair.host, &event), PISO_ECLOSED);
    expect_end(pair.child, PISO_EDIED);
}

static void peer_that_goes_without_farewell_is_noticed(void **state) {
    (void)state;
    piso_event event = {.size = sizeof event};
    int received = 0, r;
    for (unsigned i = 0; i < 3 * PISO__RING_SLOTS; i++)
        assert_int_equal(send_call(pair.host, NULL, i, PISO_NO_DEADLINE), 0);
    pair.host = piso_session_unref(pair.host); /* with the ring full */
    while ((r = await(pair.child, &event)) == 1)
        assert_int_equal(integer_in(&event), received++);
    assert_int_equal(r, PISO_EDIED);
    assert_int_equal(received, PISO__RING_SLOTS);
}

static void rejected_body_ends_the_session(void **state) {
    (void)state;
    piso_call ours, theirs;
    char large[1000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    assert_int_equal(send_call(pair.host, &ours, 1, PISO_NO_DEADLINE), 0);
    assert_int_equal(send_call(pair.child, &theirs, 2, PISO_NO_DEADLINE), 0);
    take_request(pair.host, 2);
    assert_null(piso_session_fault(pair.host));
    piso_session_reject(pair.host, "it sent rubbish");
    piso_session_reject(pair.host, large); /* the first one counts */
    assert_int_equal(piso_session_state(pair.host), PISO_EPROTO);
    assert_string_equal(piso_session_fault(pair.host), "it sent rubbish");
    take_failure(pair.host, &ours, PISO_EPROTO);
    expect_end(pair.host, PISO_EPROTO);
    piso_session_reject(pair.child, large);
    assert_in_range(strlen(piso_session_fault(pair.child)), 100, 999);
    take_failure(pair.child, &theirs, PISO_EPROTO);
}

static void closed_session_is_not_rejected(void **state) {
    (void)state;
    piso_session_close(pair.host);
    piso_session_reject(pair.host, "late");
    assert_int_equal(piso_session_state(pair.host), PISO_ECLOSED);
    assert_null(piso_session_fault(pair.host));
}

static void sessions_leave_no_descriptor(void **state) {
    (void)state;
    int before = count_fds();
    for (int i = 0; i < 100; i++) {
        ends e = open_pair();
        close_pair(&e);
    }
    assert_int_equal(count_fds(), before);
    assert_null(piso_session_unref(NULL));
}

/* ---- processes ---- */

/* A child: answers each request with its integer, until its time is over. */
static int answer_main(int limit) {
    piso_session *s;
    if (piso_session_attach(atoi(getenv("PISO_FD")), &s) < 0)
        return 90;
    piso_event event = {.size = sizeof event};
    int r;
    while ((r = await(s, &event)) == 1) {
        if (event.type == PISO_EVENT_REQUEST) {
            if (limit-- == 0)
                raise(SIGKILL);
            send_reply(s, event.id, integer_in(&event));
        }
        piso_event_fini(&event);
    }
    piso_session_unref(s);
    return r == PISO_EDIED ? 7 : 91;
}

static int child_main(char **argv) {
    if (strcmp(argv[1], "answer") == 0)
        return answer_main(atoi(argv[2]));
    if (strcmp(argv[1], "garbage") == 0 && write(atoi(getenv("PISO_FD")), "hello", 5) != 5)
        return 92;
    if (strcmp(argv[1], "exit") != 0)
        for (;;)
            pause();
    return 3;
}

static piso_session *spawn(const char *what, const char *argument) {
    need_no_emulation();
    const char *argv[] = {"/proc/self/exe", what, argument, NULL};
    piso_spawn options = {.size = sizeof options,
                          .argv = argv,
                          .envp = (const char *const *)environ,
                          .name = "test",
                          .arena_size = SMALL_ARENA,
                          .echo_stderr = true};
    piso_session *s = NULL;
    assert_int_equal(piso_session_spawn(&options, &s), 0);
    return s;
}

static int fds_expected;

/* The thread that watches processes keeps a descriptor open from its start. */
static int start_monitor(void **state) {
    (void)state;
    fds_expected = count_fds() + !is_emulated();
    if (!is_emulated())
        piso_session_unref(spawn("exit", NULL));
    return 0;
}

static int check_fds(void **state) {
    (void)state;
    for (int i = 0; i < 3000 && count_fds() != fds_expected; i++)
        usleep(1000); /* the monitor releases it a moment after it has reported the end */
    assert_int_equal(count_fds(), fds_expected);
    return 0;
}

static void end_child(piso_session *s, int code, int signal) {
    piso_exit status;
    assert_int_equal(piso_process_wait(piso_session_process(s), LONG_ENOUGH, &status), 1);
    assert_true(status.known);
    assert_int_equal(status.code, code);
    assert_int_equal(status.signal, signal);
    assert_null(piso_session_unref(s));
}

static void child_answers_until_the_host_closes(void **state) {
    (void)state;
    piso_session *s = spawn("answer", "-1");
    piso_call early, call;
    piso_event event = {.size = sizeof event};
    assert_int_equal(send_call(s, &early, 1, PISO_NO_DEADLINE), 0); /* before the child is there */
    assert_int_equal(piso_session_handshake(s, LONG_ENOUGH), 0);
    assert_int_equal(piso_session_handshake(s, 0), 0);
    assert_int_equal(send_call(s, &call, 2, PISO_NO_DEADLINE), 0);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(await(s, &event), 1);
        assert_int_equal(integer_in(&event), i);
        piso_event_fini(&event);
    }
    piso_session_close(s);
    expect_end(s, PISO_ECLOSED);
    end_child(s, 7, 0);
}

static void answers_from_before_the_death_arrive(void **state) {
    (void)state;
    piso_session *s = spawn("answer", "2");
    piso_call calls[4];
    piso_exit status;
    for (int i = 0; i < 4; i++)
        assert_int_equal(send_call(s, &calls[i], i, PISO_NO_DEADLINE), 0);
    assert_int_equal(piso_process_wait(piso_session_process(s), LONG_ENOUGH, &status), 1);
    assert_true(is_readable(s));
    assert_true(piso_session_ready(s));
    for (int i = 0; i < 2; i++)
        take_result(s, &calls[i], i);
    take_failure(s, &calls[3], PISO_EDIED);
    take_failure(s, &calls[2], PISO_EDIED);
    expect_end(s, PISO_EDIED);
    assert_false(is_readable(s));
    assert_int_equal(send_call(s, &calls[0], 1, PISO_NO_DEADLINE), PISO_EDIED);
    end_child(s, -1, SIGKILL);
}

/* count_mappings: counts the mappings of memory shared with children. */
static int count_mappings(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4096];
    int n = 0;
    while (fgets(line, sizeof line, maps))
        n += strstr(line, "memfd:piso") != NULL;
    fclose(maps);
    return n;
}

/* exchange: keeps `count` calls in flight until `until_ns`, then kills the child. Each call must end once. */
static void exchange_and_kill(piso_session *s, int64_t until_ns) {
    enum { COUNT = 20 };
    piso_call calls[COUNT];
    piso_event event = {.size = sizeof event};
    int pending = 0, r;
    for (; pending < COUNT; pending++)
        assert_int_equal(send_call(s, &calls[pending], pending, PISO_NO_DEADLINE), 0);
    while (piso_now_ns() < until_ns) {
        assert_int_equal(await(s, &event), 1);
        assert_int_equal(event.type, PISO_EVENT_REPLY);
        assert_int_equal(send_call(s, event.call, event.call - calls, PISO_NO_DEADLINE), 0);
        piso_event_fini(&event);
    }
    assert_int_equal(piso_process_kill(piso_session_process(s), SIGKILL), 0);
    while ((r = await(s, &event)) == 1) {
        assert_int_equal(event.call->id, 0);
        event.call->id = 77; /* told once */
        pending--;
        piso_event_fini(&event);
    }
    assert_int_equal(r, PISO_EDIED);
    assert_int_equal(pending, 0);
}

static void every_call_ends_when_the_child_is_killed(void **state) {
    (void)state;
    uint64_t random = 362436069;
    int mappings = 0;
    for (int i = 0; i < 300; i++) {
        if (i == 10)
            mappings = count_mappings();
        piso_session *s = spawn("answer", "-1");
        if (i % 2)
            assert_int_equal(piso_session_handshake(s, LONG_ENOUGH), 0);
        exchange_and_kill(s, piso_now_ns() + (int64_t)(next_random(&random) % 3000000));
        end_child(s, -1, SIGKILL);
    }
    assert_int_equal(count_mappings(), mappings);
}

static void child_that_ends_early_fails_the_handshake(void **state) {
    (void)state;
    piso_session *s = spawn("exit", NULL);
    piso_call call;
    assert_int_equal(send_call(s, &call, 1, PISO_NO_DEADLINE), 0);
    assert_int_equal(piso_session_handshake(s, LONG_ENOUGH), PISO_EDIED);
    assert_int_equal(piso_session_handshake(s, LONG_ENOUGH), PISO_EDIED);
    take_failure(s, &call, PISO_EDIED);
    expect_end(s, PISO_EDIED);
    end_child(s, 3, 0);
}

static void child_that_says_nothing_is_waited_for_in_vain(void **state) {
    (void)state;
    piso_session *s = spawn("pause", NULL);
    assert_int_equal(piso_session_handshake(s, 20000000), -ETIMEDOUT);
    assert_int_equal(piso_session_state(s), 0);
    assert_int_equal(piso_process_kill(piso_session_process(s), SIGKILL), 0);
    assert_int_equal(piso_session_handshake(s, -1), PISO_EDIED);
    end_child(s, -1, SIGKILL);
}

static void child_that_says_nonsense_is_refused(void **state) {
    (void)state;
    piso_session *s = spawn("garbage", NULL);
    assert_int_equal(piso_session_handshake(s, LONG_ENOUGH), PISO_EPROTO);
    expect_end(s, PISO_EPROTO);
    assert_int_equal(piso_process_kill(piso_session_process(s), SIGKILL), 0);
    end_child(s, -1, SIGKILL);
}

static void what_cannot_start_is_told_at_once(void **state) {
    (void)state;
    need_no_emulation();
    const char *argv[] = {"/no/such/program", NULL};
    piso_spawn options = {.size = sizeof options, .argv = argv, .envp = (const char *const *)environ, .name = "test"};
    piso_session *s = NULL;
    assert_int_equal(piso_session_spawn(&options, &s), -ENOENT);
    options.argv = NULL;
    assert_int_equal(piso_session_spawn(&options, &s), -EINVAL);
    assert_true(piso_session_attach(-1, &s) < 0);
    assert_null(s);
}

#define WITH_PAIR(test)  cmocka_unit_test_setup_teardown(test, open_ends, close_ends)
#define WITH_CHILD(test) cmocka_unit_test_teardown(test, check_fds)

int main(int argc, char **argv) {
    if (argc > 1)
        return child_main(argv);
    const struct CMUnitTest before_any_process[] = {
        /* the kernel closes the descriptors of an ended process at any later time */
        cmocka_unit_test(sessions_leave_no_descriptor),
        WITH_PAIR(descriptors_go_before_the_last_reference),
        WITH_PAIR(descriptors_stay_while_somebody_uses_them),
    };
    const struct CMUnitTest tests[] = {
        WITH_PAIR(close_ends_pending_calls_on_both_sides),
        WITH_PAIR(closed_session_refuses_and_takes_nothing),
        WITH_PAIR(rejected_body_ends_the_session),
        WITH_PAIR(closed_session_is_not_rejected),
        WITH_PAIR(farewell_waits_for_room_in_the_ring),
        WITH_PAIR(peer_that_goes_without_farewell_is_noticed),
        WITH_CHILD(child_answers_until_the_host_closes),
        WITH_CHILD(answers_from_before_the_death_arrive),
        WITH_CHILD(every_call_ends_when_the_child_is_killed),
        WITH_CHILD(child_that_ends_early_fails_the_handshake),
        WITH_CHILD(child_that_says_nothing_is_waited_for_in_vain),
        WITH_CHILD(child_that_says_nonsense_is_refused),
        WITH_CHILD(what_cannot_start_is_told_at_once),
    };
    return cmocka_run_group_tests(before_any_process, NULL, NULL) + cmocka_run_group_tests(tests, start_monitor, NULL);
}
