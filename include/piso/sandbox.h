/* sandbox.h - what a confined process may reach and use, and what it was refused. */
#ifndef PISO_SANDBOX_H
#define PISO_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* piso_layer: the parts of a sandbox (docs/security-model.md). */
typedef enum piso_layer {
    PISO_LAYER_PRIVILEGES,   /* no_new_privs, no capabilities */
    PISO_LAYER_FILES,        /* Landlock: which files can be opened, run, made and removed */
    PISO_LAYER_NETWORK,      /* Landlock: no TCP */
    PISO_LAYER_SIGNALS,      /* Landlock: no signals and abstract sockets to outside; or a filter instead */
    PISO_LAYER_SYSTEM_CALLS, /* seccomp */
    PISO_LAYER_NAMESPACES,   /* user, mount, IPC and network namespaces; the rest of the file system read-only */
    PISO_LAYER_LIMITS,       /* resource limits */
    PISO_LAYERS,
} piso_layer;
/* piso_limits: what a process may use; 0: no limit. */
typedef struct piso_limits {
    size_t size;          /* sizeof(piso_limits) */
    uint64_t memory;      /* bytes of private memory, each process (RLIMIT_DATA); where a control group can be made also
                           * all memory of all its processes, with shared_memory and temp_size on top if given */
    uint64_t cpu_seconds; /* processor time, each process */
    uint64_t processes;   /* processes and threads, all together */
    uint64_t open_files;  /* descriptors, each process */
    uint64_t file_size;   /* bytes of one file */
    uint64_t temp_size;   /* bytes in the temporary folder, which is then a file system of its own */
    uint64_t
        shared_memory; /* bytes: of each direction's arena, rounded up to a power of two; of the child's segments */
} piso_limits;
/* piso_sandbox: what a confined process may reach. What is not listed is refused. The lists end with NULL and may be
 * NULL themselves; paths that do not exist are passed over. Programs and libraries of the system can always be read
 * and run, and so can the program that is started. */
typedef struct piso_sandbox {
    size_t size;                  /* sizeof(piso_sandbox) */
    const char *const *readable;  /* files and folders with all that is below: read and run */
    const char *const *listed;    /* folders: the names of what is below, nothing else */
    const char *const *writable;  /* read, run, write, make, remove */
    const char *const *devices;   /* read, write, ioctl */
    const char *const *hidden;    /* what cannot be reached though it lies below one of these, unless a list names it,
                                  * or something in it, itself. Without namespaces, or with `local_sockets`,
                                  * that cannot hold for what is there and lies in `writable` or in what is the
                                  * system's: PISO_ESANDBOX */
    const char *const *untrusted; /* what confined processes can write to, besides `writable`: no link there is
                                   * followed, so a path that leads through one is passed over */
    const char *temp;             /* a private folder, writable; or NULL */
    bool network;
    bool local_sockets;        /* Unix sockets can be connected: also those of daemons that the user may talk to */
    const piso_limits *limits; /* NULL: none */
    unsigned omit;             /* bits (1 << PISO_LAYER_...) to leave out: for tests that ask which layer it was */
} piso_sandbox;
/* piso_sandbox_report: which layers hold, and what there is to know about them: what is missing and why. */
typedef struct piso_sandbox_report {
    size_t size; /* sizeof(piso_sandbox_report) */
    struct {
        bool active;
        char detail[160];
    } layers[PISO_LAYERS];
} piso_sandbox_report;
/* piso_layer_name: "files", "system calls"; NULL when there is no such layer. */
PISO_API const char *piso_layer_name(piso_layer layer);

/* piso_refusal: a kind of system call that a confined process was refused. */
typedef struct piso_refusal {
    const char *call;      /* its name, or NULL; lives for ever */
    uint32_t number;       /* of the call */
    uint32_t arguments[2]; /* those that say what it was for: of ioctl, fcntl, prctl, socket, setsockopt, ...; else 0 */
    int error;             /* what it got, as errno */
    uint64_t count;
} piso_refusal;
/* piso_process_refused: how many calls were refused. -EAGAIN: it is not known yet; -ENOSYS: it cannot be known, because the
 * process is not confined or something else watches this host's system calls. */
PISO_API int64_t piso_process_refused(piso_process *p);
/* piso_process_refusals: at most `count` kinds, in the order of the first of each; how many. */
PISO_API size_t piso_process_refusals(piso_process *p, piso_refusal *ret_kinds, size_t count);

#ifdef __cplusplus
}
#endif

#endif
