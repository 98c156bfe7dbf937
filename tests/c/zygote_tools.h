/* zygote_tools.h - hosts of zygotes. The zygote is the test's program again; its children run the programs of
 * child_programs.h. Times are limits for failing, not assertions. */
#ifndef PISO_TESTS_ZYGOTE_TOOLS_H
#define PISO_TESTS_ZYGOTE_TOOLS_H

#include "process_tools.h"

#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>

#include "os/cgroup.h"
#include "supervisor/zygote.h"

/* ThreadSanitizer forbids threads in a process forked from one with threads, which the monitor must support. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0";
}
#define IDLE (SECOND / 3)

/* ---- the zygote's program ---- */

static void *wait_for_ever(void *argument) {
    sleep_for_ever();
    return argument;
}

/* run_child: does what main would do with the arguments; the environment is the requested one. */
static int run_child(piso_fork *fork) {
    char *argv[4] = {0};
    for (int i = 0; i < 3 && fork->argv[i]; i++)
        argv[i] = (char *)fork->argv[i];
    environ = (char **)fork->envp;
    int status = child_main(argv);
    environ = (char *[]){NULL};
    piso_fork_fini(fork);
    return status;
}

static int zygote_main(const char *kind) {
    if (piso_zygote_guard(CHILD_CHANNEL) < 0)
        return 90;
    if (strcmp(kind, "slow") == 0)
        sleep_for_ever();
    if (strcmp(kind, "broken") == 0)
        return 5;
    if (piso_zygote_report(CHILD_CHANNEL, "ready!", 6) < 0)
        return 91;
    pthread_t thread;
    if (strcmp(kind, "threads") == 0)
        pthread_create(&thread, NULL, wait_for_ever, NULL);
    if (strcmp(kind, "liar") == 0)
        return send(CHILD_CHANNEL, "lies", 4, 0) == 4 ? (sleep_for_ever(), 0) : 92;
    if (strcmp(kind, "deaf") == 0) /* ends when it is asked for something */
        return poll(&(struct pollfd){.fd = CHILD_CHANNEL, .events = POLLIN}, 1, -1) == 1 ? 0 : 94;
    piso_fork fork = {.size = sizeof fork};
    int r = piso_zygote_serve(CHILD_CHANNEL, NULL, strcmp(kind, "idle") == 0 ? IDLE : -1, &fork);
    return r == 1 ? run_child(&fork) : r == 0 ? 0 : 93;
}

/* ---- the host ---- */

/* expect_left: waits until so many descriptors and no child are left. The monitor releases a process a moment
 * after it has reported its end. */
static void expect_left(int fds) {
    for (int i = 0; i < 3000 && (count_fds() != fds || waitpid(-1, NULL, WNOHANG) == 0); i++)
        sleep_ms(1);
    assert_int_equal(count_fds(), fds);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static int check_nothing_left(void **state) {
    (void)state;
    expect_left(fds_before);
    return 0;
}

static const char *const environment[] = {"A=1", "PISO_FD=77", "B=two", NULL};

static piso_zygote *start_zygote(const char *kind) {
    const char *const argv[] = {"/proc/self/exe", "zygote", kind, NULL};
    piso_spawn spawn = {
        .size = sizeof spawn, .argv = argv, .envp = environment, .inherit_stdout = true, .name = "zygote"};
    piso_zygote *z = NULL;
    assert_int_equal(piso_zygote_spawn(&spawn, &z), 0);
    return z;
}

static int ready(piso_zygote *z) {
    const void *report;
    size_t size;
    int r = piso_zygote_ready(z, LONG_ENOUGH, &report, &size);
    if (r == 0) {
        assert_int_equal(size, 6);
        assert_memory_equal(report, "ready!", 6);
    }
    return r;
}

static int try_run(piso_zygote *z, const char *cwd, const char *program, const char *argument, running *ret_running) {
    const char *const argv[] = {"extension", program, argument, NULL};
    piso_spawn spawn = {.size = sizeof spawn,
                        .argv = argv,
                        .envp = environment,
                        .inherit_stdout = true,
                        .name = program,
                        .cwd = cwd,
                        .zygote = z};
    return try_spawn(&spawn, ret_running);
}

static running run(piso_zygote *z, const char *program, const char *argument) {
    running r = {0};
    assert_int_equal(try_run(z, NULL, program, argument, &r), 0);
    return r;
}

static inline void expect_gone(int fd) {
    char byte;
    assert_int_equal(piso__poll_in(&fd, 1, LONG_ENOUGH), 1);
    assert_true(recv(fd, &byte, 1, 0) <= 0);
}

/* start_monitor: starts the monitor before anything is counted: its thread and one descriptor stay. */
static int start_monitor(void **state) {
    remember_fds(state);
    const char *const argv[] = {"/proc/self/exe", "exit", "0", NULL};
    piso_process *process;
    assert_int_equal(
        piso__process_spawn(&(piso_spawn){.argv = argv, .envp = environment, .inherit_stdout = true, .name = "first"},
                            STDIN_FILENO, &process),
        0);
    expect_exit(process, 0, 0);
    piso__process_unref(process);
    expect_left(fds_before + 1);
    return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, remember_fds, check_nothing_left)

#endif
