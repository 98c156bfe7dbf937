/* test_session_crowd.c - taking turns: who counts, who is told, and that a wait which gives its processor away still
 * sees what comes and comes to an end.
 *
 * The extensions are processes that do nothing, so that their rings say what the test writes there. */
#include "session_tools.h"

#include <pthread.h>
#include <sys/wait.h>

#define PROCESSORS 2
#define MANY       3

extern char **environ;

/* ThreadSanitizer refuses threads in a process forked from one with threads. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0";
}

static const char *program;
static piso_session *extensions[MANY];

static piso_session *spawn(void) {
    const char *argv[] = {program, "extension", NULL};
    piso_spawn options = {
        .argv = argv,
        .envp = (const char *const *)environ,
        .name = "extension",
        .arena_size = SMALL_ARENA,
    };
    piso_session *s;
    assert_int_equal(piso_session_spawn(&options, &s), 0);
    atomic_store(&s->processors, PROCESSORS); /* wherever the test runs */
    return s;
}

static int start_extensions(void **state) {
    (void)state;
    for (int i = 0; i < MANY; i++)
        extensions[i] = spawn();
    return 0;
}

static int stop_extensions(void **state) {
    (void)state;
    for (int i = 0; i < MANY; i++) {
        if (extensions[i])
            piso_process_kill(piso_session_process(extensions[i]), SIGKILL);
        extensions[i] = piso_session_unref(extensions[i]);
    }
    return 0;
}

/* set_asleep: what an extension says of itself. */
static void set_asleep(int index, bool asleep) {
    atomic_store(&extensions[index]->channel->tx.shared->sleeping, asleep);
}

static uint32_t told(int index) {
    return atomic_load(&extensions[index]->channel->tx.shared->crowd);
}

static uint64_t turns(piso_session *s) {
    return stats_of(s).turns_given;
}

/* wait_until_turn: waits in vain until one of the waits has given a turn: not all are long enough. */
static void wait_until_turn(piso_session *s, uint64_t before) {
    for (int i = 0; i < 1000000 && turns(s) == before; i++)
        assert_int_equal(piso_session_spin(s), 0);
    assert_true(turns(s) > before);
}

/* count_again: the host waits in vain, after something has changed. */
static void count_again(void) {
    piso__crowd_changed();
    assert_int_equal(piso_session_spin(extensions[0]), 0);
}

/* ---- the host ---- */

static void host_counts_who_is_awake(void **state) {
    (void)state;
    set_asleep(1, true);
    set_asleep(2, true);
    count_again(); /* the host and one extension: each has a processor */
    uint64_t before = turns(extensions[0]);
    count_again();
    assert_int_equal(turns(extensions[0]), before);
    assert_int_equal(told(0), 0);

    set_asleep(1, false);
    count_again();
    wait_until_turn(extensions[0], before);
    assert_true(told(0) > 0 && told(1) > 0);
    assert_int_equal(told(2), 0); /* asleep: told when it has been woken */

    set_asleep(2, false);
    count_again();
    assert_true(told(2) > 0);

    set_asleep(1, true);
    set_asleep(2, true);
    count_again();
    assert_int_equal(told(0), 0);
}

static void with_processors_for_all_nobody_yields(void **state) {
    (void)state;
    for (int i = 0; i < MANY; i++)
        atomic_store(&extensions[i]->processors, MANY + 1);
    for (int i = 0; i < 100; i++)
        count_again();
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(told(i), 0);
        assert_int_equal(turns(extensions[i]), 0);
    }
}

static void who_has_ended_does_not_count(void **state) {
    (void)state;
    set_asleep(1, true);
    count_again();
    assert_true(told(0) > 0);
    piso_process_kill(piso_session_process(extensions[2]), SIGKILL);
    piso_event event;
    while (piso_session_next(extensions[2], &event) == 0)
        piso_session_wait(extensions[2], -1, LONG_ENOUGH);
    count_again();
    assert_int_equal(told(0), 0);
    extensions[2] = piso_session_unref(extensions[2]);
    count_again();
    assert_int_equal(told(0), 0);
}

