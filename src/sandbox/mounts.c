/* mounts.c - the child's root, which contains only what the child may use. So other paths cannot be connected
 * to, queried or listed either.
 *
 * The root is a file system in memory. Everything permitted is mounted in it under the name that it has in the
 * host. While it is made the host's root is at OLD. What the host has pinned is opened without following links,
 * and left out if it has become something else. */
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/mounts.h"
#include "sandbox/paths.h"

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_open_tree
#define SYS_open_tree  428
#define SYS_move_mount 429
#endif
#ifndef SYS_fsopen
#define SYS_fsopen   430
#define SYS_fsconfig 431
#define SYS_fsmount  432
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif
#define ATTRIBUTE_READ_ONLY 1
#define EVERYTHING_BELOW    0x8000 /* AT_RECURSIVE */
#define CLONE_TREE          (1U | (unsigned)O_CLOEXEC)
#define NO_LINKS            0x04
#define FROM_DESCRIPTOR     0x04 /* MOVE_MOUNT_F_EMPTY_PATH */
#define TO_DESCRIPTOR       0x40 /* MOVE_MOUNT_T_EMPTY_PATH */

#define PROC_ATTRIBUTES 0x0f /* read-only, no set-user-id, no devices, no programs */

#define BASE "/proc" /* an existing folder: the new root is mounted on it and then moved away */
#define OLD  "/.host"
#define NONE "/.none" /* a folder for what covers other files: an empty file that nobody can open, empty folders */

typedef struct attributes { /* struct mount_attr of newer headers */
    uint64_t set, clear, propagation, userns_fd;
} attributes;

typedef struct how { /* struct open_how */
    uint64_t flags, mode, resolve;
} how;

/* call: returns a system call's result, -errno on failure. */
#define call(...)                                                                                                      \
    ({                                                                                                                 \
        long r_ = syscall(__VA_ARGS__);                                                                                \
        (int)(r_ < 0 ? -errno : r_);                                                                                   \
    })

PISO__IN_CHILD int piso__mounts_set_read_only(const char *path, bool below, bool read_only) {
    attributes a = {.set = read_only ? ATTRIBUTE_READ_ONLY : 0, .clear = read_only ? 0 : ATTRIBUTE_READ_ONLY};
    return call(SYS_mount_setattr, AT_FDCWD, path, below ? EVERYTHING_BELOW : 0, &a, sizeof a);
}

PISO__IN_CHILD static size_t put_text(char *to, const char *text) {
    size_t n = 0;
    for (; text[n]; n++)
        to[n] = text[n];
    return n;
}

PISO__IN_CHILD static size_t put_number(char *to, uint64_t value) {
    char digits[20];
    size_t n = 0, count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while (value /= 10);
    while (count)
        to[n++] = digits[--count];
    return n;
}

PISO__IN_CHILD int piso__mounts_memory(const char *path, uint64_t size, const char *mode) {
    char options[64];
    size_t n = put_text(options, "mode=");
    n += put_text(options + n, mode);
    if (size) {
        n += put_text(options + n, ",size=");
        n += put_number(options + n, size);
    }
    options[n] = '\0';
    return call(SYS_mount, "tmpfs", path, "tmpfs", (unsigned long)(MS_NOSUID | MS_NODEV), options);
}

PISO__IN_CHILD static int make_folder(const char *path) {
    int r = call(SYS_mkdirat, AT_FDCWD, path, 0755);
    return r == -EEXIST ? 0 : r;
}

PISO__IN_CHILD static int make_file(const char *path, int mode) {
    int fd = call(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd >= 0)
        syscall(SYS_close, fd);
    return fd < 0 ? fd : 0;
}

PISO__IN_CHILD static int open_real(int folder, const char *path) {
    const how h = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = NO_LINKS};
    int fd = call(SYS_openat2, folder, path, &h, sizeof h);
    if (fd == -ENOSYS || fd == -EPERM) /* a container forbids it; the pinned file is compared all the same */
        fd = call(SYS_openat, folder, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fd;
}

/* attach: attaches a cloned mount, by its descriptor, to a place. */
PISO__IN_CHILD static int attach(int tree, const piso__step *step, const char *path) {
    if (!(step->flags & PISO__STEP_INSIDE)) {
        int r = step->flags & PISO__STEP_IS_FOLDER ? make_folder(path) : make_file(path, 0600);
        return r < 0 ? r : call(SYS_move_mount, tree, "", AT_FDCWD, path, FROM_DESCRIPTOR);
    }
    int place = open_real(AT_FDCWD, path);
    if (place < 0)
        return place;
    int r = call(SYS_move_mount, tree, "", place, "", FROM_DESCRIPTOR | TO_DESCRIPTOR);
    syscall(SYS_close, place);
    return r;
}

/* show: opens what the host's root has under this name, if it is still what was pinned. */
PISO__IN_CHILD static int show(int host, const piso__step *step, const char *path) {
    struct stat state;
    int fd = open_real(host, path + 1);
    if (fd < 0)
        return fd == -ELOOP ? -ENOENT : fd;
    int r = call(SYS_newfstatat, fd, "", &state, AT_EMPTY_PATH);
    if (r == 0 && (state.st_dev != step->device || state.st_ino != step->inode))
        r = -ENOENT;
    int tree = r < 0 ? r : call(SYS_open_tree, fd, "", CLONE_TREE | AT_EMPTY_PATH | EVERYTHING_BELOW);
    syscall(SYS_close, fd);
    if (tree < 0)
        return tree;
    r = attach(tree, step, path);
    syscall(SYS_close, tree);
    return r;
}

