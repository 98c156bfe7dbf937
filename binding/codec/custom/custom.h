/* custom.h - values that Python functions convert: instances of classes that are registered with encode and decode
 * (instances.c), values of other packages' types (converters.c), and values whose name is not known here (opaque.c). */
#ifndef BINDING_CUSTOM_H
#define BINDING_CUSTOM_H

#include "codec/tables.h"

struct core_custom_state {
    PyTypeObject *opaque_type;
    PyObject *load;     /* function: package -> list of converters of its types; NULL: none (converters.c) */
    PyObject *packages; /* dict: a package with converters -> True when they were loaded */
    PyObject *classes;  /* dict: class -> converter */
    PyObject *names;    /* dict: name -> converter */
};

/* core_custom_init: registers this folder. */
int core_custom_init(PyObject *module, core_state *state);
int core_custom_visit(core_state *state, visitproc visit, void *arg);
void core_custom_clear(core_state *state);
void core_custom_free(core_state *state);
/* core_converters_init: registers the converters, whose fallback comes after those of the other folders. */
int core_converters_init(PyObject *module, core_state *state);

/* core_texts_init: adds the functions for columns of text. */
int core_texts_init(PyObject *module);

void core_instances_init(core_state *state);

#endif
