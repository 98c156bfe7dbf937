/* zygote.h - the Zygote type and what a zygote's process runs. */
#ifndef BINDING_ZYGOTE_H
#define BINDING_ZYGOTE_H

#include "common/state.h"

/* core_zygote_handle: borrowed from an instance of the type. */
piso_zygote *core_zygote_handle(PyObject *zygote);
int core_zygote_init(PyObject *module, core_state *state);

#endif
