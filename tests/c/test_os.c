/* test_os.c - the wrapped system calls: memory, doorbells, packets with descriptors, pipes, processors, forks,
 * threads and their error texts. Every test is checked for descriptors that it leaves open. Starting and ending
 * processes: test_process.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "emulation.h"
#include "os/os.h"
#include "skipping.h"

#define PAGE        piso__page_size()
#define SIZE        (256 * PAGE)
#define LONG_ENOUGH ((int64_t)30 * 1000000000) /* a limit for failing */

static int open_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory))
        count++;
    if (directory)
        closedir(directory);
    return count;
}

static int count_descriptors(void **state) {
    *state = (void *)(intptr_t)open_descriptors();
    return 0;
}

static int compare_descriptors(void **state) {
    return open_descriptors() == (intptr_t)*state ? 0 : -1;
}

static void assert_cloexec(int fd) {
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

static bool readable(int fd) {
    int mask = piso__poll_in(&fd, 1, 0);
    assert_in_range(mask, 0, 1);
    return mask;
}

/* in_child: returns the result of a function in a forked process. */
static int in_child(int (*function)(void *), void *argument) {
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(function(argument));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- shared memory ---- */

static void memfd_keeps_its_size(void **state) {
    (void)state;
    piso__autoclose int fd = piso__memfd_create("test", SIZE);
    assert_cloexec(fd);
    assert_int_equal(piso__memfd_check(fd, SIZE), 0);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 2 * SIZE), -1);
    assert_int_equal(piso__memfd_check(fd, SIZE), 0);
    assert_int_equal(piso__memfd_check(fd, SIZE - 1), -EPROTO);
    assert_int_equal(piso__memfd_check(fd, 2 * SIZE), -EPROTO);
}

static void memfd_that_could_change_is_refused(void **state) {
    (void)state;
    const int seals[] = {0, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_GROW | F_SEAL_SEAL};
    for (size_t i = 0; i < sizeof seals / sizeof *seals; i++) {
        piso__autoclose int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(ftruncate(fd, SIZE), 0);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
        assert_int_equal(piso__memfd_check(fd, SIZE), -EPROTO);
    }
    piso__autoclose int null = piso__open_null();
    assert_int_equal(piso__memfd_check(null, 0), -EPROTO);
    assert_int_equal(piso__memfd_check(-1, SIZE), -EPROTO);
}

/* Where no huge pages are left, touching such memory is a SIGBUS. */
static void memory_of_huge_pages_is_refused(void **state) {
    (void)state;
    const off_t size = (off_t)1 << 30; /* of whatever size a page is */
    piso__autoclose int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
    if (fd < 0 || ftruncate(fd, size) < 0)
        skip_because("there can be no file of huge pages");
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    assert_int_equal(piso__memfd_check(fd, (uint64_t)size), -EPROTO);
}

static void mappings_share_memory(void **state) {
    (void)state;
    piso__autoclose int fd = piso__memfd_create("test", SIZE);
    void *writable, *readonly, *untouched = &fd;
    assert_int_equal(piso__map(fd, SIZE, true, false, &writable), 0);
    assert_int_equal(piso__map(fd, SIZE, false, false, &readonly), 0);
    memset((uint8_t *)writable + PAGE, 7, PAGE);
    assert_memory_equal((uint8_t *)readonly + PAGE, (uint8_t *)writable + PAGE, PAGE);
    assert_int_equal(piso__map(-1, SIZE, true, false, &untouched), -EBADF);
    assert_ptr_equal(untouched, &fd);
    piso__unmap(writable, SIZE);
    piso__unmap(readonly, SIZE);
    piso__unmap(NULL, SIZE);
}

