/* test_zygote.c - for the host, children that a zygote forks behave like spawned ones (zygote_tools.h). */
#include "emulation.h"
#include "zygote_tools.h"

/* ---- children ---- */

static void child_starts_clean(void **state) {
    (void)state;
    char text[REPORT_SIZE], directory[64];
    piso_zygote *z = start_zygote("good");
    assert_int_equal(ready(z), 0);
    assert_int_equal(chdir("/usr"), 0); /* after the zygote has started */
    running r = run(z, "report", NULL);
    read_report(&r, text);
    assert_non_null(strstr(text, "fds 0 1 2 3\n"));
    assert_non_null(strstr(text, "blocked 0\n"));
    assert_non_null(strstr(text, "ignored 0\n"));
    assert_non_null(strstr(text, "group own\n"));
    assert_non_null(strstr(text, "cwd /usr\n"));
    assert_non_null(strstr(text, "stdin /dev/null\n"));
    assert_non_null(strstr(text, "env A=1\nenv B=two\nenv PISO_FD=3\n"));
    assert_null(strstr(text, "PISO_FD=77"));
    expect_exit(r.process, 0, 0);
    release(&r);
    snprintf(directory, sizeof directory, "/proc/%d", (int)getpid());
    assert_int_equal(try_run(z, directory, "report", NULL, &r), 0);
    read_report(&r, text);
    assert_non_null(strstr(text, "cwd /proc/"));
    release(&r);
    assert_int_equal(try_run(z, "/no/such/directory", "report", NULL, &r), -ENOENT);
    piso_zygote_unref(z);
}

static void ends_are_told(void **state) {
    (void)state;
    piso_zygote *z = start_zygote("good");
    running r = run(z, "exit", "7"); /* waits for the zygote by itself */
    expect_exit(r.process, 7, 0);
    assert_int_equal(piso_process_kill(r.process, SIGTERM), -ESRCH);
    release(&r);
    r = run(z, "raise", "15");
    expect_exit(r.process, -1, 15);
    release(&r);
    r = run(z, "sleep", NULL);
    piso_exit status;
    assert_int_equal(piso_process_wait(r.process, SECOND / 20, &status), 0);
    assert_int_equal(piso_process_kill(r.process, SIGTERM), 0);
    expect_exit(r.process, -1, SIGTERM);
    release(&r);
    r = run(z, "print", "3");
    expect_exit(r.process, 0, 0);
    char text[100];
    size_t size = piso_process_stderr(r.process, text, sizeof text - 1);
    text[size] = '\0';
    assert_string_equal(text, "line 00000\nline 00001\nline 00002\n");
    release(&r);
    piso_zygote_unref(z);
}

static void grandchildren_end_too(void **state) {
    (void)state;
    piso_zygote *z = start_zygote("good");
    running r = run(z, "orphan", NULL);
    expect_exit(r.process, 0, 0);
    expect_gone(r.channel_fd);
    release(&r);
    piso_zygote_unref(z);
}

static void many_at_once(void **state) {
    (void)state;
    enum { COUNT = 30 };
    running all[COUNT];
    char code[12];
    piso_zygote *z = start_zygote("good");
    for (int i = 0; i < COUNT; i++) {
        snprintf(code, sizeof code, "%d", i);
        all[i] = run(z, "exit", code);
    }
    for (int i = COUNT - 1; i >= 0; i--) {
        expect_exit(all[i].process, i, 0);
        release(&all[i]);
    }
    piso_zygote_unref(z);
}

static void *run_repeatedly(void *argument) {
    for (int i = 0; i < 5; i++) {
        running r = run(argument, "exit", "3");
        piso_exit status;
        int waited = piso_process_wait(r.process, LONG_ENOUGH, &status);
        release(&r);
        if (waited != 1 || status.code != 3)
            return NULL;
    }
    return argument;
}

static void threads_may_share_one(void **state) {
    (void)state;
    pthread_t threads[4];
    piso_zygote *z = start_zygote("good");
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, run_repeatedly, z);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_ptr_equal(result, z);
    }
    piso_zygote_unref(z);
}

