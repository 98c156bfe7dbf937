/* torch.h - what the binding uses of PyTorch, looked up when torch is first met. Nothing is built against it: all of it
 * goes through Python objects, so any version that has untyped storages (2.0 and later) will do. */
#ifndef BINDING_TORCH_H
#define BINDING_TORCH_H

#include "codec/buffers/shared.h"
#include "codec/gpu.h"
#include "codec/tables.h"
#include "dlpack.h"

#define CORE_TORCH_DTYPES 22

/* core_torch_dtype: one whose elements are plain bytes. Quantised ones carry a scale besides, and do not cross. */
typedef struct core_torch_dtype {
    const char *name;
    core_dlpack_dtype dlpack; /* no bits: not used */
    Py_ssize_t itemsize;      /* bytes of an element */
    PyObject *object;         /* NULL: this version of torch does not have it */
    PyObject *blank;          /* an empty tensor of it, to make others of; NULL until it is needed */
} core_torch_dtype;

/* core_torch_values: tables of what torch has besides tensors (values.c). All references. */
typedef struct core_torch_values {
    PyObject *size, *device;       /* classes */
    PyObject *types;               /* type -> int */
    PyObject *names;               /* constant, or class of a result -> name */
    PyObject *constants, *results; /* the other way round */
} core_torch_values;

/* core_torch_state: there only when all is looked up, which runs Python's code, in several threads perhaps. */
struct core_torch_state {
    const core_dlpack_exchange *exchange; /* of torch.Tensor, or NULL: not in this version */
    core_torch_dtype dtypes[CORE_TORCH_DTYPES];
    bool cuda_ready;               /* torch.cuda has been initialised */
    bool values_known;             /* the tables are full */
    Py_ssize_t storage_references; /* that a storage which one tensor has shows to who asked for it */
    /* from here on references */
    PyObject *module, *tensor, *parameter, *storage, *strided; /* module, classes, the layout */
    PyObject *blanks;                                          /* (dtype, device of a GPU) -> empty tensor */
    PyObject *use_count;                                       /* of a storage's address; or NULL */
    PyObject *from_dlpack;                                     /* NULL until memory of a GPU comes */
    PyObject *shares_attribute;                                /* of a storage: its Shared */
    PyObject *buffer_ref_attribute;                                 /* of a storage over a received buffer: its Lease */
    PyObject *warned_attribute;                                /* of a storage that is copied: it was told */
    PyObject *moving_attribute;                                /* of one that a thread moves: the fork generation */
    core_torch_values values;
    /* interned names */
    PyObject *untyped_storage, *data_ptr, *dtype, *shape, *stride, *storage_offset, *requires_grad, *requires_grad_set,
        *is_conj, *is_neg, *is_cpu, *is_cuda, *is_leaf, *layout, *detach, *data, *set, *nbytes, *conj, *neg_view,
        *is_shared, *share_fd, *is_pinned, *resizable, *is_view, *tensor_use_count, *cdata, *copy, *version, *swap,
        *frombuffer;
};

/* core_optional: an attribute that may be missing: that makes no exception, which would take longer than all else here. 1, 0
 * or -1; a new reference or NULL. */
static inline int core_optional(PyObject *object, PyObject *name, PyObject **ret_value) {
#if PY_VERSION_HEX >= 0x030d0000
    return PyObject_GetOptionalAttr(object, name, ret_value);
#else
    return _PyObject_LookupAttr(object, name, ret_value);
#endif
}

int core_torch_init(PyObject *module, core_state *state);
int core_torch_visit(core_state *state, visitproc visit, void *arg);
void core_torch_clear(core_state *state);
void core_torch_free(core_state *state);

/* core_torch_load: 1; 0 when nobody has imported torch and `import` is false; -1. */
int core_torch_load(core_state *state, bool import);
/* core_torch_needed: imports torch, or -1 with an ImportError that says why. */
int core_torch_needed(core_decoder *d);
/* core_torch_forget: drops all references. core_torch_delete: frees it as well; keeps the current exception. Both take
 * NULL. */
void core_torch_forget(core_torch_state *t);
void core_torch_delete(core_torch_state *t);

static inline bool core_torch_is_tensor(const core_torch_state *t, PyObject *value) {
    PyObject *type = (PyObject *)Py_TYPE(value);
    return t && (type == t->tensor || type == t->parameter);
}

/* core_torch_dtype_of: that of a tensor; NULL without an exception when it does not cross, or with one. */
core_torch_dtype *core_torch_dtype_of(core_torch_state *t, PyObject *tensor);
/* core_torch_dtype_named: NULL, without an exception, when it is none that crosses, or not in this version. */
core_torch_dtype *core_torch_dtype_named(core_torch_state *t, const char *name, size_t size);
/* core_torch_fresh: a tensor made of an empty one; not by detach, which would let all share a version, and autograd take
 * a write to one for a write to another. New reference. */
PyObject *core_torch_fresh(core_torch_state *t, PyObject *blank);
/* core_torch_over: a tensor over a storage; offset and strides in elements. New reference. */
PyObject *core_torch_over(core_torch_state *t, PyObject *storage, core_torch_dtype *dtype, PyObject *offset,
                          PyObject *shape, PyObject *strides);
/* core_torch_buffer: a storage over the memory of an object that has a buffer, which it keeps; or with a device a copy
 * there. New reference. */
PyObject *core_torch_buffer(core_torch_state *t, PyObject *owner, PyObject *device);
/* core_torch_data: where the memory of a tensor or a storage begins. NULL may be right: see PyErr_Occurred. */
void *core_torch_data(core_torch_state *t, PyObject *object);

/* core_torch_view: a tensor of the CPU as DLPack has it; its dtype, or NULL, without an exception, where this version,
 * or the tensor, has no such thing. Cheap: no Python object is made. */
core_torch_dtype *core_torch_view(core_torch_state *t, PyObject *tensor, core_dlpack_tensor *ret_view);

/* core_torch_error: the class of torch that an exception of this name ("module:qualname") arrives as: that of an
 * exhausted memory. New reference, or NULL without an exception. */
PyObject *core_torch_error(core_torch_state *t, const char *name);

/* core_torch_raise_out_of_memory: torch.OutOfMemoryError with this text. */
void core_torch_raise_out_of_memory(core_torch_state *t, const char *text);
/* core_torch_stream: the current stream of a GPU. 0 or -1. */
int core_torch_stream(core_torch_state *t, int device, void **ret_stream);

/* storages.c */

/* core_storage_open: a storage over a segment: the one that is there, or a new one. `keep_fd`: as of piso_segment_map. New
 * reference. */
PyObject *core_storage_open(core_state *state, piso_segment *segment, bool keep_fd);
/* core_storage_new: a storage in new shared memory. New reference. */
PyObject *core_storage_new(core_state *state, size_t size);

#endif
