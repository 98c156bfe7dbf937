/* test_share.c - memory that is moved to a memfd and given back by forked processes. Every system call on the
 * way fails once. Before the first mapping the process continues as before and can try again; from then on it
 * ends.
 *
 * Each case runs in its own process. The linker redirects the core's calls to this file (--wrap). The settings
 * that decide which call fails are in shared memory, which is not moved. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "emulation.h"
#include "os/os.h"

#define PAGE       ((size_t)4096)
#define BLOCK      (64 * PAGE)
#define BLOCKS     20
#define OWN_THREAD 1

/* ---- what can fail ---- */

static struct fault {
    const char *function; /* NULL: no failure */
    int countdown;        /* uses until it does */
    int uses;
    bool drops; /* an mmap that fails has unmapped the previous contents */
    bool is_short;
} * fault;

static bool must_fail(const char *function) {
    if (!fault || !fault->function || strcmp(fault->function, function) != 0)
        return false;
    fault->uses++;
    return --fault->countdown == 0;
}

/* The names that the linker sees: with large files glibc uses other names for its functions. */
#if defined __GLIBC__ && defined __USE_FILE_OFFSET64
#define REAL(name) __real_##name##64
#define FAKE(name) __wrap_##name##64
#else
#define REAL(name) __real_##name
#define FAKE(name) __wrap_##name
#endif

#define WRAP(type, real, fake, name, error, failed, parameters, arguments)                                             \
    type real parameters;                                                                                              \
    type fake parameters;                                                                                              \
    type fake parameters {                                                                                             \
        if (!must_fail(name))                                                                                          \
            return real arguments;                                                                                     \
        errno = error;                                                                                                 \
        return failed;                                                                                                 \
    }

WRAP(FILE *, REAL(fopen), FAKE(fopen), "fopen", EMFILE, NULL, (const char *path, const char *mode), (path, mode))
WRAP(int, __real_memfd_create, __wrap_memfd_create, "memfd_create", EMFILE, -1, (const char *name, unsigned flags),
     (name, flags))
WRAP(int, REAL(ftruncate), FAKE(ftruncate), "ftruncate", ENOSPC, -1, (int fd, off_t size), (fd, size))
WRAP(int, REAL(fstat), FAKE(fstat), "fstat", EIO, -1, (int fd, struct stat *status), (fd, status))
WRAP(ssize_t, REAL(pread), FAKE(pread), "pread", EIO, -1, (int fd, void *to, size_t size, off_t at), (fd, to, size, at))
WRAP(long, __real_sysconf, __wrap_sysconf, "sysconf", 0, 65536, (int name), (name))

int REAL(open)(const char *path, int flags, ...);
int FAKE(open)(const char *path, int flags, ...);
int FAKE(open)(const char *path, int flags, ...) {
    errno = EACCES;
    return must_fail("open") ? -1 : REAL(open)(path, flags);
}

int REAL(fcntl)(int fd, int command, ...);
int FAKE(fcntl)(int fd, int command, ...);
int FAKE(fcntl)(int fd, int command, ...) {
    va_list list;
    va_start(list, command);
    long argument = va_arg(list, long);
    va_end(list);
    errno = EBUSY;
    return must_fail("fcntl") ? -1 : REAL(fcntl)(fd, command, argument);
}

ssize_t REAL(pwrite)(int fd, const void *from, size_t size, off_t at);
ssize_t FAKE(pwrite)(int fd, const void *from, size_t size, off_t at);
ssize_t FAKE(pwrite)(int fd, const void *from, size_t size, off_t at) {
    errno = ENOSPC;
    if (must_fail("pwrite"))
        return fault->is_short ? 0 : -1;
    return REAL(pwrite)(fd, from, fault && fault->is_short && size > PAGE ? PAGE / 2 : size, at);
}

