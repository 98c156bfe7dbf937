/* process.c - signalling and reaping of processes, threads, pipes. Starting a program: spawn.c. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef PIDFD_SIGNAL_PROCESS_GROUP
#define PIDFD_SIGNAL_PROCESS_GROUP (1UL << 2)
#endif

#define STACK_SIZE (256 * 1024)

/* ---- the end of a process ---- */

int piso__pidfd_open(pid_t pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by default */
    return fd < 0 ? -errno : fd;
}

const char *const piso__own_files[] = {
    "/proc/self/auxv",
    "/proc/self/cgroup",
    "/proc/self/clear_refs",
    "/proc/self/cmdline",
    "/proc/self/comm",
    "/proc/self/cpuset",
    "/proc/self/coredump_filter",
    "/proc/self/environ",
    "/proc/self/fdinfo",
    "/proc/self/gid_map",
    "/proc/self/io",
    "/proc/self/limits",
    "/proc/self/loginuid",
    "/proc/self/maps",
    "/proc/self/mem",
    "/proc/self/mountinfo",
    "/proc/self/mounts",
    "/proc/self/numa_maps",
    "/proc/self/oom_score",
    "/proc/self/oom_score_adj",
    "/proc/self/pagemap",
    "/proc/self/personality",
    "/proc/self/schedstat",
    "/proc/self/smaps",
    "/proc/self/smaps_rollup",
    "/proc/self/stat",
    "/proc/self/statm",
    "/proc/self/status",
    "/proc/self/uid_map",
    NULL,
};

static void pin(const char *path) {
    (void)!open(path, O_PATH | O_CLOEXEC);
}

void piso__pin_own_entry(void) {
    pin("/proc/self");
    piso__autoclose int network = open("/proc/self/net/unix", O_RDONLY | O_CLOEXEC);
    for (const char *const *path = piso__own_files; network < 0 && errno == EACCES && *path; path++)
        pin(*path);
}

static int reap(idtype_t kind, id_t id, piso_exit *ret_exit) {
    siginfo_t info;
    int r;
    do {
        info.si_pid = 0;
        r = waitid(kind, id, &info, WEXITED | WNOHANG);
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    if (info.si_pid == 0)
        return 0;
    bool exited = info.si_code == CLD_EXITED;
    *ret_exit = (piso_exit){.known = true, .code = exited ? info.si_status : -1, .signal = exited ? 0 : info.si_status};
    return 1;
}

int piso__reap(int pidfd, piso_exit *ret_exit) {
    return reap((idtype_t)P_PIDFD, (id_t)pidfd, ret_exit);
}

int piso__reap_child(pid_t pid, piso_exit *ret_exit) {
    return reap(P_PID, (id_t)pid, ret_exit);
}

int piso__kill_group(int pidfd, pid_t group, int signal) {
    if (syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, PIDFD_SIGNAL_PROCESS_GROUP) == 0)
        return 0;
    if (errno == ESRCH || errno == EPERM)
        return -errno;
    return kill(-group, signal) < 0 ? -errno : 0; /* before Linux 6.9 */
}

void piso__kill_own_group(void) {
    if (getpgrp() == getpid())
        kill(0, SIGKILL);
    raise(SIGKILL);
}

/* ---- threads ---- */

int piso__thread_start(const char *name, void *(*function)(void *), void *argument) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    int r = pthread_attr_init(&attributes);
    if (r)
        return -r;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&thread, &attributes, function, argument);
    if (r == 0)
        pthread_setname_np(thread, name);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -r;
}

/* ---- pipes ---- */

int piso__pipe(int ret_fds[2]) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

int piso__open_null(void) {
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

ssize_t piso__read(int fd, void *buffer, size_t size) {
    ssize_t n;
    do
        n = read(fd, buffer, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t piso__read_at(int fd, void *buffer, size_t size, off_t offset) {
    ssize_t n = pread(fd, buffer, size, offset);
    return n < 0 ? -errno : n;
}

ssize_t piso__write_at(int fd, const void *data, size_t size, off_t offset) {
    ssize_t n = pwrite(fd, data, size, offset);
    return n < 0 ? -errno : n;
}

static bool is_file(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* write_now: writes to a file that poll reports as ready. Another writer may have been faster, hence
 * RWF_NOWAIT. A regular file never waits for a reader, and some files (like pipes before Linux 6.4) do not
 * support RWF_NOWAIT: then it is a plain write. */
static ssize_t write_now(int fd, const void *data, size_t size) {
    struct iovec part = {(void *)data, size};
    ssize_t n = pwritev2(fd, &part, 1, -1, RWF_NOWAIT);
    if (n < 0 && (errno == EOPNOTSUPP || is_file(fd)))
        n = write(fd, data, size);
    return n;
}

void piso__write_if_ready(int fd, const void *data, size_t size) {
    const uint8_t *from = data;
    while (size) {
        struct pollfd polled = {.fd = fd, .events = POLLOUT};
        if (poll(&polled, 1, 0) <= 0 || !(polled.revents & POLLOUT))
            return;
        /* a ready pipe accepts PIPE_BUF bytes at once, which is not a page everywhere */
        ssize_t n = write_now(fd, from, size < PIPE_BUF ? size : PIPE_BUF);
        if (n <= 0)
            return;
        from += n;
        size -= (size_t)n;
    }
}
