/* dtypes.h - descriptions of NumPy dtypes that do not depend on NumPy's version (arrays.c). */
#ifndef BINDING_DTYPES_H
#define BINDING_DTYPES_H

#include "codec/converter.h"

/* core_dtype_spec: the encoded description, a new bytes object; NULL without an exception for a dtype that holds
 * objects or was registered by somebody, NULL with one on failure. */
PyObject *core_dtype_spec(core_state *state, PyObject *dtype);
/* core_dtype_from_spec: the dtype described next; a new reference. Nothing but checked type strings reaches
 * NumPy. */
PyObject *core_dtype_from_spec(core_decoder *d, piso_reader *r);

#endif