/* A forked process has none of the extensions, and may have its own. */
static void forked_process_starts_over(void **state) {
    (void)state;
    count_again();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        piso_session *s = spawn();
        piso__crowd_changed();
        piso_session_spin(s);
        uint32_t crowd = atomic_load(&s->channel->tx.shared->crowd);
        piso_process_kill(piso_session_process(s), SIGKILL);
        piso_session_unref(s);
        _exit(crowd != 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- an extension ---- */

static int open_crowded(void **state) {
    open_ends(state);
    atomic_store(&pair.child->processors, PROCESSORS);
    atomic_store(&pair.host->channel->tx.shared->crowd, 1);
    return 0;
}

static void wait_in_a_crowd_ends(void **state) {
    (void)state;
    wait_until_turn(pair.child, 0);
    atomic_store(&pair.host->channel->tx.shared->crowd, 0);
    uint64_t before = turns(pair.child);
    for (int i = 0; i < 200; i++)
        assert_int_equal(piso_session_spin(pair.child), 0);
    assert_int_equal(turns(pair.child), before);
}

/* After one that took too long none is given for a while. */
static void none_is_given_too_early(void **state) {
    (void)state;
    wait_until_turn(pair.child, 0);
    uint64_t before = turns(pair.child);
    pair.child->turns.not_before_ns = INT64_MAX;
    for (int i = 0; i < 200; i++)
        assert_int_equal(piso_session_spin(pair.child), 0);
    assert_int_equal(turns(pair.child), before);
    pair.child->turns.not_before_ns = 0;
    wait_until_turn(pair.child, before);
}

/* ---- one processor ---- */

/* Each wait gives its turns at once, but none goes on where nobody takes them, or too early. */
static void the_only_processor_is_given_away(void **state) {
    (void)state;
    atomic_store(&pair.child->processors, 1);
    for (int i = 0; i < 100; i++) {
        uint64_t before = turns(pair.child);
        assert_int_equal(piso_session_spin(pair.child), 0);
        if (pair.child->turns.not_before_ns == 0)
            assert_true(turns(pair.child) > before);
        pair.child->turns.not_before_ns = 0; /* who else runs here may have taken long */
    }
    uint64_t before = turns(pair.child);
    pair.child->turns.not_before_ns = INT64_MAX;
    assert_int_equal(piso_session_spin(pair.child), 0);
    assert_int_equal(turns(pair.child), before);
}

static void *ask(void *argument) {
    (void)argument;
    for (int64_t i = 0; i < 1000; i++) {
        piso_call call;
        piso_event event;
        assert_int_equal(send_call(pair.host, &call, i, PISO_NO_DEADLINE), 0);
        assert_int_equal(await(pair.host, &event), 1);
        assert_ptr_equal(event.call, &call);
        piso_event_fini(&event);
    }
    return NULL;
}

static void answer_thousand(void) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ask, NULL), 0);
    for (int64_t i = 0; i < 1000; i++) {
        while (!piso_session_spin(pair.child))
            ;
        assert_int_equal(send_reply(pair.child, take_request(pair.child, i), i), 0);
    }
    pthread_join(thread, NULL);
}

static void what_comes_is_seen_between_turns(void **state) {
    (void)state;
    answer_thousand();
}

static void what_comes_is_seen_on_the_only_processor(void **state) {
    (void)state;
    atomic_store(&pair.child->processors, 1);
    atomic_store(&pair.host->processors, 1);
    answer_thousand();
}

#define WITH_EXTENSIONS(test) cmocka_unit_test_setup_teardown(test, start_extensions, stop_extensions)
#define WITH_PAIR(test)       cmocka_unit_test_setup_teardown(test, open_crowded, close_ends)

int main(int argc, char **argv) {
    if (argc > 1)
        for (;;)
            pause();
    program = argv[0];
    const struct CMUnitTest tests[] = {
        WITH_EXTENSIONS(host_counts_who_is_awake),
        WITH_EXTENSIONS(with_processors_for_all_nobody_yields),
        WITH_EXTENSIONS(who_has_ended_does_not_count),
        WITH_EXTENSIONS(forked_process_starts_over),
        WITH_PAIR(wait_in_a_crowd_ends),
        WITH_PAIR(none_is_given_too_early),
        WITH_PAIR(what_comes_is_seen_between_turns),
        WITH_PAIR(the_only_processor_is_given_away),
        WITH_PAIR(what_comes_is_seen_on_the_only_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
