/* test_group.c - control groups: how they are made, enforced, emptied and removed, also those of a dead host;
 * and what they report about processes killed by their limit.
 *
 * Tests that need a group are skipped where this user cannot make one. Version 2 is tested where it has the
 * controllers: as root, who can make the layouts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "descriptors.h"
#include "group/group.h"
#include "os/cgroup.h"
#include "os/os.h"
#include "skipping.h"

#define LONG_ENOUGH 30000000000

static const piso__group_limits by_processes = {.processes = 8}, by_memory = {.memory = 32 << 20},
                                by_both = {.processes = 8, .memory = 32 << 20};

static piso__group *new_group(piso__group_limits limits) {
    piso__group *g = NULL;
    piso__group_errors errors;
    int r = piso__group_new(&limits, &g, &errors);
    if (r == 0)
        r = errors.processes ? errors.processes : errors.memory;
    if (r < 0) {
        piso__group_end(g);
        skip_because("no such control group can be made: %s", piso_strerror(r));
    }
    return g;
}

static void put(const char *folder, const char *name, const char *text) {
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    piso__autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        _exit(3);
}

static void join(const piso__group *g) {
    for (int i = 0; i < PISO__GROUP_FOLDERS && piso__group_path(g, i); i++)
        put(piso__group_path(g, i), "cgroup.procs", "0");
}

/* member: starts a sleeping child in the group, in its own session, so that no process group contains it. */
static pid_t member(const piso__group *g) {
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        join(g);
        setsid();
        if (write(pipe_fds[1], "x", 1) != 1)
            _exit(1);
        for (int fd = 3; fd < 100; fd++) /* like an extension, it has no lock of the host's */
            close(fd);
        for (;;)
            pause();
    }
    char byte;
    close(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    close(pipe_fds[0]);
    return pid;
}

static bool exists(const char *path) {
    return access(path, F_OK) == 0;
}

static void wait_until_gone(const char *path) {
    int64_t end_ns = piso_now_ns() + LONG_ENOUGH;
    while (exists(path) && piso_now_ns() < end_ns) /* a thread waits for processes that take longer to die */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_false(exists(path));
}

/* wait_until_removed: waits for the removal of a group whose processes are all ending. */
static void wait_until_removed(const char *path) {
    int64_t end_ns = piso_now_ns() + LONG_ENOUGH;
    while (rmdir(path) < 0 && errno == EBUSY && piso_now_ns() < end_ns)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_false(exists(path));
}

static void expect_end(piso__group_limits limits) {
    piso__group *g = new_group(limits);
    char paths[PISO__GROUP_FOLDERS][PATH_MAX];
    int count = 0;
    for (; count < PISO__GROUP_FOLDERS && piso__group_path(g, count); count++)
        strcpy(paths[count], piso__group_path(g, count));
    assert_true(count >= 1);
    for (int i = 0; i < count; i++)
        assert_true(exists(paths[i]));
    pid_t pids[3];
    for (int i = 0; i < 3; i++)
        pids[i] = member(g);
    assert_null(piso__group_end(g));
    for (int i = 0; i < 3; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(WTERMSIG(status), SIGKILL);
    }
    for (int i = 0; i < count; i++)
        wait_until_gone(paths[i]);
}

static void what_is_in_it_ends_with_it(void **state) {
    (void)state;
    expect_end(by_processes);
}

static void what_is_in_one_of_memory_ends_with_it(void **state) {
    (void)state;
    expect_end(by_memory);
}

static void what_is_in_one_of_both_ends_with_it(void **state) {
    (void)state;
    expect_end(by_both);
}