static uint64_t occupied(int fd) {
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static void pages_come_and_go(void **state) {
    (void)state;
    void *base;
    piso__autoclose int fd = piso__memfd_create("test", SIZE);
    assert_int_equal(piso__map(fd, SIZE, true, true, &base), 0);
    assert_int_equal(occupied(fd), 0);
    assert_int_equal(piso__populate(fd, base, 2 * PAGE, 3 * PAGE), 0);
    assert_in_range(occupied(fd), 3 * PAGE, SIZE); /* more than 3 pages where the kernel uses huge ones */
    memset((uint8_t *)base + 2 * PAGE, 7, 3 * PAGE);

    assert_int_equal(piso__punch(fd, 3 * PAGE, PAGE), 0);
    uint8_t bytes[3 * PAGE];
    assert_int_equal(pread(fd, bytes, sizeof bytes, 2 * PAGE), sizeof bytes);
    for (uint64_t i = 0; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], i / PAGE == 1 ? 0 : 7);
    assert_int_equal(piso__punch(fd, 0, SIZE), 0);
    assert_int_equal(occupied(fd), 0);

    assert_true(piso__populate(fd, base, SIZE, PAGE) < 0); /* sealed against growing */
    assert_int_equal(piso__populate(-1, base, 0, PAGE), -EBADF);
    assert_int_equal(piso__punch(-1, 0, PAGE), -EBADF);
    piso__unmap(base, SIZE);
}

static int is_mapped(void *base) {
    unsigned char pages[SIZE / PAGE];
    return mincore(base, SIZE, pages) == 0;
}

static void mappings_stay_out_of_forked_processes(void **state) {
    (void)state;
    need_no_emulation();
    piso__autoclose int fd = piso__memfd_create("test", SIZE);
    for (int dontfork = 0; dontfork <= 1; dontfork++) {
        void *base;
        assert_int_equal(piso__map(fd, SIZE, true, dontfork, &base), 0);
        assert_int_equal(in_child(is_mapped, base), !dontfork);
        piso__unmap(base, SIZE);
    }
}

/* ---- descriptors and doorbells ---- */

static void descriptors_are_owned(void **state) {
    (void)state;
    piso__autoclose int fd = piso__open_null();
    assert_cloexec(fd);
    int taken = piso__fd_steal(&fd);
    assert_int_equal(fd, -1);
    piso__autoclose int copy = piso__fd_dup(taken);
    assert_cloexec(copy);
    assert_int_equal(fcntl(copy, F_SETFD, 0), 0);
    assert_int_equal(piso__fd_cloexec(copy), 0);
    assert_cloexec(copy);
    errno = 77;
    assert_int_equal(piso__fd_close(taken), -1);
    assert_int_equal(piso__fd_close(-1), -1);
    assert_int_equal(errno, 77);
    assert_int_equal(piso__fd_dup(taken), -EBADF);
    assert_int_equal(piso__fd_cloexec(taken), -EBADF);
}

static void bell_rings_until_it_is_cleared(void **state) {
    (void)state;
    piso__autoclose int bell = piso__event_create();
    assert_cloexec(bell);
    piso__event_clear(bell); /* does not wait for a ring */
    assert_false(readable(bell));
    piso__event_signal(bell);
    piso__event_signal(bell);
    assert_true(readable(bell));
    piso__event_clear(bell);
    assert_false(readable(bell));
}

/* A peer may have filled the counter: ringing must not wait for the reader. */
static void bell_never_blocks(void **state) {
    (void)state;
    piso__autoclose int bell = piso__event_create();
    assert_int_equal(eventfd_write(bell, UINT64_MAX - 1), 0);
    piso__event_signal(bell);
    assert_true(readable(bell));
    piso__event_clear(bell);
    assert_false(readable(bell));
}

