/* group.h - a control group for one child, which counts its processes or its memory, and holds all that it starts.
 *
 * Rules:
 *  1. What holds for the host, such as its own limits, holds for what is in the group: it lies below that of the host, or
 *     beside it in one that has been delegated to both (group.c). Both versions of control groups will do, if they have
 *     the controller and let this user write.
 *  2. The child goes in before anything of the extension runs (apply.c); what it starts is in it from birth. It cannot
 *     get out: its sandbox lets it write to no control group.
 *  3. It is one folder in each hierarchy that has one of the controllers (folder.h); it costs no descriptor. Those of
 *     hosts that died are removed, with what is in them, in the background, when a process makes its first group. */
#ifndef PISO_GROUP_GROUP_H
#define PISO_GROUP_GROUP_H

#include "base/base.h"

#define PISO__GROUP_FOLDERS 2

typedef struct piso__group piso__group;

/* piso__group_limits: 0: not limited. */
typedef struct piso__group_limits {
    uint64_t processes; /* and threads */
    uint64_t memory;    /* bytes, of whatever kind the kernel counts for the group, swap included */
} piso__group_limits;
/* piso__group_errors: for each of the limits 0 if it holds or was not asked for, else why it does not: -ENOENT where this
 * system has no such controller; -EBUSY where in version 2 the host's group cannot be divided, since it has processes;
 * -EACCES, -EROFS and others where this user may not. */
typedef struct piso__group_errors {
    int processes, memory;
} piso__group_errors;

/* piso__group_new: an empty group for as many of the limits as can be had. 0; the first error when it is none. *ret_errors
 * is set in any case. */
int piso__group_new(const piso__group_limits *limits, piso__group **ret_group, piso__group_errors *ret_errors);
/* piso__group_path: of its folder `index`; NULL when it has not so many. */
const char *piso__group_path(const piso__group *g, int index);
/* piso__group_exceeded: whether something in it was killed because the group's own limit of memory was reached: then that
 * limit in bytes, else 0. NULL has none. */
uint64_t piso__group_exceeded(const piso__group *g);
/* piso__group_kill: kills what is in it, without waiting. It may be NULL. */
void piso__group_kill(const piso__group *g);
/* piso__group_end: kills what is in it and removes it; waits some milliseconds for that, what takes longer is waited for
 * by a thread. Takes the group, which may be NULL; in a forked process it is only freed. Returns NULL. */
piso__group *piso__group_end(piso__group *g);
static inline void piso__group_endp(piso__group **g) {
    *g = piso__group_end(*g);
}

#endif
