/* group.h - a control group for one child, which counts its processes or its memory, and contains everything
 * that it starts.
 *
 * Rules:
 *  1. Limits of the host's group, for instance, also apply to the group: it is below that of the host, or
 *     beside it in a group that was delegated to both (group.c). Both versions of control groups are supported,
 *     if they have the controller and this user may write to them.
 *  2. The child enters the group before any code of the extension runs (apply.c). Everything that it starts is
 *     in the group from birth. It cannot leave: its sandbox permits writing to no control group.
 *  3. A group has one folder in each hierarchy that has one of the controllers (folder.h), and needs no
 *     descriptor. Groups of dead hosts, and the processes in them, are removed in the background when a process
 *     makes its first group. */
#ifndef PISO_GROUP_GROUP_H
#define PISO_GROUP_GROUP_H

#include "base/base.h"

#define PISO__GROUP_FOLDERS 2

typedef struct piso__group piso__group;

/* piso__group_limits: 0 means not limited. */
typedef struct piso__group_limits {
    uint64_t processes; /* and threads */
    uint64_t memory;    /* bytes of all kinds that the kernel counts for the group, swap included */
} piso__group_limits;
/* piso__group_errors: for each limit 0 if it is in force or was not requested, else the reason: -ENOENT where
 * this system has no such controller; -EBUSY where in version 2 the host's group cannot be divided, since it
 * has processes; -EACCES, -EROFS and others where this user may not. */
typedef struct piso__group_errors {
    int processes, memory;
} piso__group_errors;

/* piso__group_new: makes an empty group for as many of the limits as possible. 0, or the first error when none
 * is possible. *ret_errors is always set. */
int piso__group_new(const piso__group_limits *limits, piso__group **ret_group, piso__group_errors *ret_errors);
/* piso__group_path: returns the path of its folder `index`; NULL when it has fewer folders. */
const char *piso__group_path(const piso__group *g, int index);
/* piso__group_exceeded: returns the memory limit in bytes if something in the group was killed because the
 * group's own limit was reached, else 0. NULL is allowed. */
uint64_t piso__group_exceeded(const piso__group *g);
/* piso__group_kill: kills the processes in it, without waiting. NULL is allowed. */
void piso__group_kill(const piso__group *g);
/* piso__group_end: kills the processes in it and removes it. Waits some milliseconds; a thread waits for what
 * takes longer. Takes the group, which may be NULL; in a forked process it only frees memory. Returns NULL. */
piso__group *piso__group_end(piso__group *g);
static inline void piso__group_endp(piso__group **g) {
    *g = piso__group_end(*g);
}

#endif