/* cover: covers a folder with its own empty folder, since something may be mounted in it; covers a file with an
 * empty file, which is made for the first of many. */
PISO__IN_CHILD static int cover(const piso__step *step, uint32_t index, const char *path) {
    char name[sizeof NONE "/" + 20] = NONE "/file";
    bool is_folder = step->flags & PISO__STEP_IS_FOLDER;
    if (is_folder)
        name[put_number(name + sizeof NONE, index) + sizeof NONE] = '\0';
    int r = call(SYS_mount, name, path, NULL, (unsigned long)MS_BIND, NULL);
    if (r != -ENOENT)
        return r;
    r = make_folder(NONE);
    if (r == 0)
        r = is_folder ? make_folder(name) : make_file(name, 0);
    if (r == -EACCES)
        r = 0; /* the place exists, as a file */
    return r < 0 ? r : call(SYS_mount, name, path, NULL, (unsigned long)MS_BIND, NULL);
}

/* make_terminals: mounts a separate devpts, since a terminal is opened through its neighbours. */
PISO__IN_CHILD static int make_terminals(const char *path) {
    int r = make_folder(path);
    return r < 0 ? r
                 : call(SYS_mount, "devpts", path, "devpts", (unsigned long)(MS_NOSUID | MS_NOEXEC),
                        "newinstance,ptmxmode=0666,mode=600");
}

PISO__IN_CHILD int piso__mounts_proc(void) {
    int context = call(SYS_fsopen, "proc", 1 /* FSOPEN_CLOEXEC */);
    if (context < 0)
        return context;
    int r = call(SYS_fsconfig, context, 1 /* FSCONFIG_SET_STRING */, "hidepid", "ptraceable", 0);
    if (r == 0)
        r = call(SYS_fsconfig, context, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0);
    if (r == 0)
        r = call(SYS_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, PROC_ATTRIBUTES);
    syscall(SYS_close, context);
    return r;
}

/* sources: where mounts come from. */
typedef struct sources {
    int host, proc;
} sources;

PISO__IN_CHILD static int take_step(const piso__blob *blob, sources from, uint32_t index) {
    const piso__step *step = (const piso__step *)piso__blob_at(blob, blob->steps) + index;
    const char *path = piso__blob_at(blob, step->path);
    switch (step->kind) {
    case PISO__STEP_FOLDER:
    case PISO__STEP_LIST:
        return make_folder(path);
    case PISO__STEP_LINK:
        return call(SYS_symlinkat, piso__blob_at(blob, step->target), AT_FDCWD, path);
    case PISO__STEP_MOUNT:
        return show(from.host, step, path);
    case PISO__STEP_PROC:
        return attach(from.proc, step, path);
    case PISO__STEP_TERMINALS:
        return make_terminals(path);
    case PISO__STEP_COVER:
        return cover(step, index, path);
    default:
        return -EINVAL;
    }
}

/* take_steps: takes the steps. Leaves out what has gone since it was pinned. */
PISO__IN_CHILD static int take_steps(const piso__blob *blob, sources from) {
    for (uint32_t i = 0; i < blob->step_count; i++) {
        int r = take_step(blob, from, i);
        if (r < 0 && r != -ENOENT && r != -EEXIST && r != -ENOTDIR)
            return r;
    }
    return 0;
}

/* make_writable: makes the writable paths writable, except those that were not before, and protected ones
 * inside them. */
PISO__IN_CHILD static void make_writable(const piso__blob *blob) {
    const piso__step *steps = piso__blob_at(blob, blob->steps);
    for (uint32_t i = 0; i < blob->step_count; i++) {
        const char *path = piso__blob_at(blob, steps[i].path);
        if (steps[i].flags & PISO__STEP_WRITABLE && piso__mounts_set_read_only(path, true, false) < 0)
            piso__mounts_set_read_only(path, false, false);
        if (steps[i].flags & PISO__STEP_PROTECTED)
            piso__mounts_set_read_only(path, true, true);
    }
}

PISO__IN_CHILD static int enter_base(void) {
    int r = piso__mounts_memory(BASE, 0, "755");
    if (r == 0)
        r = make_folder(BASE OLD);
    if (r == 0)
        r = call(SYS_pivot_root, BASE, BASE OLD);
    return r == 0 ? call(SYS_chdir, "/") : r;
}

PISO__IN_CHILD static int leave_host(int host) {
    syscall(SYS_close, host);
    int r = call(SYS_umount2, OLD, MNT_DETACH);
    return r == 0 ? call(SYS_unlinkat, AT_FDCWD, OLD, AT_REMOVEDIR) : r;
}

PISO__IN_CHILD int piso__mounts_change_root(const piso__blob *blob, int proc) {
    int r = enter_base();
    int host = r < 0 ? r : call(SYS_openat, AT_FDCWD, OLD, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (host < 0)
        return host;
    r = take_steps(blob, (sources){host, proc});
    if (proc >= 0)
        syscall(SYS_close, proc);
    if (r == 0)
        r = leave_host(host);
    if (r < 0)
        return r;
    if (blob->thread_access) /* if this fails, threads cannot be given names */
        syscall(SYS_mount, PISO__THREADS, PISO__THREADS, NULL, (unsigned long)MS_BIND, NULL);
    r = piso__mounts_set_read_only("/", true, true);
    if (blob->thread_access)
        piso__mounts_set_read_only(PISO__THREADS, false, false);
    make_writable(blob);
    return r;
}
