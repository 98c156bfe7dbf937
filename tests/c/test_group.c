/* test_group.c - control groups: found, kept to, emptied and removed, also those that a dead host has left behind.
 *
 * Where this user may make no group, what needs one is skipped. */
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "os/os.h"
#include "sandbox/group.h"

#define LONG_ENOUGH 30000000000

static const char v1_groups[] = "9:name=systemd:/\n8:pids:/\n4:memory:/m\n0::/\n";
static const char v1_mounts[] = "20 1 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
                                "21 20 0:21 / /sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n"
                                "22 20 0:22 / /sys/fs/cgroup/pids rw shared:4 master:5 - cgroup cgroup rw,pids\n"
                                "23 20 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
static const char v2_groups[] = "0::/user.slice/app.scope\n";
static const char v2_mounts[] = "30 1 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";

static void expect_folder(const char *groups, const char *mounts, bool unified, const char *expected) {
    char folder[PATH_MAX] = "";
    bool found = piso__group_folder(groups, mounts, unified, folder, sizeof folder);
    assert_int_equal(found, expected != NULL);
    assert_string_equal(folder, expected ? expected : "");
}

static void own_group_is_found(void **state) {
    (void)state;
    expect_folder(v1_groups, v1_mounts, false, "/sys/fs/cgroup/pids");
    expect_folder(v1_groups, v1_mounts, true, "/sys/fs/cgroup/unified");
    expect_folder(v2_groups, v2_mounts, true, "/sys/fs/cgroup/user.slice/app.scope");
    expect_folder(v2_groups, v2_mounts, false, NULL);
    expect_folder("3:cpu,pids:/a b/c:d\n", "1 1 0:1 / /g rw - cgroup cgroup rw,cpu,pids", false, "/g/a b/c:d");
    /* a container that sees the part of the hierarchy that is its own, by the names of the whole */
    expect_folder("2:pids:/docker/1f/x\n", "1 1 0:1 /docker/1f /g rw - cgroup none rw,pids\n", false, "/g/x");
    expect_folder("2:pids:/docker/1f\n", "1 1 0:1 /docker/1f /g rw - cgroup none rw,pids\n", false, "/g");
    expect_folder("2:pids:/docker/1f2\n", "1 1 0:1 /docker/1f /g rw - cgroup none rw,pids\n", false, NULL);
    expect_folder("0::/../other\n", v2_mounts, true, NULL); /* outside of its namespace */
    expect_folder("2:mypids,pidsx:/\n", v1_mounts, false, NULL);
    expect_folder("", v1_mounts, false, NULL);
    expect_folder("nonsense\n8:pids\n8\n", v1_mounts, false, NULL);
    expect_folder(v1_groups, "", false, NULL);
    expect_folder(v1_groups, "22 20\n - cgroup\n22 20 0:22 / /g rw -\n", false, NULL);
}

static void short_buffers_are_not_overrun(void **state) {
    (void)state;
    char folder[16];
    assert_false(piso__group_folder(v2_groups, v2_mounts, true, folder, sizeof folder));
}

static piso__group *new_group(uint64_t processes) {
    piso__group *g = NULL;
    int r = piso__group_new(processes, &g);
    if (r < 0) {
        print_message("no control group can be made here: %s\n", piso_strerror(r));
        skip();
    }
    return g;
}

