/* keeper.h - in a zygote: its children, and what they leave behind.
 *
 * Rules:
 *  1. The zygote is the nearest ancestor that takes orphans (PR_SET_CHILD_SUBREAPER). So when a child of it has ended, all
 *     that descends from that child descends from an orphan that is the zygote's child, whatever it has done: forked twice,
 *     made a session, become a subreaper itself.
 *  2. An orphan lives as long as a child that is in the same mount namespace. A namespace is never left, because the
 *     filter refuses that; so it says whose an orphan is, if its extension has one. One that hides its namespace (it made
 *     itself undumpable, or runs a program that cannot be read) is killed like one without an extension, if it is confined.
 *  3. Extensions without a namespace of their own are in the zygote's. What a confined one of these has started is in its
 *     process group, which the filter does not let it leave, and is killed with that. What has left the group of one that
 *     is not confined is killed when none of these is there any more.
 *  4. What is to go is killed in rounds, until there is nothing left: what the killed had as children is the zygote's in the
 *     next round. Nothing is waited for: the zygote serves its host between rounds. A child that has ended is reaped, and
 *     its host told, after that, or after PISO__KEEPER_PATIENCE_NS.
 *  5. When the host has gone all children are killed, with their process groups, and the same goes for what they leave.
 *
 * Nothing here is for threads. */
#ifndef PISO_SUPERVISOR_KEEPER_H
#define PISO_SUPERVISOR_KEEPER_H

#include <sys/types.h>

#include "base/base.h"

#define PISO__KEEPER_PATIENCE_NS INT64_C(500000000) /* half of what the host's monitor has */

typedef struct piso__kept {
    pid_t pid;
    bool ending, told; /* it is to be reaped; the host wants to know how it ended */
    int64_t since_ns;
} piso__kept;

typedef struct piso__keeper {
    piso__kept *children; /* that were forked here */
    int count, room;
    int signal_fd;    /* readable when a child has ended; -1 */
    int64_t look_ns;  /* when to look again; -1: not before something happens */
    int64_t pause_ns; /* before the next look but that one */
} piso__keeper;

/* piso__keeper_reaped: called for a child about which the host asked: r as piso__reap returns it. */
typedef void piso__keeper_reaped(void *argument, pid_t pid, int r, const piso_exit *status);

/* piso__keeper_init: 0 or -errno. piso__keeper_forget: frees what there is, in a forked child. */
int piso__keeper_init(piso__keeper *k);
void piso__keeper_forget(piso__keeper *k);
/* piso__keeper_reserve: makes room for one more child. 0 or -ENOMEM. piso__keeper_add: needs the room. */
int piso__keeper_reserve(piso__keeper *k);
void piso__keeper_add(piso__keeper *k, pid_t pid);
/* piso__keeper_end: the child has ended, or has been killed: it is reaped as soon as what it has left is gone, by
 * piso__keeper_look, which is due at once. False: it is no child. `told`: the host wants to know. */
bool piso__keeper_end(piso__keeper *k, pid_t pid, bool told);
/* piso__keeper_end_dead: the same for all that have ended. Without a host that asks. */
void piso__keeper_end_dead(piso__keeper *k);
/* piso__keeper_timeout: how long until a look is due; -1: none is. */
int64_t piso__keeper_timeout(const piso__keeper *k);
/* piso__keeper_notice: signal_fd was readable: a look is due soon. */
void piso__keeper_notice(piso__keeper *k);
/* piso__keeper_look: kills orphans, and reaps. Does not wait. */
void piso__keeper_look(piso__keeper *k, piso__keeper_reaped *reaped, void *argument);
/* piso__keeper_end_all: kills and reaps everything, and waits for it, a minute at most. */
void piso__keeper_end_all(piso__keeper *k);

#endif
