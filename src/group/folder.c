/* folder.c - see folder.h. HOST is a random number, so hosts need no coordination. */
#include "group/folder.h"

#include <dirent.h>
#include <fcntl.h>
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

#define PREFIX      "pyisolate-"
#define DIGITS      16   /* behind the prefix */
#define ATTEMPTS    8    /* to make a host's folder, when other hosts sweep it away before it is locked */
#define TRIES       8    /* to remove a folder, a millisecond apart */
#define LATER_TRIES 6000 /* ten milliseconds apart */
#define MILLISECOND 1000000L
#define TEXT_SIZE   8192 /* of a file; a longer text is cut */

/* ---- files of a folder ---- */

int piso__group_open(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int piso__group_write(int folder, const char *name, const char *text) {
    piso__autoclose int fd = openat(folder, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

bool piso__group_begins(int folder, const char *name, const char *text) {
    char is[32];
    piso__autoclose int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    size_t size = strlen(text);
    return fd >= 0 && piso__read(fd, is, sizeof is) >= (ssize_t)size && memcmp(is, text, size) == 0;
}

uint64_t piso__group_number(int folder, const char *name, const char *word) {
    char text[1024];
    piso__autoclose int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : piso__read(fd, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = '\0';
    size_t size = strlen(word);
    for (const char *line = text; *line; line += strcspn(line, "\n") + (strchr(line, '\n') != NULL))
        if (strncmp(line, word, size) == 0 && (size == 0 || line[size] == ' '))
            return strtoull(line + size, NULL, 10);
    return 0;
}

/* ---- removing a folder ---- */

/* is_member: whether a process is still in the group with this name, or its pid belongs to another process by
 * now. */
static bool is_member(long pid, const char *name) {
    char path[32], groups[TEXT_SIZE];
    snprintf(path, sizeof path, "/proc/%ld/cgroup", pid);
    return piso__read_text(path, groups, sizeof groups) && strstr(groups, name);
}

static void kill_member(pid_t pid, const char *name) {
    piso__autoclose int pidfd = piso__pidfd_open(pid);
    if (!is_member(pid, name))
        return;
    if (pidfd < 0 || syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0)
        kill(pid, SIGKILL); /* a thread other than the first has no descriptor */
}

/* kill_all: kills all processes of the group. No process can be added any more, unless the group counts memory
 * only. */
static void kill_all(int folder, const char *name) {
    piso__group_write(folder, "pids.max", "0");
    if (piso__group_write(folder, "cgroup.kill", "1") == 0)
        return;
    const char *list = piso__group_begins(folder, "cgroup.type", "threaded") ? "cgroup.threads" : "cgroup.procs";
    int fd = openat(folder, list, O_RDONLY | O_CLOEXEC);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    long pid;
    while (file && fscanf(file, "%ld", &pid) == 1)
        if (pid > 0) /* 0: in a namespace that is not visible from here */
            kill_member((pid_t)pid, name);
    if (file)
        fclose(file);
    else
        piso__fd_close(fd);
}

void piso__group_folder_kill(const char *path) {
    piso__autoclose int fd = piso__group_open(path);
    if (fd >= 0)
        kill_all(fd, strrchr(path, '/') + 1);
}

static void nap(long ns) {
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

bool piso__group_folder_remove(const char *path, bool patient) {
    for (int i = 0; i < (patient ? LATER_TRIES : TRIES); i++) {
        if (rmdir(path) == 0 || errno != EBUSY)
            return true; /* gone, or this user may not remove it */
        piso__group_folder_kill(path);
        if (rmdir(path) == 0)
            return true;
        nap(patient ? 10 * MILLISECOND : MILLISECOND);
    }
    return false;
}

/* ---- the host's folder ---- */

struct piso__group_host {
    piso__group_host *next;
    uint64_t id;
    uint32_t users, made; /* existing groups; groups ever made */
    uint32_t fork_generation;
    int fd; /* locked */
    char parent[PATH_MAX - 64];
};

/* The hosts of this process. The lock guards the list, and `users` and `made`. */
static piso__group_host *hosts;

/* forget_in_child: forgets the parent's hosts, to which the parent's groups still point. */
static void forget_in_child(void) {
    for (piso__group_host *h = hosts; h; h = h->next)
        h->fd = piso__fd_close(h->fd); /* otherwise the child would hold the locks after the parent's end */
    hosts = NULL;
}

PISO__STATIC_LOCK(hosts_lock, PISO__PLACE_GROUPS, .in_child = forget_in_child);

/* use: counts one more group below `parent` and returns its host and id; NULL when there is no host yet. */
static piso__group_host *use(const char *parent, uint32_t *ret_id) {
    piso__lock_take(&hosts_lock);
    piso__group_host *h = hosts;
    while (h && strcmp(h->parent, parent) != 0)
        h = h->next;
    if (h) {
        h->users++;
        *ret_id = ++h->made;
    }
    piso__lock_give(&hosts_lock);
    return h;
}

static void host_path(const piso__group_host *h, char path[PATH_MAX]) {
    snprintf(path, PATH_MAX, "%s/" PREFIX "%016llx", h->parent, (unsigned long long)h->id);
}

/* let_go: the last group of a host removes the host's folder. */
static void let_go(piso__group_host *h) {
    if (h->fork_generation != piso__fork_generation())
        return;
    piso__lock_take(&hosts_lock);
    piso__group_host **at = &hosts;
    bool last = --h->users == 0;
    while (last && *at != h)
        at = &(*at)->next;
    if (last)
        *at = h->next;
    piso__lock_give(&hosts_lock);
    if (!last)
        return;
    char path[PATH_MAX];
    host_path(h, path);
    rmdir(path);
    piso__fd_close(h->fd);
    free(h);
}

/* lock_new: makes and locks the folder. 0; -EAGAIN when another host has swept it away; -errno. */
static int lock_new(piso__group_host *h) {
    char path[PATH_MAX];
    int r = piso__random(&h->id, sizeof h->id);
    if (r < 0)
        return r;
    host_path(h, path);
    if (mkdir(path, 0755) < 0)
        return -errno;
    piso__autoclose int fd = piso__group_open(path);
    if (fd == -EMFILE || fd == -ENFILE)
        return rmdir(path), fd;
    if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0 || faccessat(fd, "cgroup.procs", F_OK, 0) < 0)
        return -EAGAIN;
    h->fd = piso__fd_steal(&fd);
    return 0;
}

/* make_host: makes the host for the caller's first group. Threads that do this at the same time may make a host
 * each, which is harmless. */
static int make_host(const char *parent, piso__group_host **ret_host) {
    piso__autofree piso__group_host *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    if (strlen(parent) >= sizeof h->parent)
        return -ENAMETOOLONG;
    strcpy(h->parent, parent);
    h->fork_generation = piso__fork_generation();
    int r = -EAGAIN;
    for (int attempt = 0; r == -EAGAIN && attempt < ATTEMPTS; attempt++)
        r = lock_new(h);
    if (r < 0)
        return r;
    h->users = h->made = 1;
    *ret_host = h;
    piso__lock_take(&hosts_lock);
    h->next = hosts;
    hosts = piso__steal_pointer(&h);
    piso__lock_give(&hosts_lock);
    return 0;
}

/* ---- making a folder ---- */

int piso__group_folder_make(const char *parent, piso__group_folder *ret_folder) {
    piso__group_folder *f = ret_folder;
    uint32_t id = 1;
    *f = (piso__group_folder){.host = use(parent, &id)};
    int r = f->host ? 0 : make_host(parent, &f->host);
    if (r < 0)
        return r;
    host_path(f->host, f->path);
    size_t length = strlen(f->path);
    snprintf(f->path + length, sizeof f->path - length, ".%x", (unsigned)id);
    if (mkdir(f->path, 0755) == 0)
        return 0;
    int error = errno;
    piso__group_folder_drop(f);
    return -error;
}

void piso__group_folder_drop(piso__group_folder *f) {
    if (f->host)
        let_go(f->host);
    f->host = NULL;
}

/* ---- folders of dead hosts ---- */

/* host_part: returns the length of the host's part of a folder name, 0 for other names: others may use the
 * prefix too. */
static size_t host_part(const char *name) {
    size_t length = sizeof PREFIX - 1 + DIGITS;
    const char *digits = name + sizeof PREFIX - 1;
    if (strncmp(name, PREFIX, sizeof PREFIX - 1) != 0 || strspn(digits, "0123456789abcdef") != DIGITS)
        return 0;
    const char *rest = name + length;
    bool is_group = *rest == '.' && rest[1] && strspn(rest + 1, "0123456789abcdef") == strlen(rest + 1);
    return *rest == '\0' || is_group ? length : 0;
}

/* is_dead: whether nobody holds the lock on a host's folder. If so, *ret_fd holds the lock until it is closed. */
static bool is_dead(const char *path, int *ret_fd) {
    int fd = *ret_fd = piso__group_open(path);
    return fd < 0 ? fd == -ENOENT : flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static void *sweep(void *argument) {
    piso__autofree char *parent = argument;
    DIR *all = opendir(parent);
    struct dirent *entry;
    while (all && (entry = readdir(all))) {
        char path[PATH_MAX], host[PATH_MAX];
        size_t part = host_part(entry->d_name);
        if (!part || snprintf(path, sizeof path, "%s/%s", parent, entry->d_name) >= (int)sizeof path)
            continue;
        snprintf(host, sizeof host, "%s/%.*s", parent, (int)part, entry->d_name);
        piso__autoclose int fd = -1;
        if (is_dead(host, &fd))
            piso__group_folder_remove(path, false);
    }
    if (all)
        closedir(all);
    return NULL;
}

void piso__group_folder_sweep(const char *parent) {
    char *copy = strdup(parent);
    if (copy && piso__thread_start("piso-sweep", sweep, copy) < 0)
        free(copy); /* the next process may have room for a thread */
}
