/* test_shared_memory.c - a child in its own process truncates, punches, fills and scribbles over the memory
 * that it shares. SIGBUS would end this test program. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "../c/emulation.h"
#include "../c/session_tools.h"
#include "os/cgroup.h"

#define BUFFER ((size_t)1 << 20)

extern char **environ;

/* ---- the child ---- */

/* answer_once: answers one request with a buffer full of sevens. */
static void answer_once(piso_session *s) {
    piso_event event = {.size = sizeof event};
    piso_writer w;
    assert_int_equal(await(s, &event), 1);
    piso_writer_init(&w);
    piso_write_nil(&w);
    add_buffer(s, &w, BUFFER, 7);
    assert_int_equal(piso_session_reply(s, event.id, false, &w), 0);
    piso_writer_fini(&w);
    piso_event_fini(&event);
}

static void truncate_all(const piso__channel *c) {
    assert_true(ftruncate(c->memory_fd, 0) < 0 && errno == EPERM);
    assert_true(ftruncate(c->memory_fd, 4096) < 0 && errno == EPERM);
    assert_true(ftruncate(c->memory_fd, (off_t)1 << 40) < 0 && errno == EPERM);
    assert_true(fcntl(c->memory_fd, F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
}

static void punch_all(const piso__channel *c) {
    assert_int_equal(piso__punch(c->memory_fd, 0, PISO__ARENAS_AT + 2 * c->arena_size), 0);
}

/* fill_all: fills all memory that there is; a limit on this process keeps that small. */
static void fill_all(const piso__channel *c) {
    for (int i = 0; i < 2; i++)
        for (uint64_t at = 0; at < c->arena_size; at += BUFFER)
            if (piso__populate(c->memory_fd, c->memory, piso__channel_arena_at(c, i) + at, BUFFER) < 0)
                return;
}

static void scribble(const piso__channel *c) {
    for (size_t i = 0; i < PISO__CONTROL_SIZE; i++)
        ((volatile uint8_t *)c->memory)[i] = (uint8_t)(i * 41 + 7);
    piso__bell_ring(c->bell);
}

static int child_main(const char *what) {
    piso_session *s = NULL;
    if (piso_session_attach(atoi(getenv("PISO_FD")), &s) != 0)
        return 90;
    answer_once(s);
    piso_event event = {.size = sizeof event};
    assert_int_equal(await(s, &event), 1); /* the host has the buffer now */
    const piso__channel *c = s->channel;
    if (strcmp(what, "truncate") == 0)
        truncate_all(c);
    else if (strcmp(what, "punch") == 0)
        punch_all(c);
    else if (strcmp(what, "fill") == 0)
        fill_all(c);
    else
        scribble(c);
    fputs("done\n", stderr);
    for (;;)
        pause();
}

/* ---- the host ---- */

typedef struct victim {
    piso_session *session;
    uint8_t *data; /* a buffer of the child's */
    piso_span span;
    piso_call second;
} victim;

static void receive_buffer(victim *v) {
    piso_call call;
    piso_event event = {.size = sizeof event};
    assert_int_equal(send_call(v->session, &call, 1, PISO_NO_DEADLINE), 0);
    assert_int_equal(await(v->session, &event), 1);
    assert_int_equal(event.type, PISO_EVENT_REPLY);
    v->data = piso_event_take_span(&event, 0, &v->span);
    assert_non_null(v->data);
    assert_int_equal(v->span.length, BUFFER);
    assert_int_equal(v->data[0] + v->data[BUFFER - 1], 14);
    piso_event_fini(&event);
}

/* wait_until_done: waits for the child's message on stderr. */
static void wait_until_done(const victim *v) {
    char text[256];
    piso_process *p = piso_session_process(v->session);
    for (int i = 0; i < 10000; i++) {
        size_t n = piso_process_stderr(p, text, sizeof text - 1);
        text[n] = '\0';
        if (strstr(text, "done"))
            return;
        usleep(1000);
    }
    fail_msg("the child did not get that far: %s", text);
}

static void let_loose(victim *v, const char *what) {
    need_no_emulation();
    const char *argv[] = {"/proc/self/exe", what, NULL};
    piso_spawn options = {.size = sizeof options,
                          .argv = argv,
                          .envp = (const char *const *)environ,
                          .name = what,
                          .arena_size = SMALL_ARENA};
    *v = (victim){0};
    assert_int_equal(piso_session_spawn(&options, &v->session), 0);
    assert_int_equal(piso_session_handshake(v->session, LONG_ENOUGH), 0);
    receive_buffer(v);
    assert_int_equal(send_call(v->session, &v->second, 2, PISO_NO_DEADLINE), 0);
    wait_until_done(v);
}

static unsigned sum_of(const victim *v) {
    unsigned sum = 0;
    for (size_t i = 0; i < BUFFER; i++)
        sum += v->data[i];
    return sum;
}

static void end(victim *v) {
    piso_exit status;
    piso_session_release(v->session, &v->span);
    piso_session_forget(v->session, &v->second, false);
    piso_process_kill(piso_session_process(v->session), SIGKILL);
    assert_int_equal(piso_process_wait(piso_session_process(v->session), LONG_ENOUGH, &status), 1);
    piso_session_unref(v->session);
}

static void shared_memory_cannot_be_truncated(void **state) {
    (void)state;
    victim v;
    let_loose(&v, "truncate");
    assert_int_equal(sum_of(&v), 7 * BUFFER);
    end(&v);
}

static void holes_read_as_zeros(void **state) {
    (void)state;
    victim v;
    let_loose(&v, "punch");
    piso_event event = {.size = sizeof event};
    assert_int_equal(sum_of(&v), 0);
    int r = piso_session_next(v.session, &event); /* the rings are zeros, too: nothing, or a fault */
    assert_true(r == 0 || r == 1 || r == PISO_EPROTO);
    if (r == 1)
        piso_event_fini(&event);
    piso_span span;
    void *data;
    if (piso_session_alloc(v.session, BUFFER, &span, &data) == 0)
        memset(data, 1, BUFFER);
    end(&v);
}

static void filled_memory_disturbs_nobody(void **state) {
    (void)state;
    victim v;
    let_loose(&v, "fill");
    piso_span span;
    void *data;
    assert_int_equal(sum_of(&v), 7 * BUFFER);
    assert_int_equal(piso_session_alloc(v.session, BUFFER, &span, &data), 0);
    memset(data, 1, BUFFER);
    end(&v);
}

static void a_scribbling_child_is_dropped_with_a_reason(void **state) {
    (void)state;
    victim v;
    let_loose(&v, "scribble");
    piso_event event = {.size = sizeof event};
    take_failure(v.session, &v.second, PISO_EPROTO);
    assert_int_equal(piso_session_next(v.session, &event), PISO_EPROTO);
    assert_non_null(piso_session_fault(v.session));
    assert_int_equal(sum_of(&v), 7 * BUFFER); /* what came before is still there */
    end(&v);
}

/* A message of half the arena, to which nothing was ever written: copying it would take that much memory here. */
static void memory_that_is_not_there_is_not_a_message(void **state) {
    (void)state;
    ends e = open_pair();
    uint8_t data[PISO__FRAME_SIZE + PISO__SPAN_SIZE];
    piso__frame frame = {.type = PISO__FRAME_CALL, .flags = PISO_CALL_NO_REPLY | PISO__FRAME_BODY_SPAN, .nspans = 1};
    piso_span span = {.generation = 1, .length = SMALL_ARENA / 2};
    piso__frame_encode(&frame, data);
    piso__span_encode(&span, data + PISO__FRAME_SIZE);
    piso__ring_part part = {data, sizeof data};
    assert_int_equal(piso__ring_send(&e.child->channel->tx, &part, 1), 0);
    expect_end(e.host, PISO_EPROTO);
    assert_non_null(strstr(piso_session_fault(e.host), "larger than all the memory"));
    close_pair(&e);
}

/* send_buffer_at: sends a call that names memory of the child's arena, valid or not. */
static void send_buffer_at(piso_session *child, uint64_t offset, uint64_t length) {
    uint8_t data[PISO__FRAME_SIZE + PISO__SPAN_SIZE + 1] = {0};
    piso__frame frame = {.type = PISO__FRAME_CALL, .flags = PISO_CALL_NO_REPLY, .nspans = 1};
    piso_span span = {.generation = 1, .offset = offset, .length = length};
    piso__frame_encode(&frame, data);
    piso__span_encode(&span, data + PISO__FRAME_SIZE);
    data[sizeof data - 1] = 0xc0;
    piso__ring_part part = {data, sizeof data};
    assert_int_equal(piso__ring_send(&child->channel->tx, &part, 1), 0);
}

/* Where the system commits no more memory than it has, reading a missing page can be a SIGBUS. */
static void memory_that_is_not_there_is_not_read(void **state) {
    (void)state;
    need_no_emulation();
    piso__strict_memory = 1;
    ends e = open_pair();
    assert_false(piso__memfd_has_hole(e.child->channel->memory_fd, 0, PISO__CONTROL_SIZE));
    piso_event event = {.size = sizeof event};
    for (int i = 0; i < 3; i++) { /* existing pages are accepted */
        send_buffers(e.child, NULL, 0, 2, 70000);
        take(e.host, PISO_EVENT_REQUEST, &event);
        piso_event_fini(&event);
        piso_session_flush(e.host);
        expect_nothing(e.child);
    }
    send_buffer_at(e.child, SMALL_ARENA / 2, 100);
    expect_end(e.host, PISO_EPROTO);
    assert_non_null(strstr(piso_session_fault(e.host), "missing pages"));
    close_pair(&e);
    piso__strict_memory = -1;
}

/* forget_populate: simulates madvise before Linux 5.14. */
static int forget_populate(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 23 /* MADV_POPULATE_WRITE */, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* unwritten_passes: sends a buffer, and a segment, to which nobody has written. 0, or the line where it failed. */
static int unwritten_passes(void) {
    piso__strict_memory = 1;
    ends e;
    piso_writer w;
    piso_writer_init(&w);
    piso_span span;
    void *data;
    piso_segment *segment;
    if (piso_session_pair(SMALL_ARENA, &e.host, &e.child) < 0)
        return __LINE__;
    piso_session_share(e.host, true);
    if (piso_session_alloc(e.child, 300000, &span, &data) < 0 || piso_writer_add_span(&w, &span) < 0)
        return __LINE__;
    if (piso_segment_create(70000, &segment) < 0 || piso_writer_add_segment(&w, segment, 0, 70000) < 0)
        return __LINE__;
    piso_write_nil(&w);
    if (piso_session_call(e.child, NULL, 4, 5, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w) < 0)
        return __LINE__;
    piso_event event = {.size = sizeof event};
    if (piso_session_next(e.host, &event) != 1 || event.type != PISO_EVENT_REQUEST || event.nspans != 2)
        return __LINE__;
    piso_event_fini(&event);
    piso_writer_fini(&w);
    piso_segment_unref(segment);
    close_pair(&e);
    piso__strict_memory = -1;
    return 0;
}

/* Memory that an honest peer has allocated and not written exists and is accepted, also where the kernel enters
 * no pages. */
static void memory_that_nobody_has_written_passes(void **state) {
    (void)state;
    assert_int_equal(unwritten_passes(), 0);
    need_no_emulation();
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(forget_populate() ? 1 : unwritten_passes() ? 2 : 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(int argc, char **argv) {
    if (argc > 1)
        return child_main(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_memory_cannot_be_truncated),
        cmocka_unit_test(holes_read_as_zeros),
        cmocka_unit_test(filled_memory_disturbs_nobody),
        cmocka_unit_test(a_scribbling_child_is_dropped_with_a_reason),
        cmocka_unit_test(memory_that_is_not_there_is_not_a_message),
        cmocka_unit_test(memory_that_is_not_there_is_not_read),
        cmocka_unit_test(memory_that_nobody_has_written_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