/* Whatever flags the other side sets, and however many rings are pending. */
static void bells_between_processes_never_block(void **state) {
    (void)state;
    int bells[2];
    assert_int_equal(piso__bell_pair(bells), 0);
    assert_cloexec(bells[0]);
    assert_cloexec(bells[1]);
    assert_int_equal(fcntl(bells[0], F_SETFL, 0) | fcntl(bells[1], F_SETFL, 0), 0);
    assert_true(piso__bell_clear(bells[0])); /* no ring there */
    for (int i = 0; i < 10000; i++)
        piso__bell_ring(bells[0]);
    while (readable(bells[1]))
        assert_true(piso__bell_clear(bells[1]));
    piso__fd_close(bells[0]);
    assert_false(piso__bell_clear(bells[1]));
    piso__bell_ring(bells[1]); /* no SIGPIPE */
    piso__fd_close(bells[1]);
}

static void packets_that_nobody_takes_hold_nobody_up(void **state) {
    (void)state;
    int sockets[2], r, sent = 0;
    assert_int_equal(piso__socketpair(sockets), 0);
    while ((r = piso__send_fds(sockets[0], "x", 1, sockets, 1)) == 0)
        sent++;
    assert_true(sent > 0);
    assert_true(r == -EAGAIN || r == -ETOOMANYREFS);
    piso__fd_close(sockets[0]);
    piso__fd_close(sockets[1]);
}

static void on_alarm(int signal) {
    (void)signal;
}

static void poll_tells_which(void **state) {
    (void)state;
    int bells[4] = {piso__event_create(), -1, piso__event_create(), piso__event_create()};
    int64_t start = piso_now_ns();
    assert_int_equal(piso__poll_in(bells, 4, 3000000), 0);
    assert_true(piso_now_ns() - start >= 3000000);
    piso__event_signal(bells[2]);
    assert_int_equal(piso__poll_in(bells, 4, LONG_ENOUGH), 4);
    piso__event_signal(bells[0]);
    assert_int_equal(piso__poll_in(bells, 4, -1), 5);
    piso__event_clear(bells[0]);
    assert_int_equal(piso__poll_in(bells, 2, 0), 0); /* only the first two */
    for (int i = 0; i < 4; i++)
        piso__fd_close(bells[i]);
}

static void poll_is_interrupted_by_signals(void **state) {
    (void)state;
    struct sigaction action = {.sa_handler = on_alarm}, before;
    piso__autoclose int bell = piso__event_create();
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    /* repeatedly, in case the first signal comes before the wait */
    const struct itimerval timer = {{0, 10000}, {0, 10000}}, none = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, NULL);
    int r = piso__poll_in(&bell, 1, LONG_ENOUGH);
    setitimer(ITIMER_REAL, &none, NULL);
    sigaction(SIGALRM, &before, NULL);
    assert_int_equal(r, -EINTR);
}

static void epoll_gives_the_data(void **state) {
    (void)state;
    piso__autoclose int epoll = piso__epoll_create(), first = piso__event_create(), second = piso__event_create();
    uint64_t data[16];
    assert_cloexec(epoll);
    assert_int_equal(piso__epoll_add(epoll, first, UINT64_MAX), 0);
    assert_int_equal(piso__epoll_add(epoll, second, 5), 0);
    assert_int_equal(piso__epoll_add(epoll, second, 6), -EEXIST);
    assert_false(readable(epoll)); /* other epolls can watch it too */
    piso__event_signal(first);
    assert_true(readable(epoll));
    assert_int_equal(piso__epoll_wait(epoll, data, 16, -1), 1);
    assert_int_equal(data[0], UINT64_MAX);
    piso__event_signal(second);
    assert_int_equal(piso__epoll_wait(epoll, data, 16, -1), 2);
    assert_int_equal(piso__epoll_wait(epoll, data, 1, -1), 1);
    assert_int_equal(piso__epoll_remove(epoll, first), 0);
    assert_int_equal(piso__epoll_remove(epoll, first), -ENOENT);
    assert_int_equal(piso__epoll_wait(epoll, data, 16, -1), 1);
    assert_int_equal(data[0], 5);
}

/* ---- sockets ---- */

