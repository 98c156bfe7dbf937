/* test_fork.c - a process with threads forks. Whatever the threads are doing, the child can do everything that
 * the parent can, with its own objects. Times are limits for failing, not assertions.
 *
 * A sanitizer's allocator may be locked in the child, unlike the C library's. Forks while threads allocate are
 * tested by test_fork_plain, the same program without a sanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sys/wait.h>

#include "child_programs.h"
#include "emulation.h"

#include "memory/segment.h"
#include "os/os.h"
#include "sandbox/plan/prepare.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_OWN_ALLOCATOR true
#elif defined(__has_feature)
#define HAS_OWN_ALLOCATOR (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define HAS_OWN_ALLOCATOR false
#endif

#define LONG_ENOUGH     (30 * INT64_C(1000000000))
#define FORKS           40
#define SECONDS_AT_MOST 60 /* of a child; SIGALRM ends one that hangs */

/* ThreadSanitizer forbids threads in a process forked from one with threads, which is what this tests. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0:report_thread_leaks=0";
}

static const char *const environment[] = {NULL};

/* ---- what there is to do; each true if it has worked ---- */

static bool share_memory(void) {
    piso_segment *segment;
    bool made = piso_segment_create(4096, &segment) == 0;
    if (made)
        piso_segment_unref(segment);
    return made;
}

static bool make_a_session(void) {
    piso_session *host, *child;
    if (piso_session_pair((size_t)1 << 20, &host, &child) < 0)
        return false;
    piso_session_close(host);
    bool hung_up = piso_session_disconnect(host, 0) == 1;
    piso_session_unref(host);
    piso_session_unref(child);
    return hung_up;
}

static bool run_a_process(void) {
    const char *const argv[] = {"/proc/self/exe", "say", NULL};
    piso_spawn spawn = {.size = sizeof spawn, .argv = argv, .envp = environment, .name = "say"};
    char text[16];
    uint64_t cookies[4], dropped;
    piso_exit status = {.code = -1};
    piso_process *p;
    if (piso_output_fd() < 0 || piso__process_spawn(&spawn, STDERR_FILENO, &p) < 0)
        return false;
    piso_process_follow(p, 7);
    bool ended = piso_process_wait(p, LONG_ENOUGH, &status) == 1 && status.code == 0;
    piso_output_next(cookies, 4); /* of this one or another thread's */
    bool said = piso_process_read_output(p, PISO_STDOUT, text, sizeof text, &dropped) == 7;
    piso__process_unref(p);
    return ended && said;
}

static bool prepare_a_sandbox(void) {
    const piso_limits limits = {.size = sizeof limits, .memory = 1 << 30, .processes = 20};
    const piso_sandbox spec = {.size = sizeof spec, .limits = &limits};
    piso_sandbox_report report;
    piso__sandbox *sandbox = NULL;
    int r = piso__sandbox_prepare(&spec, "/bin/true", &sandbox, &report);
    piso__sandbox_free(sandbox);
    return r == 0 || r == PISO_ESANDBOX; /* on systems that cannot */
}

static bool (*const all[])(void) = {share_memory, make_a_session, run_a_process, prepare_a_sandbox};
#define COUNT (sizeof all / sizeof *all)

/* child_fault: returns which of them does not work in a forked process, or 0. */
static int child_fault(void) {
    alarm(SECONDS_AT_MOST);
    for (size_t i = 0; i < COUNT; i++)
        if (!all[i]())
            return (int)i + 1;
    return 0;
}

static void expect_good(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static _Atomic bool is_over;
static _Atomic int faults;

static void *repeat(void *argument) {
    bool (*act)(void) = all[(uintptr_t)argument];
    while (!atomic_load(&is_over))
        if (!act())
            atomic_fetch_add(&faults, 1);
    return NULL;
}

static void threads_may_do_anything_while_another_forks(void **state) {
    (void)state;
    need_no_emulation();
    if (HAS_OWN_ALLOCATOR)
        skip();
    pthread_t threads[COUNT];
    atomic_store(&is_over, false);
    for (uintptr_t i = 0; i < COUNT; i++)
        pthread_create(&threads[i], NULL, repeat, (void *)i);
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(child_fault());
        expect_good(pid);
    }
    atomic_store(&is_over, true);
    for (size_t i = 0; i < COUNT; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&faults), 0);
}

/* ---- each lock by itself ---- */

typedef struct holder {
    piso__lock *lock;
    _Atomic int step;
} holder;

static void *hold(void *argument) {
    holder *h = argument;
    piso__lock_take(h->lock);
    atomic_store(&h->step, 1);
    while (atomic_load(&h->step) < 2)
        sleep_ms(1);
    sleep_ms(20); /* by now the fork has mostly begun, and waits */
    piso__lock_give(h->lock);
    return NULL;
}

static void a_lock_that_is_held_is_free_in_the_child(void **state) {
    (void)state;
    int held = 0;
    for (int place = 0; place < PISO__PLACES; place++) {
        holder h = {.lock = piso__lock_at((piso__place)place)};
        if (!h.lock)
            continue;
        pthread_t thread;
        pthread_create(&thread, NULL, hold, &h);
        while (atomic_load(&h.step) < 1)
            sleep_ms(1);
        atomic_store(&h.step, 2);
        pid_t pid = fork();
        if (pid == 0) {
            alarm(SECONDS_AT_MOST);
            for (int i = 0; i < PISO__PLACES; i++)
                if (piso__lock_at((piso__place)i)) {
                    piso__lock_take(piso__lock_at((piso__place)i));
                    piso__lock_give(piso__lock_at((piso__place)i));
                }
            _exit(0);
        }
        expect_good(pid);
        pthread_join(thread, NULL);
        held++;
    }
    assert_true(held >= 5);
}

/* ---- generations ---- */

static void children_of_children_start_over_too(void **state) {
    (void)state;
    need_no_emulation();
    if (HAS_OWN_ALLOCATOR)
        skip(); /* the child has a monitor when it forks */
    uint32_t generation = piso__fork_generation();
    piso_segment *ours;
    assert_int_equal(piso_segment_create(4096, &ours), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fault = child_fault();
        pid_t grandchild = fault ? 0 : fork();
        if (grandchild == 0)
            _exit(fault ? fault : piso__fork_generation() == generation + 2 ? child_fault() : 99);
        int status;
        _exit(waitpid(grandchild, &status, 0) == grandchild && status == 0 ? 0 : 98);
    }
    expect_good(pid);
    piso_segment_unref(ours);
}

static void what_was_found_out_is_looked_for_again(void **state) {
    (void)state;
    static piso__finding found;
    int value;
    assert_false(piso__finding_get(&found, &value));
    piso__finding_set(&found, -13);
    assert_true(piso__finding_get(&found, &value));
    assert_int_equal(value, -13);
    pid_t pid = fork();
    if (pid == 0)
        _exit(piso__finding_get(&found, &value) ? 1 : 0);
    expect_good(pid);
    assert_true(piso__finding_get(&found, &value));
}

int main(int argc, char **argv) {
    if (argc > 1)
        return child_main(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lock_that_is_held_is_free_in_the_child),
        cmocka_unit_test(what_was_found_out_is_looked_for_again),
        cmocka_unit_test(children_of_children_start_over_too),
        cmocka_unit_test(threads_may_do_anything_while_another_forks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