/* A block larger than a packet can be. */
static void large_environments_pass(void **state) {
    (void)state;
    enum { SIZE = 1 << 20 };
    char *variable = malloc(SIZE);
    memset(variable, 'x', SIZE - 1);
    memcpy(variable, "LONG=", 5);
    variable[SIZE - 1] = '\0';
    const char *const argv[] = {"extension", "exit", "4", NULL}, *const envp[] = {variable, NULL};
    piso_zygote *z = start_zygote("good");
    piso_spawn spawn = {.size = sizeof spawn, .argv = argv, .envp = envp, .name = "large", .zygote = z};
    piso_process *process = NULL;
    assert_int_equal(piso__process_spawn(&spawn, STDIN_FILENO, &process), 0);
    expect_exit(process, 4, 0);
    piso__process_unref(process);
    piso_zygote_unref(z);
    free(variable);
}

/* ---- zygotes that fail ---- */

static void ended_zygote_is_told(void **state) {
    (void)state;
    running r;
    piso_zygote *z = start_zygote("broken");
    assert_int_equal(ready(z), PISO_EDIED);
    assert_int_equal(try_run(z, NULL, "exit", "0", &r), PISO_EDIED);
    expect_exit(piso_zygote_process(z), 5, 0);
    piso_zygote_unref(z);
    z = start_zygote("deaf"); /* ends at the first request */
    assert_int_equal(ready(z), 0);
    assert_int_equal(try_run(z, NULL, "exit", "0", &r), PISO_EDIED);
    piso_zygote_unref(z);
}

static void threads_are_refused(void **state) {
    (void)state;
    running r;
    piso_zygote *z = start_zygote("threads");
    assert_int_equal(ready(z), 0);
    sleep_ms(200); /* the thread runs */
    assert_int_equal(try_run(z, NULL, "exit", "0", &r), -EBUSY);
    piso_zygote_unref(z);
}

static void wrong_answers_end_it(void **state) {
    (void)state;
    running r;
    piso_zygote *z = start_zygote("liar");
    int was_ready = ready(z); /* unless it has lied already */
    assert_true(was_ready == 0 || was_ready == PISO_EPROTO);
    assert_int_equal(try_run(z, NULL, "exit", "0", &r), PISO_EPROTO);
    expect_exit(piso_zygote_process(z), -1, SIGKILL);
    assert_int_equal(try_run(z, NULL, "exit", "0", &r), PISO_EPROTO); /* for ever */
    piso_zygote_unref(z);
}

static void children_outlive_their_zygote(void **state) {
    (void)state;
    piso_zygote *z = start_zygote("good");
    running r = run(z, "watch-polite", NULL);
    piso_zygote_close(z);
    expect_exit(piso_zygote_process(z), -1, SIGKILL);
    piso_zygote_unref(z);
    sleep_ms(200);
    assert_false(piso__process_ended(r.process));
    r.channel_fd = piso__fd_close(r.channel_fd);
    piso_exit status;
    assert_int_equal(piso_process_wait(r.process, LONG_ENOUGH, &status), 1);
    assert_true(!status.known || status.code == 7);
    release(&r);
}

static void zygote_lives_as_long_as_its_children(void **state) {
    (void)state;
    piso_zygote *z = start_zygote("good");
    running r = run(z, "sleep", NULL);
    piso_zygote_unref(z); /* the child has a reference */
    sleep_ms(50);
    assert_int_equal(piso_process_kill(r.process, SIGKILL), 0);
    expect_exit(r.process, -1, SIGKILL);
    release(&r);
}

static void ends_when_nobody_needs_it(void **state) {
    (void)state;
    running r;
    piso_zygote *z = start_zygote("idle");
    assert_int_equal(ready(z), 0);
    expect_exit(piso_zygote_process(z), 0, 0);
    assert_int_equal(try_run(z, NULL, "exit", "0", &r), PISO_EDIED);
    piso_zygote_unref(z);
}

