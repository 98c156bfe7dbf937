/* cgroup.h - the control groups of this process, of either version, or of both: which folder stands for the one that has
 * a controller, what is above it, and how much memory is left in them. What is set there holds for a container as a
 * whole.
 *
 * A controller is in one hierarchy only: in one of version 1, if /proc/self/cgroup names it there, else in that of
 * version 2. Where the hierarchies are mounted is read once in a process, and again when the group's folder is not where
 * it should be. Thread-safe. */
#ifndef PISO_OS_CGROUP_H
#define PISO_OS_CGROUP_H

#include <limits.h>

#include "base/base.h"

/* piso__cgroup: the group of this process in the hierarchy that has a controller. */
typedef struct piso__cgroup {
    bool unified; /* version 2 */
    bool own;     /* else it cannot be seen from here, and this is the topmost group that can, as of a container */
    size_t top;   /* how much of the path leads to the topmost group that can be seen */
    char folder[PATH_MAX];
} piso__cgroup;
/* piso__cgroup_find: of a controller ("cpu", "memory", "pids"). False when nothing of its hierarchy can be seen. With
 * version 2 the group need not have the controller. Reads files: call it seldom. */
bool piso__cgroup_find(const char *controller, piso__cgroup *ret_group);

/* piso__cgroup_look: called with the directory of a group. */
typedef void piso__cgroup_look(const char *directory, void *argument);
/* piso__cgroup_walk: this process's group of a controller and all above it, as far as they can be seen. */
void piso__cgroup_walk(const char *controller, piso__cgroup_look *look, void *argument);

/* piso__cgroup_read_below: for tests: reads `folder`/cgroup and `folder`/mountinfo from now on, not those of /proc/self. */
void piso__cgroup_read_below(const char *folder);
/* How often mountinfo was read. For tests. */
extern _Atomic uint32_t piso__cgroup_mounts_read;

/* piso__memory_room: how much memory a group of version 2 or 1 can take before processes in it are killed: what its limit
 * leaves and what of its page cache can be dropped. UINT64_MAX: it has no limit. */
uint64_t piso__memory_room(const char *directory);
/* piso__memory_available: the same for this process: the smallest of all its groups' and of the system's. */
uint64_t piso__memory_available(void);

/* piso__memory_is_strict: whether the system gives no more memory than it has (vm.overcommit_memory=2). A page that is not
 * there when it is touched can then be a SIGBUS. Looked at once. */
bool piso__memory_is_strict(void);
/* What the above answers: 0 or 1; -1 until it is known. Set by tests. */
extern _Atomic int piso__strict_memory;

#endif