/* member: a child in the group that sleeps; of a session of its own, so that no process group has it. */
static pid_t member(const piso__group *g) {
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/cgroup.procs", piso__group_path(g));
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(path, O_WRONLY);
        setsid();
        if (write(fd, "0", 1) != 1 || write(pipe_fds[1], "x", 1) != 1)
            _exit(1);
        for (fd = 3; fd < 100; fd++) /* as an extension, it has no lock of the host's */
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

static void what_is_in_it_ends_with_it(void **state) {
    (void)state;
    piso__group *g = new_group(8);
    char path[PATH_MAX];
    strcpy(path, piso__group_path(g));
    assert_true(exists(path));
    pid_t pids[3];
    for (int i = 0; i < 3; i++)
        pids[i] = member(g);
    assert_null(piso__group_end(g));
    for (int i = 0; i < 3; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(WTERMSIG(status), SIGKILL);
    }
    int64_t end_ns = piso_now_ns() + LONG_ENOUGH;
    while (exists(path) && piso_now_ns() < end_ns) /* what takes longer to die is waited for by a thread */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_false(exists(path));
}

static void nothing_ends_with_none(void **state) {
    (void)state;
    assert_null(piso__group_end(NULL));
}

static void a_forked_process_leaves_it_alone(void **state) {
    (void)state;
    piso__group *g = new_group(8);
    pid_t in_it = member(g), pid = fork();
    int status;
    if (pid == 0) {
        piso__group_end(g);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(exists(piso__group_path(g)));
    assert_int_equal(waitpid(in_it, &status, WNOHANG), 0);
    piso__group_end(g);
    assert_int_equal(waitpid(in_it, &status, 0), in_it);
}

/* host_that_dies: makes a group with a process in it, writes both to the pipe, and waits to be killed. */
static void host_that_dies(int fd) {
    piso__group *g;
    char path[PATH_MAX] = "";
    pid_t pid = 0;
    if (piso__group_new(8, &g) == 0) {
        strcpy(path, piso__group_path(g));
        pid = member(g);
    }
    if (write(fd, path, sizeof path) == sizeof path && write(fd, &pid, sizeof pid) == sizeof pid)
        pause();
    _exit(1);
}

/* somebody_elses: a group beside ours whose name only begins like one of ours. */
static void somebody_elses(const char *mine, char ret_path[PATH_MAX]) {
    const char *end = strrchr(mine, '/');
    int length = snprintf(ret_path, PATH_MAX, "%.*s/pyisolate-test-%d", (int)(end - mine), mine, (int)getpid());
    assert_in_range(length, 1, PATH_MAX - 1);
    assert_int_equal(mkdir(ret_path, 0755), 0);
}

static void next_host(const char *mine, const char *abandoned) {
    piso__group *g;
    if (piso__group_new(8, &g) < 0)
        _exit(1);
    bool swept = !exists(abandoned), kept = exists(mine);
    piso__group_end(g);
    _exit(swept && kept ? 0 : 2);
}

static void groups_of_dead_hosts_are_removed(void **state) {
    (void)state;
    piso__group *mine = new_group(8); /* of a host that lives: it stays */
    char other[PATH_MAX];
    somebody_elses(piso__group_path(mine), other);
    int pipe_fds[2], status;
    char abandoned[PATH_MAX];
    pid_t left;
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t host = fork();
    if (host == 0)
        host_that_dies(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], abandoned, sizeof abandoned), sizeof abandoned);
    assert_int_equal(read(pipe_fds[0], &left, sizeof left), sizeof left);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    assert_true(exists(abandoned)); /* as long as its host lives; then others, also other tests, may remove it */
    assert_int_equal(kill(left, 0), 0);
    assert_int_equal(kill(host, SIGKILL), 0);
    assert_int_equal(waitpid(host, &status, 0), host);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    pid_t next = fork();
    if (next == 0)
        next_host(piso__group_path(mine), abandoned);
    assert_int_equal(waitpid(next, &status, 0), next);
    assert_int_equal(status, 0);
    piso__group_end(mine);
    assert_int_equal(rmdir(other), 0);
    int64_t end_ns = piso_now_ns() + LONG_ENOUGH;
    while (kill(left, 0) == 0 && piso_now_ns() < end_ns) /* whoever adopted it reaps it */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(kill(left, 0), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_group_is_found),         cmocka_unit_test(short_buffers_are_not_overrun),
        cmocka_unit_test(nothing_ends_with_none),     cmocka_unit_test(groups_of_dead_hosts_are_removed),
        cmocka_unit_test(what_is_in_it_ends_with_it), cmocka_unit_test(a_forked_process_leaves_it_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
