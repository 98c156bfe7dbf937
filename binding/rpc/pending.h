/* pending.h - a call that has been sent: the state that its caller keeps until it ends. */
#ifndef BINDING_PENDING_H
#define BINDING_PENDING_H

#include "object.h"

typedef enum core_outcome { CORE_PENDING, CORE_RESULT, CORE_EXCEPTION, CORE_TAKEN } core_outcome;

typedef struct core_pending {
    piso_call call;
    uint8_t outcome;      /* core_outcome */
    bool arriving;        /* its reply is being decoded, perhaps in another thread: do not free it */
    bool closed;          /* its owner no longer waits */
    bool woken;           /* `waiter` has been woken */
    unsigned long thread; /* the thread that made the call */
    PyObject *owner;      /* the object that embeds this, borrowed. NULL: a thread waits for it (pump/sync.c) */
    void (*ended)(struct core_pending *pending); /* of the owner: called when the outcome has been set */
    core_thread *waiter;                         /* that thread; NULL: there is an owner */
    PyObject *value;                             /* result or exception instance; strong */
    PyObject *name;                              /* the method, for messages; strong, owned by whatever embeds this */
    int64_t timeout_ns;                          /* for messages; 0: none, or the caller's time ends before */
    /* list of the remote objects that the call names, or the only one; NULL: none. Strong, owned by whatever embeds
     * this: the peer must read the call before a lease of one of them ends, and the call may wait in the backlog */
    PyObject *remotes;
    PyObject *origin; /* the Request in whose handler the call was made, or NULL; strong, likewise */
} core_pending;

#endif
