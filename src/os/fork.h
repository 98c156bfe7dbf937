/* fork.h - what a fork of this process does to state that belongs to the process, not to an object.
 *
 * The child of a fork has one thread. A lock that another thread held stays locked there for ever, and what it guards
 * may be half changed. Therefore:
 *
 *  1. A lock that is no field of an object is a piso__lock, and has a place in piso__place. There is no other static
 *     mutex, pthread_once or pthread_atfork (tests/lint). What is only found out once is an atomic, without a lock.
 *  2. A fork takes all of them, in the order of piso__place, and gives them back in parent and child. So the child finds
 *     each of them free and what it guards whole.
 *  3. Who holds one takes no other one with an earlier place, and no lock of an object.
 *  4. One is held for a few instructions: not while a file is read, a callback runs or another process is waited for,
 *     since a fork waits for it as well.
 *  5. In the child `in_child` is called while the lock is held, after the fork generation has changed. It lets go of what
 *     is the parent's; it only frees memory and closes descriptors.
 *  6. The exception, `anew`: a lock that is held for long, of state that no child uses. A fork does not take it; the child
 *     gets a new one.
 *
 * Objects need none of this: each knows the fork generation of the process that made it, and its functions refuse to
 * work in another one before they touch its lock. docs/fork.md says what follows for users. */
#ifndef PISO_OS_FORK_H
#define PISO_OS_FORK_H

#include <pthread.h>

#include "base/base.h"

typedef enum piso__place {
    PISO__PLACE_MONITOR,  /* supervisor/monitor.c: which processes are watched */
    PISO__PLACE_OUTPUT,   /* supervisor/output.c: which have written something */
    PISO__PLACE_GROUPS,   /* sandbox/group_folder.c: the locks of this host */
    PISO__PLACE_REFUSALS, /* sandbox/refusals.c: which processes are answered */
    PISO__PLACE_CHANNELS, /* channel/channel.c: those that are open */
    PISO__PLACE_SEGMENTS, /* memory/segment.c: the segments of this process */
    PISO__PLACE_BEACON,   /* os/fd.c: descriptors that are always readable */
    PISO__PLACE_CUDA,     /* gpu/cuda_driver.c */
    PISO__PLACES,
} piso__place;

typedef struct piso__lock {
    pthread_mutex_t mutex;
    void (*in_child)(void); /* or NULL */
    bool anew;
} piso__lock;

/* PISO__STATIC_LOCK: defines a static lock; the rest are initialisers, such as .in_child = f. */
#define PISO__STATIC_LOCK(name, place, ...)                                                                            \
    static piso__lock name = {.mutex = PTHREAD_MUTEX_INITIALIZER, __VA_ARGS__};                                        \
    __attribute__((constructor)) static void name##_enter(void) {                                                      \
        piso__lock_enter(&name, place);                                                                                \
    }                                                                                                                  \
    static_assert(true, "a semicolon follows")

/* piso__lock_enter: gives a lock its place; for the macro. */
void piso__lock_enter(piso__lock *lock, piso__place place);
/* piso__lock_at: the lock with that place, or NULL; for tests. */
piso__lock *piso__lock_at(piso__place place);
void piso__lock_take(piso__lock *lock);
void piso__lock_give(piso__lock *lock);

/* piso__fork_generation: a number that differs in a process forked from this one, and in its children. Reads memory
 * only. A child made by _Fork or a bare system call is not noticed; vfork and posix_spawn make none that matters. */
uint32_t piso__fork_generation(void);

/* piso__finding: what this process has found out about its system, once, without a lock: threads may look at the same
 * time, and find the same. Zero at first. A forked process looks again, since it may have become another user. */
typedef _Atomic uint64_t piso__finding;
/* piso__finding_get: false when it is not known. */
bool piso__finding_get(const piso__finding *f, int *ret_value);
void piso__finding_set(piso__finding *f, int value);

#endif