static void packets_carry_descriptors(void **state) {
    (void)state;
    int sockets[2], received[PISO__FDS_MAX], bells[PISO__FDS_MAX];
    char text[6];
    assert_int_equal(piso__socketpair(sockets), 0);
    assert_cloexec(sockets[0]);
    assert_cloexec(sockets[1]);
    assert_int_equal(piso__socket_creator(sockets[1]), getpid());
    for (int i = 0; i < PISO__FDS_MAX; i++)
        bells[i] = piso__event_create();
    assert_int_equal(piso__send_fds(sockets[0], "hello", 6, bells, PISO__FDS_MAX), 0);
    assert_int_equal(piso__receive_fds(sockets[1], text, 6, received, PISO__FDS_MAX, true), 0);
    assert_string_equal(text, "hello");
    for (int i = 0; i < PISO__FDS_MAX; i++) {
        assert_cloexec(received[i]);
        piso__event_signal(bells[i]);
        assert_true(readable(received[i])); /* the same, and in order */
        piso__event_clear(bells[i]);
        piso__fd_close(received[i]);
        piso__fd_close(bells[i]);
    }
    assert_int_equal(piso__send_fds(sockets[1], "world", 6, NULL, 0), 0);
    assert_int_equal(piso__receive_fds(sockets[0], text, 6, NULL, 0, false), 0);
    assert_string_equal(text, "world");
    piso__fd_close(sockets[0]);
    piso__fd_close(sockets[1]);
}

