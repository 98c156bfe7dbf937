/* group_folder.c - see group_folder.h. The names of folders begin with "pyisolate-", then comes a random number. */
#include "sandbox/group_folder.h"

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
#define DIGITS      16   /* behind it */
#define ATTEMPTS    8    /* to make one, when others sweep it away before it is locked */
#define TRIES       8    /* to remove one, a millisecond apart */
#define LATER_TRIES 6000 /* ten milliseconds apart */
#define MILLISECOND 1000000L
#define TEXT_SIZE   8192 /* of a file; what is longer is cut */

/* ---- the files in one ---- */

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

/* ---- its end ---- */

/* is_member: whether a process is in the group with this name still, or its number another's by now. */
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

/* kill_all: what is in the group. Nothing can be added to it any more, unless it counts memory only. */
static void kill_all(int folder, const char *name) {
    piso__group_write(folder, "pids.max", "0");
    if (piso__group_write(folder, "cgroup.kill", "1") == 0)
        return;
    const char *list = piso__group_begins(folder, "cgroup.type", "threaded") ? "cgroup.threads" : "cgroup.procs";
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

bool piso__group_folder_remove(const piso__group_folder *f, bool patient) {
    for (int i = 0; i < (patient ? LATER_TRIES : TRIES); i++) {
        if (rmdir(f->path) == 0 || errno != EBUSY)
            return true; /* gone, or not to be removed by this user */
        kill_all(f->fd, strrchr(f->path, '/') + 1);
        if (rmdir(f->path) == 0)
            return true;
        nap(patient ? 10 * MILLISECOND : MILLISECOND);
    }
    return false;
}

void piso__group_folder_drop(piso__group_folder *f) {
    rmdir(f->path);
    f->fd = piso__fd_close(f->fd);
}

/* is_named_by_us: others may use the prefix, too. */
static bool is_named_by_us(const char *name) {
    const char *digits = name + sizeof PREFIX - 1;
    return strncmp(name, PREFIX, sizeof PREFIX - 1) == 0 && strspn(digits, "0123456789abcdef") == DIGITS &&
           digits[DIGITS] == '\0';
}

void piso__group_folder_sweep(const char *parent) {
    DIR *all = opendir(parent);
    struct dirent *entry;
    while (all && (entry = readdir(all))) {
        piso__group_folder f;
        if (!is_named_by_us(entry->d_name) ||
            snprintf(f.path, sizeof f.path, "%s/%s", parent, entry->d_name) >= (int)sizeof f.path)
            continue;
        piso__autoclose int fd = f.fd = open(f.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            piso__group_folder_remove(&f, false);
    }
    if (all)
        closedir(all);
}

/* ---- making one ---- */

int piso__group_folder_make(const char *parent, piso__group_folder *ret_folder) {
    piso__group_folder *f = ret_folder;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t number;
        int r = piso__random(&number, sizeof number);
        if (r < 0)
            return r;
        if (snprintf(f->path, sizeof f->path, "%s/" PREFIX "%016llx", parent, (unsigned long long)number) >=
            (int)sizeof f->path)
            return -ENAMETOOLONG;
        if (mkdir(f->path, 0755) < 0)
            return -errno;
        piso__autoclose int fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || flock(fd, LOCK_SH) < 0 || faccessat(fd, "cgroup.procs", F_OK, 0) < 0)
            continue; /* swept away */
        f->fd = piso__fd_steal(&fd);
        return 0;
    }
    return -EAGAIN;
}
