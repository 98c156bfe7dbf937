/* group.c - control groups; see group.h.
 *
 * In version 1 each controller has its own hierarchy, and a group can be made below any other.
 *
 * In version 2 the host's group holds processes. Groups below such a group can count processes only if they are
 * "threaded"; for all other purposes, memory among them, they are then one with it. Groups that count memory
 * can be below it only if it is the root group of the machine. Otherwise they are made beside it, if the group
 * above has no processes and is marked as delegated to this user, as by systemd (DelegateSubgroup=). So nothing
 * escapes from limits that somebody else has set on the host. */
#include "group/group.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "group/folder.h"
#include "os/cgroup.h"
#include "os/os.h"

#define PROCESSES 1U
#define MEMORY    2U
#define NEARLY    (UINT64_C(1) << 20) /* what a process may request at once and be refused */

struct piso__group {
    uint32_t fork_generation;
    piso__group_limits limits; /* those that are in force */
    int count;
    int memory; /* index of the folder that counts memory */
    piso__group_folder folders[PISO__GROUP_FOLDERS];
};

/* ---- limits ---- */

static int write_number(int fd, const char *name, uint64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return piso__group_write(fd, name, text);
}

/* limit_memory: forbids swap too, which would make the process slow long before the limit is an error. Where
 * swap is not counted the kernel does not swap on behalf of the group. */
static int limit_memory(int fd, bool unified, uint64_t bytes) {
    int r = write_number(fd, unified ? "memory.max" : "memory.limit_in_bytes", bytes);
    if (r < 0)
        return r;
    if (unified) {
        piso__group_write(fd, "memory.swap.max", "0");
        return 0;
    }
    if (write_number(fd, "memory.memsw.limit_in_bytes", bytes) < 0)
        piso__group_write(fd, "memory.swappiness", "0");
    /* inherited from the host's group: processes would hang for ever */
    if (piso__group_number(fd, "memory.oom_control", "oom_kill_disable"))
        piso__group_write(fd, "memory.oom_control", "0");
    return 0;
}

/* enable: enables in version 2 what a new group needs for its limits. */
static int enable(const char *parent, int fd, unsigned what) {
    piso__autoclose int above = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* otherwise no process can be moved below it */
    if (above < 0 || faccessat(above, "cgroup.procs", W_OK, AT_EACCESS) < 0)
        return -errno;
    int r = 0;
    if (what & MEMORY && faccessat(fd, "memory.max", F_OK, 0) < 0)
        r = piso__group_write(above, "cgroup.subtree_control", "+memory");
    if (r == 0 && what & PROCESSES && faccessat(fd, "pids.max", F_OK, 0) < 0)
        r = piso__group_write(above, "cgroup.subtree_control", "+pids");
    if (r == 0 && piso__group_begins(fd, "cgroup.type", "domain invalid"))
        r = what & MEMORY ? -EBUSY : piso__group_write(fd, "cgroup.type", "threaded");
    return r;
}

/* make: makes one more folder of the group, for these limits. */
static int make(piso__group *g, const char *parent, bool unified, unsigned what, const piso__group_limits *limits) {
    piso__group_folder *f = &g->folders[g->count];
    int r = piso__group_folder_make(parent, f);
    if (r < 0)
        return r;
    piso__autoclose int fd = piso__group_open(f->path);
    r = fd < 0 ? fd : unified ? enable(parent, fd, what) : 0;
    if (r == 0 && what & PROCESSES)
        r = write_number(fd, "pids.max", limits->processes);
    if (r == 0 && what & MEMORY)
        r = limit_memory(fd, unified, limits->memory);
    if (r < 0) {
        rmdir(f->path);
        piso__group_folder_drop(f);
        return r;
    }
    if (what & PROCESSES)
        g->limits.processes = limits->processes;
    if (what & MEMORY) {
        g->limits.memory = limits->memory;
        g->memory = g->count;
    }
    g->count++;
    return 0;
}

/* ---- choosing the parent ---- */

static bool is_delegated(const char *folder) {
    char value[2];
    return (getxattr(folder, "user.delegate", value, sizeof value) == 1 ||
            getxattr(folder, "trusted.delegate", value, sizeof value) == 1) &&
           value[0] == '1';
}

/* divide: returns the group below which a group that counts memory can be made in version 2: this one, or the
 * one above it. */
static int divide(piso__cgroup *at) {
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/cgroup.type", at->folder);
    if (access(path, F_OK) < 0)
        return errno == ENOENT ? 0 : -errno; /* the root group */
    char *slash = strrchr(at->folder, '/');
    if (slash < at->folder + at->top)
        return -EBUSY;
    *slash = '\0';
    return is_delegated(at->folder) ? 0 : -EBUSY;
}

