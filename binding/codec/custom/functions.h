/* functions.h - calls of encode and decode functions. */
#ifndef BINDING_FUNCTIONS_H
#define BINDING_FUNCTIONS_H

#include "codec/converter.h"

/* core_call_encode, core_call_decode: call the function of the class or converter of this name. What it raises fails
 * the message: a note says which function it was; an exception that would end a program, a task or a generator is
 * replaced by a RuntimeError with that cause. A KeyboardInterrupt is raised by core_call_encode; where nobody would
 * receive it, the main thread is interrupted instead (common/interruption.h). */
PyObject *core_call_encode(core_encoder *e, PyObject *function, PyObject *name, PyObject *value);
PyObject *core_call_decode(core_decoder *d, PyObject *function, PyObject *name, PyObject *value);

/* core_refuse_converting: to be called before a call is sent: raises RuntimeError and returns -1 inside an encode or
 * decode function of this thread; else returns 0. */
int core_refuse_in_function(void);
static inline int core_refuse_converting(const core_state *state) {
    return state->converting ? core_refuse_in_function() : 0;
}

#endif
