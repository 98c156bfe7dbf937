/* namespaces.c - a user, mount, IPC and network namespace for the child, which the child itself enters.
 *
 * There is no PID namespace. Its first process would be the extension itself, to which default actions of
 * signals do not apply (abort, the end of its group) and which would have to reap strangers; or a process of
 * ours in between, whose memory every extension would cost. Landlock refuses what a PID namespace would hide.
 *
 * In the mount namespace everything is read-only except the writable paths. Landlock does not restrict changes
 * of modes, owners, times and attributes of files; this does. Where the root can be changed it contains only
 * what is permitted (mounts.c). /dev/shm is private, so that semaphores of multiprocessing work and others' are
 * invisible. The child keeps its user and group: files look as before. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"
#include "sandbox/mounts.h"
#include "sandbox/namespaces.h"

/* call: returns a system call's result, -errno on failure. */
#define call(...)                                                                                                      \
    ({                                                                                                                 \
        long r_ = syscall(__VA_ARGS__);                                                                                \
        (int)(r_ < 0 ? -errno : r_);                                                                                   \
    })

PISO__IN_CHILD static int write_file(const char *path, const char *text, size_t size) {
    int fd = call(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return fd;
    int r = call(SYS_write, fd, text, size);
    syscall(SYS_close, fd);
    return r < 0 ? r : 0;
}

PISO__IN_CHILD static size_t put_number(char *to, uint64_t value) {
    char digits[20];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    for (size_t i = 0; i < n; i++)
        to[i] = digits[n - 1 - i];
    return n;
}

/* map_id: maps the user or group to itself; all others are nobody. */
PISO__IN_CHILD static int map_id(const char *path, uint32_t id) {
    char text[48];
    size_t n = put_number(text, id);
    text[n++] = ' ';
    n += put_number(text + n, id);
    text[n++] = ' ';
    text[n++] = '1';
    return write_file(path, text, n);
}

PISO__IN_CHILD static int map_ids(const piso__blob *blob) {
    int r = map_id("/proc/self/uid_map", blob->uid);
    if (r == 0)
        r = write_file("/proc/self/setgroups", "deny", 4);
    return r == 0 ? map_id("/proc/self/gid_map", blob->gid) : r;
}

/* limit_watches: limits inotify instances, which are counted per user, for all extensions and the host
 * together, and per namespace. Where the limit cannot be written the filter permits none (plan/layers.c). */
PISO__IN_CHILD static void limit_watches(void) {
    write_file("/proc/sys/user/max_inotify_instances", "16", 2);
    write_file("/proc/sys/user/max_inotify_watches", "8192", 4);
}

/* make_read_only: makes everything read-only. Paths that stay writable are first mounted on themselves, and
 * made writable again afterwards, except those that were not writable before. */
PISO__IN_CHILD static int make_read_only(const piso__blob *blob) {
    const char *path = piso__blob_at(blob, blob->writable);
    for (uint32_t i = 0; i < blob->writable_count; i++, path = piso__next_string(path)) {
        int r = call(SYS_mount, path, path, NULL, (unsigned long)(MS_BIND | MS_REC), NULL);
        if (r < 0 && r != -ENOENT)
            return r;
    }
    if (blob->thread_access) /* if this fails, threads cannot be given names */
        syscall(SYS_mount, PISO__THREADS, PISO__THREADS, NULL, (unsigned long)MS_BIND, NULL);
    int r = piso__mounts_set_read_only("/", true, true);
    if (blob->thread_access)
        piso__mounts_set_read_only(PISO__THREADS, false, false);
    path = piso__blob_at(blob, blob->writable);
    for (uint32_t i = 0; r == 0 && i < blob->writable_count; i++, path = piso__next_string(path))
        if (piso__mounts_set_read_only(path, true, false) < 0)
            piso__mounts_set_read_only(path, false, false);
    return r;
}

/* return_to_folder: enters the working directory again, by its name: it may have been mounted over, or be in
 * the root that was left. A folder whose name is too long or gone is replaced by the root, if the root has
 * changed; else it stays, read-only. */
PISO__IN_CHILD static void return_to_folder(const piso__blob *blob, const char *folder) {
    if ((folder[0] != '/' || syscall(SYS_chdir, folder) < 0) && blob->root)
        syscall(SYS_chdir, "/");
}

PISO__IN_CHILD int piso__namespaces_enter(const piso__blob *blob) {
    char folder[4096];
    if (syscall(SYS_getcwd, folder, sizeof folder) <= 0)
        folder[0] = '\0';
    int proc = blob->own_proc ? piso__mounts_proc() : -1; /* with the user that this process still has */
    if (blob->own_proc && proc < 0)
        return proc;
    int r = call(SYS_unshare, (unsigned long)blob->namespaces);
    if (r == 0)
        r = map_ids(blob);
    if (r == 0)
        limit_watches();
    if (r == 0)
        r = blob->root ? piso__mounts_change_root(blob, proc) : make_read_only(blob);
    if (r == 0)
        r = piso__mounts_memory("/dev/shm", blob->shm_size, "1777");
    if (r == -ENOENT)
        r = 0; /* a system without it */
    if (r == 0 && blob->temp && blob->temp_size)
        r = piso__mounts_memory(piso__blob_at(blob, blob->temp), blob->temp_size, "700");
    if (r == 0)
        return_to_folder(blob, folder);
    return r;
}

/* ---- probing, in the host ---- */

/* trial: with everything that a root needs: a folder, and a file that is mounted in it. */
typedef struct trial {
    piso__blob blob;
    piso__step steps[2];
    char folder[8], file[16];
    int result;
} trial;

PISO__IN_CHILD static int try_main(void *argument) {
    trial *t = argument;
    t->result = piso__namespaces_enter(&t->blob);
    return 0;
}

static int try(bool root) {
    trial t = {.blob = {.uid = geteuid(), .gid = getegid(), .root = root}, .folder = "/dev", .file = "/dev/null"};
    struct stat state;
    if (root && stat(t.file, &state) == 0) {
        t.blob.steps = offsetof(trial, steps);
        t.blob.step_count = 2;
        t.steps[0] = (piso__step){.kind = PISO__STEP_FOLDER, .path = offsetof(trial, folder)};
        t.steps[1] = (piso__step){
            .kind = PISO__STEP_MOUNT, .path = offsetof(trial, file), .device = state.st_dev, .inode = state.st_ino};
    }
    t.blob.namespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET;
    int r = piso__call_in_child(try_main, &t);
    return r < 0 ? r : t.result;
}

static int probe(piso__finding *found, bool root) {
    int r; /* several threads may ask for the first time at once; each then tries */
    if (!piso__finding_get(found, &r)) {
        r = try(root);
        piso__finding_set(found, r);
    }
    return r;
}

int piso__namespaces_probe(void) {
    static piso__finding found;
    return probe(&found, false);
}

int piso__root_probe(void) {
    static piso__finding found;
    return probe(&found, true);
}

int piso__proc_probe(void) {
    static piso__finding found;
    int r;
    if (!piso__finding_get(&found, &r)) {
        int fd = piso__mounts_proc();
        r = fd < 0 ? fd : 0;
        piso__fd_close(fd);
        piso__finding_set(&found, r);
    }
    return r;
}
