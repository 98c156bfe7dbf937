/* test_output.c - the output of children, as the host reads it. The children: child_programs.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "child_programs.h"
#include "emulation.h"
#include "os/os.h"

#define LONG_ENOUGH (30 * INT64_C(1000000000))

typedef struct running {
    piso_process *process;
    int channel_fd;
} running;

static running run(const char *program, const char *argument) {
    static const char *const environment[] = {NULL};
    const char *const argv[] = {"/proc/self/exe", program, argument, NULL};
    int pair[2];
    running r;
    assert_int_equal(piso__socketpair(pair), 0);
    piso_spawn spawn = {.size = sizeof spawn, .argv = argv, .envp = environment, .name = program};
    assert_int_equal(piso__process_spawn(&spawn, pair[1], &r.process), 0);
    piso__fd_close(pair[1]);
    r.channel_fd = pair[0];
    return r;
}

static void release(running *r) {
    r->process = piso__process_unref(r->process);
    r->channel_fd = piso__fd_close(r->channel_fd);
}

static void expect_end(const running *r) {
    piso_exit status;
    assert_int_equal(piso_process_wait(r->process, LONG_ENOUGH, &status), 1);
    assert_int_equal(status.code, 0);
}

static bool is_readable(const running *r, int64_t timeout_ns) {
    int fd = piso_process_output_fd(r->process);
    return piso__poll_in(&fd, 1, timeout_ns) == 1;
}

static void expect_text(const running *r, int stream, const char *text) {
    char buffer[64] = {0};
    uint64_t dropped = 99;
    assert_int_equal(piso_process_read_output(r->process, stream, buffer, sizeof buffer, &dropped), strlen(text));
    assert_string_equal(buffer, text);
    assert_int_equal(dropped, 0);
}

static void both_outputs_are_captured(void **state) {
    (void)state;
    running r = run("say", NULL);
    expect_end(&r);
    assert_true(is_readable(&r, LONG_ENOUGH));
    expect_text(&r, PISO_STDOUT, "to out\n");
    expect_text(&r, PISO_STDERR, "to err\n");
    expect_text(&r, PISO_STDOUT, "");
    char tail[64] = {0};
    piso_process_stderr(r.process, tail, sizeof tail); /* reading does not change the last words */
    assert_string_equal(tail, "to err\n");
    release(&r);
}

static void the_end_is_told_once(void **state) {
    (void)state;
    running r = run("exit", "0");
    expect_end(&r);
    assert_true(is_readable(&r, LONG_ENOUGH));
    expect_text(&r, PISO_STDOUT, "");
    assert_false(is_readable(&r, 0));
    release(&r);
}

/* read_all: reads until no more bytes come, and returns how many; adds up the dropped ones. */
static uint64_t read_all(const running *r, uint64_t *ret_dropped) {
    char buffer[1000];
    uint64_t total = 0, dropped;
    *ret_dropped = 0;
    for (;;) {
        size_t n = piso_process_read_output(r->process, PISO_STDOUT, buffer, sizeof buffer, &dropped);
        *ret_dropped += dropped;
        if (n == 0)
            return total;
        total += n;
    }
}

static void a_flood_is_bounded_and_counted(void **state) {
    (void)state;
    running r = run("spill", "4096");
    char byte;
    uint64_t dropped;
    assert_int_equal(piso__poll_in(&r.channel_fd, 1, LONG_ENOUGH), 1); /* it wrote everything, and nobody has read */
    assert_int_equal(recv(r.channel_fd, &byte, 1, 0), 1);
    uint64_t total = 0, lost = 0;
    while (total + lost < 4096 * 1024) { /* the last of it may still be in the pipe */
        assert_true(is_readable(&r, LONG_ENOUGH));
        total += read_all(&r, &dropped);
        lost += dropped;
    }
    assert_int_equal(total + lost, 4096 * 1024);
    assert_true(lost > 0 && total >= PISO_OUTPUT_BUFFER);
    assert_int_equal(send(r.channel_fd, &byte, 1, 0), 1);
    expect_end(&r);
    expect_text(&r, PISO_STDOUT, "more\n"); /* after the gap reading continues */
    release(&r);
}

/* Output on one stream while the other is read must not wait for the next output. */
static void a_look_at_one_output_does_not_hide_the_other(void **state) {
    (void)state;
    running r = run("say", NULL);
    expect_end(&r);
    expect_text(&r, PISO_STDERR, "to err\n");
    assert_true(is_readable(&r, 0));
    expect_text(&r, PISO_STDOUT, "to out\n");
    expect_text(&r, PISO_STDERR, "");
    assert_false(is_readable(&r, 0));
    release(&r);
}

/* named: whether piso_output_next reports this cookie soon, or has reported it together with another one. */
static bool named(uint64_t cookie) {
    static uint64_t told; /* a bit for each cookie */
    uint64_t cookies[8], bit = UINT64_C(1) << cookie;
    int fd = piso_output_fd();
    while (!(told & bit) && piso__poll_in(&fd, 1, LONG_ENOUGH) == 1) {
        size_t n = piso_output_next(cookies, 8);
        for (size_t i = 0; i < n; i++)
            told |= UINT64_C(1) << cookies[i];
    }
    bool was_told = told & bit;
    told &= ~bit;
    return was_told;
}

static void one_descriptor_tells_of_all(void **state) {
    (void)state;
    char buffer[4096], byte = 'x';
    uint64_t cookies[8], dropped;
    int fd = piso_output_fd();
    assert_int_equal(piso_output_fd(), fd);
    running all[] = {run("spill", "1"), run("spill", "1"), run("spill", "1")};
    piso_process_follow(all[0].process, 10);
    piso_process_follow(all[1].process, 11);
    assert_true(named(10));
    assert_true(named(11));
    for (int i = 0; i < 3; i++) { /* each has written; the third is not followed */
        assert_int_equal(piso__poll_in(&all[i].channel_fd, 1, LONG_ENOUGH), 1);
        assert_int_equal(recv(all[i].channel_fd, &byte, 1, 0), 1);
    }
    for (int i = 0; i < 2; i++)
        while (piso_process_read_output(all[i].process, PISO_STDOUT, buffer, sizeof buffer, &dropped) < 1024)
            assert_true(named(10 + (uint64_t)i));
    for (int i = 0; i < 3000 && piso__poll_in(&fd, 1, 0) != 0; i++) { /* the monitor reports it a moment later */
        piso_output_next(cookies, 8);
        sleep_ms(1);
    }
    assert_int_equal(piso__poll_in(&fd, 1, 0), 0);
    piso_process_follow(all[0].process, 0);
    piso_process_follow(all[1].process, 12);
    for (int i = 0; i < 3; i++)
        assert_int_equal(send(all[i].channel_fd, &byte, 1, 0), 1);
    assert_true(named(12));
    for (int i = 0; i < 3; i++)
        expect_end(&all[i]);
    piso_process_follow(all[2].process, 13); /* earlier output is reported too */
    assert_true(named(13));
    for (int i = 0; i < 3; i++)
        release(&all[i]);
    assert_int_equal(piso_output_next(cookies, 8), 0);
    assert_int_equal(piso__poll_in(&fd, 1, 0), 0);
}

int main(int argc, char **argv) {
    if (argc > 1)
        return child_main(argv);
    leave_if_emulated();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_outputs_are_captured),
        cmocka_unit_test(the_end_is_told_once),
        cmocka_unit_test(a_look_at_one_output_does_not_hide_the_other),
        cmocka_unit_test(a_flood_is_bounded_and_counted),
        cmocka_unit_test(one_descriptor_tells_of_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
