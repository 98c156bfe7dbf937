/* test_refusals.c - the calls that were refused to a confined child, as its host sees them. The child is this
 * program again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emulation.h"
#include "os/os.h"
#include "seccomp/refusals.h"
#include "skipping.h"
#include "supervisor/process.h"

#define LONG_ENOUGH INT64_C(30000000000)

/* start: starts the confined child, with an action. */
static piso_process *start(const char *what) {
    const char *const argv[] = {"/proc/self/exe", what, NULL}, *const envp[] = {"ASAN_OPTIONS=detect_leaks=0", NULL};
    const piso_sandbox sandbox = {0};
    piso_sandbox_report report;
    piso_spawn spawn = {
        .size = sizeof spawn, .argv = argv, .envp = envp, .name = what, .sandbox = &sandbox, .report = &report};
    int pair[2];
    piso_process *p;
    assert_int_equal(piso__socketpair(pair), 0);
    assert_int_equal(piso__process_spawn(&spawn, pair[1], &p), 0);
    piso__fd_close(pair[0]);
    piso__fd_close(pair[1]);
    return p;
}

static piso_exit end_of(piso_process *p) {
    piso_exit status;
    assert_int_equal(piso_process_wait(p, LONG_ENOUGH, &status), 1);
    return status;
}

static piso_exit exit_of(const char *what) {
    piso_process *p = start(what);
    piso_exit status = end_of(p);
    piso__process_unref(p);
    return status;
}

/* refused: waits for the child's end and returns how many calls were refused to it. */
static int64_t refused(const char *what, piso_refusal *ret_kinds, size_t *count) {
    piso_process *p = start(what);
    end_of(p);
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
    assert_true(total == 0 || total == -EAGAIN || total == -ENOSYS); /* it may have ended before it was checked */
    assert_int_equal(count, 0);
}

#define CALLS    1500
#define TOGETHER 4

/* Several children at once. Each is refused more often than it is answered at full speed. */
static void many_are_counted(void **state) {
    (void)state;
    piso_process *processes[TOGETHER];
    for (int i = 0; i < TOGETHER; i++)
        processes[i] = start("many");
    for (int i = 0; i < TOGETHER; i++) {
        assert_int_equal(end_of(processes[i]).code, ENOSYS);
        int64_t total = piso_process_refused(processes[i]);
        assert_true(total == CALLS || total == -ENOSYS);
        piso__process_unref(processes[i]);
    }
}

/* The kernel's count of questions is finite. A process that reaches the limit is not answered any more. */
static void questions_have_an_end(void **state) {
    (void)state;
    uint64_t most = piso__refusals_most;
    piso__refusals_most = CALLS / 2;
    piso_refusal kinds[1];
    size_t count = 1;
    int64_t total = refused("unshare many", kinds, &count);
    int error = exit_of("unshare many").code;
    piso__refusals_most = most;
    if (total == -ENOSYS)
        skip_because("something else listens to the system calls of this process");
    assert_int_equal(total, CALLS / 2 + 1);
    assert_int_equal(error, ENOSYS);
}

#ifdef __x86_64__
static void other_numbers_mean_nothing(void **state) {
    (void)state;
    assert_int_equal(exit_of("x32").code, ENOSYS);
    piso_exit status = exit_of("i386");
    assert_true(status.signal == SIGSYS || status.signal == SIGSEGV); /* SIGSEGV where the kernel has no such calls */
}
#endif

static int child_main(const char *what) {
#ifdef __x86_64__
    if (strcmp(what, "x32") == 0)
        return syscall(0x40000000 | SYS_getpid) < 0 ? errno : 0;
    if (strcmp(what, "i386") == 0) {
        long result = 20; /* getpid there */
        __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
        return 0;
    }
#endif
    if (strcmp(what, "unshare") == 0)
        return unshare(CLONE_NEWUSER) < 0 ? errno : 0;
    int error = 0;
    for (int i = 0; strcmp(what, "unshare many") == 0 && i < CALLS; i++)
        error = unshare(CLONE_NEWUSER) < 0 ? errno : 0;
    for (int i = 0; strcmp(what, "many") == 0 && i < CALLS; i++)
        error = syscall(SYS_ptrace, 0, 0, 0, 0) < 0 ? errno : 0;
    return error;
}

int main(int argc, char **argv) {
    if (argc > 1)
        return child_main(argv[1]);
    leave_if_emulated();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_refused_is_known),
        cmocka_unit_test(many_are_counted),
        cmocka_unit_test(questions_have_an_end),
#ifdef __x86_64__
        cmocka_unit_test(other_numbers_mean_nothing),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
