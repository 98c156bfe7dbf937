/* sandbox_child.h - the actions of a confined child, for test_sandbox.c. Its exit status is 0 when the action
 * succeeded, else errno. */
#ifndef PISO_TESTS_SANDBOX_CHILD_H
#define PISO_TESTS_SANDBOX_CHILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "copied.h"
#include "emulation.h"
#include "os/cgroup.h"
#include "os/os.h"
#include "sandbox/landlock.h"
#include "sandbox/namespaces.h"
#include "sandbox/processes.h"
#include "seccomp/filter.h"
#include "skipping.h"
#include "supervisor/process.h"

static int outcome(long result) {
    return result < 0 ? errno : 0;
}

static int try_write(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 ? errno : outcome(write(fd, "x", 1));
}

static int fill_file(const char *path) {
    static char block[1 << 16];
    signal(SIGXFSZ, SIG_IGN);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    for (int i = 0; i < 64; i++)
        if (write(fd, block, sizeof block) < 0)
            return errno;
    return 0;
}

static int try_memory(void) {
    void *p = mmap(NULL, 512 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? errno : 0;
}

static int burn(void) {
    volatile bool busy = true;
    while (busy)
        ;
    return 0;
}

static int try_fork(void) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return outcome(pid);
}

/* capabilities: checks that none is left in this set, or in all sets but the bounding one. */
static int capabilities(const char *set) {
    char line[256], name[16];
    unsigned long long sum = 0, value;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Cap%15[A-Za-z]: %llx", name, &value) == 2 &&
            (set ? strcmp(name, set) == 0 : strcmp(name, "Bnd") != 0))
            sum |= value;
    return !f ? errno : sum ? EPERM : 0;
}

static int open_many(void) {
    int fd = 0;
    for (int i = 0; i < 10 && fd >= 0; i++)
        fd = dup(0);
    return outcome(fd);
}

/* remove_page: removes a page of shared memory in one of two ways. */
static int remove_page(bool punch) {
    int fd = memfd_create("shared", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 8192) < 0 || fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8192) < 0)
        return EIO;
    if (punch)
        return outcome(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
    void *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? EIO : outcome(madvise(p, 4096, MADV_REMOVE));
}

/* has_fewer_files: whether the limit is less than half of the host's, so that descriptors in sockets cannot
 * exhaust it. */
static int has_fewer_files(uint64_t share) {
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) < 0 ? errno : limit.rlim_max <= share ? 0 : EMFILE;
}

/* dies_first: whether the kernel kills this process first when memory runs out, whatever this process does. */
static int dies_first(void) {
    char text[16] = "";
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
        return errno;
    fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    return atoi(text) != 1000 ? ERANGE : fd < 0 ? errno : 0;
}

static int child_main(const char *what, const char *argument) {
    pid_t host = getppid();
    if (strcmp(what, "read") == 0)
        return outcome(open(argument, O_RDONLY | O_CLOEXEC));
    if (strcmp(what, "write") == 0)
        return try_write(argument);
    if (strcmp(what, "chmod") == 0)
        return outcome(chmod(argument, 0644));
    if (strcmp(what, "socket") == 0)
        return outcome(socket(AF_INET, SOCK_STREAM, 0));
    if (strcmp(what, "signal") == 0)
        return outcome(kill(host, 0));
    if (strcmp(what, "signal-self") == 0)
        return outcome(kill(getpid(), 0)) ?: outcome(kill(0, 0));
    if (strcmp(what, "join-group") == 0)
        return outcome(setpgid(0, getpgid(host)));
    if (strcmp(what, "unshare") == 0)
        return outcome(unshare(CLONE_NEWUSER));
    if (strcmp(what, "punch") == 0 || strcmp(what, "remove") == 0)
        return remove_page(what[0] == 'p');
    if (strcmp(what, "fewer-files") == 0)
        return has_fewer_files(strtoull(argument, NULL, 10));
    if (strcmp(what, "dies-first") == 0)
        return dies_first();
    if (strcmp(what, "memory") == 0)
        return try_memory();
    if (strcmp(what, "descriptors") == 0)
        return open_many();
    if (strcmp(what, "burn") == 0)
        return burn();
    if (strcmp(what, "fork") == 0)
        return try_fork();
    if (strcmp(what, "fill") == 0)
        return fill_file(argument);
    if (strcmp(what, "capabilities") == 0)
        return capabilities(argument);
    return strcmp(what, "nothing") == 0 ? 0 : 255;
}

#endif
