/* cgroup.h - the control groups of this process, of version 1, version 2, or both: the folder of the group that
 * has a controller, the groups above it, and how much memory they have left. Limits that are set there hold for
 * a container as a whole.
 *
 * Each controller is in one hierarchy: in one of version 1 if /proc/self/cgroup names it there, else in that of
 * version 2. A process reads once where the hierarchies are mounted, and again when the group's folder is not
 * where it should be. Thread-safe. */
#ifndef PISO_OS_CGROUP_H
#define PISO_OS_CGROUP_H

#include <limits.h>

#include "base/base.h"

/* piso__cgroup: this process's group in the hierarchy that has a controller. */
typedef struct piso__cgroup {
    bool unified; /* version 2 */
    /* false: the own group is not visible from here, and this is the topmost visible one, for instance of a
     * container */
    bool own;
    size_t top; /* length of the part of the path that leads to the topmost visible group */
    char folder[PATH_MAX];
} piso__cgroup;
/* piso__cgroup_find: finds the group of a controller ("cpu", "memory", "pids"). False when nothing of its
 * hierarchy is visible. With version 2 the group may lack the controller. Reads files: call it seldom. */
bool piso__cgroup_find(const char *controller, piso__cgroup *ret_group);

/* piso__cgroup_visit: a callback that gets the directory of a group. */
typedef void piso__cgroup_visit(const char *directory, void *argument);
/* piso__cgroup_walk: calls `visit` for this process's group of a controller and for all visible groups above it. */
void piso__cgroup_walk(const char *controller, piso__cgroup_visit *visit, void *argument);

/* piso__cgroup_read_below: makes this process read `folder`/cgroup and `folder`/mountinfo from now on, instead
 * of those of /proc/self. For tests. */
void piso__cgroup_read_below(const char *folder);
/* How often mountinfo was read. For tests. */
extern _Atomic uint32_t piso__cgroup_mounts_read;

/* piso__memory_room: returns how much memory a group of version 2 or 1 can take before processes in it are
 * killed: the rest of its limit, and the part of its page cache that can be dropped. UINT64_MAX when it has no
 * limit. */
uint64_t piso__memory_room(const char *directory);
/* piso__memory_available: returns the same for this process: the smallest value of all its groups and of the
 * system. */
uint64_t piso__memory_available(void);

/* piso__memory_is_strict: whether the system commits no more memory than it has (vm.overcommit_memory=2).
 * Touching a page that does not exist can then be a SIGBUS. Read once. */
bool piso__memory_is_strict(void);
/* The result of piso__memory_is_strict: 0 or 1; -1 until it is known. Tests set it. */
extern _Atomic int piso__strict_memory;

#endif
