/* steps.h - the outcome of a coroutine's step, as its methods and its iterator report it. */
#ifndef BINDING_STEPS_H
#define BINDING_STEPS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* core_stop_iteration: raises StopIteration with `value`, which is stolen. Returns NULL. */
PyObject *core_stop_iteration(PyObject *value);
/* core_step_outcome: converts what `am_send` gives, as send() and throw() return it: the yielded value, or NULL with
 * StopIteration or another exception. Steals `value`. */
PyObject *core_step_outcome(PySendResult r, PyObject *value);

#endif
