/* test_zygote_stopped.c - a stopped zygote or child blocks nobody who does not need it (zygote_tools.h). */
#include "emulation.h"
#include "zygote_tools.h"

/* expect_state: waits for this state in /proc. T: stopped, Z: ended and not reaped. */
static void expect_state(pid_t pid, char letter) {
    char path[40], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    do
        assert_true(piso__read_text(path, text, sizeof text));
    while (strrchr(text, ')')[2] != letter);
}

static void halt(piso_process *p) {
    assert_int_equal(kill(piso_process_pid(p), SIGSTOP), 0);
    expect_state(piso_process_pid(p), 'T');
}

static bool is_running(piso_zygote *z) {
    return !piso__process_ended(piso_zygote_process(z));
}

static running run_ours(const char *program, const char *argument) {
    const char *const argv[] = {"/proc/self/exe", program, argument, NULL};
    piso_spawn spawn = {
        .size = sizeof spawn, .argv = argv, .envp = environment, .inherit_stdout = true, .name = program};
    running r = {0};
    assert_int_equal(try_spawn(&spawn, &r), 0);
    return r;
}

/* Nothing here waits for the zygote, which would be killed for not answering. */
static void a_stopped_zygote_holds_up_nobody(void **state) {
    (void)state;
    char text[64];
    uint64_t dropped;
    piso_zygote *z = start_zygote("good"), *another = start_zygote("good");
    running child = run(z, "sleep", NULL), ours = run_ours("sleep", NULL), cousin = run(another, "exit", "4");
    pid_t pid = piso_process_pid(child.process);
    expect_exit(cousin.process, 4, 0);
    halt(piso_zygote_process(z));
    assert_int_equal(piso_process_kill(child.process, SIGKILL), 0);
    expect_state(pid, 'Z');
    piso_process_kill(child.process, SIGTERM);
    piso_process_stderr(child.process, text, sizeof text);
    piso_process_read_output(child.process, PISO_STDOUT, text, sizeof text, &dropped);
    assert_int_equal(ready(z), 0);
    assert_int_equal(piso_process_kill(ours.process, SIGTERM), 0);
    expect_exit(ours.process, -1, SIGTERM);
    running sibling = run(another, "exit", "5");
    expect_exit(sibling.process, 5, 0);
    expect_exit(child.process, -1, SIGKILL);
    assert_int_equal(piso_process_kill(child.process, SIGTERM), -ESRCH);
    assert_true(is_running(z));
    /* when it continues it does what it was asked to */
    assert_int_equal(kill(piso_process_pid(piso_zygote_process(z)), SIGCONT), 0);
    while (kill(pid, 0) == 0)
        sleep_ms(1);
    running next = run(z, "exit", "6");
    expect_exit(next.process, 6, 0);
    release(&child), release(&ours), release(&cousin), release(&sibling), release(&next);
    piso_zygote_unref(z);
    piso_zygote_unref(another);
}

typedef struct asker {
    piso_zygote *zygote;
    pthread_t thread;
    _Atomic bool begins;
    running started;
    int result;
} asker;

static void *ask(void *argument) {
    asker *a = argument;
    atomic_store(&a->begins, true);
    a->result = try_run(a->zygote, NULL, "exit", "0", &a->started);
    return NULL;
}

static void who_wants_a_child_of_a_stopped_zygote_waits_alone(void **state) {
    (void)state;
    enum { COUNT = 4 };
    asker askers[COUNT];
    piso_zygote *z = start_zygote("good"), *another = start_zygote("good");
    assert_int_equal(ready(z), 0);
    halt(piso_zygote_process(z));
    for (int i = 0; i < COUNT; i++) {
        askers[i] = (asker){.zygote = z};
        pthread_create(&askers[i].thread, NULL, ask, &askers[i]);
        while (!atomic_load(&askers[i].begins))
            sleep_ms(1);
    }
    sleep_ms(20); /* by now they have mostly asked */
    running ours = run_ours("exit", "4"), cousin = run(another, "exit", "5");
    expect_exit(ours.process, 4, 0);
    expect_exit(cousin.process, 5, 0);
    assert_int_equal(ready(z), 0);
    piso_zygote_close(z);
    for (int i = 0; i < COUNT; i++) {
        pthread_join(askers[i].thread, NULL);
        assert_int_equal(askers[i].result, PISO_EDIED);
    }
    expect_exit(piso_zygote_process(z), -1, SIGKILL);
    release(&ours), release(&cousin);
    piso_zygote_unref(z);
    piso_zygote_unref(another);
}

