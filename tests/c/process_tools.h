/* process_tools.h - shared by the tests of processes: starts a child that runs one of child_programs.h, and
 * checks what is left. */
#ifndef PISO_TESTS_PROCESS_TOOLS_H
#define PISO_TESTS_PROCESS_TOOLS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "child_programs.h"
#include "descriptors.h"
#include "os/os.h"

#define SECOND      INT64_C(1000000000)
#define LONG_ENOUGH (30 * SECOND)

static int fds_before;

static int remember_fds(void **state) {
    (void)state;
    fds_before = count_fds();
    return 0;
}

typedef struct running {
    piso_process *process;
    int channel_fd; /* our end */
} running;

static int try_spawn(const piso_spawn *spawn, running *ret_running) {
    int pair[2];
    assert_int_equal(piso__socketpair(pair), 0);
    running r = {.channel_fd = pair[0]};
    int error = piso__process_spawn(spawn, pair[1], &r.process);
    piso__fd_close(pair[1]);
    if (error < 0)
        piso__fd_close(pair[0]);
    else
        *ret_running = r;
    return error;
}

static void release(running *r) {
    r->process = piso__process_unref(r->process);
    r->channel_fd = piso__fd_close(r->channel_fd);
}

static void expect_exit(piso_process *p, int code, int signal) {
    piso_exit status;
    assert_int_equal(piso_process_wait(p, LONG_ENOUGH, &status), 1);
    assert_true(status.known);
    assert_int_equal(status.code, code);
    assert_int_equal(status.signal, signal);
}

/* read_report: waits for the child's report over the channel. */
static inline void read_report(const running *r, char text[REPORT_SIZE]) {
    assert_int_equal(piso__poll_in(&r->channel_fd, 1, LONG_ENOUGH), 1);
    ssize_t n = recv(r->channel_fd, text, REPORT_SIZE - 1, 0);
    assert_true(n > 0);
    text[n] = '\0';
}

#endif
