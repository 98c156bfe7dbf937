/* remedies.h - values that cannot be sent: whether the storage of a base class is sent instead, and what the error
 * recommends. */
#ifndef BINDING_REMEDIES_H
#define BINDING_REMEDIES_H

#include "converter.h"
#include "registry.h"

/* core_hint: returns what to send instead of a value of a class of NumPy or PyTorch; or NULL. */
const char *core_hint(PyObject *value);
/* core_sent_base: returns the base (str, int, float, bytes, list, tuple, dict or set) as which a value of a subclass is
 * sent; NULL where the base's storage would differ from what the value shows. `kind`: of its class. */
PyTypeObject *core_sent_base(core_encoder *e, PyObject *value, core_class_kind kind);
/* core_remedy: returns what to send instead of a value. */
const char *core_remedy(PyObject *value, core_class_kind kind);

#endif
