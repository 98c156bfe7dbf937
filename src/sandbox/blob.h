/* blob.h - a prepared sandbox: what the child does, as one block of bytes without pointers. */
#ifndef PISO_SANDBOX_BLOB_H
#define PISO_SANDBOX_BLOB_H

#include <sys/resource.h>

#include "group/group.h"
#include "sandbox/paths.h"
#include "seccomp/refusals.h"

#define PISO__BLOB_MAGIC UINT64_C(0x7069736f73623031)
#define PISO__LIMITS_MAX 16 /* as many as the kernel has resources */
#define PISO__THREADS    "/proc/self/task"
#define PISO__BIT(layer) (1U << (layer))

typedef struct piso__limit {
    uint32_t resource; /* RLIMIT_... */
    uint32_t padding;
    uint64_t soft, hard;
} piso__limit;

/* piso__blob: what the child does. Offsets are from its start; 0: absent. */
typedef struct piso__blob {
    uint64_t magic;
    uint32_t size; /* of the whole block, with the strings and the filter behind it */
    uint32_t has_ruleset;
    /* whether the network part of its entry in /proc, which is the host's, is hidden */
    uint32_t hides_network;
    uint32_t layers; /* bits of the layers to apply */
    uint32_t namespaces;
    uint32_t uid, gid;
    uint32_t filter, filter_count;     /* struct sock_filter[] */
    uint32_t writable, writable_count; /* consecutive strings */
    uint32_t temp;
    uint32_t root;                /* whether it has its own root */
    uint32_t own_proc;            /* and a /proc in it */
    uint32_t steps, step_count;   /* piso__step[], the steps that make the root */
    uint32_t groups, group_count; /* strings: files to write to in order to enter the control group */
    uint32_t nlimits;
    uint64_t temp_size; /* size of the temporary folder's own file system; 0: the folder as it is */
    uint64_t shm_size;
    uint64_t read_access, write_access, list_access,
        device_access;      /* Landlock rights for objects that only the child can name */
    uint64_t thread_access; /* and for /proc entries of its threads; 0: the same as for the rest of /proc */
    piso__limit limits[PISO__LIMITS_MAX];
} piso__blob;

/* piso__sandbox: see sandbox.h. */
typedef struct piso__sandbox {
    int fd; /* the child's end of the refusals' sockets, with the ruleset in it; -1: neither ruleset nor filter */
    int failed_layer; /* written by the child */
    piso__blob *blob;
    piso__group *group;       /* in the host, until it is taken */
    piso__refusals *refusals; /* in the host, until they are taken */
} piso__sandbox;

static inline void *piso__blob_at(const piso__blob *blob, uint32_t offset) {
    return (char *)blob + offset;
}

/* piso__next_string: returns the string behind one of several. */
PISO__IN_CHILD static inline const char *piso__next_string(const char *text) {
    while (*text)
        text++;
    return text + 1;
}

/* piso__blob_is_whole: whether everything that the block refers to is in it. */
bool piso__blob_is_whole(const piso__blob *b, size_t size);

#endif
