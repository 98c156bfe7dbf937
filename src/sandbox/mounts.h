/* mounts.h - the root of a child, made in the child. */
#ifndef PISO_SANDBOX_MOUNTS_H
#define PISO_SANDBOX_MOUNTS_H

#include "sandbox/blob.h"

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