void *REAL(mmap)(void *start, size_t size, int protection, int flags, int fd, off_t at);
void *FAKE(mmap)(void *start, size_t size, int protection, int flags, int fd, off_t at);
void *FAKE(mmap)(void *start, size_t size, int protection, int flags, int fd, off_t at) {
    if (!must_fail("mmap"))
        return REAL(mmap)(start, size, protection, flags, fd, at);
    if (fault->drops && start)
        munmap(start, size);
    errno = ENOMEM;
    return MAP_FAILED;
}

/* ---- memory to be moved ---- */

static unsigned char in_data[3 * PAGE] = {1, 2, 3}, in_bss[3 * PAGE];
static unsigned char *blocks[BLOCKS], *sparse;

static unsigned char pattern(size_t block, size_t at) {
    return (unsigned char)(block * 31 + at / 8 + at % 251);
}

static void fill(unsigned char *block, size_t number) {
    for (size_t at = 0; at < BLOCK; at++)
        block[at] = pattern(number, at);
}

static void make_memory(void) {
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] =
            i % 2 ? malloc(BLOCK) : REAL(mmap)(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        fill(blocks[i], i);
    }
    sparse = REAL(mmap)(NULL, 1000 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sparse[700 * PAGE] = 7;
    in_bss[PAGE] = 9;
}

static bool is_as_it_was(void) {
    for (size_t i = 0; i < BLOCKS; i++)
        for (size_t at = 0; at < BLOCK; at++)
            if (blocks[i][at] != pattern(i, at))
                return false;
    return sparse[0] == 0 && sparse[700 * PAGE] == 7 && sparse[999 * PAGE] == 0 && in_data[2] == 3 && in_bss[PAGE] == 9;
}

/* is_writable: whether all of it can be changed, and changed back. */
static bool is_writable(void) {
    for (size_t i = 0; i < BLOCKS; i++)
        for (size_t at = 0; at < BLOCK; at += PAGE)
            blocks[i][at]++;
    for (size_t i = 0; i < BLOCKS; i++)
        for (size_t at = 0; at < BLOCK; at += PAGE)
            blocks[i][at]--;
    in_data[0] = 5;
    in_bss[0] = 5;
    return is_as_it_was();
}

static bool has_moved(void) {
    char line[PATH_MAX + 128];
    bool found = false;
    FILE *maps = REAL(fopen)("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof line, maps))
        found |= strstr(line, "/memfd:piso-zygote") != NULL;
    if (maps)
        fclose(maps);
    return found;
}

/* ---- processes ---- */

/* in_child: returns how a process ends that calls the function and exits with its result. */
static int in_child(int (*function)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        const int caught[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}; /* by cmocka */
        for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
            signal(caught[i], SIG_DFL);
        make_memory();
        _exit(function());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void expect_exit(int (*function)(void), int expected) {
    int status = in_child(function);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), expected);
}

