/* prewarm.c - the system calls of a process that forks others: counting its threads, ending with its host
 * without a thread, the names and exit statuses of its children. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/cgroup.h"
#include "os/os.h"

/* From the kernel's <linux/pidfd.h>, which older systems lack. */
typedef struct pidfd_info {
    uint64_t mask, cgroup;
    uint32_t ids[11];
    int32_t exit_code;
} pidfd_info;
#define GET_PIDFD_INFO  _IOWR(0xFF, 11, pidfd_info)
#define PIDFD_INFO_ENDS (UINT64_C(1) << 3)

/* reaped_exit: returns the status of a process that was reaped. */
static int reaped_exit(int pidfd, int *ret_status) {
    pidfd_info info = {.mask = PIDFD_INFO_ENDS};
    if (ioctl(pidfd, GET_PIDFD_INFO, &info) < 0)
        return -errno;
    if (!(info.mask & PIDFD_INFO_ENDS))
        return -EAGAIN;
    *ret_status = info.exit_code;
    return 0;
}

/* zombie_exit: returns the status of a process that was not reaped: the last number of its line in /proc. The
 * kernel shows 0 to a process without access; one that can read the name of the user namespace has access. The
 * pidfd can still be signalled, which proves that it was this process. */
static int zombie_exit(int pidfd, pid_t pid, int *ret_status) {
    char path[40], text[1024], name[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    if (readlink(path, name, sizeof name) < 0)
        return -errno;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!piso__read_text(path, text, sizeof text))
        return -ESRCH;
    char *end = strrchr(text, ')'),
         *last = strrchr(text, ' '); /* the name is in parentheses and may contain any character */
    if (!end || strncmp(end, ") Z ", 4) != 0 || syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) < 0)
        return -ESRCH;
    *ret_status = (int)strtol(last, NULL, 10);
    return 0;
}

int piso__exit_of(int pidfd, pid_t pid, piso_exit *ret_exit) {
    int status, r = reaped_exit(pidfd, &status);
    if (r < 0 && zombie_exit(pidfd, pid, &status) < 0 && (r = reaped_exit(pidfd, &status)) < 0) /* or just reaped */
        return r;
    int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    *ret_exit = (piso_exit){.known = true, .code = signal ? -1 : WEXITSTATUS(status), .signal = signal};
    return 0;
}

bool piso__has_children(void) {
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

int piso__thread_count(void) {
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return -errno;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(tasks));)
        count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

int piso__kill_on_hangup(int socket_fd, bool on) {
    int flags = fcntl(socket_fd, F_GETFL);
    if (flags < 0)
        return -errno;
    if (!on)
        return fcntl(socket_fd, F_SETFL, flags & ~O_ASYNC) < 0 ? -errno : 0;
    bool leads = getpgrp() == getpid();
    if (fcntl(socket_fd, F_SETOWN, leads ? -getpid() : getpid()) < 0 || fcntl(socket_fd, F_SETSIG, SIGKILL) < 0 ||
        fcntl(socket_fd, F_SETFL, flags | O_ASYNC) < 0)
        return -errno;
    return 0;
}

/* arguments: returns the address of this process's arguments, and their size in bytes; NULL when it is not
 * certain. */
static char *arguments(size_t *ret_size) {
    char found[4096];
    piso__autoclose int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : piso__read(fd, found, sizeof found);
    char *start = program_invocation_name; /* argv[0], unless somebody has set it */
    if (size <= 0 || memcmp(start, found, (size_t)size) != 0)
        return NULL;
    *ret_size = (size_t)size;
    return start;
}

void piso__process_title(const char *title) {
    size_t room;
    prctl(PR_SET_NAME, title);
    char *start = arguments(&room);
    if (!start)
        return;
    size_t size = strnlen(title, room - 1);
    memset(start, 0, room); /* the last byte stays 0, so what follows is not taken for an environment */
    memcpy(start, title, size);
}

int piso__directory_open(void) {
    int fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int piso__directory_enter(int fd, const char *path) {
    return (path ? chdir(path) : fchdir(fd)) < 0 ? -errno : 0;
}

pid_t piso__fork(int *ret_pidfd) {
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        setpgid(0, 0);
        sigprocmask(SIG_SETMASK, &none, NULL);
        return 0;
    }
    setpgid(pid, pid); /* parent and child both do this, so nobody sees the child in our group */
    int pidfd = piso__pidfd_open(pid);
    if (pidfd < 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return pidfd;
    }
    *ret_pidfd = pidfd;
    return pid;
}