static void stays_while_it_has_children(void **state) {
    (void)state;
    running r;
    piso_zygote *z = start_zygote("idle");
    for (int i = 0; i < 20 && try_run(z, NULL, "sleep", NULL, &r) == PISO_EDIED; i++) { /* late */
        piso_zygote_unref(z);
        z = start_zygote("idle");
    }
    sleep_ms(1000);
    assert_false(piso__process_ended(piso_zygote_process(z)));
    assert_int_equal(piso_process_kill(r.process, SIGTERM), 0);
    expect_exit(r.process, -1, SIGTERM);
    expect_exit(piso_zygote_process(z), 0, 0);
    release(&r);
    piso_zygote_unref(z);
}

static void waiting_takes_its_time(void **state) {
    (void)state;
    const void *report = NULL;
    size_t size = 0;
    piso_zygote *z = start_zygote("slow");
    assert_int_equal(piso_zygote_ready(z, SECOND / 20, &report, &size), -ETIMEDOUT);
    assert_null(report);
    piso_zygote_unref(z);
}

/* ---- hosts that end ---- */

/* start_host: starts a process with a zygote of this kind, and a child of it if it forks any; all hold the
 * pipe. */
static pid_t start_host(const char *kind, int *ret_fd) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        piso_zygote *z = start_zygote(kind);
        if (strcmp(kind, "good") == 0)
            run(z, "watch", NULL);
        else
            sleep_ms(200);
        if (fork() == 0) { /* holds the host's end of the sockets, but no pipe */
            close(STDOUT_FILENO);
            sleep_ms(3000);
            _exit(0);
        }
        if (strcmp(kind, "good") != 0)
            say_ready();
        sleep_for_ever();
    }
    close(fds[1]);
    *ret_fd = fds[0];
    return pid;
}

static void all_end_with_the_host(void **state) {
    (void)state;
    const char *const kinds[] = {"good", "slow"};
    for (int i = 0; i < 2; i++) {
        int fd;
        char byte;
        pid_t pid = start_host(kinds[i], &fd);
        assert_int_equal(read(fd, &byte, 1), 1);
        sleep_ms(100);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(piso__poll_in(&fd, 1, LONG_ENOUGH), 1);
        assert_int_equal(read(fd, &byte, 1), 0);
        close(fd);
    }
}

static void forked_host_has_no_zygote(void **state) {
    (void)state;
    piso_zygote *z = start_zygote("good");
    running r = run(z, "sleep", NULL);
    pid_t pid = fork();
    if (pid == 0) {
        const void *report;
        size_t size;
        running mine;
        bool refused = piso_zygote_ready(z, 0, &report, &size) == PISO_EFORKED &&
                       try_run(z, NULL, "exit", "0", &mine) == PISO_EFORKED;
        piso_zygote_close(z);
        release(&r);
        piso_zygote_unref(z);
        _exit(refused ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_false(piso__process_ended(r.process));
    piso_process_kill(r.process, SIGKILL);
    expect_exit(r.process, -1, SIGKILL);
    release(&r);
    piso_zygote_unref(z);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "zygote") == 0)
        return zygote_main(argv[2]);
    if (argc > 1)
        return child_main(argv);
    leave_if_emulated();
    const struct CMUnitTest tests[] = {
        TEST(child_starts_clean),
        TEST(ends_are_told),
        TEST(grandchildren_end_too),
        TEST(many_at_once),
        TEST(threads_may_share_one),
        TEST(large_environments_pass),
        TEST(ended_zygote_is_told),
        TEST(threads_are_refused),
        TEST(wrong_answers_end_it),
        TEST(children_outlive_their_zygote),
        TEST(zygote_lives_as_long_as_its_children),
        TEST(ends_when_nobody_needs_it),
        TEST(stays_while_it_has_children),
        TEST(waiting_takes_its_time),
        TEST(all_end_with_the_host),
        TEST(forked_host_has_no_zygote),
    };
    return cmocka_run_group_tests(tests, start_monitor, NULL);
}
