/* cgroup.h - reading the control groups of this process. What is set there holds for a container as a whole. */
#ifndef PISO_OS_CGROUP_H
#define PISO_OS_CGROUP_H

#include "base/base.h"

/* piso__read_text: a file as a string, cut where the buffer ends; false if it cannot be read. */
bool piso__read_text(const char *path, char *buffer, size_t size);

/* piso__cgroup_lists: whether a list of controllers, with commas, has this one. */
bool piso__cgroup_lists(const char *list, size_t size, const char *controller);

/* piso__cgroup_look: called with the directory of a group, which need not exist. */
typedef void piso__cgroup_look(const char *directory, void *argument);
/* piso__cgroup_walk: this process's group of a controller ("cpu", "memory") and all above it. Reads files: call it
 * seldom. */
void piso__cgroup_walk(const char *controller, piso__cgroup_look *look, void *argument);

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