static int make_fault(void **state) {
    (void)state;
    fault = mmap(NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *fault = (struct fault){0};
    return fault == MAP_FAILED;
}

static int free_fault(void **state) {
    (void)state;
    munmap(fault, sizeof *fault);
    fault = NULL;
    return 0;
}

static void fail_at(const char *function, int n) {
    fault->function = function;
    fault->countdown = n;
    fault->uses = 0;
}

/* ---- moving ---- */

static int share(void) {
    return piso__memory_share() == 0 && has_moved() && is_as_it_was() && is_writable() ? 0 : 1;
}

static void moved_memory_holds_what_it_held(void **state) {
    (void)state;
    expect_exit(share, 0);
}

/* Large blocks of malloc are mappings, which malloc lets the kernel extend. */
static int grow_after_moving(void) {
    unsigned char *grown[8];
    for (size_t i = 0; i < 8; i++)
        memset(grown[i] = malloc(1 << 20), 'a' + (int)i, 1 << 20);
    if (piso__memory_share() < 0)
        return 1;
    for (size_t i = 0; i < 8; i++) {
        grown[i] = realloc(grown[i], 20 << 20);
        memset(grown[i] + (1 << 20), 'z', 19 << 20);
    }
    for (size_t i = 0; i < 8; i++)
        if (grown[i][0] != 'a' + i || grown[i][(1 << 20) - 1] != 'a' + i || grown[i][(20 << 20) - 1] != 'z')
            return 2;
    pid_t pid = fork();
    if (pid == 0)
        _exit(piso__memory_settle(OWN_THREAD) >= 0 && grown[7][19 << 20] == 'z' && is_writable() ? 0 : 1);
    int status;
    return waitpid(pid, &status, 0) == pid && status == 0 && is_writable() ? 0 : 3;
}

static void moved_memory_can_grow(void **state) {
    (void)state;
    expect_exit(grow_after_moving, 0);
}

static int share_twice(void) {
    return piso__memory_share() == 0 && piso__memory_share() == -EINVAL && is_writable() ? 0 : 1;
}

static void once_is_all(void **state) {
    (void)state;
    expect_exit(share_twice, 0);
}

static int try_to_share(void) {
    int first = piso__memory_share();
    fault->function = NULL;
    if (first == 0)
        return has_moved() && is_writable() ? 0 : 1;
    if (has_moved() || !is_writable())
        return 2;
    fault->is_short = false;
    return piso__memory_share() == 0 && has_moved() && is_writable() ? -first : 3;
}

/* next: returns the next use to try: the first ones, some, the last. */
static int next(int n, int count) {
    int step = n < 4 ? 1 : (count - n) / 4 + 1;
    return n + step;
}

/* uses: returns how often the function is called on the way. */
static int uses(const char *function) {
    fail_at(function, 0);
    expect_exit(share, 0);
    return fault->uses;
}

/* Before anything is mapped: after the failure is undone the move can be repeated. */
static void a_failure_is_undone(void **state) {
    (void)state;
    const struct {
        const char *function;
        int error;
    } cases[] = {{"fopen", EMFILE}, {"memfd_create", EMFILE}, {"open", EACCES}, {"ftruncate", ENOSPC},
                 {"fstat", EIO},    {"pread", EIO},           {"fcntl", EBUSY}, {"pwrite", ENOSPC}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int count = uses(cases[i].function);
        assert_true(count > 0);
        for (int n = 1; n <= count; n = next(n, count)) {
            fail_at(cases[i].function, n);
            expect_exit(try_to_share, cases[i].error);
        }
    }
    fail_at("mmap", 1); /* the view */
    expect_exit(try_to_share, ENOMEM);
}

static void short_writes_are_continued(void **state) {
    (void)state;
    fault->is_short = true;
    fail_at("pwrite", 0);
    expect_exit(share, 0);
    fail_at("pwrite", 2); /* nothing is written */
    expect_exit(try_to_share, EIO);
}

static void other_page_sizes_are_left_alone(void **state) {
    (void)state;
    fail_at("sysconf", 1);
    expect_exit(try_to_share, EINVAL);
}

static int share_without_descriptors(void) {
    struct rlimit before, limit;
    getrlimit(RLIMIT_NOFILE, &before);
    limit = before;
    limit.rlim_cur = 3;
    setrlimit(RLIMIT_NOFILE, &limit);
    int r = piso__memory_share();
    setrlimit(RLIMIT_NOFILE, &before);
    return r == -EMFILE && !has_moved() ? share() : 1;
}

static int share_without_file_size(void) {
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 100 * PAGE;
    setrlimit(RLIMIT_FSIZE, &limit);
    int r = piso__memory_share();
    setrlimit(RLIMIT_FSIZE, &before);
    return r == -EFBIG && !has_moved() ? share() : 1;
}

static void limits_are_failures_too(void **state) {
    (void)state;
    expect_exit(share_without_descriptors, 0);
    expect_exit(share_without_file_size, 0);
}

static int share_silently(void) {
    dup2(REAL(open)("/dev/null", O_WRONLY), STDERR_FILENO);
    return share();
}

/* Half of the memory is moved, and a part may be missing: no instruction of the old program may run. */
static void a_failed_mapping_ends_the_process(void **state) {
    (void)state;
    int count = uses("mmap");
    assert_true(count > 4); /* musl has its memory in fewer mappings than glibc */
    for (int n = 2; n <= count; n = next(n, count)) {
        fail_at("mmap", n);
        int status = in_child(share_silently);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
    }
    fault->drops = true;
    for (int n = 2; n < 8 && n <= count; n++) {
        fail_at("mmap", n);
        int status = in_child(share_silently);
        assert_true(WIFSIGNALED(status));
    }
}

/* ---- giving back ---- */

static int settle_in_fork(int (*function)(void)) {
    if (piso__memory_share() < 0)
        return 10;
    pid_t pid = fork();
    if (pid == 0)
        _exit(function());
    int status;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return 11;
    return is_as_it_was() ? WEXITSTATUS(status) : 12;
}

static int settle(void) {
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i][0]++;
    for (size_t i = 1; i < BLOCKS; i++)
        blocks[i][0]--;
    int given = piso__memory_settle(OWN_THREAD);
    if (given < BLOCKS - 1 || blocks[0][0] != (unsigned char)(pattern(0, 0) + 1))
        return 1;
    blocks[0][0]--;
    return is_writable() && piso__memory_settle(OWN_THREAD) == 0 ? 0 : 2;
}

