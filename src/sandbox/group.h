/* group.h - a control group that counts the processes of one child, and holds all of them.
 *
 * Rules:
 *  1. A group lies below that of the host: what holds for the host (its own limits, its memory) holds for what is in
 *     it. Both versions of control groups will do, if they have the "pids" controller and let this user write.
 *  2. The child goes in before anything of the extension runs (apply.c); what it starts is in it from birth. It cannot
 *     get out: its sandbox lets it write to no control group.
 *  3. The host holds a lock on the group's folder. Folders that have none are those of hosts that died; the next one
 *     that makes a group ends what is in them and removes them. Their names begin with "pyisolate-". */
#ifndef PISO_SANDBOX_GROUP_H
#define PISO_SANDBOX_GROUP_H

#include "base/base.h"

typedef struct piso__group piso__group;

/* piso__group_new: an empty group for at most so many processes and threads. -ENOENT where this system has no
 * controller of processes, -EACCES, -EROFS and others where this user may not make one. */
int piso__group_new(uint64_t processes, piso__group **ret_group);
/* piso__group_path: of its folder. */
const char *piso__group_path(const piso__group *g);
/* piso__group_end: kills what is in it and removes it; what does not die within milliseconds is waited for by a
 * thread. Takes the group, which may be NULL; in a forked process it is only freed. Returns NULL. */
piso__group *piso__group_end(piso__group *g);
static inline void piso__group_endp(piso__group **g) {
    *g = piso__group_end(*g);
}

/* piso__group_folder: from the texts of /proc/self/cgroup and /proc/self/mountinfo, the folder of this process's group:
 * in the hierarchy of version 2, or in that of version 1 that has the "pids" controller. False when it cannot be
 * seen here. */
bool piso__group_folder(const char *groups, const char *mounts, bool unified, char *ret_folder, size_t size);

#endif
