/* namespaces.h - the namespaces and the root of a child, and which of these this system permits. */
#ifndef PISO_SANDBOX_NAMESPACES_H
#define PISO_SANDBOX_NAMESPACES_H

#include "sandbox/blob.h"

#define PISO__THREADS "/proc/self/task"

/* ---- processes: processes.c ---- */

/* piso__kernel_counts_processes: whether RLIMIT_NPROC applies to a child of this process. Tried once in a
 * process. */
bool piso__kernel_counts_processes(void);

/* ---- namespaces: namespaces.c ---- */

/* piso__namespaces_probe: 0 when this process may make the namespaces, else -errno. Tried once in a process. */
int piso__namespaces_probe(void);
/* piso__root_probe: the same for namespaces with their own root. */
int piso__root_probe(void);
/* piso__proc_probe: the same for their own /proc. */
int piso__proc_probe(void);
/* piso__namespaces_enter: called in the child. 0 or -errno. */
int piso__namespaces_enter(const piso__blob *blob);

/* ---- the root: mounts.c, in the child ---- */

/* piso__mounts_proc: makes a /proc, not mounted yet, that shows each process those that it could trace. -errno:
 * only root may have one that is not of its own PID namespace. The host also calls it, to find that out. */
int piso__mounts_proc(void);
/* piso__mounts_change_root: makes the result of the block's steps the root, read-only except for what is
 * mounted writable. `proc`: from piso__mounts_proc, or -1; closed. 0 or -errno. */
int piso__mounts_change_root(const piso__blob *blob, int proc);
int piso__mounts_set_read_only(const char *path, bool below, bool read_only);
/* piso__mounts_memory: mounts a file system in memory, of this size (0: half of the memory) and mode (an octal
 * string), at a path. */
int piso__mounts_memory(const char *path, uint64_t size, const char *mode);

#endif
