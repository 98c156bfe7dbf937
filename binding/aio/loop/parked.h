/* parked.h - a call that a task waits for on a loop (it is parked), alone or as one of several that are awaited
 * together. */
#ifndef BINDING_PARKED_H
#define BINDING_PARKED_H

#include "aio/waiter.h"
#include "link.h"
#include "rpc/pending.h"

/* core_group: the head of an object that awaits several calls. `ended`: called when one of them has ended; returns the
 * waiter to wake, borrowed, or NULL. */
typedef struct core_group {
    PyObject_HEAD core_waiter *(*ended)(struct core_group *group, core_call *call);
} core_group;

struct core_call {
    PyObject_HEAD core_pending pending;
    core_session *session; /* strong; NULL once the call has ended */
    bool awaited;
    /* while parked: the object that the awaiting task waits for, and a reference to this call, because nothing else may
     * refer to a task that waits for a reply */
    core_waiter *waiter;
    core_group *group;                /* instead of its own waiter; strong */
    core_link *link;                  /* NULL: not parked */
    core_call *next, **previous_next; /* link->parked */
};

/* core_call_unpark: clears waiter and link. */
static inline void core_call_unpark(core_call *call) {
    if (!call->link)
        return;
    *call->previous_next = call->next;
    if (call->next)
        call->next->previous_next = call->previous_next;
    call->next = NULL;
    call->link = NULL;
    Py_CLEAR(call->waiter);
    Py_CLEAR(call->group);
    Py_DECREF(call); /* the reference to itself */
}

#endif
