/* test_keeper_rounds.c - processes that die just after the keeper has listed its children: their own children, which
 * were not in the list, die too. */
#include "emulation.h"
#include "os/os.h"
#include "supervisor/keeper.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

/* clang-format off */
int __real_piso__children(pid_t **ret_pids);
void __real_piso__kill_child(pid_t pid);
int __wrap_piso__children(pid_t **ret_pids);
void __wrap_piso__kill_child(pid_t pid);
/* clang-format on */

static pid_t late; /* survives until the list has been read; 0: none */

static void die_late(void) {
    siginfo_t info;
    kill(late, SIGKILL);
    waitid(P_PID, (id_t)late, &info, WEXITED | WNOWAIT);
    late = 0;
}

int __wrap_piso__children(pid_t **ret_pids) {
    int count = __real_piso__children(ret_pids);
    if (late)
        die_late();
    return count;
}

void __wrap_piso__kill_child(pid_t pid) {
    if (pid != late)
        __real_piso__kill_child(pid);
}

/* be_lineage: in the oldest of `count` processes, each the next one's parent and in a session of its own. The oldest
 * `ending` end; the next one reports its pid. */
static _Noreturn void be_lineage(int count, int ending, int report_fd) {
    for (int i = 0;; i++) {
        setsid();
        if (i == ending) {
            pid_t own = getpid();
            (void)!write(report_fd, &own, sizeof own);
        }
        if (i + 1 == count || fork() != 0) {
            if (i < ending)
                _exit(0);
            close(report_fd);
            for (;;)
                pause();
        }
    }
}

/* lineage: forks one and returns its oldest when all are there; `ret_survivor`: the oldest that does not end. */
static pid_t lineage(int count, int ending, pid_t *ret_survivor) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork(), ignored;
    assert_true(child >= 0);
    if (child == 0)
        be_lineage(count, ending, fds[1]);
    close(fds[1]);
    assert_int_equal(read(fds[0], ret_survivor, sizeof *ret_survivor), sizeof *ret_survivor);
    assert_int_equal(read(fds[0], &ignored, sizeof ignored), 0); /* the youngest is there too */
    close(fds[0]);
    return child;
}

static void expect_none_left(int ending) {
    piso__keeper k;
    pid_t *left = NULL;
    assert_int_equal(piso__keeper_init(&k), 0);
    assert_int_equal(piso__keeper_reserve(&k), 0);
    piso__keeper_add(&k, lineage(3, ending, &late));
    piso__keeper_end_all(&k);
    assert_int_equal(late, 0);
    assert_int_equal(piso__children(&left), 0);
    free(left);
    piso__fd_close(k.signal_fd);
    piso__keeper_forget(&k);
}

static void a_child_dies_after_the_list_was_read(void **state) {
    (void)state;
    expect_none_left(0);
}

static void an_orphan_dies_after_the_list_was_read(void **state) {
    (void)state;
    expect_none_left(1);
}

int main(void) {
    leave_if_emulated();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_dies_after_the_list_was_read),
        cmocka_unit_test(an_orphan_dies_after_the_list_was_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
