/* interruption.h - exceptions that a signal handler raises inside code that cannot propagate them. */
#ifndef BINDING_INTERRUPTION_H
#define BINDING_INTERRUPTION_H

#include "state.h"

/* core_keep_interruption: stores an exception that a signal handler has raised where it could not be propagated.
 * core_raise_interruption: raises it. To be called in the main thread, where the binding returns to Python code or to
 * an event loop. Returns 0, or -1 with that exception. */
void core_keep_interruption(core_state *state, PyObject *exception);
int core_raise_interruption(core_state *state);
/* core_is_main_thread: returns whether this is the process's main thread, where signal handlers run. */
bool core_is_main_thread(void);

#endif
