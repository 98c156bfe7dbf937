/* interruption.c - see interruption.h. */
#include "interruption.h"

#include <unistd.h>

bool core_is_main_thread(void) {
    return gettid() == getpid();
}

void core_keep_interruption(core_state *state, PyObject *exception) {
    if (!state->interruption)
        state->interruption = Py_NewRef(exception);
}

int core_raise_interruption(core_state *state) {
    PyObject *exception = state->interruption;
    if (!exception || !core_is_main_thread())
        return 0;
    state->interruption = NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
    return -1;
}
