/* numpy.h - NumPy's arrays, scalars and dtypes, and arrays of other packages, which are sent as NumPy's. */
#ifndef BINDING_NUMPY_H
#define BINDING_NUMPY_H

#include "codec/tables.h"

struct core_numpy_state {
    /* NULL until NumPy is met */
    PyObject *numpy, *ndarray, *generic, *dtype;
    PyObject *dtype_specs;      /* dtype -> bytes: its encoded description */
    PyObject *spec_dtypes;      /* str -> dtype */
    PyObject *export, *restore; /* functions for arrays of other packages, or NULL (frameworks.c) */
};

int core_numpy_init(PyObject *module, core_state *state);
int core_numpy_visit(core_state *state, visitproc visit, void *arg);
void core_numpy_clear(core_state *state);
void core_numpy_free(core_state *state);
void core_arrays_init(core_state *state);
void core_shared_arrays_init(core_state *state);
/* core_frameworks_init: arrays of other packages; after all other types, since it asks Python. */
int core_frameworks_init(PyObject *module, core_state *state);

/* core_numpy_load: remembers NumPy's classes; `import` it, or only if somebody has. 1, 0 when it is not there, -1. */
int core_numpy_load(core_state *state, bool import);
/* core_numpy_needed: imports NumPy, or raises an ImportError that says why. */
int core_numpy_needed(core_decoder *d);

/* core_dtype_spec: the encoded description of a dtype that does not depend on NumPy's version (arrays.c), a new bytes
 * object; NULL without an exception for a dtype that holds objects or was registered by somebody, NULL with one on
 * failure. */
PyObject *core_dtype_spec(core_state *state, PyObject *dtype);
/* core_dtype_from_spec: the dtype described next; a new reference. Nothing but checked type strings reaches NumPy. */
PyObject *core_dtype_from_spec(core_decoder *d, piso_reader *r);

/* core_encode_shared_array: 1 when it was written, 0 when it is not in shared memory, -1. `flags` as for arrays. */
int core_encode_shared_array(core_encoder *e, PyObject *array, PyObject *spec, int flags);

#endif
