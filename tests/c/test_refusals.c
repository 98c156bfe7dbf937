/* test_refusals.c - what a confined child was refused, as its host sees it. The child is this program again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"
#include "sandbox/internal.h"
#include "skipping.h"
#include "supervisor/process.h"

#define LONG_ENOUGH INT64_C(30000000000)

/* refused: what a child was refused that has ended since; how many kinds. */
static int64_t refused(const char *what, piso_refusal *ret_kinds, size_t *count) {
    const char *const argv[] = {"/proc/self/exe", what, NULL}, *const envp[] = {"ASAN_OPTIONS=detect_leaks=0", NULL};
    const piso_sandbox sandbox = {0};
    piso_sandbox_report report;
    piso_spawn spawn = {.argv = argv, .envp = envp, .name = what, .sandbox = &sandbox, .report = &report};
    int pair[2];
    piso_process *p;
    assert_int_equal(piso__socketpair(pair), 0);
    piso__autoclose int ours = pair[0], theirs = pair[1];
    assert_int_equal(piso__process_spawn(&spawn, theirs, &p), 0);
    piso_exit status;
    assert_int_equal(piso_process_wait(p, LONG_ENOUGH, &status), 1);
    int64_t total = piso_process_refused(p);
    *count = piso_process_refusals(p, ret_kinds, *count);
    piso__process_unref(p);
    return total;
}

static void what_is_refused_is_known(void **state) {
    (void)state;
    piso_refusal kinds[4] = {{0}};
    size_t count = 4;
    int64_t total = refused("unshare", kinds, &count);
    if (total == -ENOSYS)
        skip_because("something else listens to the system calls of this process");
    assert_int_equal(total, 1);
    assert_int_equal(count, 1);
    assert_string_equal(kinds[0].call, "unshare");
    assert_int_equal(kinds[0].number, SYS_unshare);
    assert_int_equal(kinds[0].arguments[0], CLONE_NEWUSER);
    assert_int_equal(kinds[0].error, EINVAL);
    assert_int_equal(kinds[0].count, 1);
    count = 4;
    total = refused("nothing", kinds, &count);
    assert_true(total == 0 || total == -EAGAIN || total == -ENOSYS); /* it may have ended before it was looked at */
    assert_int_equal(count, 0);
}

#define CALLS    1500
#define TOGETHER 4

/* Several at once, each of which is refused more often than it is answered at full speed. */
static void many_are_counted(void **state) {
    (void)state;
    const char *const argv[] = {"/proc/self/exe", "many", NULL}, *const envp[] = {"ASAN_OPTIONS=detect_leaks=0", NULL};
    const piso_sandbox sandbox = {0};
    piso_sandbox_report report;
    piso_spawn spawn = {.argv = argv, .envp = envp, .name = "many", .sandbox = &sandbox, .report = &report};
    piso_process *processes[TOGETHER];
    for (int i = 0; i < TOGETHER; i++) {
        int pair[2];
        assert_int_equal(piso__socketpair(pair), 0);
        piso__autoclose int ours = pair[0], theirs = pair[1];
        assert_int_equal(piso__process_spawn(&spawn, theirs, &processes[i]), 0);
    }
    for (int i = 0; i < TOGETHER; i++) {
        piso_exit status;
        assert_int_equal(piso_process_wait(processes[i], LONG_ENOUGH, &status), 1);
        assert_int_equal(status.code, ENOSYS);
        int64_t total = piso_process_refused(processes[i]);
        assert_true(total == CALLS || total == -ENOSYS);
        piso__process_unref(processes[i]);
    }
}

static int child_main(const char *what) {
    if (strcmp(what, "unshare") == 0)
        return unshare(CLONE_NEWUSER) < 0 ? errno : 0;
    int error = 0;
    for (int i = 0; strcmp(what, "many") == 0 && i < CALLS; i++)
        error = syscall(SYS_ptrace, 0, 0, 0, 0) < 0 ? errno : 0;
    return error;
}

int main(int argc, char **argv) {
    if (argc > 1)
        return child_main(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_refused_is_known),
        cmocka_unit_test(many_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
