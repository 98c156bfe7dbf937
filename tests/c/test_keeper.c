/* test_keeper.c - the children for which a zygote executes a program, and orphans (zygote_tools.h). */
#include "emulation.h"
#include "zygote_tools.h"

static int try_execute(piso_zygote *z, const char *path, const char *program, const char *argument,
                       running *ret_running) {
    const char *const argv[] = {path, program, argument, NULL};
    piso_spawn spawn = {.size = sizeof spawn,
                        .argv = argv,
                        .envp = environment,
                        .inherit_stdout = true,
                        .name = program,
                        .zygote = z,
                        .execute = true};
    return try_spawn(&spawn, ret_running);
}

static running execute(piso_zygote *z, const char *program, const char *argument) {
    running r = {0};
    assert_int_equal(try_execute(z, "/proc/self/exe", program, argument, &r), 0);
    return r;
}

static void executed_child_starts_clean(void **state) {
    (void)state;
    char text[REPORT_SIZE];
    piso_zygote *z = start_zygote("good");
    running r = execute(z, "report", NULL);
    read_report(&r, text);
    assert_non_null(strstr(text, "fds 0 1 2 3\n"));
    assert_non_null(strstr(text, "blocked 0\n"));
    assert_non_null(strstr(text, "ignored 0\n"));
    assert_non_null(strstr(text, "group own\n"));
    assert_non_null(strstr(text, "env A=1\nenv B=two\nenv PISO_FD=3\n"));
    expect_exit(r.process, 0, 0);
    release(&r);
    r = execute(z, "raise", "15");
    expect_exit(r.process, -1, 15);
    release(&r);
    piso_zygote_unref(z);
}

static void what_cannot_be_executed_is_told(void **state) {
    (void)state;
    running r;
    piso_zygote *z = start_zygote("good");
    for (int i = 0; i < 20; i++)
        assert_int_equal(try_execute(z, "/no/such/program", "exit", "0", &r), -ENOENT);
    assert_int_equal(try_execute(z, "/etc/passwd", "exit", "0", &r), -EACCES);
    r = execute(z, "exit", "3");
    expect_exit(r.process, 3, 0);
    release(&r);
    piso_zygote_unref(z);
}

static void threads_of_the_zygote_do_not_matter(void **state) {
    (void)state;
    piso_zygote *z = start_zygote("threads");
    assert_int_equal(ready(z), 0);
    sleep_ms(200); /* the thread runs */
    running r = execute(z, "exit", "3");
    expect_exit(r.process, 3, 0);
    release(&r);
    piso_zygote_unref(z);
}

static void killed_before_it_runs(void **state) {
    (void)state;
    running r;
    piso_zygote *z = start_zygote("good");
    assert_int_equal(ready(z), 0);
    for (int i = 0; i < 20; i++) {
        r = execute(z, "sleep", NULL);
        assert_int_equal(piso_process_kill(r.process, SIGKILL), 0);
        expect_exit(r.process, -1, SIGKILL);
        release(&r);
    }
    piso_zygote_unref(z);
}

static int children_of(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *file = fopen(path, "re");
    int count = 0;
    long child;
    while (file && fscanf(file, "%ld", &child) == 1)
        count++;
    if (file)
        fclose(file);
    return file ? count : -1;
}

/* A zygote gets the orphans of its children, here of processes in its own group, and reaps them. */
static void orphans_are_reaped(void **state) {
    (void)state;
    piso_zygote *z = start_zygote("good");
    running r = execute(z, "breed", "20"), other = run(z, "sleep", NULL);
    char text[REPORT_SIZE];
    read_report(&r, text);
    pid_t zygote = piso_process_pid(piso_zygote_process(z));
    int left = 0;
    for (int i = 0; i < 3000 && (left = children_of(zygote)) != 2 && left >= 0; i++)
        sleep_ms(1);
    assert_true(left == 2 || left < 0); /* kernels without that file */
    assert_int_equal(piso_process_kill(r.process, SIGKILL), 0);
    expect_exit(r.process, -1, SIGKILL);
    assert_int_equal(piso_process_kill(other.process, SIGKILL), 0);
    expect_exit(other.process, -1, SIGKILL);
    release(&r), release(&other);
    piso_zygote_unref(z);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "zygote") == 0)
        return zygote_main(argv[2]);
    if (argc > 1)
        return child_main(argv);
    leave_if_emulated();
    const struct CMUnitTest tests[] = {
        TEST(executed_child_starts_clean),
        TEST(what_cannot_be_executed_is_told),
        TEST(threads_of_the_zygote_do_not_matter),
        TEST(killed_before_it_runs),
        TEST(orphans_are_reaped),
    };
    return cmocka_run_group_tests(tests, start_monitor, NULL);
}
