/* group.c - control groups; see group.h.
 *
 * In version 2 a group that holds processes, as the host's does, can have groups below it that count processes only if
 * they are "threaded": then for all other purposes they are one with it, which is what is wanted. */
#include "sandbox/group.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/cgroup.h"
#include "os/os.h"

#define PREFIX       "pyisolate-"
#define DIGITS       16   /* behind it */
#define ATTEMPTS     8    /* to make one, when others sweep it away before it is locked */
#define TRIES        8    /* to remove one, a millisecond apart */
#define LATER_TRIES  6000 /* by a thread, ten milliseconds apart */
#define MILLISECOND  1000000L
#define CONTROLLER   "pids"
#define SYSTEM_FILES 65536 /* of /proc; what is longer is cut */

struct piso__group {
    uint32_t fork_generation;
    int fd; /* of the folder, locked */
    char path[PATH_MAX];
};

/* ---- where the host's own group is ---- */

static const char *next_line(const char *line) {
    const char *end = strchr(line, '\n');
    return end ? end + 1 : line + strlen(line);
}

/* find_group: the path of the group within its hierarchy: "8:pids:/path", "0::/path". */
static bool find_group(const char *groups, bool unified, char *ret_group, size_t size) {
    for (const char *line = groups; *line; line = next_line(line)) {
        const char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL, *end = strchr(line, '\n');
        if (!path || (end && path > end))
            continue;
        bool found = unified ? path == list + 1 : piso__cgroup_lists(list + 1, (size_t)(path - list) - 1, CONTROLLER);
        size_t length = end ? (size_t)(end - path) - 1 : strlen(path + 1);
        if (!found || path[1] != '/' || length >= size)
            continue;
        memcpy(ret_group, path + 1, length);
        ret_group[length] = '\0';
        return true;
    }
    return false;
}

/* is_mount: whether a line of mountinfo is of the hierarchy; then which group is at the top of it, and where. Names with
 * blanks, which are written in another way there, are passed over. */
static bool is_mount(const char *line, bool unified, char ret_top[PATH_MAX], char ret_place[PATH_MAX]) {
    char type[16], options[512];
    const char *end = strchr(line, '\n'), *rest = strstr(line, " - ");
    if (!rest || (end && rest > end) || sscanf(rest, " - %15s %*s %511s", type, options) != 2)
        return false;
    if (strcmp(type, unified ? "cgroup2" : "cgroup") != 0 ||
        (!unified && !piso__cgroup_lists(options, strlen(options), CONTROLLER)))
        return false;
    static_assert(PATH_MAX == 4096, "the format says so");
    return sscanf(line, "%*s %*s %*s %4095s %4095s", ret_top, ret_place) == 2 && !strchr(ret_place, '\\');
}

bool piso__group_folder(const char *groups, const char *mounts, bool unified, char *ret_folder, size_t size) {
    char group[PATH_MAX], top[PATH_MAX], place[PATH_MAX];
    if (!find_group(groups, unified, group, sizeof group) || strstr(group, "/.."))
        return false;
    for (const char *line = mounts; *line; line = next_line(line)) {
        if (!is_mount(line, unified, top, place))
            continue;
        size_t above = strcmp(top, "/") == 0 ? 0 : strlen(top);
        if (strncmp(group, top, above) != 0 || (group[above] != '/' && group[above] != '\0'))
            continue; /* another container's */
        const char *below = strcmp(group + above, "/") == 0 ? "" : group + above;
        int length = snprintf(ret_folder, size, "%s%s", place, below);
        return length > 0 && (size_t)length < size;
    }
    return false;
}

/* read_text: a file as a string; NULL when it cannot be read. Freed by the caller. */
static char *read_text(const char *path) {
    piso__autofree char *text = malloc(SYSTEM_FILES);
    return text && piso__read_text(path, text, SYSTEM_FILES) ? piso__steal_pointer(&text) : NULL;
}

/* ---- files of a group ---- */

