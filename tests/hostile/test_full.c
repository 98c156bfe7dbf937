/* test_full.c - memory, descriptors and shared memory run out at any point. Each of the calls below fails at
 * its n-th use, for every n until a whole conversation completes without reaching it. The conversation then
 * reports an error that names the shortage, nothing is lost, and afterwards it works again.
 *
 * The linker redirects the core's calls to this file (--wrap). */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>

#include "../c/session_tools.h"

/* ---- what can fail ---- */

static struct {
    const char *function; /* NULL: no failure */
    int countdown;        /* uses until it does */
    bool for_ever;        /* from then on */
    bool reached;
} fault;

static bool must_fail(const char *function, int error) {
    if (!fault.function || strcmp(fault.function, function) != 0)
        return false;
    if (fault.countdown > 0 && --fault.countdown > 0)
        return false;
    if (fault.reached && !fault.for_ever)
        return false;
    fault.reached = true;
    errno = error;
    return true;
}

#define WRAP(type, name, error, failed, parameters, arguments)                                                         \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters {                                                                                    \
        return must_fail(#name, error) ? failed : __real_##name arguments;                                             \
    }

WRAP(void *, malloc, ENOMEM, NULL, (size_t size), (size))
WRAP(void *, calloc, ENOMEM, NULL, (size_t n, size_t size), (n, size))
WRAP(void *, reallocarray, ENOMEM, NULL, (void *p, size_t n, size_t size), (p, n, size))
WRAP(char *, strndup, ENOMEM, NULL, (const char *s, size_t n), (s, n))
WRAP(void *, mmap, ENOMEM, MAP_FAILED, (void *a, size_t n, int p, int f, int fd, off_t o), (a, n, p, f, fd, o))
WRAP(int, memfd_create, EMFILE, -1, (const char *name, unsigned flags), (name, flags))
WRAP(int, ftruncate, ENOSPC, -1, (int fd, off_t size), (fd, size))
WRAP(int, fallocate, ENOSPC, -1, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
WRAP(int, eventfd, EMFILE, -1, (unsigned n, int flags), (n, flags))
WRAP(int, epoll_create1, EMFILE, -1, (int flags), (flags))
WRAP(int, socketpair, EMFILE, -1, (int d, int t, int p, int fds[2]), (d, t, p, fds))

static const char *const functions[] = {"malloc",  "calloc",        "reallocarray", "strndup",
                                        "mmap",    "memfd_create",  "ftruncate",    "fallocate",
                                        "eventfd", "epoll_create1", "socketpair"};

static void fail_at(const char *function, int n, bool for_ever) {
    fault.function = function;
    fault.countdown = n;
    fault.for_ever = for_ever;
    fault.reached = false;
}

/* ---- a conversation ---- */

/* is_shortage: whether an error names what ran out. */
static bool is_shortage(int r) {
    return r == -ENOMEM || r == -EMFILE || r == -ENOSPC || r == -ENOBUFS || r == -EFBIG;
}

#define SIZES 4
static const size_t sizes[SIZES] = {10, 3000, 9000, 300000};

/* send: sends a call or its reply with a body of some size and a buffer. Nothing of it stays when it cannot be
 * sent. */
static int send(piso_session *s, piso_call *call, uint64_t request, size_t size) {
    piso_writer w;
    piso_span span;
    void *data;
    piso_writer_init(&w);
    piso__autofree uint8_t *text = __real_calloc(1, size);
    piso_write_bin(&w, text, size);
    int r = w.error ? w.error : piso_session_alloc(s, size, &span, &data);
    if (r == 0) {
        memset(data, (int)size & 0xff, size);
        r = piso_writer_add_span(&w, &span);
        if (r < 0) { /* the writer does not own it: we must give it back */
            piso_writer other;
            piso_writer_init(&other);
            other.nspans = 1;
            other.spans = &span;
            piso_session_discard_spans(s, &other);
        }
    }
    if (r >= 0)
        r = call ? piso_session_call(s, call, 1, 1, 0, 0, PISO_NO_DEADLINE, &w)
                 : piso_session_reply(s, request, false, &w);
    if (r < 0)
        piso_session_discard_spans(s, &w);
    piso_writer_fini(&w);
    return r;
}

/* exchange: makes a call and its reply. Returns 0, or the shortage. A shortage while receiving ends the session
 * with that error. */
static int exchange(ends *e, size_t size) {
    piso_call call = {0};
    piso_event event = {.size = sizeof event};
    int r = send(e->host, &call, 0, size);
    if (r < 0)
        return r;
    r = piso_session_next(e->child, &event);
    if (r == 1) {
        assert_int_equal(event.type, PISO_EVENT_REQUEST);
        assert_int_equal(event.nspans, 1);
        uint64_t id = event.id;
        piso_event_fini(&event);
        r = send(e->child, NULL, id, size);
        if (r == 0)
            r = piso_session_next(e->host, &event);
        if (r == 1) {
            r = event.type == PISO_EVENT_FAILED ? event.error : 0;
            piso_event_fini(&event);
            return r;
        }
    }
    piso_session_forget(e->host, &call, true);
    return r;
}

static int converse(ends *e) {
    uint32_t id;
    int r = piso_session_intern(e->host, "method", 6, &id);
    for (int i = 0; i < 2 * SIZES && r >= 0; i++)
        r = exchange(e, sizes[i % SIZES]);
    return r;
}

/* attempt: opens, talks, closes. Returns the first error. */
static int attempt(void) {
    ends e = {0};
    int r = piso_session_pair(SMALL_ARENA, &e.host, &e.child);
    if (r < 0)
        return r;
    r = converse(&e);
    if (r >= 0)
        assert_int_equal(stats_of(e.host).spans_held + stats_of(e.child).spans_held, 0);
    close_pair(&e);
    return r;
}

static void every_shortage_is_told_and_nothing_is_left(void **state) {
    (void)state;
    int fds = count_fds(), points = 0;
    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++)
        for (int for_ever = 0; for_ever < 2; for_ever++) {
            int n = 1;
            do {
                fail_at(functions[f], n++, for_ever);
                int r = attempt();
                bool reached = fault.reached;
                fault.function = NULL;
                points += reached;
                if (!reached) {
                    assert_int_equal(r, 0);
                    break;
                }
                if (r < 0 && !is_shortage(r))
                    fail_msg("%s, use %d: %s", functions[f], n - 1, piso_strerror(r));
                assert_int_equal(count_fds(), fds);
                assert_int_equal(attempt(), 0); /* usable afterwards */
            } while (n < 1000);
        }
    assert_true(points > 60);
    printf("%d points of failure\n", points);
}