/* Whatever does not fit is refused, and none of its descriptors stays open (compare_descriptors). */
static void packets_that_do_not_fit_are_refused(void **state) {
    (void)state;
    int sockets[2];
    assert_int_equal(piso__socketpair(sockets), 0);
    const struct {
        size_t sent, expected;
        int fds_sent, fds_expected;
    } cases[] = {{6, 6, 1, 2}, {6, 6, 2, 1}, {6, 6, 1, 0}, {6, 6, 0, 1}, {6, 5, 2, 2},
                 {6, 7, 2, 2}, {1, 6, 1, 1}, {6, 1, 8, 8}, {6, 5, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int untouched[PISO__FDS_MAX] = {77, 77, 77, 77, 77, 77, 77, 77};
        int fds[PISO__FDS_MAX], sent[PISO__FDS_MAX] = {sockets[0], sockets[1], sockets[0], sockets[1],
                                                       sockets[0], sockets[1], sockets[0], sockets[1]};
        char data[8];
        memcpy(fds, untouched, sizeof fds);
        assert_int_equal(piso__send_fds(sockets[0], "packet", cases[i].sent, sent, cases[i].fds_sent), 0);
        assert_int_equal(piso__receive_fds(sockets[1], data, cases[i].expected, fds, cases[i].fds_expected, true),
                         -EPROTO);
        assert_memory_equal(fds, untouched, sizeof fds);
    }
    piso__fd_close(sockets[0]);
    piso__fd_close(sockets[1]);
}

/* Where there is no room for a received descriptor, the bytes that came with it arrive. */
static void a_descriptor_without_room_is_told(void **state) {
    (void)state;
    int sockets[2], got = -1, count = 1;
    char byte = 0;
    struct rlimit before, few;
    assert_int_equal(piso__socketpair(sockets), 0);
    assert_int_equal(piso__send_fds(sockets[0], "x", 1, &sockets[0], 1), 0);
    getrlimit(RLIMIT_NOFILE, &before);
    int next = fcntl(sockets[0], F_DUPFD_CLOEXEC, 0);
    close(next);
    few = (struct rlimit){(rlim_t)next, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    ssize_t n = piso__receive_packet(sockets[1], &byte, 1, &got, &count, true);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(n, -EMFILE);
    assert_int_equal(byte, 'x');
    assert_int_equal(got, -1);
    piso__fd_close(sockets[0]);
    piso__fd_close(sockets[1]);
}

static void sockets_tell_of_the_end(void **state) {
    (void)state;
    int sockets[2];
    char byte;
    assert_int_equal(piso__socketpair(sockets), 0);
    assert_int_equal(piso__receive_fds(sockets[1], &byte, 1, NULL, 0, true), -EAGAIN);
    piso__fd_close(sockets[0]);
    assert_true(readable(sockets[1]));
    assert_int_equal(piso__receive_fds(sockets[1], &byte, 1, NULL, 0, true), -ECONNRESET);
    assert_int_equal(piso__receive_fds(sockets[1], &byte, 1, NULL, 0, false), -ECONNRESET);
    assert_int_equal(piso__send_fds(sockets[1], "x", 1, NULL, 0), -EPIPE); /* and no SIGPIPE */
    piso__fd_close(sockets[1]);
}

/* ---- pipes ---- */

static void pipes_do_not_block(void **state) {
    (void)state;
    static char many[1 << 20];
    char text[16];
    int ends[2];
    assert_int_equal(piso__pipe(ends), 0);
    assert_cloexec(ends[0]);
    assert_cloexec(ends[1]);
    assert_int_equal(piso__read(ends[0], text, sizeof text), -EAGAIN);
    piso__write_if_ready(ends[1], "some words", 10);
    assert_int_equal(piso__read(ends[0], text, sizeof text), 10);
    assert_memory_equal(text, "some words", 10);

    piso__write_if_ready(ends[1], many, sizeof many); /* more than fits */
    ssize_t kept = 0, n;
    while ((n = piso__read(ends[0], many, sizeof many)) > 0)
        kept += n;
    assert_int_equal(n, -EAGAIN);
    assert_in_range(kept, 4096, sizeof many - 1);
    piso__fd_close(ends[1]);
    assert_int_equal(piso__read(ends[0], text, sizeof text), 0);
    piso__fd_close(ends[0]);
}

/* ---- time, chance, processors ---- */

static void clock_is_monotonic(void **state) {
    (void)state;
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    int64_t now = piso_now_ns();
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(now >= (int64_t)before.tv_sec * 1000000000 + before.tv_nsec);
    assert_true(now <= (int64_t)after.tv_sec * 1000000000 + after.tv_nsec);
}

static void random_bytes_differ(void **state) {
    (void)state;
    uint8_t first[500] = {0}, second[500] = {0};
    assert_int_equal(piso__random(first, 499), 0);
    assert_int_equal(piso__random(second, 499), 0);
    assert_memory_not_equal(first, second, 32);
    assert_memory_not_equal(first + 467, second + 467, 32); /* to the end */
    assert_int_equal(first[499], 0);                        /* and not beyond */
}

/* send_beside_a_hoarder: runs as a user whose descriptors the kernel counts, with as many under way as the soft
 * limit allows. */
static int send_beside_a_hoarder(void) {
    int hoard[2], sockets[2];
    struct rlimit few = {.rlim_cur = 64, .rlim_max = 256};
    if ((geteuid() == 0 && setresuid(54321, 54321, 54321) < 0) || setrlimit(RLIMIT_NOFILE, &few) < 0)
        return 2;
    if (piso__socketpair(hoard) < 0 || piso__socketpair(sockets) < 0)
        return 3;
    int fds[PISO__FDS_MAX], refused = 0;
    for (int i = 0; i < PISO__FDS_MAX; i++)
        fds[i] = hoard[0];
    char byte = 0;
    struct iovec part = {&byte, 1};
    union {
        char bytes[CMSG_SPACE(sizeof fds)];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(header), fds, sizeof fds);
    for (int i = 0; i < 100 && !refused; i++)
        refused = sendmsg(hoard[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == ETOOMANYREFS;
    if (!refused)
        return 4; /* a kernel that does not count, or a user who is exempt */
    return piso__send_fds(sockets[0], "x", 1, fds, 1) == 0 ? 0 : 1;
}

static void descriptors_under_way_leave_room(void **state) {
    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(send_beside_a_hoarder());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 2 || WEXITSTATUS(status) == 4)
        skip_because("descriptors in sockets are not limited for this user");
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- processes and threads ---- */

static int generation_differs(void *argument) {
    uint32_t parent = *(uint32_t *)argument, own = piso__fork_generation();
    return own != parent && own == piso__fork_generation();
}

static int both_generations_differ(void *argument) {
    uint32_t own = piso__fork_generation();
    return generation_differs(argument) && in_child(generation_differs, argument) && in_child(generation_differs, &own);
}

static void fork_is_noticed(void **state) {
    (void)state;
    uint32_t generation = piso__fork_generation();
    assert_int_equal(in_child(both_generations_differ, &generation), 1);
    assert_int_equal(piso__fork_generation(), generation);
}

/* Static, because the thread may still be in sem_post when the test continues. */
static sem_t reported;
static sigset_t blocked_in_thread;

static void *report_thread(void *argument) {
    pthread_sigmask(SIG_SETMASK, NULL, argument);
    sem_post(&reported);
    return NULL;
}

static void threads_leave_signals_to_others(void **state) {
    (void)state;
    struct timespec limit;
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(sem_init(&reported, 0, 0), 0);
    assert_int_equal(piso__thread_start("piso-test", report_thread, &blocked_in_thread), 0);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += LONG_ENOUGH / 1000000000;
    assert_int_equal(sem_timedwait(&reported, &limit), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    const int signals[] = {SIGINT, SIGTERM, SIGCHLD, SIGPIPE, SIGALRM, SIGUSR1};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        assert_int_equal(sigismember(&blocked_in_thread, signals[i]), 1);
        assert_int_equal(sigismember(&after, signals[i]), sigismember(&before, signals[i]));
    }
}

/* ---- texts ---- */

static void errors_have_texts(void **state) {
    (void)state;
    const int codes[] = {PISO_EPROTO, PISO_EDIED, PISO_ECLOSED, PISO_EFORKED, PISO_EDEPTH};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        assert_null(strstr(piso_strerror(codes[i]), "Unknown"));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(piso_strerror(codes[i]), piso_strerror(codes[j]));
    }
    assert_string_equal(piso_strerror(-ENOENT), strerror(ENOENT));
    const int unknown[] = {3999, INT_MIN, INT_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_string_equal(piso_strerror(unknown[i]), strerror(unknown[i]));
    assert_string_equal(piso_strerror(-3999), strerror(3999));
    assert_string_equal(piso_strerror(INT_MIN + 1), strerror(INT_MAX));
    int major, minor, patch;
    assert_int_equal(sscanf(piso_version(), "%d.%d.%d", &major, &minor, &patch), 3);
}

int main(void) {
#define CASE(function) cmocka_unit_test_setup_teardown(function, count_descriptors, compare_descriptors)
    const struct CMUnitTest tests[] = {
        CASE(memfd_keeps_its_size),
        CASE(memfd_that_could_change_is_refused),
        CASE(memory_of_huge_pages_is_refused),
        CASE(mappings_share_memory),
        CASE(pages_come_and_go),
        CASE(mappings_stay_out_of_forked_processes),
        CASE(descriptors_are_owned),
        CASE(bell_rings_until_it_is_cleared),
        CASE(bell_never_blocks),
        CASE(bells_between_processes_never_block),
        CASE(packets_that_nobody_takes_hold_nobody_up),
        CASE(poll_tells_which),
        CASE(poll_is_interrupted_by_signals),
        CASE(epoll_gives_the_data),
        CASE(packets_carry_descriptors),
        CASE(packets_that_do_not_fit_are_refused),
        CASE(a_descriptor_without_room_is_told),
        CASE(sockets_tell_of_the_end),
        CASE(pipes_do_not_block),
        CASE(clock_is_monotonic),
        CASE(random_bytes_differ),
        CASE(descriptors_under_way_leave_room),
        CASE(fork_is_noticed),
        CASE(threads_leave_signals_to_others),
        CASE(errors_have_texts),
    };
    return cmocka_run_group_tests_name("os", tests, NULL, NULL);
}
