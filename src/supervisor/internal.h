/* internal.h - the process object, shared by process.c (its public side) and monitor.c (its end). */
#ifndef PISO_SUPERVISOR_INTERNAL_H
#define PISO_SUPERVISOR_INTERNAL_H

#include <pthread.h>
#include <sys/types.h>

#include "supervisor/process.h"

struct piso_process {
    _Atomic uint32_t references;
    uint32_t fork_generation; /* of the process that spawned it */
    pid_t pid;
    int exit_fd;
    bool echo;
    piso_zygote *zygote; /* whose child it is, or NULL: ours */
    _Atomic bool ended;
    /* The lock guards the rest, and makes reaping exclude kill: a pid that is reaped may belong to another. */
    pthread_mutex_t lock;
    int pidfd;     /* -1 once reaped */
    int stderr_fd; /* -1 once at its end */
    piso_exit status;
    uint64_t tail_written; /* bytes ever; the tail is a ring */
    char tail[PISO__STDERR_TAIL];
};

/* piso__process_unrefp: for piso__cleanup. */
static inline void piso__process_unrefp(piso_process **p) {
    *p = piso__process_unref(*p);
}

/* piso__process_reap: whether it has ended; then its status, if anybody knows it, is recorded. Needs the lock. */
bool piso__process_reap(piso_process *p);

/* piso__monitor_watch: takes a reference to `p` and watches it until it has ended. On failure nothing of `p` is
 * watched any more and the caller reaps it. */
int piso__monitor_watch(piso_process *p);

#endif
