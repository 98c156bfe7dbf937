/* namespaces.h - what a child is put into: namespaces, and a root of its own; and what of that can be had here. */
#ifndef PISO_SANDBOX_NAMESPACES_H
#define PISO_SANDBOX_NAMESPACES_H

#include "sandbox/blob.h"

#define PISO__THREADS "/proc/self/task"

/* ---- processes: processes.c ---- */

/* piso__kernel_counts_processes: whether RLIMIT_NPROC holds for a child of this process. Tried once in a process. */
bool piso__kernel_counts_processes(void);

/* ---- namespaces: namespaces.c ---- */

/* piso__namespaces_probe: 0 when this process may make the namespaces, else -errno. Looked at once in a process. */
int piso__namespaces_probe(void);
/* piso__root_probe: the same for namespaces with a root of its own. */
int piso__root_probe(void);
/* piso__proc_probe: and for a /proc of its own. */
int piso__proc_probe(void);
/* piso__namespaces_enter: in the child. 0 or -errno. */
int piso__namespaces_enter(const piso__blob *blob);

/* ---- the root: mounts.c, in the child ---- */

/* piso__mounts_proc: a /proc that shows to each process those that it could trace, mounted nowhere yet; -errno: only
 * root may have one that is not of its own PID namespace. Also in the host, which finds out so. */
int piso__mounts_proc(void);
/* piso__mounts_change_root: the root is from now on what the block's steps make, all of it read-only but what is
 * mounted writable. `proc`: from piso__mounts_proc, or -1; closed. 0 or -errno. */
int piso__mounts_change_root(const piso__blob *blob, int proc);
int piso__mounts_set_read_only(const char *path, bool below, bool read_only);
/* piso__mounts_memory: a file system in memory, of this size (0: half of the memory) and mode, in a name in octal. */
int piso__mounts_memory(const char *path, uint64_t size, const char *mode);

#endif
