/* zygote.h - the Zygote type, and the functions that a zygote's process calls. */
#ifndef BINDING_ZYGOTE_H
#define BINDING_ZYGOTE_H

#include "common/state.h"

/* core_zygote_handle: returns the handle of an instance, borrowed. */
piso_zygote *core_zygote_handle(PyObject *zygote);
int core_zygote_init(PyObject *module, core_state *state);

#endif
