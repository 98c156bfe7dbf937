/* test_beacon.c - how threads of this process are woken without a descriptor: beacons in epolls, words in
 * memory. Times are limits for failing, not assertions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "descriptors.h"
#include "os/os.h"

#define SECOND INT64_C(1000000000)

static int make_epoll(const piso__beacon_pair *pair) {
    int epoll = piso__epoll_create();
    assert_true(epoll >= 0);
    assert_int_equal(piso__epoll_add_off(epoll, pair->rung), 0);
    assert_int_equal(piso__epoll_add_off(epoll, pair->ended), 0);
    return epoll;
}

static bool is_readable(int fd) {
    return piso__poll_in(&fd, 1, 0) == 1;
}

static void one_beacon_serves_many_epolls(void **state) {
    (void)state;
    int before = count_fds();
    piso__beacon_pair pairs[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(piso__beacon_take(&pairs[i]), 0);
    assert_int_equal(count_fds(), before + 2);
    int one = make_epoll(&pairs[0]), other = make_epoll(&pairs[1]);
    assert_false(is_readable(one));
    piso__epoll_switch(one, pairs[0].rung, true);
    piso__epoll_switch(one, pairs[0].ended, true);
    assert_true(is_readable(one));
    assert_false(is_readable(other));
    piso__epoll_switch(one, pairs[0].rung, false);
    assert_true(is_readable(one));
    piso__epoll_switch(one, pairs[0].ended, false);
    assert_false(is_readable(one));
    piso__fd_close(one);
    piso__fd_close(other);
    for (int i = 0; i < 3; i++)
        piso__beacon_give(&pairs[i]);
    assert_int_equal(count_fds(), before);
}

static void *switch_on(void *argument) {
    const int *fds = argument;
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    piso__epoll_switch(fds[0], fds[1], true);
    return NULL;
}

static void who_sleeps_is_woken(void **state) {
    (void)state;
    piso__beacon_pair pair;
    pthread_t thread;
    assert_int_equal(piso__beacon_take(&pair), 0);
    int fds[2] = {make_epoll(&pair), pair.ended};
    pthread_create(&thread, NULL, switch_on, fds);
    assert_int_equal(piso__poll_in(fds, 1, 30 * SECOND), 1);
    pthread_join(thread, NULL);
    piso__fd_close(fds[0]);
    piso__beacon_give(&pair);
}

static void a_forked_process_has_its_own(void **state) {
    (void)state;
    piso__beacon_pair ours, its;
    assert_int_equal(piso__beacon_take(&ours), 0);
    int before = count_fds();
    pid_t pid = fork();
    if (pid == 0) {
        bool closed = count_fds() == before - 2;
        _exit(closed && piso__beacon_take(&its) == 0 && is_readable(its.rung) && is_readable(its.ended) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(is_readable(ours.rung));
    piso__beacon_give(&ours);
}

/* ---- words ---- */

static _Atomic uint32_t word;

static void *change(void *argument) {
    (void)argument;
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    piso__word_wake(&word); /* spurious */
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    atomic_store(&word, 1);
    piso__word_wake(&word);
    return NULL;
}

static void a_word_is_waited_for(void **state) {
    (void)state;
    pthread_t threads[2];
    atomic_store(&word, 0);
    assert_int_equal(piso__word_wait(&word, 0, 0), 0);
    assert_int_equal(piso__word_wait(&word, 0, SECOND / 100), 0);
    assert_int_equal(piso__word_wait(&word, 5, 0), 1); /* it is another one already */
    pthread_create(&threads[0], NULL, change, NULL);
    assert_int_equal(piso__word_wait(&word, 0, -1), 1);
    pthread_join(threads[0], NULL);
    assert_int_equal(piso__word_wait(&word, 0, 30 * SECOND), 1);
    assert_int_equal(piso__word_wait(&word, 0, INT64_MAX), 1);
}

static void on_signal(int signal) {
    (void)signal;
}

static void signals_interrupt_the_wait(void **state) {
    (void)state;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    atomic_store(&word, 0);
    ualarm(20000, 20000); /* repeatedly: the first may come too early */
    assert_int_equal(piso__word_wait(&word, 0, -1), -EINTR);
    ualarm(0, 0);
    signal(SIGALRM, SIG_DFL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_beacon_serves_many_epolls), cmocka_unit_test(who_sleeps_is_woken),
        cmocka_unit_test(a_forked_process_has_its_own),  cmocka_unit_test(a_word_is_waited_for),
        cmocka_unit_test(signals_interrupt_the_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
