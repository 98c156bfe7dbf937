/* numpy.h - NumPy's arrays, scalars and dtypes, and arrays of other packages, which are sent as NumPy arrays. */
#ifndef BINDING_NUMPY_H
#define BINDING_NUMPY_H

#include "codec/tables.h"

struct core_numpy_state {
    /* NULL until NumPy is first used */
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
/* core_frameworks_init: registers arrays of other packages. Must be called after all other types, because its encoder
 * calls Python. */
int core_frameworks_init(PyObject *module, core_state *state);

/* core_numpy_load: looks up NumPy's classes. `import`: import it, or only use it if it is imported. Returns 1, 0 when
 * it is not available, -1. */
int core_numpy_load(core_state *state, bool import);
/* core_numpy_needed: imports NumPy, or raises an ImportError that says why it is needed. */
int core_numpy_needed(core_decoder *d);

/* core_dtype_spec: returns the encoded description of a dtype, which does not depend on NumPy's version (arrays.c), as
 * a new bytes object. NULL without an exception for a dtype that holds objects or was registered by another package,
 * NULL with one on failure. */
PyObject *core_dtype_spec(core_state *state, PyObject *dtype);
/* core_dtype_from_spec: reads a description and returns the dtype; a new reference. Only checked type strings reach
 * NumPy. */
PyObject *core_dtype_from_spec(core_decoder *d, piso_reader *r);

/* core_encode_shared_array: encodes an array in shared memory. Returns 1, 0 when it is not in shared memory, -1.
 * `flags` as for arrays. */
int core_encode_shared_array(core_encoder *e, PyObject *array, PyObject *spec, int flags);

#endif
