/* parker.h - what a task waits for: that of an idle handler for a request, that of a call for its reply. */
#ifndef BINDING_PARKER_H
#define BINDING_PARKER_H

#include "common/state.h"

typedef struct core_parker {
    PyObject_HEAD PyObject *loop;
    PyObject *wakeup, *wakeup_context; /* the waiting task's callback, until it has been called */
    char blocking, woken, cancelled;   /* cancelled: somebody cancelled the task while it waited */
} core_parker;

int core_parker_init(PyObject *module, core_state *state);
core_parker *core_parker_new(core_state *state, PyObject *loop);
/* core_parker_wake: schedules the task's next step; once. `here`: in the thread of the loop. */
void core_parker_wake(core_parker *p, bool here);

#endif
