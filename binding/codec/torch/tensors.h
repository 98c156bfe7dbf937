/* tensors.h - tensors in messages (docs/wire-format.md): [framework, dtype, shape, strides, offset, flags, data].
 *
 * Shape, strides and offset are in elements. `data` is bytes where the session copies tensors, or a span of a shared
 * segment where it shares them: the whole storage, in which offset and strides locate the elements. */
#ifndef BINDING_TENSORS_H
#define BINDING_TENSORS_H

#include "torch.h"

void core_tensors_encode_init(core_state *state);
void core_tensors_decode_init(core_state *state);
void core_torch_values_init(core_state *state);

enum { CORE_FRAMEWORK_TORCH = 1 };

enum {
    CORE_TENSOR_GRAD = 1,
    CORE_TENSOR_PARAMETER = 2,
    CORE_TENSOR_CONJ = 4,
    CORE_TENSOR_NEG = 8,
};

/* core_tensor_layout: dtype, shape and strides of a tensor, and the memory that they span. */
#define CORE_TENSOR_DIMS 64
typedef struct core_tensor_layout {
    core_torch_dtype *dtype;
    Py_ssize_t ndim, offset;
    int64_t shape[CORE_TENSOR_DIMS], strides[CORE_TENSOR_DIMS];
    int64_t count;  /* of elements */
    int64_t extent; /* elements from the first to the end of the last in memory */
    bool dense;     /* all elements in between are the tensor's */
} core_tensor_layout;

/* core_layout_measure: computes count, extent and dense. Returns false where numbers overflow or are negative. */
bool core_layout_measure(core_tensor_layout *l);

/* core_tensor_measure: gets the layout of a tensor of this dtype. Returns 0, or -1: with an exception, or without one
 * if it has no layout that can be sent. */
int core_tensor_measure(core_torch_state *t, PyObject *tensor, core_torch_dtype *dtype, core_tensor_layout *ret_layout);
/* core_tensor_write_head: writes all parts except the data. */
void core_tensor_write_head(piso_writer *w, const core_tensor_layout *l, Py_ssize_t offset, int flags);
/* core_tensor_write_span: writes a whole tensor, whose data is the span with this index. */
void core_tensor_write_span(piso_writer *w, const core_tensor_layout *l, Py_ssize_t offset, int flags, int index);
/* core_storage_shared: returns the Shared of a storage, a new reference; NULL, without an exception, when it has
 * none. */
core_shared *core_storage_shared(core_state *state, PyObject *storage);
/* core_storage_obstacle: returns the reason why a storage without a Shared must not be moved into shared memory; 0: it
 * may be moved; -1. Other threads may run during the checks, but not after the last one. */
int core_storage_obstacle(core_torch_state *t, PyObject *tensor, PyObject *storage);
/* core_storage_warn: warns that it is copied for this reason; raises where warnings are errors. */
void core_storage_warn(core_torch_state *t, PyObject *storage, int obstacle);
/* core_tensor_holders, core_storage_holders: return the number of C++ references, including those of their Python
 * objects; or -1. */
long core_tensor_holders(core_torch_state *t, PyObject *tensor);
long core_storage_holders(core_torch_state *t, PyObject *storage);
/* core_may_be_in_use: returns whether somebody may still use the memory, of `size` bytes, that a tensor's storage has
 * left. */
bool core_may_be_in_use(core_state *state, PyObject *tensor, PyObject *storage, size_t size);
/* core_storage_share: returns the Shared of a tensor's storage. The storage is moved into shared memory first if
 * necessary, with all tensors that view it; or only with this one, whose offset changes then (storages.c). New
 * reference; NULL, without an exception, when it must be copied. */
core_shared *core_storage_share(core_state *state, PyObject *tensor, PyObject *storage, core_tensor_layout *l);
/* core_tensor_plain: returns a tensor over the same memory without gradient, conjugate and negative bits. New
 * reference. */
PyObject *core_tensor_plain(core_torch_state *t, PyObject *tensor, int flags);
/* core_tensor_compact: returns a plain copy without the bytes between the elements, and its layout: with zeros there,
 * or, where these would be most of it, contiguous. New reference, on the same device. */
PyObject *core_tensor_compact(core_torch_state *t, PyObject *tensor, core_tensor_layout *l, int flags);

/* core_tensor_head: the description of a tensor that precedes its data. */
typedef struct core_tensor_head {
    core_tensor_layout layout;
    int flags;
} core_tensor_head;
/* core_tensor_read_head: reads the description and checks that its numbers are consistent. Returns 0 or -1. */
int core_tensor_read_head(core_decoder *d, piso_reader *r, core_tensor_head *ret_head);
/* core_tensor_numbers: Python objects for a place in a storage, as torch takes them. New references. */
typedef struct core_tensor_numbers {
    PyObject *offset, *shape, *strides;
} core_tensor_numbers;
/* core_tensor_numbers_new: returns 0 or -1; the caller must clear it in either case. */
int core_tensor_numbers_new(const core_tensor_layout *l, core_tensor_numbers *ret_numbers);
void core_tensor_numbers_clear(core_tensor_numbers *n);
/* core_tensor_over: returns a tensor over a storage in the CPU's memory. New reference. */
PyObject *core_tensor_over(core_torch_state *t, PyObject *storage, const core_tensor_layout *l);
/* core_tensor_fits: returns whether all elements are inside `size` bytes. */
bool core_tensor_fits(const core_tensor_layout *l, uint64_t size);
/* core_tensor_charge: charges for elements that take more than the received `size` bytes without overlap
 * (core_charge_virtual). */
bool core_tensor_charge(core_decoder *d, const core_tensor_layout *l, uint64_t size);
/* core_tensor_finish: adds what is not in memory: bits, gradient, class. Steals `tensor`, which may be NULL. */
PyObject *core_tensor_finish(core_torch_state *t, PyObject *tensor, int flags);

/* core_tensor_bits: returns CORE_TENSOR_CONJ and _NEG as set on a tensor of this dtype; -1 on failure. */
/* core_tensor_flag: gets a flag of the tensor, an attribute or a method: returns `value`, 0, or -1. */
int core_tensor_flag(PyObject *tensor, PyObject *name, bool is_method, int value);
int core_tensor_bits(core_torch_state *t, PyObject *tensor, const core_torch_dtype *dtype);

#endif
