/* child.h - the process object, shared by process.c (its public functions), spawn.c (its start), output.c (its
 * output) and monitor.c (its end). */
#ifndef PISO_SUPERVISOR_CHILD_H
#define PISO_SUPERVISOR_CHILD_H

#include <pthread.h>

#include "group/group.h"
#include "seccomp/refusals.h"
#include "supervisor/output.h"
#include "supervisor/parent.h"

struct piso_process {
    _Atomic uint32_t references;
    uint32_t fork_generation; /* fork generation of the process that spawned it */
    pid_t pid;
    piso__parent *parent; /* a reference to the zygote that forked it; NULL: it is our child */
    _Atomic uint32_t ended;

    /* Owned by the monitor, and after the handover by the thread that ends the group. */
    piso__group *group;       /* the control group that it is in, or NULL */
    piso__refusals *refusals; /* of its system-call filter, or NULL */
    uint64_t memory_exceeded; /* the group's limit, if it was killed because of it; written before `ended` */
    uint64_t id;              /* in the monitor's table */
    int last_pidfd;           /* of a process that has ended, until the end is reported; else -1 */
    piso_process *next_ending;
    int ticks; /* how long its zygote has taken to report its exit */

    /* The lock guards the rest. It makes reaping exclude kill: a reaped pid may belong to another process. It
     * is held for a few system calls that never block. */
    pthread_mutex_t lock;
    int pidfd; /* -1 once it has ended: nobody can be signalled */
    piso_exit status;
    int end_epoll, end_beacon; /* enabled at the end of the process; -1: none */
    uint64_t tail_written;     /* total bytes of stderr; the tail is a ring */
    char tail[PISO__STDERR_TAIL];
    piso__output outputs[2]; /* stdout, stderr; the monitor owns the pipes */

    /* guarded by output.c's static lock */
    uint64_t cookie; /* of the follower of the output; 0: none */
    int output_fd;   /* an eventfd if one was requested, else -1 */
    bool has_news;   /* it is in the list of processes with new output */
    piso_process *next, **previous;
};

/* piso__process_new: makes an object that is not started yet. NULL when memory is exhausted. */
piso_process *piso__process_new(void);
/* piso__process_close_fds: closes its descriptors. Also called in the child of a fork, at once. The parent
 * therefore clears a field before it closes the descriptor, so that the child never closes a number that
 * belongs to another file. */
void piso__process_close_fds(piso_process *p);
/* piso__process_unrefp: for piso__cleanup. */
static inline void piso__process_unrefp(piso_process **p) {
    *p = piso__process_unref(*p);
}

/* piso__process_check_end: checks whether it has ended. 0: it has not. 1: it has, and its status is recorded if it
 * is known. -EINPROGRESS: it has, and its zygote was asked for the status; piso__process_record_exit follows. In the
 * last two cases its pidfd becomes last_pidfd. Needs the lock. */
int piso__process_check_end(piso_process *p);
/* piso__process_record_exit: records how it ended, as reported by its zygote or, with NULL, by the system. Needs the
 * lock. */
void piso__process_record_exit(piso_process *p, const piso_exit *reported);
/* piso__process_report_end: wakes the threads that wait for its end, after everything is recorded. */
void piso__process_report_end(piso_process *p);

#endif
