/* keeper.h - in a zygote: its children, and the processes that they leave behind.
 *
 * Rules:
 *  1. The zygote is the nearest ancestor that adopts orphans (PR_SET_CHILD_SUBREAPER). So when a child of it
 *     has ended, every descendant of that child descends from an orphan that is now the zygote's child,
 *     whatever the child has done: forked twice, made a session, become a subreaper itself.
 *  2. An orphan may live as long as a child in the same mount namespace. No process leaves its namespace,
 *     because the filter refuses that. So the namespace identifies the extension of an orphan, if that
 *     extension has one. An orphan that hides its namespace (it made itself undumpable, or runs a program that
 *     cannot be read) is killed like one without an extension, if it is confined.
 *  3. Extensions without their own namespace are in the zygote's. Processes that such a confined extension has
 *     started are in its process group, which the filter does not let them leave, and are killed with the
 *     group. Processes that have left the group of an unconfined extension are killed when no extension of this
 *     kind is left.
 *  4. Killing proceeds in rounds until nothing is left: children of the killed are the zygote's in the next
 *     round, or later, since a process may take long to die. A round is the last one only if the child and all
 *     known orphans had ended before it looked. The zygote waits for nothing and serves its host between rounds.
 *     It reaps a child that has ended, and reports to its host, after the last round, or after
 *     PISO__KEEPER_PATIENCE_NS.
 *  5. When the host has gone, all children are killed with their process groups, and so is what they leave
 *     behind.
 *
 * Not thread-safe. */
#ifndef PISO_SUPERVISOR_KEEPER_H
#define PISO_SUPERVISOR_KEEPER_H

#include <sys/types.h>

#include "base/base.h"

#define PISO__KEEPER_PATIENCE_NS INT64_C(500000000) /* half of the time that the host's monitor waits */

typedef struct piso__kept {
    pid_t pid;
    bool ending, notify; /* it must be reaped; the host wants to know how it ended */
    bool ended;          /* it had ended before orphans were last looked for */
    int64_t since_ns;
} piso__kept;

typedef struct piso__keeper {
    piso__kept *children; /* that were forked here */
    int count, room;
    int signal_fd;    /* readable when a child has ended; -1: none */
    int64_t check_ns; /* when to check again; -1: not before something happens */
    int64_t pause_ns; /* pause before the check after the next */
} piso__keeper;

/* piso__keeper_reaped: called for a child that the host asked about. `r` is what piso__reap returned. */
typedef void piso__keeper_reaped(void *argument, pid_t pid, int r, const piso_exit *status);

/* piso__keeper_init: 0 or -errno. piso__keeper_forget: frees everything, in a forked child. */
int piso__keeper_init(piso__keeper *k);
void piso__keeper_forget(piso__keeper *k);
/* piso__keeper_reserve: makes room for one more child. 0 or -ENOMEM. piso__keeper_add: adds a child; needs the
 * reserved room. */
int piso__keeper_reserve(piso__keeper *k);
void piso__keeper_add(piso__keeper *k, pid_t pid);
/* piso__keeper_end: the child has ended, or was killed. piso__keeper_check, which is due at once, reaps it as
 * soon as what it left behind is gone. False: there is no such child. `notify`: the host wants to know. */
bool piso__keeper_end(piso__keeper *k, pid_t pid, bool notify);
/* piso__keeper_end_dead: the same for all children that have ended, if no host asks. */
void piso__keeper_end_dead(piso__keeper *k);
/* piso__keeper_timeout: returns the time until a check is due; -1: none is. */
int64_t piso__keeper_timeout(const piso__keeper *k);
/* piso__keeper_notice: called when signal_fd was readable: a check becomes due soon. */
void piso__keeper_notice(piso__keeper *k);
/* piso__keeper_check: kills orphans and reaps children. Does not block. */
void piso__keeper_check(piso__keeper *k, piso__keeper_reaped *reaped, void *argument);
/* piso__keeper_end_all: kills and reaps everything. Blocks until that is done, a minute at most. */
void piso__keeper_end_all(piso__keeper *k);

#endif
