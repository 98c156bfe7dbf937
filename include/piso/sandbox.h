/* sandbox.h - what a confined process may access and use, and which calls it was refused. */
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
    PISO_LAYER_SIGNALS,      /* Landlock: no signals and no abstract sockets to the outside; or a filter instead */
    PISO_LAYER_SYSTEM_CALLS, /* seccomp */
    PISO_LAYER_NAMESPACES,   /* user, mount, IPC and network namespaces; the rest of the file system read-only */
    PISO_LAYER_LIMITS,       /* resource limits */
    PISO_LAYERS,
} piso_layer;
/* piso_limits: what a process may use; 0: no limit. */
typedef struct piso_limits {
    size_t size; /* sizeof(piso_limits) */
    /* bytes of private memory of each process (RLIMIT_DATA); where a control group can be made, also the memory
     * of all its processes together, plus shared_memory and temp_size if given */
    uint64_t memory;
    uint64_t cpu_seconds; /* processor time of each process */
    uint64_t processes;   /* processes and threads together */
    uint64_t open_files;  /* descriptors of each process */
    uint64_t file_size;   /* bytes of one file */
    uint64_t temp_size;   /* bytes in the temporary folder, which then gets its own file system */
    /* bytes: of the arena of each direction, rounded up to a power of two; and of the child's segments */
    uint64_t shared_memory;
} piso_limits;
/* piso_sandbox: what a confined process may access. Anything that is not listed is refused. The lists end with
 * NULL and may be NULL themselves. Paths that do not exist are ignored. The system's programs and libraries,
 * and the program that is started, can always be read and run. */
typedef struct piso_sandbox {
    size_t size;                 /* sizeof(piso_sandbox) */
    const char *const *readable; /* files and folders with their contents: read and run */
    const char *const *listed;   /* folders: only the names of their contents */
    const char *const *writable; /* read, run, write, make, remove */
    const char *const *devices;  /* read, write, ioctl */
    /* what cannot be accessed although it is inside one of these, unless a list names it, or something in it,
     * itself. Without namespaces, or with `local_sockets`, paths that exist inside `writable` or the system's
     * folders cannot be hidden: PISO_ESANDBOX */
    const char *const *hidden;
    /* what confined processes can write to besides `writable`: no link there is followed, so a path through one
     * is ignored */
    const char *const *untrusted;
    const char *temp; /* a private writable folder, or NULL */
    bool network;
    /* allow to connect to Unix sockets, including those of daemons that the user may talk to */
    bool local_sockets;
    const piso_limits *limits; /* NULL: none */
    /* bits (1 << PISO_LAYER_...) to leave out: lets tests find the layer that refused something */
    unsigned omit;
} piso_sandbox;
/* piso_sandbox_report: which layers are active, and notes on them: what is missing and why. */
typedef struct piso_sandbox_report {
    size_t size; /* sizeof(piso_sandbox_report) */
    struct {
        bool active;
        char detail[160];
    } layers[PISO_LAYERS];
} piso_sandbox_report;
/* piso_layer_name: returns "files", "system calls", ...; NULL when there is no such layer. */
PISO_API const char *piso_layer_name(piso_layer layer);

/* piso_refusal: a kind of system call that was refused to a confined process. */
typedef struct piso_refusal {
    const char *call; /* its name, or NULL; static */
    uint32_t number;  /* the number of the system call */
    /* the arguments that tell its purpose: of ioctl, fcntl, prctl, socket, setsockopt, ...; else 0 */
    uint32_t arguments[2];
    int error; /* the errno that it got */
    uint64_t count;
} piso_refusal;
/* piso_process_refused: returns how many calls were refused. -EAGAIN: not known yet. -ENOSYS: cannot be known,
 * because the process is not confined or something else watches this host's system calls. */
PISO_API int64_t piso_process_refused(piso_process *p);
/* piso_process_refusals: returns at most `count` kinds, in the order of their first refusal, and how many these
 * are. */
PISO_API size_t piso_process_refusals(piso_process *p, piso_refusal *ret_kinds, size_t count);

#ifdef __cplusplus
}
#endif

#endif