static int settle_after_moving(void) {
    return settle_in_fork(settle);
}

static void unchanged_pages_go_back(void **state) {
    (void)state;
    need_no_emulation();
    expect_exit(settle_after_moving, 0);
}

/* The same bytes at the same place, in other memory. */
static int settle_beside_new_memory(void) {
    munmap(blocks[2], BLOCK);
    void *again = mmap(blocks[2], BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (again != blocks[2])
        return 1;
    fill(blocks[2], 2);
    piso__memory_settle(OWN_THREAD);
    return is_writable() ? 0 : 2;
}

static int settle_new_memory(void) {
    return settle_in_fork(settle_beside_new_memory);
}

static void memory_mapped_since_is_left_alone(void **state) {
    (void)state;
    expect_exit(settle_new_memory, 0);
}

static void *wait_for_ever(void *argument) {
    for (;;)
        pause();
    return argument;
}

static int settle_with_thread(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_ever, NULL);
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i][0]++;
        blocks[i][0]--;
    }
    return piso__memory_settle(OWN_THREAD) == 0 && is_writable() ? 0 : 1;
}

static int settle_threads(void) {
    return settle_in_fork(settle_with_thread);
}

static void threads_keep_it(void **state) {
    (void)state;
    expect_exit(settle_threads, 0);
}

static int settle_in_vain(void) {
    const char *const functions[] = {"fopen", "open", "pread"};
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            blocks[1][0]++;
            blocks[1][0]--;
            fail_at(functions[i], 1);
            bool none = piso__memory_settle(OWN_THREAD) == 0;
            _exit((none || i == 2) && is_writable() ? 0 : 1); /* the next piece can be read again */
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || status != 0)
            return 20 + i;
    }
    return 0;
}

static int settle_failures(void) {
    return settle_in_fork(settle_in_vain);
}

static void what_cannot_be_told_is_kept(void **state) {
    (void)state;
    expect_exit(settle_failures, 0);
}

static int settle_unmoved(void) {
    return piso__memory_settle(2) == 0 && is_writable() ? 0 : 1;
}

static void nothing_moved_nothing_given(void **state) {
    (void)state;
    expect_exit(settle_unmoved, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_fault, free_fault)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(moved_memory_holds_what_it_held),
        TEST(moved_memory_can_grow),
        TEST(once_is_all),
        TEST(a_failure_is_undone),
        TEST(short_writes_are_continued),
        TEST(other_page_sizes_are_left_alone),
        TEST(limits_are_failures_too),
        TEST(a_failed_mapping_ends_the_process),
        TEST(unchanged_pages_go_back),
        TEST(memory_mapped_since_is_left_alone),
        TEST(threads_keep_it),
        TEST(what_cannot_be_told_is_kept),
        TEST(nothing_moved_nothing_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
