/* call.h - a Call: what calling a method of the other side returns. It may wait on a loop for its end (parked), alone or as
 * one of several that are awaited together (gather.c). */
#ifndef BINDING_CALL_H
#define BINDING_CALL_H

#include "link.h"
#include "waiter.h"

/* core_group: the head of an object that awaits several calls. `ended`: one of them has: the waiter to be woken, borrowed,
 * or NULL. */
typedef struct core_group {
    PyObject_HEAD core_waiter *(*ended)(struct core_group *group, core_call *call);
} core_group;

struct core_call {
    PyObject_HEAD core_pending pending;
    core_session *session; /* strong; NULL once the call has ended */
    bool awaited;
    /* while parked: what the awaiting task waits for, and a reference to itself, because nobody else holds a task that
     * waits for a reply */
    core_waiter *waiter;
    core_group *group;                /* instead of a waiter of its own; strong */
    core_link *link;                  /* NULL: not parked */
    core_call *next, **previous_next; /* link->parked */
};

/* core_call_unpark: forgets waiter and link. */
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

int core_call_init(PyObject *module, core_state *state);
/* core_call_new: encodes, sends; a failure is kept for the await. */
PyObject *core_call_new(core_session *s, uint32_t object, uint32_t number, PyObject *name, int64_t timeout_ns,
                        PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* core_call_completed: pending.outcome has been set: wakes who waits. */
void core_call_completed(core_call *call);
/* core_call_park_in: parks a call as one of several. core_call_abandon: gives it up and asks for cancellation.
 * core_call_drop_value: as if it had been awaited. */
void core_call_park_in(core_call *call, core_link *link, core_group *group);
void core_call_abandon(core_call *call);
void core_call_drop_value(core_call *call);

int core_gather_init(PyObject *module, core_state *state);

#endif
