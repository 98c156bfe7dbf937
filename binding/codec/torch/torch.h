/* torch.h - the parts of PyTorch that the binding uses, looked up when torch is first used. Nothing is compiled against
 * torch: all access is through Python objects, so any version with untyped storages (2.0 and later) works. */
#ifndef BINDING_TORCH_H
#define BINDING_TORCH_H

#include "codec/buffers/shared.h"
#include "codec/gpu.h"
#include "codec/tables.h"
#include "dlpack.h"

#define CORE_TORCH_DTYPES 22

/* core_torch_dtype: a dtype whose elements are plain bytes. Quantised dtypes also have a scale, and cannot be sent. */
typedef struct core_torch_dtype {
    const char *name;
    core_dlpack_dtype dlpack; /* no bits: not used */
    Py_ssize_t itemsize;      /* bytes of an element */
    PyObject *object;         /* NULL: not in this version of torch */
    PyObject *blank;          /* an empty tensor of it, to create others from; NULL until needed */
} core_torch_dtype;

/* core_torch_values: tables of torch's other values (values.c). All strong references. */
typedef struct core_torch_values {
    PyObject *size, *device;       /* classes */
    PyObject *types;               /* type -> int */
    PyObject *names;               /* constant, or class of a result -> name */
    PyObject *constants, *results; /* the inverse mappings */
} core_torch_values;

/* core_torch_state: set only when everything has been looked up, which runs Python code, perhaps in several threads. */
struct core_torch_state {
    const core_dlpack_exchange *exchange; /* of torch.Tensor, or NULL: not in this version */
    core_torch_dtype dtypes[CORE_TORCH_DTYPES];
    bool cuda_ready;               /* torch.cuda has been initialised */
    bool values_known;             /* the tables are complete */
    Py_ssize_t storage_references; /* Py_REFCNT of a storage that was just taken from its only tensor */
    /* strong references from here on */
    PyObject *module, *tensor, *parameter, *storage, *strided; /* module, classes, the layout */
    PyObject *blanks;                                          /* (dtype, device of a GPU) -> empty tensor */
    PyObject *use_count;                                       /* of a storage's address; or NULL */
    PyObject *from_dlpack;                                     /* NULL until memory of a GPU arrives */
    PyObject *shares_attribute;                                /* of a storage: its Shared */
    PyObject *buffer_ref_attribute;                            /* of a storage over a received buffer: its BufferRef */
    PyObject *warned_attribute;                                /* of a storage that is copied: a warning was issued */
    PyObject *moving_attribute; /* of a storage that a thread moves: the fork generation */
    core_torch_values values;
    /* interned names */
    PyObject *untyped_storage, *data_ptr, *dtype, *shape, *stride, *storage_offset, *requires_grad, *requires_grad_set,
        *is_conj, *is_neg, *is_cpu, *is_cuda, *is_leaf, *layout, *detach, *data, *set, *nbytes, *conj, *neg_view,
        *is_shared, *share_fd, *is_pinned, *resizable, *is_view, *tensor_use_count, *cdata, *copy, *version, *swap,
        *frombuffer;
};

/* core_optional: gets an attribute that may be missing, without creating an exception, which would take longer than
 * everything else here. Returns 1, 0 or -1; *ret_value is a new reference or NULL. */
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

/* core_torch_load: returns 1; 0 when torch is not imported and `import` is false; -1. */
int core_torch_load(core_state *state, bool import);
/* core_torch_needed: imports torch, or returns -1 with an ImportError that says why it is needed. */
int core_torch_needed(core_decoder *d);
/* core_torch_forget: drops all references. core_torch_delete: also frees the state; keeps the current exception. Both
 * accept NULL. */
void core_torch_forget(core_torch_state *t);
void core_torch_delete(core_torch_state *t);

static inline bool core_torch_is_tensor(const core_torch_state *t, PyObject *value) {
    PyObject *type = (PyObject *)Py_TYPE(value);
    return t && (type == t->tensor || type == t->parameter);
}

/* core_torch_dtype_of: returns a tensor's dtype; NULL without an exception when it cannot be sent, or with one. */
core_torch_dtype *core_torch_dtype_of(core_torch_state *t, PyObject *tensor);
/* core_torch_dtype_named: returns the dtype of this name; NULL, without an exception, when it cannot be sent, or is not
 * in this version. */
core_torch_dtype *core_torch_dtype_named(core_torch_state *t, const char *name, size_t size);
/* core_torch_fresh: returns a new tensor created from an empty one. It does not use detach: detached tensors share a
 * version counter, and autograd would take a write to one for a write to another. New reference. */
PyObject *core_torch_fresh(core_torch_state *t, PyObject *blank);
/* core_torch_over: returns a tensor over a storage; offset and strides in elements. New reference. */
PyObject *core_torch_over(core_torch_state *t, PyObject *storage, core_torch_dtype *dtype, PyObject *offset,
                          PyObject *shape, PyObject *strides);
/* core_torch_buffer: returns a storage over the memory of an object with the buffer protocol, which it keeps alive; or,
 * with a device, a copy on that device. New reference. */
PyObject *core_torch_buffer(core_torch_state *t, PyObject *owner, PyObject *device);
/* core_torch_data: returns the address of the memory of a tensor or a storage. NULL may be valid: see
 * PyErr_Occurred. */
void *core_torch_data(core_torch_state *t, PyObject *object);

/* core_torch_view: gets the DLPack description of a tensor in the CPU's memory. Returns its dtype, or NULL, without an
 * exception, where this version, or the tensor, has none. Cheap: creates no Python object. */
core_torch_dtype *core_torch_view(core_torch_state *t, PyObject *tensor, core_dlpack_tensor *ret_view);

/* core_torch_error: returns torch's class for an exception of this name ("module:qualname"): the out-of-memory error.
 * New reference, or NULL without an exception. */
PyObject *core_torch_error(core_torch_state *t, const char *name);

/* core_torch_raise_out_of_memory: raises torch.OutOfMemoryError with this text. */
void core_torch_raise_out_of_memory(core_torch_state *t, const char *text);
/* core_torch_stream: gets the current stream of a GPU. Returns 0 or -1. */
int core_torch_stream(core_torch_state *t, int device, void **ret_stream);

/* storages.c */

/* core_storage_open: returns the storage over a segment, the existing one or a new one. `keep_fd`: as for
 * piso_segment_map. New reference. */
PyObject *core_storage_open(core_state *state, piso_segment *segment, bool keep_fd);
/* core_storage_new: returns a storage in new shared memory. New reference. */
PyObject *core_storage_new(core_state *state, size_t size);

#endif
