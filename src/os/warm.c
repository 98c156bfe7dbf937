/* warm.c - what a process that forks others needs of the system: its threads counted, its end tied to its host's
 * without a thread, its children's names and ends. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"

/* Of the kernel's <linux/pidfd.h>, which older systems lack. */
typedef struct pidfd_info {
    uint64_t mask, cgroup;
    uint32_t ids[11];
    int32_t exit_code;
} pidfd_info;
#define GET_PIDFD_INFO  _IOWR(0xFF, 11, pidfd_info)
#define PIDFD_INFO_ENDS (UINT64_C(1) << 3)

int piso__exit_of(int pidfd, piso_exit *ret_exit) {
    pidfd_info info = {.mask = PIDFD_INFO_ENDS};
    if (ioctl(pidfd, GET_PIDFD_INFO, &info) < 0)
        return -errno;
    if (!(info.mask & PIDFD_INFO_ENDS))
        return -EAGAIN;
    int signal = WIFSIGNALED(info.exit_code) ? WTERMSIG(info.exit_code) : 0;
    *ret_exit = (piso_exit){.known = true, .code = signal ? -1 : WEXITSTATUS(info.exit_code), .signal = signal};
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

/* arguments: where the arguments of this process lie, and how many bytes they have; NULL when that is not certain. */
static char *arguments(size_t *ret_size) {
    char found[4096];
    piso__autoclose int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : piso__read(fd, found, sizeof found);
    char *start = program_invocation_name; /* argv[0], as long as nobody sets it */
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
    memset(start, 0, room); /* what follows is not an environment, because the last byte stays 0 */
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
    setpgid(pid, pid); /* whoever is quicker: nobody sees the child in our group */
    int pidfd = piso__pidfd_open(pid);
    if (pidfd < 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return pidfd;
    }
    *ret_pidfd = pidfd;
    return pid;
}
