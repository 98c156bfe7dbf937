/* orphans.c - the children that a process inherits from others that have ended, and facts that show whose they
 * were. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"

#define PATH_SIZE 64

int piso__adopt_orphans(void) {
    sigset_t ended;
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return -errno;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &ended, NULL) < 0)
        return -errno;
    int fd = signalfd(-1, &ended, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void piso__children_clear(int signal_fd) {
    struct signalfd_siginfo ended; /* at most one standard signal is pending */
    (void)!read(signal_fd, &ended, sizeof ended);
}

/* ---- finding children ---- */

typedef struct pids {
    pid_t *items;
    int count, room;
} pids;

static int add(pids *p, pid_t pid) {
    if (p->count == p->room) {
        int room = p->room ? p->room * 2 : 64;
        pid_t *items = realloc(p->items, (size_t)room * sizeof *items);
        if (!items)
            return -ENOMEM;
        p->items = items;
        p->room = room;
    }
    p->items[p->count++] = pid;
    return 0;
}

/* list: reads the kernel's list of this thread's children. */
static int list(pids *p) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "/proc/self/task/%ld/children", syscall(SYS_gettid));
    FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    long pid;
    int r = 0;
    while (r == 0 && fscanf(file, "%ld", &pid) == 1)
        r = add(p, (pid_t)pid);
    fclose(file);
    return r;
}

/* parent_of: returns the parent's pid, 0 for a process that is gone. */
static long parent_of(long pid) {
    char path[PATH_SIZE], text[512];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    if (!piso__read_text(path, text, sizeof text))
        return 0;
    const char *behind = strrchr(text, ')'); /* behind the name, which may contain any character */
    long parent = 0;
    return behind && sscanf(behind, ") %*c %ld", &parent) == 1 ? parent : 0;
}

/* search: the same for kernels without such a list: searches all processes. */
static int search(pids *p) {
    DIR *processes = opendir("/proc");
    if (!processes)
        return -errno;
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(processes));) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (*end == '\0' && pid > 0 && parent_of(pid) == getpid())
            r = add(p, (pid_t)pid);
    }
    closedir(processes);
    return r;
}

int piso__children(pid_t **ret_pids) {
    pids p = {0};
    int r = list(&p);
    if (r == -ENOENT)
        r = search(&p);
    if (r < 0) {
        free(p.items);
        return r;
    }
    *ret_pids = p.items;
    return p.count;
}

bool piso__child_has_ended(pid_t pid) {
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0;
}

/* ---- finding their extension ---- */

int piso__mount_namespace(pid_t pid, uint64_t *ret_id) {
    char path[PATH_SIZE];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%ld/ns/mnt", (long)pid);
    if (stat(path, &st) < 0)
        return -errno;
    *ret_id = st.st_ino;
    return 0;
}

bool piso__has_no_new_privileges(pid_t pid) {
    char path[PATH_SIZE], text[4096];
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    return piso__read_text(path, text, sizeof text) && strstr(text, "\nNoNewPrivs:\t1");
}

void piso__kill_child(pid_t pid) {
    if (getpgid(pid) == pid)
        kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
}
