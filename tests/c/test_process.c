/* test_process.c - the life of child processes, as the host sees it. The children: child_programs.h.
 *
 * Each test is checked for descriptors and zombies that it leaves. Times are limits for failing, not
 * assertions. */
#include "emulation.h"
#include "process_tools.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define BEFORE_GRACE (4 * SECOND) /* a child whose host lives gets 5 s */

/* ThreadSanitizer forbids threads in a process forked from one with threads, which the monitor must support. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0";
}

/* ---- what every test leaves ---- */

/* expect_fds: waits until so many descriptors are open. The monitor releases a process a moment after it has
 * reported its end. */
static void expect_fds(int count) {
    for (int i = 0; i < 3000 && count_fds() != count; i++)
        sleep_ms(1);
    assert_int_equal(count_fds(), count);
}

static int check_nothing_left(void **state) {
    (void)state;
    expect_fds(fds_before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    return 0;
}

/* ---- spawning ---- */

static const char *const environment[] = {"A=1", "PISO_FD=77", "B=two", NULL};

static running run(const char *program, const char *argument) {
    const char *const argv[] = {"/proc/self/exe", program, argument, NULL};
    running r = {0};
    piso_spawn spawn = {
        .size = sizeof spawn, .argv = argv, .envp = environment, .name = program, .inherit_stdout = true};
    assert_int_equal(try_spawn(&spawn, &r), 0);
    return r;
}

static void on_signal(int signal) {
    (void)signal;
}

static void child_starts_clean(void **state) {
    (void)state;
    char text[REPORT_SIZE];
    int leak = fcntl(STDERR_FILENO, F_DUPFD, 40); /* not close-on-exec */
    sigset_t block, before;
    sigemptyset(&block);
    sigaddset(&block, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &block, &before);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGHUP, on_signal);
    running r = run("report", NULL);
    read_report(&r, text);
    assert_non_null(strstr(text, "fds 0 1 2 3\n"));
    assert_non_null(strstr(text, "blocked 0\n"));
    assert_non_null(strstr(text, "ignored 0\n"));
    assert_non_null(strstr(text, "group own\n"));
    assert_non_null(strstr(text, "stdin /dev/null\n"));
    assert_non_null(strstr(text, "env A=1\nenv B=two\nenv PISO_FD=3\n"));
    assert_null(strstr(text, "PISO_FD=77"));
    expect_exit(r.process, 0, 0);
    /* and the host keeps its handler */
    assert_ptr_equal(signal(SIGUSR1, SIG_DFL), SIG_IGN);
    assert_ptr_equal(signal(SIGHUP, SIG_DFL), on_signal);
    pthread_sigmask(SIG_SETMASK, &before, &block);
    assert_int_equal(sigismember(&block, SIGUSR2), 1);
    assert_int_equal(sigismember(&block, SIGTERM), 0);
    close(leak);
    release(&r);
}

