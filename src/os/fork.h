/* fork.h - what a fork of this process does to state that belongs to the process, not to an object.
 *
 * The child of a fork has one thread. A lock that another thread held stays locked there for ever, and the
 * state that it guards may be half changed. Therefore:
 *
 *  1. A lock that is no field of an object is a piso__lock and has a place in piso__place. There is no other
 *     static mutex, pthread_once or pthread_atfork (tests/lint). A fact that is found out once is an atomic,
 *     without a lock.
 *  2. A fork takes all these locks, in the order of piso__place, and releases them in parent and child. So the
 *     child finds each lock free and the state that it guards whole.
 *  3. A thread that holds one of them takes none with an earlier place, and no lock of an object.
 *  4. A lock is held for a few instructions: not while a file is read, a callback runs or another process is
 *     waited for, since a fork waits for the lock too.
 *  5. In the child `in_child` is called while the lock is held, after the fork generation has changed. It
 *     discards the parent's state; it only frees memory and closes descriptors.
 *  6. The exception, `anew`: a lock that is held for long and guards state that no child uses. A fork does not
 *     take it, and the child gets a new lock.
 *
 * Objects need none of this. Each knows the fork generation of the process that made it, and its functions
 * refuse to work in another process before they touch its lock. docs/fork.md explains the consequences for
 * users. */
#ifndef PISO_OS_FORK_H
#define PISO_OS_FORK_H

#include <pthread.h>

#include "base/base.h"

typedef enum piso__place {
    PISO__PLACE_MONITOR,  /* supervisor/monitor.c: the watched processes */
    PISO__PLACE_OUTPUT,   /* supervisor/output.c: the processes with new output */
    PISO__PLACE_GROUPS,   /* group/folder.c: the locks of this host */
    PISO__PLACE_REFUSALS, /* seccomp/refusals.c: the processes whose refusals are answered */
    PISO__PLACE_CHANNELS, /* channel/channel.c: the open channels */
    PISO__PLACE_SEGMENTS, /* memory/segment.c: the segments of this process */
    PISO__PLACE_BEACON,   /* os/beacon.c: descriptors that are always readable */
    PISO__PLACE_CUDA,     /* gpu/cuda_driver.c */
    PISO__PLACES,
} piso__place;

typedef struct piso__lock {
    pthread_mutex_t mutex;
    void (*in_child)(void); /* or NULL */
    bool anew;
} piso__lock;

/* PISO__STATIC_LOCK: defines a static lock. Further arguments are initialisers, such as .in_child = f. */
#define PISO__STATIC_LOCK(name, place, ...)                                                                            \
    static piso__lock name = {.mutex = PTHREAD_MUTEX_INITIALIZER, __VA_ARGS__};                                        \
    __attribute__((constructor)) static void name##_enter(void) {                                                      \
        piso__lock_enter(&name, place);                                                                                \
    }                                                                                                                  \
    static_assert(true, "a semicolon follows")

/* piso__lock_enter: puts a lock at its place. Used by the macro. */
void piso__lock_enter(piso__lock *lock, piso__place place);
/* piso__lock_at: returns the lock at that place, or NULL. For tests. */
piso__lock *piso__lock_at(piso__place place);
void piso__lock_take(piso__lock *lock);
void piso__lock_give(piso__lock *lock);

/* piso__fork_generation: returns a number that is different in a process forked from this one, and in its
 * children. Only reads memory. A child made by _Fork or a bare system call is not noticed; children of vfork
 * and posix_spawn do not matter. */
uint32_t piso__fork_generation(void);

/* piso__finding: a fact about the system that this process has found out once, without a lock. Several threads
 * may find it out at the same time, with the same result. Zero at first. A forked process finds it out again,
 * since it may have become another user. */
typedef _Atomic uint64_t piso__finding;
/* piso__finding_get: false when the fact is not known yet. */
bool piso__finding_get(const piso__finding *f, int *ret_value);
void piso__finding_set(piso__finding *f, int value);

#endif
