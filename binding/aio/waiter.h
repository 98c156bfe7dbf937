/* waiter.h - what a task that awaits a call waits for. */
#ifndef BINDING_WAITER_H
#define BINDING_WAITER_H

#include "common/state.h"
#include "rpc/thread.h"

typedef struct core_parker {
    PyObject_HEAD PyObject *loop;
    PyObject *wakeup, *wakeup_context; /* the waiting task's callback, until it has been called */
    core_thread *due;                  /* while the loop is to call this */
    char blocking, woken, cancelled;   /* cancelled: somebody cancelled the task while it waited */
} core_parker;

int core_parker_init(PyObject *module, core_state *state);
core_parker *core_parker_new(core_state *state, PyObject *loop);
/* core_parker_wake: the wait is over. The context, borrowed, in which the loop is to call the parker; NULL: it need not. */
PyObject *core_parker_wake(core_parker *p);

#endif
