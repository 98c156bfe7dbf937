/* test_channel.c - the handshake between the two ends of a channel, with honest and hostile peers, and what
 * close leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel/channel.h"
#include "descriptors.h"
#include "emulation.h"
#include "os/os.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#define SMALL         ((uint64_t)1 << 20)
#define GIB           ((uint64_t)1 << 30)
#define GREETING_SIZE 40
#define GREETING_FDS  2

/* ---- what every test leaves ---- */

static int count_mappings(void) {
    char line[512];
    int n = 0;
    FILE *f = fopen("/proc/self/maps", "re");
    while (fgets(line, sizeof line, f))
        n += strstr(line, "/memfd:piso-") != NULL;
    fclose(f);
    return n;
}

static int fds_before;

static int remember_fds(void **state) {
    (void)state;
    fds_before = count_fds();
    return 0;
}

static int check_nothing_left(void **state) {
    (void)state;
    assert_int_equal(count_fds(), fds_before);
    assert_int_equal(count_mappings(), 0);
    return 0;
}

/* ---- the two ends, both in this process ---- */

typedef struct ends {
    piso__channel *host, *child;
} ends;

static ends connect_ends(void) {
    ends e = {0};
    int child_fd = -1;
    assert_int_equal(piso__channel_create("test", SMALL, 7, &e.host, &child_fd), 0);
    assert_int_equal(piso__channel_attach(child_fd, 9, &e.child), 0);
    assert_int_equal(piso__channel_accept(e.host), 0);
    return e;
}

static void close_ends(ends *e) {
    e->host = piso__channel_close(e->host);
    e->child = piso__channel_close(e->child);
}

static void send_text(piso__channel *from, const char *text) {
    piso__ring_part part = {text, strlen(text)};
    assert_int_equal(piso__ring_send(&from->tx, &part, 1), 0);
}

static void expect_text(piso__channel *at, const char *text) {
    char buffer[PISO__RING_CHUNK];
    bool wake = false;
    assert_int_equal(piso__ring_peek(&at->rx), strlen(text));
    assert_int_equal(piso__ring_take(&at->rx, buffer, strlen(text), &wake), 0);
    assert_memory_equal(buffer, text, strlen(text));
}

static void messages_go_both_ways(void **state) {
    (void)state;
    ends e = connect_ends();
    send_text(e.host, "from the host");
    send_text(e.child, "from the child");
    expect_text(e.child, "from the host");
    expect_text(e.host, "from the child");
    close_ends(&e);
}

static void check_buffer(piso__channel *from, piso__channel *to) {
    piso_span span;
    void *data;
    assert_int_equal(piso__arena_alloc(from->arena, 100000, &span, &data), 0);
    memset(data, 'x', 100000);
    assert_true(piso__arena_check(&to->peer, &span));
    uint8_t *there = to->peer.base + span.offset;
    assert_int_equal(there[99999], 'x');
    there[0] = 'y'; /* the receiver of an array may write to it */
    assert_int_equal(*(uint8_t *)data, 'y');
}

static void buffers_are_seen_by_the_other_side(void **state) {
    (void)state;
    ends e = connect_ends();
    check_buffer(e.host, e.child);
    check_buffer(e.child, e.host);
    close_ends(&e);
}

static void check_bell(piso__channel *from, piso__channel *to) {
    assert_int_equal(piso__poll_in(&to->wait_fd, 1, 0), 0);
    piso__bell_ring(from->bell);
    assert_int_equal(piso__poll_in(&to->wait_fd, 1, 0), 1);
    assert_int_equal(piso__poll_in(&from->wait_fd, 1, 0), 0);
    assert_true(piso__channel_clear_bells(to));
    assert_int_equal(piso__poll_in(&to->wait_fd, 1, 0), 0);
    piso__channel_ring_self(to);
    piso__channel_ring_self(to);
    assert_int_equal(piso__poll_in(&to->wait_fd, 1, 0), 1);
    assert_int_equal(piso__poll_in(&to->wait_fd, 1, 0), 1); /* until it is silenced */
    assert_int_equal(piso__poll_in(&from->wait_fd, 1, 0), 0);
    assert_true(piso__channel_clear_bells(to));
    assert_int_equal(piso__poll_in(&to->wait_fd, 1, 0), 0);
}

static void bells_ring_on_the_other_side(void **state) {
    (void)state;
    ends e = connect_ends();
    check_bell(e.host, e.child);
    check_bell(e.child, e.host);
    close_ends(&e);
}