/* ---- a session that goes on ---- */

static void a_session_outlives_a_shortage_of_shared_memory(void **state) {
    (void)state;
    ends e = open_pair();
    assert_int_equal(converse(&e), 0);
    for (int n = 1; n < 20; n++) {
        piso_session_trim(e.host, 0);
        piso_session_trim(e.child, 0);
        fail_at("fallocate", n, true);
        int r = converse(&e);
        bool reached = fault.reached;
        fault.function = NULL;
        assert_true(reached ? is_shortage(r) || r == 0 : r == 0);
        /* a request whose reply could not be sent is still open: the peer answers it with the little that it
         * needs */
        assert_int_equal(piso_session_state(e.host), 0);
        assert_int_equal(piso_session_state(e.child), 0);
        piso_event event = {.size = sizeof event};
        while (piso_session_next(e.child, &event) == 1)
            piso_event_fini(&event);
        assert_int_equal(converse(&e), 0);
    }
    close_pair(&e);
}

static void a_full_arena_is_told_and_empties_again(void **state) {
    (void)state;
    ends e = open_pair();
    piso_writer w;
    piso_span span;
    void *data;
    int count = 0, r;
    piso_writer_init(&w);
    while ((r = piso_session_alloc(e.host, (size_t)4 << 20, &span, &data)) == 0) {
        memset(data, 1, (size_t)4 << 20);
        assert_true(piso_writer_add_span(&w, &span) >= 0);
        count++;
    }
    assert_int_equal(r, -ENOMEM);
    assert_int_equal(count, 16);
    assert_true(is_shortage(exchange(&e, 300000)));
    piso_session_discard_spans(e.host, &w);
    piso_writer_fini(&w);
    assert_int_equal(converse(&e), 0);
    close_pair(&e);
}

/* The second segment is what arrives, whatever happened to the first. */
static void a_segment_that_could_not_be_announced_is_not_taken_for_the_next(void **state) {
    (void)state;
    ends e = open_pair();
    for (int n = 1; n < 8; n++) {
        piso_segment *segments[2];
        while (piso__ring_room(&e.host->channel->tx, PISO__FRAME_SIZE) == 0)
            assert_int_equal(send_call(e.host, NULL, 0, PISO_NO_DEADLINE), 0);
        for (int i = 0; i < 2; i++) {
            piso_writer w;
            assert_int_equal(piso_segment_create(4096, &segments[i]), 0);
            piso_writer_init(&w);
            piso_write_nil(&w);
            assert_int_equal(piso_writer_add_segment(&w, segments[i], 0, 4096), 0);
            if (i == 0)
                fail_at("malloc", n, true);
            int r = piso_session_call(e.host, NULL, 0, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w);
            fault.function = NULL;
            assert_true(i == 0 ? r == 0 || r == -ENOMEM : r == 0);
            piso_session_discard_spans(e.host, &w);
            piso_writer_fini(&w);
        }
        piso_event event = {.size = sizeof event};
        piso_segment *last = NULL;
        while (piso_session_next(e.child, &event) == 1) {
            piso_span span;
            bool ours;
            if (event.nspans) {
                piso_segment_unref(last);
                last = piso_event_take_segment(&event, 0, &span, &ours);
            }
            piso_event_fini(&event);
            expect_nothing(e.host);
        }
        assert_ptr_equal(last, segments[1]); /* one object in one process */
        piso_segment_unref(last);
        for (int i = 0; i < 2; i++) {
            piso_session_retire(e.host, segments[i]);
            piso_segment_unref(segments[i]);
        }
        while (piso_session_next(e.child, &event) == 1)
            piso_event_fini(&event);
        expect_nothing(e.host);
    }
    close_pair(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shortage_is_told_and_nothing_is_left),
        cmocka_unit_test(a_session_outlives_a_shortage_of_shared_memory),
        cmocka_unit_test(a_full_arena_is_told_and_empties_again),
        cmocka_unit_test(a_segment_that_could_not_be_announced_is_not_taken_for_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
