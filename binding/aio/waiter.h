/* waiter.h - a Waiter: the object that a task waits for when it awaits a call. */
#ifndef BINDING_WAITER_H
#define BINDING_WAITER_H

#include "common/state.h"
#include "rpc/thread.h"

typedef struct core_waiter {
    PyObject_HEAD PyObject *loop;
    PyObject *wakeup, *wakeup_context; /* the waiting task's callback, until it has been called */
    core_thread *ready_on;             /* set until the loop has called this */
    char blocking, woken, cancelled;   /* cancelled: the task was cancelled while it waited */
} core_waiter;

int core_waiter_init(PyObject *module, core_state *state);
core_waiter *core_waiter_new(core_state *state, PyObject *loop);
/* core_waiter_wake: ends the wait. Returns the context, borrowed, in which the loop must call the waiter; NULL: no call
 * is needed. */
PyObject *core_waiter_wake(core_waiter *p);

#endif
