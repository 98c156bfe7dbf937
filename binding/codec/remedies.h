/* remedies.h - values that cannot be sent: whether the storage of a base is sent instead, and what an error advises. */
#ifndef BINDING_REMEDIES_H
#define BINDING_REMEDIES_H

#include "converter.h"
#include "registry.h"

/* core_hint: what to send instead of a value of a class of NumPy or PyTorch; or NULL. */
const char *core_hint(PyObject *value);
/* core_sent_base: str, int, float, bytes, list, tuple, dict or set, by whose storage a value of a subclass is sent; NULL
 * where that would be something else than what the value shows. `kind`: of its class. */
PyTypeObject *core_sent_base(core_encoder *e, PyObject *value, core_class_kind kind);
/* core_remedy: what to send instead of a value. */
const char *core_remedy(PyObject *value, core_class_kind kind);

#endif