/* Descriptors 0 to 3 of the host may be anything, even a file that the child gets under another number. */
static void low_descriptors_do_not_collide(void **state) {
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        char text[REPORT_SIZE] = {0};
        int pair[2];
        close(0), close(1), close(2), close(3);
        piso_process *p;
        piso_exit status;
        const char *const argv[] = {"/proc/self/exe", "report", NULL};
        if (piso__socketpair(pair) < 0 || pair[1] != 1 ||
            piso__process_spawn(&(piso_spawn){.argv = argv, .envp = environment}, pair[1], &p) < 0 ||
            piso_process_wait(p, LONG_ENOUGH, &status) != 1 || status.code != 0)
            _exit(1);
        _exit(recv(pair[0], text, sizeof text - 1, 0) > 0 && strstr(text, "fds 0 1 2 3\n") ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void working_directory_is_set(void **state) {
    (void)state;
    char text[REPORT_SIZE];
    const char *const argv[] = {"/proc/self/exe", "report", NULL};
    running r;
    assert_int_equal(try_spawn(&(piso_spawn){.argv = argv, .envp = environment, .cwd = "/usr"}, &r), 0);
    read_report(&r, text);
    assert_non_null(strstr(text, "cwd /usr\n"));
    expect_exit(r.process, 0, 0);
    release(&r);
}

/* forbid_close_range: simulates a kernel before 5.9, or a container's system-call filter. */
static bool forbid_close_range(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void descriptors_are_closed_without_close_range(void **state) {
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        for (int fd = 40; fd < 60; fd++)
            dup2(STDERR_FILENO, fd);
        if (!forbid_close_range())
            _exit(1);
        char text[REPORT_SIZE];
        running r = run("report", NULL);
        read_report(&r, text);
        _exit(strstr(text, "fds 0 1 2 3\n") ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static int spawn_error(const char *path, const char *cwd) {
    const char *const argv[] = {path, NULL};
    running r;
    return try_spawn(&(piso_spawn){.argv = argv, .envp = environment, .cwd = cwd}, &r);
}

static void failure_to_start_is_told(void **state) {
    (void)state;
    assert_int_equal(spawn_error("/nowhere/at/all", NULL), -ENOENT);
    assert_int_equal(spawn_error("/usr", NULL), -EACCES);
    assert_int_equal(spawn_error("/proc/self/status", NULL), -EACCES);
    assert_int_equal(spawn_error("/proc/self/exe", "/nowhere"), -ENOENT);
}

/* Wherever descriptors run out, nothing stays behind. */
static void descriptors_may_run_out(void **state) {
    (void)state;
    const char *const argv[] = {"/bin/true", NULL};
    int started = 0, refused = 0, pair[2];
    struct rlimit before, limited;
    assert_int_equal(piso__socketpair(pair), 0);
    getrlimit(RLIMIT_NOFILE, &before);
    for (int spare = 0; spare < 16; spare++) {
        piso_process *p = NULL;
        int used = fcntl(STDERR_FILENO, F_DUPFD, 0);
        close(used);
        limited = (struct rlimit){(rlim_t)(used + spare), before.rlim_max};
        setrlimit(RLIMIT_NOFILE, &limited);
        int r = piso__process_spawn(&(piso_spawn){.argv = argv, .envp = environment}, pair[1], &p);
        setrlimit(RLIMIT_NOFILE, &before);
        started += r == 0;
        refused += r == -EMFILE || r == -EINVAL; /* EINVAL: F_DUPFD above the limit */
        piso_exit status;
        if (r == 0)
            assert_int_equal(piso_process_wait(p, LONG_ENOUGH, &status), 1);
        piso__process_unref(p);
    }
    piso__fd_close(pair[0]);
    piso__fd_close(pair[1]);
    assert_int_equal(started + refused, 16);
    assert_true(started > 0 && refused > 0);
}

/* ---- the end ---- */

static void exit_status_is_told(void **state) {
    (void)state;
    running r = run("exit", "42");
    expect_exit(r.process, 42, 0);
    assert_int_equal(piso_process_kill(r.process, SIGTERM), -ESRCH);
    expect_exit(r.process, 42, 0); /* for ever */
    release(&r);
    r = run("raise", "9");
    expect_exit(r.process, -1, SIGKILL);
    release(&r);
}

static void waiting_takes_its_time(void **state) {
    (void)state;
    running r = run("sleep", NULL);
    piso_exit status;
    assert_int_equal(piso_process_wait(r.process, 0, &status), 0);
    assert_int_equal(piso_process_wait(r.process, SECOND / 50, &status), 0);
    assert_false(piso__process_ended(r.process));
    assert_int_equal(kill(piso_process_pid(r.process), 0), 0);
    assert_int_equal(piso_process_kill(r.process, SIGTERM), 0);
    expect_exit(r.process, -1, SIGTERM);
    assert_true(piso__process_ended(r.process));
    release(&r);
}

static void last_words_are_kept(void **state) {
    (void)state;
    static char text[2 * PISO__STDERR_TAIL];
    running r = run("print", "3");
    expect_exit(r.process, 0, 0);
    assert_int_equal(piso_process_stderr(r.process, text, sizeof text), 33);
    assert_memory_equal(text, "line 00000\nline 00001\nline 00002\n", 33);
    assert_int_equal(piso_process_stderr(r.process, text, 25), 22); /* whole lines */
    assert_memory_equal(text, "line 00001\nline 00002\n", 22);
    assert_int_equal(piso_process_stderr(r.process, text, 4), 4); /* not even one */
    assert_memory_equal(text, "002\n", 4);
    assert_int_equal(piso_process_stderr(r.process, text, 0), 0);
    release(&r);
    r = run("print", "20000");
    expect_exit(r.process, 0, 0);
    size_t n = piso_process_stderr(r.process, text, sizeof text);
    assert_in_range(n, PISO__STDERR_TAIL - 22, PISO__STDERR_TAIL);
    assert_memory_equal(text, "line ", 5);
    assert_memory_equal(text + n - 11, "line 19999\n", 11);
    release(&r);
}

static void last_words_are_complete(void **state) {
    (void)state;
    char text[8];
    running r = run("flood", NULL);
    expect_exit(r.process, -1, SIGKILL);
    assert_int_equal(piso_process_stderr(r.process, text, 5), 5);
    assert_memory_equal(text, "last\n", 5);
    release(&r);
}

/* expect_hang_up: checks that every holder of the other end is gone. */
static void expect_hang_up(int fd, int64_t timeout) {
    char byte;
    assert_int_equal(piso__poll_in(&fd, 1, timeout), 1);
    assert_int_equal(read(fd, &byte, 1), 0);
}

/* The grandchild keeps the channel and stderr open, which must not delay the report of the end. */
static void grandchildren_end_too(void **state) {
    (void)state;
    running r = run("orphan", NULL);
    expect_exit(r.process, 0, 0);
    expect_hang_up(r.channel_fd, LONG_ENOUGH);
    release(&r);
}

static void somebody_else_may_reap(void **state) {
    (void)state;
    signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
    for (int i = 0; i < 5; i++) {
        running r = run(i % 2 ? "exit" : "orphan", "3");
        piso_exit status;
        assert_int_equal(piso_process_wait(r.process, LONG_ENOUGH, &status), 1);
        assert_false(status.known);
        assert_int_equal(status.code, -1);
        assert_int_equal(status.signal, 0);
        assert_int_equal(piso_process_kill(r.process, SIGTERM), -ESRCH);
        expect_hang_up(r.channel_fd, LONG_ENOUGH);
        release(&r);
    }
    signal(SIGCHLD, SIG_DFL);
}

/* The status of a zygote's child, which is not the host's own, comes from the system only. */
static void the_system_tells_how_a_process_ended(void **state) {
    (void)state;
    const struct {
        const char *program, *argument;
        int code, signal;
    } ends[] = {{"exit", "0", 0, 0}, {"exit", "42", 42, 0}, {"raise", "15", -1, SIGTERM}, {"raise", "9", -1, SIGKILL}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            execl("/proc/self/exe", "test", ends[i].program, ends[i].argument, NULL);
            _exit(99);
        }
        piso_exit status = {.known = false};
        piso__autoclose int pidfd = piso__pidfd_open(pid);
        assert_int_equal(piso__poll_in(&pidfd, 1, LONG_ENOUGH), 1);
        assert_int_equal(piso__exit_of(pidfd, pid, &status), 0);
        assert_true(status.known);
        assert_int_equal(status.code, ends[i].code);
        assert_int_equal(status.signal, ends[i].signal);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        status = (piso_exit){.known = false};
        if (piso__exit_of(pidfd, pid, &status) == 0) { /* Linux 6.15 */
            assert_int_equal(status.code, ends[i].code);
            assert_int_equal(status.signal, ends[i].signal);
        }
    }
}

static void many_at_once(void **state) {
    (void)state;
    enum { COUNT = 50 };
    running all[COUNT];
    char code[12];
    for (int i = 0; i < COUNT; i++) {
        snprintf(code, sizeof code, "%d", i);
        all[i] = run("exit", code);
    }
    for (int i = COUNT - 1; i >= 0; i--) {
        expect_exit(all[i].process, i, 0);
        release(&all[i]);
    }
}

/* Released while it runs, the process is reaped by the monitor all the same. */
static void released_process_is_reaped(void **state) {
    (void)state;
    running r = run("sleep", NULL);
    piso__autoclose int pidfd = piso__pidfd_open(piso_process_pid(r.process));
    assert_int_equal(piso_process_kill(r.process, SIGKILL), 0);
    pid_t pid = piso_process_pid(r.process);
    release(&r);
    assert_int_equal(piso__poll_in(&pidfd, 1, LONG_ENOUGH), 1);
    for (int i = 0; i < 3000 && kill(pid, 0) == 0; i++)
        sleep_ms(10);
    assert_int_equal(kill(pid, 0), -1);
}

/* ---- several threads ---- */

static void *kill_repeatedly(void *argument) {
    while (piso_process_kill(argument, SIGTERM) == 0)
        sched_yield();
    return NULL;
}

static void *spawn_repeatedly(void *argument) {
    for (int i = 0; i < 5; i++) {
        running r = run("sleep", NULL);
        pthread_t killer;
        char text[64];
        piso_exit status;
        pthread_create(&killer, NULL, kill_repeatedly, r.process);
        int waited = piso_process_wait(r.process, LONG_ENOUGH, &status);
        piso_process_stderr(r.process, text, sizeof text);
        pthread_join(killer, NULL);
        release(&r);
        if (waited != 1 || !status.known || status.signal != SIGTERM)
            return "wrong end";
    }
    return argument;
}

static void threads_may_do_all_this(void **state) {
    (void)state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, spawn_repeatedly, NULL);
    for (int i = 0; i < 4; i++) {
        void *fault;
        pthread_join(threads[i], &fault);
        assert_null(fault);
    }
}

/* ---- fork ---- */

/* in_forked: checks what a process forked from the host may do: nothing with the host's children, everything
 * with its own. Returns the number of the first check that fails. */
static int in_forked(running *r) {
    piso_exit status;
    char text[8];
    if (piso_process_wait(r->process, 0, &status) != PISO_EFORKED)
        return 1;
    if (piso_process_kill(r->process, SIGKILL) != PISO_EFORKED)
        return 2;
    if (piso_process_pid(r->process) != PISO_EFORKED || piso_process_output_fd(r->process) != PISO_EFORKED)
        return 3;
    if (piso_process_stderr(r->process, text, sizeof text) != 0)
        return 4;
    release(r);
    running own = run("exit", "5");
    if (piso_process_wait(own.process, LONG_ENOUGH, &status) != 1 || status.code != 5)
        return 5;
    release(&own);
    return 0;
}

static void forked_process_starts_over(void **state) {
    (void)state;
    running r = run("sleep", NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_forked(&r));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_false(piso__process_ended(r.process));
    assert_int_equal(piso_process_kill(r.process, SIGTERM), 0);
    expect_exit(r.process, -1, SIGTERM);
    release(&r);
}

/* ---- echo ---- */

/* run_with_stderr: runs a child that prints, while this process's stderr is `fd`. */
static running run_with_stderr(int fd, const char *lines) {
    const char *const argv[] = {"/proc/self/exe", "print", lines, NULL};
    running r = {0};
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    dup2(fd, STDERR_FILENO);
    int error = try_spawn(&(piso_spawn){.argv = argv, .envp = environment, .echo_stderr = true}, &r);
    piso_exit status;
    int ended = error < 0 ? 0 : piso_process_wait(r.process, LONG_ENOUGH, &status);
    dup2(saved, STDERR_FILENO);
    close(saved);
    assert_int_equal(error, 0);
    assert_int_equal(ended, 1);
    return r;
}

static void stderr_is_passed_on(void **state) {
    (void)state;
    char text[64] = {0};
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    running r = run_with_stderr(ends[1], "2");
    assert_int_equal(read(ends[0], text, sizeof text), 22);
    assert_string_equal(text, "line 00000\nline 00001\n");
    close(ends[0]);
    close(ends[1]);
    release(&r);
}

static void stderr_that_nobody_reads_holds_nobody_up(void **state) {
    (void)state;
    char text[PISO__STDERR_TAIL];
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    running r = run_with_stderr(ends[1], "30000"); /* more than a pipe holds */
    size_t n = piso_process_stderr(r.process, text, sizeof text);
    assert_memory_equal(text + n - 11, "line 29999\n", 11);
    close(ends[0]);
    close(ends[1]);
    release(&r);
}

/* ---- the host's end ---- */

/* start_host: starts a process that runs a child program and does nothing else. The pipe whose reading end is
 * returned is its stdout, and that of all its descendants: it hangs up when all are gone. */
static pid_t start_host(const char *program, int *ret_fd) {
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[1]);
        run(program, NULL);
        sleep_for_ever();
    }
    close(ends[1]);
    char byte;
    assert_int_equal(piso__poll_in(&ends[0], 1, LONG_ENOUGH), 1);
    assert_int_equal(read(ends[0], &byte, 1), 1); /* the child is ready */
    *ret_fd = ends[0];
    return pid;
}

static void children_die_with_the_host(void **state) {
    (void)state;
    const char *const programs[] = {"watch", "watch-late"};
    for (size_t i = 0; i < 2; i++) {
        piso__autoclose int fd = -1;
        pid_t pid = start_host(programs[i], &fd);
        assert_int_equal(piso__poll_in(&fd, 1, SECOND / 20), 0);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        expect_hang_up(fd, BEFORE_GRACE);
    }
}

static void closed_session_leaves_time_to_end(void **state) {
    (void)state;
    running polite = run("watch-polite", NULL), stubborn = run("watch-stubborn", NULL);
    sleep_ms(500); /* both watch by now */
    polite.channel_fd = piso__fd_close(polite.channel_fd);
    stubborn.channel_fd = piso__fd_close(stubborn.channel_fd);
    expect_exit(polite.process, 7, 0);
    assert_false(piso__process_ended(stubborn.process));
    expect_exit(stubborn.process, -1, SIGKILL);
    release(&polite);
    release(&stubborn);
}

/* start_monitor: starts the monitor before anything is counted: its thread and one descriptor stay. */
static int start_monitor(void **state) {
    remember_fds(state);
    running r = run("exit", "0");
    expect_exit(r.process, 0, 0);
    release(&r);
    expect_fds(fds_before + 1);
    return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, remember_fds, check_nothing_left)

int main(int argc, char **argv) {
    if (argc > 1)
        return child_main(argv);
    leave_if_emulated();
    const struct CMUnitTest tests[] = {
        TEST(child_starts_clean),
        TEST(low_descriptors_do_not_collide),
        TEST(working_directory_is_set),
        TEST(descriptors_are_closed_without_close_range),
        TEST(failure_to_start_is_told),
        TEST(descriptors_may_run_out),
        TEST(exit_status_is_told),
        TEST(waiting_takes_its_time),
        TEST(last_words_are_kept),
        TEST(last_words_are_complete),
        TEST(grandchildren_end_too),
        TEST(somebody_else_may_reap),
        TEST(the_system_tells_how_a_process_ended),
        TEST(many_at_once),
        TEST(released_process_is_reaped),
        TEST(threads_may_do_all_this),
        TEST(forked_process_starts_over),
        TEST(stderr_is_passed_on),
        TEST(stderr_that_nobody_reads_holds_nobody_up),
        TEST(children_die_with_the_host),
        TEST(closed_session_leaves_time_to_end),
    };
    return cmocka_run_group_tests(tests, start_monitor, NULL);
}