static void a_zygote_that_goes_on_in_time_is_as_before(void **state) {
    (void)state;
    asker a = {.zygote = start_zygote("good")};
    assert_int_equal(ready(a.zygote), 0);
    running child = run(a.zygote, "sleep", NULL);
    halt(piso_zygote_process(a.zygote));
    a.result = -1;
    pthread_create(&a.thread, NULL, ask, &a);
    assert_int_equal(piso_process_kill(child.process, SIGTERM), 0);
    sleep_ms(100);
    assert_int_equal(kill(piso_process_pid(piso_zygote_process(a.zygote)), SIGCONT), 0);
    expect_exit(child.process, -1, SIGTERM);
    pthread_join(a.thread, NULL);
    assert_int_equal(a.result, 0);
    release(&child);
    release(&a.started);
    piso_zygote_unref(a.zygote);
}

/* An end that nobody has asked about, because the zygote is killed first, is observed from outside. */
static void ends_are_told_without_the_zygote(void **state) {
    (void)state;
    piso_zygote *z = start_zygote("good");
    running one = run(z, "sleep", NULL), two = run(z, "sleep", NULL);
    halt(piso_zygote_process(z));
    assert_int_equal(piso_process_kill(one.process, SIGTERM), 0);
    piso_zygote_close(z);
    assert_int_equal(piso_process_kill(two.process, SIGKILL), 0);
    piso_exit status;
    assert_int_equal(piso_process_wait(one.process, LONG_ENOUGH, &status), 1);
    assert_true(!status.known || status.signal == SIGTERM);
    assert_int_equal(piso_process_wait(two.process, LONG_ENOUGH, &status), 1);
    assert_true(!status.known || status.signal == SIGKILL);
    release(&one), release(&two);
    piso_zygote_unref(z);
}

static void a_stopped_child_can_be_looked_at_and_ended(void **state) {
    (void)state;
    char text[64];
    uint64_t dropped;
    piso_exit status;
    piso_zygote *z = start_zygote("good");
    running children[] = {run(z, "sleep", NULL), run_ours("sleep", NULL)};
    for (int i = 0; i < 2; i++) {
        piso_process *p = children[i].process;
        halt(p);
        assert_int_equal(piso_process_wait(p, 0, &status), 0);
        assert_int_equal(piso_process_stderr(p, text, sizeof text), 0);
        assert_int_equal(piso_process_read_output(p, PISO_STDERR, text, sizeof text, &dropped), 0);
        assert_int_equal(piso_process_kill(p, SIGTERM), 0); /* not before it continues */
        assert_int_equal(piso_process_wait(p, SECOND / 50, &status), 0);
        assert_int_equal(piso_process_kill(p, SIGKILL), 0);
        expect_exit(p, -1, SIGKILL);
        release(&children[i]);
    }
    piso_zygote_unref(z);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "zygote") == 0)
        return zygote_main(argv[2]);
    if (argc > 1)
        return child_main(argv);
    leave_if_emulated();
    const struct CMUnitTest tests[] = {
        TEST(a_stopped_zygote_holds_up_nobody),           TEST(who_wants_a_child_of_a_stopped_zygote_waits_alone),
        TEST(a_zygote_that_goes_on_in_time_is_as_before), TEST(ends_are_told_without_the_zygote),
        TEST(a_stopped_child_can_be_looked_at_and_ended),
    };
    return cmocka_run_group_tests(tests, start_monitor, NULL);
}