static void check_cloexec(const piso__channel *c) {
    const int fds[] = {c->bell, c->wait_fd, c->socket_fd, c->memory_fd, c->beacons.rung, c->beacons.ended};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
}

static void descriptors_are_close_on_exec(void **state) {
    (void)state;
    ends e = {0};
    int child_fd = -1;
    assert_int_equal(piso__channel_create("test", SMALL, 7, &e.host, &child_fd), 0);
    assert_int_equal(fcntl(child_fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(child_fd, F_SETFD, 0), 0); /* as a child inherits it */
    assert_int_equal(piso__channel_attach(child_fd, 9, &e.child), 0);
    check_cloexec(e.host);
    check_cloexec(e.child);
    close_ends(&e);
}

/* A host may have many channels. What these share needs no more descriptors. */
static void a_channel_takes_four_descriptors(void **state) {
    (void)state;
    enum { COUNT = 300 };
    static piso__channel *channels[COUNT];
    int child_fd;
    assert_int_equal(piso__channel_create("test", SMALL, 7, &channels[0], &child_fd), 0);
    piso__fd_close(child_fd);
    int before = count_fds();
    for (int i = 1; i < COUNT; i++) {
        assert_int_equal(piso__channel_create("test", SMALL, 7, &channels[i], &child_fd), 0);
        piso__fd_close(child_fd);
    }
    assert_in_range(count_fds(), before + 4 * (COUNT - 1), before + 4 * (COUNT - 1) + COUNT / 100);
    for (int i = 0; i < COUNT; i++)
        piso__channel_close(channels[i]);
}

static void what_was_received_outlives_the_descriptors(void **state) {
    (void)state;
    ends e = connect_ends();
    piso_span span, other;
    void *data;
    assert_int_equal(piso__arena_alloc(e.host->arena, 100000, &span, &data), 0);
    memset(data, 'x', 100000);
    int before = count_fds();
    piso__channel_hang_up(e.host);
    piso__channel_hang_up(e.child);
    piso__channel_hang_up(e.child);
    assert_int_equal(count_fds(), before - 2 * 4 - 2); /* and the pair of beacons that nobody has any more */
    assert_int_equal(e.child->peer.base[span.offset + 99999], 'x');
    assert_int_equal(piso__arena_alloc(e.host->arena, 1 << 19, &other, &data), -EBADF);
    assert_int_equal(piso__arena_release(e.host->arena, span.offset, span.generation), 0);
    piso__arena_trim(e.host->arena, 0);
    piso__channel_ring_self(e.host);
    assert_false(piso__channel_clear_bells(e.host));
    close_ends(&e);
}

/* More epolls than the kernel permits to watch one file, each watched by another one, as by an event loop. */
static void a_thousand_can_be_waited_for(void **state) {
    (void)state;
    enum { COUNT = 1000 };
    static piso__channel *channels[COUNT];
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < 5 * COUNT)
        skip();
    piso__fd_raise_limit();
    piso__autoclose int loop = piso__epoll_create();
    for (int i = 0; i < COUNT; i++) {
        int child_fd;
        assert_int_equal(piso__channel_create("test", SMALL, 7, &channels[i], &child_fd), 0);
        piso__fd_close(child_fd);
        assert_int_equal(piso__epoll_add(loop, channels[i]->wait_fd, (uint64_t)i), 0);
    }
    uint64_t data = 0;
    for (int i = 0; i < COUNT; i++) {
        /* the other end has hung up, which silence reports so that the bell is dropped */
        assert_false(piso__channel_clear_bells(channels[i]));
        piso__epoll_remove(channels[i]->wait_fd, channels[i]->bell);
    }
    assert_int_equal(piso__epoll_wait(loop, &data, 1, 0), 0);
    piso__channel_ring_self(channels[COUNT - 7]);
    assert_int_equal(piso__epoll_wait(loop, &data, 1, 0), 1);
    assert_int_equal(data, COUNT - 7);
    for (int i = 0; i < COUNT; i++)
        piso__channel_close(channels[i]);
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void memory_cannot_change_size(void **state) {
    (void)state;
    ends e = connect_ends();
    const int fds[] = {e.host->memory_fd, e.child->memory_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        assert_int_equal(ftruncate(fds[i], 0), -1);
        assert_int_equal(ftruncate(fds[i], 8 * (off_t)SMALL), -1);
        assert_int_equal(fcntl(fds[i], F_ADD_SEALS, F_SEAL_WRITE), -1);
    }
    close_ends(&e);
}

static void closed_end_hangs_up(void **state) {
    (void)state;
    ends e = connect_ends();
    assert_int_equal(piso__poll_in(&e.child->socket_fd, 1, 0), 0);
    e.host = piso__channel_close(e.host);
    assert_int_equal(piso__poll_in(&e.child->socket_fd, 1, 0), 1);
    close_ends(&e);
}

/* ---- sizes ---- */

static uint64_t created_size(uint64_t asked) {
    piso__channel *c;
    int child_fd, r = piso__channel_create("test", asked, 7, &c, &child_fd);
    if (r < 0)
        return (uint64_t)(int64_t)r;
    uint64_t size = c->arena_size;
    piso__channel_close(c);
    piso__fd_close(child_fd);
    return size;
}

static void sizes_are_rounded_up(void **state) {
    (void)state;
    assert_int_equal(created_size(1), PISO__ARENA_MIN_SIZE);
    assert_int_equal(created_size(SMALL + 1), 2 * SMALL);
    assert_int_equal(created_size(4 * SMALL), 4 * SMALL);
    assert_int_equal(created_size(0), PISO__ARENA_DEFAULT_SIZE);
    assert_int_equal(created_size(UINT64_MAX), (uint64_t)-EINVAL);
}

/* The default arena shrinks to fit a limit on file sizes; a requested size does not. */
static void default_fits_file_limit(void **state) {
    (void)state;
    struct rlimit before, limited;
    getrlimit(RLIMIT_FSIZE, &before);
    limited = (struct rlimit){4 * GIB, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limited);
    uint64_t by_default = created_size(0), asked = created_size(8 * GIB);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(by_default, GIB); /* both arenas and the rings: the next power of two would not fit */
    assert_int_equal(asked, (uint64_t)-EFBIG);
}

#ifndef SANITIZED /* their shadow memory alone exceeds any such limit */
static uint64_t address_space_used(void) {
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void default_fits_address_space(void **state) {
    (void)state;
    need_no_emulation();
    struct rlimit before, limited;
    getrlimit(RLIMIT_AS, &before);
    limited = (struct rlimit){address_space_used() + 20 * GIB, before.rlim_max};
    setrlimit(RLIMIT_AS, &limited);
    uint64_t by_default = created_size(0), asked = created_size(16 * GIB);
    setrlimit(RLIMIT_AS, &before);
    assert_int_equal(by_default, 8 * GIB);
    assert_int_equal(asked, (uint64_t)-ENOMEM);
}
#endif

/* ---- a child that does not answer as it should ---- */

static void answer_is_awaited(void **state) {
    (void)state;
    piso__channel *c;
    int child_fd;
    assert_int_equal(piso__channel_create("test", SMALL, 7, &c, &child_fd), 0);
    assert_int_equal(piso__channel_accept(c), -EAGAIN);
    piso__fd_close(child_fd);
    assert_int_equal(piso__channel_accept(c), PISO_EDIED);
    piso__channel_close(c);
}

/* outcome: returns the result for a greeting with byte `at` changed. Each side chooses how many requests it
 * answers. */
static int outcome(size_t at) {
    return at >= 4 && at < 8 ? PISO_ENEWER : at >= 32 && at < 36 ? 0 : PISO_EPROTO;
}

/* accept_answer: returns how the host reacts to an answer: the honest one, cut to `size` bytes, with byte `at`
 * changed, and `fds` descriptors. */
static int accept_answer(size_t size, size_t at, int fds) {
    piso__channel *c;
    int child_fd, received[GREETING_FDS];
    uint8_t answer[GREETING_SIZE + 1] = {0};
    assert_int_equal(piso__channel_create("test", SMALL, 7, &c, &child_fd), 0);
    assert_int_equal(piso__receive_fds(child_fd, answer, GREETING_SIZE, received, GREETING_FDS, true), 0);
    answer[at] ^= 1;
    assert_int_equal(piso__send_fds(child_fd, answer, size, received, fds), 0);
    int r = piso__channel_accept(c);
    for (int i = 0; i < GREETING_FDS; i++)
        piso__fd_close(received[i]);
    piso__fd_close(child_fd);
    piso__channel_close(c);
    return r;
}

static void wrong_answers_are_refused(void **state) {
    (void)state;
    assert_int_equal(accept_answer(GREETING_SIZE, GREETING_SIZE, 0), 0); /* the honest one */
    for (size_t at = 0; at < GREETING_SIZE; at++)
        assert_int_equal(accept_answer(GREETING_SIZE, at, 0), outcome(at));
    assert_int_equal(accept_answer(GREETING_SIZE - 1, GREETING_SIZE, 0), PISO_EPROTO);
    assert_int_equal(accept_answer(GREETING_SIZE + 1, GREETING_SIZE, 0), PISO_EPROTO);
    assert_int_equal(accept_answer(GREETING_SIZE, GREETING_SIZE, GREETING_FDS), PISO_EPROTO);
}

/* ---- a host that does not greet as it should ---- */

typedef struct forgery {
    size_t size;
    int fd_count;
    size_t change_at; /* byte that is changed; GREETING_SIZE: none */
    int replace;      /* index of the descriptor that is replaced, or -1 */
    int replacement;  /* closed by attach_forged */
} forgery;

static int attach_forged(forgery f) {
    piso__channel *original, *c = NULL;
    int original_fd, fds[GREETING_FDS], pair[2];
    uint8_t greeting[GREETING_SIZE + 1] = {0};
    assert_int_equal(piso__channel_create("test", SMALL, 7, &original, &original_fd), 0);
    assert_int_equal(piso__receive_fds(original_fd, greeting, GREETING_SIZE, fds, GREETING_FDS, true), 0);
    greeting[f.change_at] ^= 1;
    if (f.replace >= 0) {
        piso__fd_close(fds[f.replace]);
        fds[f.replace] = f.replacement;
    }
    assert_int_equal(piso__socketpair(pair), 0);
    assert_int_equal(piso__send_fds(pair[0], greeting, f.size, fds, f.fd_count), 0);
    int r = piso__channel_attach(pair[1], 9, &c);
    if (r == 0)
        piso__channel_close(c);
    else
        piso__fd_close(pair[1]); /* taken on success only */
    for (int i = 0; i < GREETING_FDS; i++)
        piso__fd_close(fds[i]);
    piso__fd_close(pair[0]);
    piso__fd_close(original_fd);
    piso__channel_close(original);
    return r;
}

static void wrong_greetings_are_refused(void **state) {
    (void)state;
    const forgery honest = {GREETING_SIZE, GREETING_FDS, GREETING_SIZE, -1, -1};
    assert_int_equal(attach_forged(honest), 0);
    forgery f = honest;
    for (f.change_at = 0; f.change_at < GREETING_SIZE; f.change_at++)
        assert_int_equal(attach_forged(f), outcome(f.change_at));
    f = honest;
    f.size--;
    assert_int_equal(attach_forged(f), PISO_EPROTO);
    f = honest;
    f.size++;
    assert_int_equal(attach_forged(f), PISO_EPROTO);
    f = honest;
    for (f.fd_count = 0; f.fd_count < GREETING_FDS; f.fd_count++)
        assert_int_equal(attach_forged(f), PISO_EPROTO);
}

/* talk: lets both sides meet when the child speaks another version, which its greeting states by `change`. */
static void other_versions_are_told_apart(void **state) {
    (void)state;
    for (int newer = 0; newer < 2; newer++) {
        piso__channel *host, *c;
        int child_fd, fds[GREETING_FDS], pair[2];
        uint32_t words[16] = {0};
        assert_int_equal(piso__channel_create("test", SMALL, 7, &host, &child_fd), 0);
        assert_int_equal(piso__receive_fds(child_fd, words, GREETING_SIZE, fds, GREETING_FDS, true), 0);
        words[1] = newer ? PISO__CHANNEL_VERSION + 1 : PISO__CHANNEL_VERSION - 1;
        size_t size = newer ? 60 : 32; /* the rest is not read */
        assert_int_equal(piso__socketpair(pair), 0);
        assert_int_equal(piso__send_fds(pair[0], words, size, fds, GREETING_FDS), 0);
        assert_int_equal(piso__channel_attach(pair[1], 9, &c), newer ? PISO_ENEWER : PISO_EOLDER);
        assert_int_equal(piso__peek(pair[0], words + 8, 8, true), 0); /* the child has told its own */
        assert_int_equal(words[9], PISO__CHANNEL_VERSION);
        assert_int_equal(piso__send_fds(child_fd, words, size, NULL, 0), 0);
        assert_int_equal(piso__channel_accept(host), newer ? PISO_ENEWER : PISO_EOLDER);
        for (int i = 0; i < GREETING_FDS; i++)
            piso__fd_close(fds[i]);
        piso__fd_close(pair[0]);
        piso__fd_close(pair[1]);
        piso__fd_close(child_fd);
        piso__channel_close(host);
    }
}

static void both_learn_how_many_requests_the_other_answers(void **state) {
    (void)state;
    ends e = connect_ends();
    assert_int_equal(e.host->peer_accepts, 9);
    assert_int_equal(e.child->peer_accepts, 7);
    close_ends(&e);
}

static int unsealed(uint64_t size) {
    int fd = memfd_create("piso-unsealed", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}

static void memory_that_could_shrink_is_refused(void **state) {
    (void)state;
    const uint64_t size = PISO__ARENAS_AT + 2 * SMALL;
    forgery f = {GREETING_SIZE, GREETING_FDS, GREETING_SIZE, 0, piso__memfd_create("piso-whole", size)};
    assert_int_equal(attach_forged(f), 0);
    f.replacement = unsealed(size);
    assert_int_equal(attach_forged(f), PISO_EPROTO);
    f.replacement = piso__memfd_create("piso-short", size - SMALL);
    assert_int_equal(attach_forged(f), PISO_EPROTO);
    f.replacement = open("/dev/zero", O_RDWR | O_CLOEXEC);
    assert_int_equal(attach_forged(f), PISO_EPROTO);
}

static void absent_host_is_noticed(void **state) {
    (void)state;
    int pair[2];
    piso__channel *c = NULL;
    assert_int_equal(piso__socketpair(pair), 0);
    piso__fd_close(pair[0]);
    assert_int_equal(piso__channel_attach(pair[1], 9, &c), PISO_EDIED);
    assert_null(c);
    piso__fd_close(pair[1]);
}

static void host_gone_after_greeting_is_noticed(void **state) {
    (void)state;
    piso__channel *host, *c = NULL;
    int child_fd;
    assert_int_equal(piso__channel_create("test", SMALL, 7, &host, &child_fd), 0);
    piso__channel_close(host);
    assert_int_equal(piso__channel_attach(child_fd, 9, &c), PISO_EDIED);
    piso__fd_close(child_fd);
}

/* ---- fork ---- */

/* in_forked: checks in a forked process that the mapping is missing, and that closing leaves alone what is at
 * its address now. 0 if so. */
static int in_forked(piso__channel *c) {
    unsigned char resident;
    void *at = c->memory;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (mincore(at, page, &resident) == 0)
        return 1;
    char *ours = mmap(at, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (ours != at)
        return 2;
    *ours = 'x';
    piso__channel_close(c);
    return mincore(at, page, &resident) == 0 && *ours == 'x' ? 0 : 3;
}

static void mappings_stay_out_of_forked_processes(void **state) {
    (void)state;
    need_no_emulation();
    ends e = connect_ends();
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_forked(e.host));
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    send_text(e.host, "still here");
    expect_text(e.child, "still here");
    close_ends(&e);
}

static void nothing_is_closed_for_null(void **state) {
    (void)state;
    assert_null(piso__channel_close(NULL));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, remember_fds, check_nothing_left)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(messages_go_both_ways),
        TEST(buffers_are_seen_by_the_other_side),
        TEST(bells_ring_on_the_other_side),
        TEST(descriptors_are_close_on_exec),
        TEST(a_channel_takes_four_descriptors),
        TEST(what_was_received_outlives_the_descriptors),
        TEST(a_thousand_can_be_waited_for),
        TEST(memory_cannot_change_size),
        TEST(closed_end_hangs_up),
        TEST(sizes_are_rounded_up),
        TEST(default_fits_file_limit),
#ifndef SANITIZED
        TEST(default_fits_address_space),
#endif
        TEST(answer_is_awaited),
        TEST(wrong_answers_are_refused),
        TEST(wrong_greetings_are_refused),
        TEST(other_versions_are_told_apart),
        TEST(both_learn_how_many_requests_the_other_answers),
        TEST(memory_that_could_shrink_is_refused),
        TEST(absent_host_is_noticed),
        TEST(host_gone_after_greeting_is_noticed),
        TEST(mappings_stay_out_of_forked_processes),
        TEST(nothing_is_closed_for_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