static int write_at(int folder, const char *name, const char *text) {
    piso__autoclose int fd = openat(folder, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static bool begins(int folder, const char *name, const char *text) {
    char is[32];
    piso__autoclose int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    size_t size = strlen(text);
    return fd >= 0 && piso__read(fd, is, sizeof is) >= (ssize_t)size && memcmp(is, text, size) == 0;
}

/* is_member: whether a process is in the group with this name still, or its number another's by now. */
static bool is_member(long pid, const char *name) {
    char path[32];
    snprintf(path, sizeof path, "/proc/%ld/cgroup", pid);
    piso__autofree char *groups = read_text(path);
    return groups && strstr(groups, name);
}

static void kill_member(pid_t pid, const char *name) {
    piso__autoclose int pidfd = piso__pidfd_open(pid);
    if (!is_member(pid, name))
        return;
    if (pidfd < 0 || syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0)
        kill(pid, SIGKILL); /* a thread other than the first has no descriptor */
}

/* kill_all: what is in the group. Nothing can be added to it any more. */
static void kill_all(int folder, const char *name) {
    write_at(folder, "pids.max", "0");
    if (write_at(folder, "cgroup.kill", "1") == 0)
        return;
    const char *list = begins(folder, "cgroup.type", "threaded") ? "cgroup.threads" : "cgroup.procs";
    int fd = openat(folder, list, O_RDONLY | O_CLOEXEC);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    long pid;
    while (file && fscanf(file, "%ld", &pid) == 1)
        if (pid > 0) /* 0: in a namespace that cannot be seen from here */
            kill_member((pid_t)pid, name);
    if (file)
        fclose(file);
    else
        piso__fd_close(fd);
}

static void nap(long ns) {
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* remove_folder: with what is in it. False when something in it has not died yet. */
static bool remove_folder(int folder, const char *path, int tries, long pause_ns) {
    for (int i = 0; i < tries; i++) {
        if (rmdir(path) == 0 || errno != EBUSY)
            return true; /* gone, or not to be removed by this user */
        kill_all(folder, strrchr(path, '/') + 1);
        if (rmdir(path) == 0)
            return true;
        nap(pause_ns);
    }
    return false;
}

/* ---- making one ---- */

/* is_named_by_us: others may use the prefix, too. */
static bool is_named_by_us(const char *name) {
    const char *digits = name + sizeof PREFIX - 1;
    return strncmp(name, PREFIX, sizeof PREFIX - 1) == 0 && strspn(digits, "0123456789abcdef") == DIGITS &&
           digits[DIGITS] == '\0';
}

/* sweep: removes the groups of hosts that died. */
static void sweep(const char *parent) {
    DIR *folder = opendir(parent);
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        char path[PATH_MAX];
        if (!is_named_by_us(entry->d_name) ||
            snprintf(path, sizeof path, "%s/%s", parent, entry->d_name) >= (int)sizeof path)
            continue;
        piso__autoclose int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            remove_folder(fd, path, TRIES, MILLISECOND);
    }
    if (folder)
        closedir(folder);
}

static void sweep_once(const char *parent) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint32_t sweeper;
    static bool done;
    pthread_mutex_lock(&lock);
    if (!done || sweeper != piso__fork_generation())
        sweep(parent);
    done = true;
    sweeper = piso__fork_generation();
    pthread_mutex_unlock(&lock);
}

/* limit: the new group's limit, after what version 2 needs before it has one. */
static int limit(const char *parent, int fd, bool unified, uint64_t processes) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)processes);
    if (unified) {
        piso__autoclose int above = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (above < 0 || faccessat(above, "cgroup.procs", W_OK, AT_EACCESS) < 0) /* else nobody can be moved below */
            return -errno;
        int r = faccessat(fd, "pids.max", F_OK, 0) == 0 ? 0 : write_at(above, "cgroup.subtree_control", "+pids");
        if (r == 0 && begins(fd, "cgroup.type", "domain invalid"))
            r = write_at(fd, "cgroup.type", "threaded");
        if (r < 0)
            return r;
    }
    return write_at(fd, "pids.max", text);
}

static int make(piso__group *g, const char *parent, bool unified, uint64_t processes) {
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t number;
        int r = piso__random(&number, sizeof number);
        if (r < 0)
            return r;
        if (snprintf(g->path, sizeof g->path, "%s/" PREFIX "%016llx", parent, (unsigned long long)number) >=
            (int)sizeof g->path)
            return -ENAMETOOLONG;
        if (mkdir(g->path, 0755) < 0)
            return -errno;
        piso__autoclose int fd = open(g->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || flock(fd, LOCK_SH) < 0 || faccessat(fd, "cgroup.procs", F_OK, 0) < 0)
            continue; /* swept away */
        r = limit(parent, fd, unified, processes);
        if (r < 0) {
            rmdir(g->path);
            return r;
        }
        g->fd = piso__fd_steal(&fd);
        return 0;
    }
    return -EAGAIN;
}

int piso__group_new(uint64_t processes, piso__group **ret_group) {
    piso__autofree char *groups = read_text("/proc/self/cgroup"), *mounts = read_text("/proc/self/mountinfo");
    piso__autofree piso__group *g = calloc(1, sizeof *g);
    if (!g)
        return -ENOMEM;
    g->fork_generation = piso__fork_generation();
    char parent[PATH_MAX];
    int reason = -ENOENT;
    for (int unified = 0; groups && mounts && unified < 2; unified++) {
        if (!piso__group_folder(groups, mounts, unified, parent, sizeof parent))
            continue;
        int r = make(g, parent, unified, processes);
        if (r == 0) {
            sweep_once(parent);
            *ret_group = piso__steal_pointer(&g);
            return 0;
        }
        if (reason == -ENOENT)
            reason = r;
    }
    return reason;
}

const char *piso__group_path(const piso__group *g) {
    return g->path;
}

/* ---- its end ---- */

static void *end_later(void *argument) {
    piso__group *g = argument;
    remove_folder(g->fd, g->path, LATER_TRIES, 10 * MILLISECOND);
    piso__fd_close(g->fd);
    free(g);
    return NULL;
}

piso__group *piso__group_end(piso__group *g) {
    if (!g)
        return NULL;
    bool ours = g->fork_generation == piso__fork_generation();
    if (ours && !remove_folder(g->fd, g->path, TRIES, MILLISECOND) &&
        piso__thread_start("piso-group", end_later, g) == 0)
        return NULL;
    if (ours)
        piso__fd_close(g->fd); /* what is left is the next host's to remove */
    free(g);
    return NULL;
}
