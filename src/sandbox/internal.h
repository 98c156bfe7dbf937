/* internal.h - the prepared sandbox, and the parts that prepare it. */
#ifndef PISO_SANDBOX_INTERNAL_H
#define PISO_SANDBOX_INTERNAL_H

#include <linux/filter.h>
#include <sys/resource.h>

#include "sandbox/group.h"
#include "sandbox/paths.h"
#include "sandbox/refusals.h"
#include "sandbox/sandbox.h"

#define PISO__LIMITS_MAX 8
#define PISO__BIT(layer) (1U << (layer))
#define PISO__THREADS    "/proc/self/task"

/* In the child, which may run on memory that it shares with this process: see os/spawn.c. */
#define PISO__IN_CHILD __attribute__((no_sanitize_address, no_sanitize_thread))

typedef struct piso__limit {
    uint32_t resource; /* RLIMIT_... */
    uint32_t padding;
    uint64_t soft, hard;
} piso__limit;

/* piso__blob: what the child does. Offsets are from its start; 0: not there. */
typedef struct piso__blob {
    uint64_t magic;
    uint32_t size; /* of all, with the strings and the filter that follow */
    uint32_t has_ruleset;
    uint32_t hides_network; /* of its entry in /proc all but what is about the network, which is the host's */
    uint32_t layers;        /* bits of those to apply */
    uint32_t namespaces;
    uint32_t uid, gid;
    uint32_t filter, filter_count;     /* struct sock_filter[] */
    uint32_t writable, writable_count; /* strings, one after the other */
    uint32_t temp;
    uint32_t root;                /* whether there is one of its own */
    uint32_t own_proc;            /* and a /proc in it */
    uint32_t steps, step_count;   /* piso__step[], which make it */
    uint32_t groups, group_count; /* strings: files to write to, to be in the control group */
    uint32_t nlimits;
    uint64_t temp_size; /* 0: the folder as it is; else a file system of this size */
    uint64_t shm_size;
    uint64_t read_access, write_access, list_access,
        device_access;      /* Landlock rights for what only the child can name */
    uint64_t thread_access; /* and for what /proc has of its threads; 0: as for the rest of /proc */
    piso__limit limits[PISO__LIMITS_MAX];
} piso__blob;

struct piso__sandbox {
    int fd; /* the child's end of the sockets of its refusals, with the ruleset in it; -1: neither ruleset nor filter */
    int failed_layer; /* written by the child */
    piso__blob *blob;
    piso__group *group;       /* in the host, until it is taken */
    piso__refusals *refusals; /* the same */
};

static inline void *piso__blob_at(const piso__blob *blob, uint32_t offset) {
    return (char *)blob + offset;
}

/* piso__next_string: what comes behind one of several strings. */
PISO__IN_CHILD static inline const char *piso__next_string(const char *text) {
    while (*text)
        text++;
    return text + 1;
}

/* ---- files, network, signals: landlock.c ---- */

typedef struct piso__landlock {
    int version; /* of the kernel's interface, 0: not there; then `error` says why */
    int error;
} piso__landlock;
/* piso__landlock_newest: versions above are not used; lowered by tests, for older kernels. */
extern int piso__landlock_newest;
/* piso__landlock_probe: what the kernel has. */
piso__landlock piso__landlock_probe(void);
/* piso__landlock_hides: 0, or PISO_ESANDBOX and why: in the host's root nothing can be hidden in a folder that is
 * permitted as a whole. */
int piso__landlock_hides(const piso_sandbox *spec, char *why, size_t size);
/* piso__landlock_ruleset: a ruleset for the spec, with the layers in `layers`; none, and *ret_fd left alone, when
 * there is nothing to rule on. `group`: the child's, or NULL for this process's. What the spec permits is added to `paths` in any case. The rights for the child's own
 * rules go to the blob. 0 or -errno. */
int piso__landlock_ruleset(const piso_sandbox *spec, const char *program, const piso__group *group, uint32_t layers,
                           piso__landlock landlock, piso__blob *blob, piso__paths *paths, int *ret_fd);

#define PISO__LANDLOCK_NETWORK    4 /* versions that have the layers */
#define PISO__LANDLOCK_TRUNCATION 3
#define PISO__LANDLOCK_SIGNALS    6

/* ---- system calls: filter.c ---- */

typedef struct piso__filter_options {
    bool network;       /* the internet's families of sockets */
    bool local_sockets; /* and those of the file system */
    bool own_sockets;   /* there are none but its own: they can be connected */
    bool private_ipc;   /* an IPC namespace keeps others' objects away */
    bool private_disk;  /* what may not be written is mounted read-only, so that modes and owners are safe */
    bool private_root;  /* no file can be named but those that may be used: what changes can be watched */
    bool own_signals;   /* nothing else stops signals to other processes */
    bool own_group;     /* no namespace tells whose processes are: they stay in the process group */
    bool no_holes;      /* shared memory that is there stays there */
    bool devices;       /* requests of their drivers, which are not known */
    bool no_truncation; /* nothing else stops it: opening for reading, too, can truncate */
} piso__filter_options;
/* piso__filter_probe: 0, or why the kernel, or somebody who filters this process, takes no filter: -errno. */
int piso__filter_probe(void);
/* piso__filter_build: the program, to be freed by the caller; the number of its instructions, or -errno, -ENOSYS when
 * there is no table for this machine. */
int piso__filter_build(piso__filter_options options, struct sock_filter **ret_program);
/* piso__filter_name: of a system call, or NULL. */
const char *piso__filter_name(uint32_t number);
/* Stands in the program for the child's process id, which only the child knows. */
#define PISO__FILTER_OWN_PID 0x7e57c0deU

/* ---- what is said: blame.c ---- */

/* piso__report_only: no layer holds, and nothing is said of others than this one: it would look like reasons. */
void piso__report_only(piso_layer layer, piso_sandbox_report *report);

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
