/* interruption.h - what the handler of a signal raises in the middle of code that cannot raise it. */
#ifndef BINDING_INTERRUPTION_H
#define BINDING_INTERRUPTION_H

#include "state.h"

/* core_keep_interruption: what the handler of a signal has raised where it could not be raised any further.
 * core_raise_interruption: to be called in the main thread where something of ours that Python's code has called returns,
 * or a loop: 0, or -1 with that exception. */
void core_keep_interruption(core_state *state, PyObject *exception);
int core_raise_interruption(core_state *state);
/* core_is_main_thread: that of the process, where handlers of signals run. */
bool core_is_main_thread(void);

#endif