/* sweep_once: starts the removal of what dead hosts have left; each kind of folder has a parent. */
static void sweep_once(const char *parent, unsigned what) {
    static piso__finding swept[PROCESSES | MEMORY];
    int is_swept;
    if (piso__finding_get(&swept[what - 1], &is_swept))
        return;
    piso__finding_set(&swept[what - 1], true);
    piso__group_folder_sweep(parent);
}

/* place: finds where folders for these limits, all in one hierarchy, can be made, and makes one. */
static int place(piso__group *g, unsigned what, const piso__group_limits *limits) {
    piso__cgroup at;
    if (!piso__cgroup_find(what & MEMORY ? "memory" : "pids", &at) || !at.own)
        return -ENOENT;
    int r = at.unified && what & MEMORY ? divide(&at) : 0;
    if (r == 0)
        r = make(g, at.folder, at.unified, what, limits);
    if (r == 0)
        sweep_once(at.folder, what);
    return r;
}

/* share_hierarchy: whether one folder can count both. */
static bool share_hierarchy(void) {
    piso__cgroup processes, memory;
    return piso__cgroup_find("pids", &processes) && piso__cgroup_find("memory", &memory) && processes.unified &&
           memory.unified;
}

/* place_all: makes the folders for all limits. In version 2 a process is in one folder. Where that cannot count
 * both it counts processes, because the kernel's other limit for processes is worse. */
static void place_all(piso__group *g, const piso__group_limits *limits, piso__group_errors *errors) {
    bool both = limits->processes && limits->memory && share_hierarchy();
    if (both) {
        errors->memory = place(g, PROCESSES | MEMORY, limits);
        if (errors->memory < 0)
            errors->processes = place(g, PROCESSES, limits);
        if (errors->processes == 0)
            return;
    }
    if (limits->memory)
        errors->memory = place(g, MEMORY, limits);
    if (limits->processes && !both)
        errors->processes = place(g, PROCESSES, limits);
}

int piso__group_new(const piso__group_limits *limits, piso__group **ret_group, piso__group_errors *ret_errors) {
    piso__autofree piso__group *g = calloc(1, sizeof *g);
    *ret_errors = (piso__group_errors){.processes = g || !limits->processes ? 0 : -ENOMEM,
                                       .memory = g || !limits->memory ? 0 : -ENOMEM};
    if (!g)
        return -ENOMEM;
    g->fork_generation = piso__fork_generation();
    place_all(g, limits, ret_errors);
    if (g->count == 0)
        return ret_errors->processes ? ret_errors->processes : ret_errors->memory;
    *ret_group = piso__steal_pointer(&g);
    return 0;
}

const char *piso__group_path(const piso__group *g, int index) {
    return index < g->count ? g->folders[index].path : NULL;
}

/* ---- removing a group ---- */

/* was_full: whether the group's own limit was reached. Version 1 has a counter for that, which Linux 6.18 does
 * not keep. */
static bool was_full(int fd, uint64_t bytes) {
    return piso__group_number(fd, "memory.events", "oom") ||
           piso__group_number(fd, "memory.max_usage_in_bytes", "") + NEARLY >= bytes ||
           piso__group_number(fd, "memory.memsw.max_usage_in_bytes", "") + NEARLY >= bytes;
}

uint64_t piso__group_exceeded(const piso__group *g) {
    if (!g || !g->limits.memory)
        return 0;
    piso__autoclose int fd = piso__group_open(g->folders[g->memory].path);
    /* a limit above this group kills too */
    bool reached = was_full(fd, g->limits.memory);
    bool killed =
        piso__group_number(fd, "memory.events", "oom_kill") || piso__group_number(fd, "memory.oom_control", "oom_kill");
    return reached && killed ? g->limits.memory : 0;
}

void piso__group_kill(const piso__group *g) {
    for (int i = 0; g && i < g->count; i++)
        piso__group_folder_kill(g->folders[i].path);
}

/* remove_folders: removes the folders; those that cannot be removed yet stay in the group. */
static bool remove_folders(piso__group *g, bool patient) {
    int left = 0;
    for (int i = 0; i < g->count; i++) {
        if (piso__group_folder_remove(g->folders[i].path, patient))
            piso__group_folder_drop(&g->folders[i]);
        else
            g->folders[left++] = g->folders[i];
    }
    g->count = left;
    return left == 0;
}

/* let_go: frees the group. The next host removes what is left. */
static void let_go(piso__group *g) {
    for (int i = 0; i < g->count; i++)
        piso__group_folder_drop(&g->folders[i]);
    free(g);
}

static void *end_later(void *argument) {
    remove_folders(argument, true);
    let_go(argument);
    return NULL;
}

piso__group *piso__group_end(piso__group *g) {
    if (!g)
        return NULL;
    if (g->fork_generation != piso__fork_generation())
        free(g);
    else if (remove_folders(g, false) || piso__thread_start("piso-group", end_later, g) < 0)
        let_go(g);
    return NULL;
}
