/* child.h - the process object, shared by process.c (its public side), spawn.c (its start), output.c (what it writes)
 * and monitor.c (its end). */
#ifndef PISO_SUPERVISOR_CHILD_H
#define PISO_SUPERVISOR_CHILD_H

#include <pthread.h>

#include "group/group.h"
#include "seccomp/refusals.h"
#include "supervisor/output.h"
#include "supervisor/parent.h"

struct piso_process {
    _Atomic uint32_t references;
    uint32_t fork_generation; /* of the process that spawned it */
    pid_t pid;
    piso__parent *parent; /* whose child it is, a reference; or NULL: ours */
    _Atomic uint32_t ended;

    /* The monitor's, or, once that has handed it over, of the thread that ends the group. */
    piso__group *group;       /* control group that it is in, or NULL */
    piso__refusals *refusals; /* of its filter of system calls, or NULL */
    uint64_t memory_exceeded; /* the group's limit, if it died of it; written before `ended` */
    uint64_t id;              /* in the monitor's table */
    int last_pidfd;           /* of one that has ended, until that is told; -1 */
    piso_process *next_ending;
    int ticks; /* that its zygote has taken to say how it ended */

    /* The lock guards the rest, and makes reaping exclude kill: a pid that is reaped may belong to another. It is held
     * for a few system calls that never wait. */
    pthread_mutex_t lock;
    int pidfd; /* -1 once it has ended: there is nobody to be signalled */
    piso_exit status;
    int end_epoll, end_beacon; /* made readable by the end; -1: none */
    uint64_t tail_written;     /* bytes of stderr ever; the tail is a ring */
    char tail[PISO__STDERR_TAIL];
    piso__output outputs[2]; /* stdout, stderr; the pipes are the monitor's */

    /* output.c's static lock guards these. */
    uint64_t cookie; /* of who follows the output; 0: nobody */
    int output_fd;   /* eventfd, if somebody asked for one; or -1 */
    bool has_news;   /* it is in the list of those that have written something */
    piso_process *next, **previous;
};

/* piso__process_new: not started yet. NULL: no memory. */
piso_process *piso__process_new(void);
/* piso__process_close_fds: what it has open. Also in the child of a fork, at once: whoever closes one of them in the
 * parent changes the field before, so that none is closed there whose number stands for another. */
void piso__process_close_fds(piso_process *p);
/* piso__process_unrefp: for piso__cleanup. */
static inline void piso__process_unrefp(piso_process **p) {
    *p = piso__process_unref(*p);
}

/* piso__process_look: 0 when it has not ended. 1 when it has: then its status is recorded, if anybody knows it.
 * -EINPROGRESS: it has, and its zygote has been asked how; piso__process_settle follows. In both cases its pidfd is the
 * last one. Needs the lock. */
int piso__process_look(piso_process *p);
/* piso__process_settle: records how it ended: as its zygote says, or, with NULL, what the system tells. Needs the lock. */
void piso__process_settle(piso_process *p, const piso_exit *told);
/* piso__process_tell: it has ended, and all is recorded: wakes who waits for that. */
void piso__process_tell(piso_process *p);

#endif
