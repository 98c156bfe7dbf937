/* waiter.h - what a task that awaits a call waits for. */
#ifndef BINDING_WAITER_H
#define BINDING_WAITER_H

#include "common/state.h"
#include "rpc/thread.h"

typedef struct core_waiter {
    PyObject_HEAD PyObject *loop;
    PyObject *wakeup, *wakeup_context; /* the waiting task's callback, until it has been called */
    core_thread *ready_on;                  /* while the loop is to call this */
    char blocking, woken, cancelled;   /* cancelled: somebody cancelled the task while it waited */
} core_waiter;

int core_waiter_init(PyObject *module, core_state *state);
core_waiter *core_waiter_new(core_state *state, PyObject *loop);
/* core_waiter_wake: the wait is over. The context, borrowed, in which the loop is to call the waiter; NULL: it need not. */
PyObject *core_waiter_wake(core_waiter *p);

#endif