/* The host's folder has one lock for all its groups, and is removed with the last one. */
static void groups_share_one_lock(void **state) {
    (void)state;
    enum { COUNT = 5 };
    piso__group *all[COUNT] = {new_group(by_both)};
    char host[PATH_MAX];
    int before = count_fds();
    strcpy(host, piso__group_path(all[0], 0));
    *strrchr(host, '.') = '\0';
    assert_true(exists(host));
    for (int i = 1; i < COUNT; i++) {
        all[i] = new_group(by_both);
        assert_memory_equal(piso__group_path(all[i], 0), host, strlen(host));
    }
    assert_int_equal(count_fds(), before);
    for (int i = 0; i < COUNT; i++) {
        assert_true(exists(host));
        piso__group_end(all[i]);
    }
    assert_false(exists(host));
    piso__group *again = new_group(by_both); /* of another name */
    assert_false(exists(host));
    piso__group_end(again);
}

static void nothing_ends_with_none(void **state) {
    (void)state;
    assert_null(piso__group_end(NULL));
}

static void a_forked_process_leaves_it_alone(void **state) {
    (void)state;
    piso__group *g = new_group(by_processes);
    pid_t in_it = member(g), pid = fork();
    int status;
    if (pid == 0) {
        piso__group_end(g);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(exists(piso__group_path(g, 0)));
    assert_int_equal(waitpid(in_it, &status, WNOHANG), 0);
    piso__group_end(g);
    assert_int_equal(waitpid(in_it, &status, 0), in_it);
}

/* hoarder: starts a child in the group that makes and keeps `bytes` of memory without mapping it. Returns how
 * it ended. */
static int hoarder(const piso__group *g, uint64_t bytes) {
    pid_t pid = fork();
    if (pid == 0) {
        put("/proc/self", "oom_score_adj", "1000");
        join(g);
        int fd = memfd_create("hoard", 0);
        static const char some[1 << 20];
        for (uint64_t i = 0; i < bytes; i += sizeof some)
            if (write(fd, some, sizeof some) != sizeof some)
                _exit(2);
        raise(SIGTERM);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    return WTERMSIG(status);
}

static void who_dies_of_its_memory_is_told(void **state) {
    (void)state;
    piso__group *g = new_group(by_memory);
    assert_int_equal(hoarder(g, 1 << 20), SIGTERM);
    assert_int_equal(piso__group_exceeded(g), 0);
    assert_int_equal(hoarder(g, 2 * by_memory.memory), SIGKILL);
    assert_int_equal(piso__group_exceeded(g), by_memory.memory);
    piso__group_end(g);
    g = new_group(by_both);
    assert_int_equal(hoarder(g, 2 * by_both.memory), SIGKILL);
    assert_int_equal(piso__group_exceeded(g), by_both.memory);
    piso__group_end(g);
    g = new_group(by_processes);
    assert_int_equal(piso__group_exceeded(g), 0);
    piso__group_end(g);
    assert_int_equal(piso__group_exceeded(NULL), 0);
}

static void who_dies_otherwise_is_not_said_to(void **state) {
    (void)state;
    piso__group *g = new_group(by_memory);
    int status;
    pid_t pid = member(g);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(piso__group_exceeded(g), 0);
    piso__group_end(g);
}

/* ---- layouts made for the occasion; each in a process that is moved there ---- */

static void make_below(const char *parent, const char *name, char ret_path[PATH_MAX]) {
    int length = snprintf(ret_path, PATH_MAX, "%s/%s", parent, name);
    assert_in_range(length, 1, PATH_MAX - 1);
    assert_int_equal(mkdir(ret_path, 0755), 0);
}

/* in_fork: returns what the body returns, as the status of its process, or -1. */
static int in_fork(int (*body)(const char *folder), const char *folder) {
    pid_t pid = fork();
    int status;
    if (pid == 0)
        _exit(body(folder));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A host whose own group has less memory than it grants: that group is full first, and the extension's limit is
 * not the cause. */
static int full_above(const char *folder) {
    piso__group *g;
    piso__group_errors errors;
    put(folder, "cgroup.procs", "0");
    if (piso__group_new(&(piso__group_limits){.memory = 1 << 30}, &g, &errors) < 0)
        return 1;
    int signal = hoarder(g, 128 << 20);
    uint64_t exceeded = piso__group_exceeded(g);
    piso__group_end(g);
    return signal == SIGKILL && exceeded == 0 ? 0 : 2;
}

static void a_full_host_is_not_the_extensions_limit(void **state) {
    (void)state;
    piso__cgroup at;
    char folder[PATH_MAX], name[64];
    piso__group_end(new_group(by_memory));
    if (!piso__cgroup_find("memory", &at) || at.unified)
        skip_because("in version 2 of control groups the host's could not have one below it");
    snprintf(name, sizeof name, "pyisolate-test-%d", (int)getpid());
    make_below(at.folder, name, folder);
    put(folder, "memory.limit_in_bytes", "67108864");
    int status = in_fork(full_above, folder);
    wait_until_removed(folder);
    assert_int_equal(status, 0);
}

/* As with a service that systemd starts with Delegate=yes and DelegateSubgroup=host: `folder` is the service's. */
static int delegated(const char *folder) {
    char host[PATH_MAX];
    piso__group *g = NULL;
    piso__group_errors errors;
    snprintf(host, sizeof host, "%s/host", folder);
    put(host, "cgroup.procs", "0");
    if (piso__group_new(&by_both, &g, &errors) < 0 || errors.processes || errors.memory || piso__group_path(g, 1))
        return 1;
    size_t length = strlen(folder); /* beside the host's, and in none below it */
    if (strncmp(piso__group_path(g, 0), folder, length) != 0 || strchr(piso__group_path(g, 0) + length + 1, '/'))
        return 2;
    if (hoarder(g, 2 * by_both.memory) != SIGKILL || piso__group_exceeded(g) != by_both.memory)
        return 3;
    pid_t pid = member(g);
    piso__group_end(g);
    return waitpid(pid, NULL, 0) == pid ? 0 : 4;
}

/* The same without delegation: the group above belongs to somebody else. Processes are counted all the same, in
 * a group below. */
static int not_delegated(const char *folder) {
    char host[PATH_MAX];
    piso__group *g = NULL;
    piso__group_errors errors;
    snprintf(host, sizeof host, "%s/host", folder);
    put(host, "cgroup.procs", "0");
    if (piso__group_new(&by_memory, &g, &errors) != -EBUSY || errors.memory != -EBUSY)
        return 1;
    if (piso__group_new(&by_both, &g, &errors) < 0 || errors.processes || errors.memory != -EBUSY)
        return 2;
    if (strncmp(piso__group_path(g, 0), host, strlen(host)) != 0)
        return 3;
    pid_t pid = member(g);
    piso__group_end(g);
    return waitpid(pid, NULL, 0) == pid ? 0 : 4;
}

static void only_what_is_delegated_is_divided(void **state) {
    (void)state;
    piso__cgroup at;
    char folder[PATH_MAX], host[PATH_MAX], name[64];
    piso__group_end(new_group(by_both));
    if (!piso__cgroup_find("memory", &at) || !at.unified || geteuid() != 0)
        skip_because("this needs root, and version 2 of control groups only");
    at.folder[at.top] = '\0';
    snprintf(name, sizeof name, "pyisolate-test-%d", (int)getpid());
    make_below(at.folder, name, folder);
    make_below(folder, "host", host);
    put(folder, "cgroup.subtree_control", "+memory +pids");
    int without = in_fork(not_delegated, folder);
    int set = setxattr(folder, "user.delegate", "1", 1, 0), with = in_fork(delegated, folder);
    wait_until_removed(host);
    wait_until_removed(folder);
    assert_int_equal(set, 0);
    assert_int_equal(without, 0);
    assert_int_equal(with, 0);
}

/* host_that_dies: makes a group with a process in it, writes both to the pipe, and waits to be killed. */
static void host_that_dies(int fd, piso__group_limits limits) {
    piso__group *g;
    piso__group_errors errors;
    char path[PATH_MAX] = "";
    pid_t pid = 0;
    if (piso__group_new(&limits, &g, &errors) == 0) {
        strcpy(path, piso__group_path(g, 0));
        pid = member(g);
    }
    if (write(fd, path, sizeof path) == sizeof path && write(fd, &pid, sizeof pid) == sizeof pid)
        pause();
    _exit(1);
}

/* somebody_elses: makes a group beside ours whose name only begins like one of ours. */
static void somebody_elses(const char *mine, char ret_path[PATH_MAX]) {
    const char *end = strrchr(mine, '/');
    int length = snprintf(ret_path, PATH_MAX, "%.*s/pyisolate-test-%d", (int)(end - mine), mine, (int)getpid());
    assert_in_range(length, 1, PATH_MAX - 1);
    assert_int_equal(mkdir(ret_path, 0755), 0);
}

#define NOT_YET_SWEPT 3

/* next_host: a host that starts. It leaves what takes too long to die to the next one. */
static void next_host(const char *mine, const char *abandoned, piso__group_limits limits) {
    piso__group *g;
    piso__group_errors errors;
    if (piso__group_new(&limits, &g, &errors) < 0)
        _exit(1);
    for (int i = 0; i < 100 && exists(abandoned); i++) /* by a thread */
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    bool swept = !exists(abandoned), kept = exists(mine);
    piso__group_end(g);
    _exit(!kept ? 2 : swept ? 0 : NOT_YET_SWEPT);
}

static void expect_removal(piso__group_limits limits) {
    piso__group *mine = new_group(limits); /* of a host that lives: it stays */
    char other[PATH_MAX];
    somebody_elses(piso__group_path(mine, 0), other);
    int pipe_fds[2], status;
    char abandoned[PATH_MAX];
    pid_t left;
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t host = fork();
    if (host == 0)
        host_that_dies(pipe_fds[1], limits);
    assert_int_equal(read(pipe_fds[0], abandoned, sizeof abandoned), sizeof abandoned);
    assert_int_equal(read(pipe_fds[0], &left, sizeof left), sizeof left);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    assert_true(exists(abandoned)); /* as long as its host lives; then others, also other tests, may remove it */
    assert_int_equal(kill(left, 0), 0);
    assert_int_equal(kill(host, SIGKILL), 0);
    assert_int_equal(waitpid(host, &status, 0), host);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    int64_t end_ns = piso_now_ns() + LONG_ENOUGH;
    do {
        pid_t next = fork();
        if (next == 0)
            next_host(piso__group_path(mine, 0), abandoned, limits);
        assert_int_equal(waitpid(next, &status, 0), next);
    } while (WEXITSTATUS(status) == NOT_YET_SWEPT && piso_now_ns() < end_ns);
    assert_int_equal(status, 0);
    piso__group_end(mine);
    assert_int_equal(rmdir(other), 0);
    while (kill(left, 0) == 0 && piso_now_ns() < end_ns) /* its new parent reaps it */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(kill(left, 0), -1);
}

static void groups_of_dead_hosts_are_removed(void **state) {
    (void)state;
    expect_removal(by_processes);
}

static void groups_of_memory_of_dead_hosts_are_removed(void **state) {
    (void)state;
    expect_removal(by_memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_ends_with_none),
        cmocka_unit_test(groups_of_dead_hosts_are_removed),
        cmocka_unit_test(groups_of_memory_of_dead_hosts_are_removed),
        cmocka_unit_test(groups_share_one_lock),
        cmocka_unit_test(what_is_in_it_ends_with_it),
        cmocka_unit_test(what_is_in_one_of_memory_ends_with_it),
        cmocka_unit_test(what_is_in_one_of_both_ends_with_it),
        cmocka_unit_test(a_forked_process_leaves_it_alone),
        cmocka_unit_test(who_dies_of_its_memory_is_told),
        cmocka_unit_test(who_dies_otherwise_is_not_said_to),
        cmocka_unit_test(a_full_host_is_not_the_extensions_limit),
        cmocka_unit_test(only_what_is_delegated_is_divided),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
