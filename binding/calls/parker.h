/* parker.h - what the task of an idle handler waits for. */
#ifndef BINDING_PARKER_H
#define BINDING_PARKER_H

#include "common/state.h"

typedef struct core_parker {
    PyObject_HEAD PyObject *loop;
    PyObject *wakeup, *wakeup_context; /* the waiting task's callback */
    char blocking, cancelled;          /* cancelled: somebody cancelled the task while it waited */
} core_parker;

int core_parker_init(PyObject *module, core_state *state);
core_parker *core_parker_new(core_state *state, PyObject *loop);
/* core_parker_wake: schedules the task's next step; once. */
void core_parker_wake(core_parker *p);

#endif
