/* tensors.h - tensors on the wire (docs/wire-format.md): [framework, dtype, shape, strides, offset, flags, data].
 *
 * Shape, strides and offset are in elements. `data` are bytes where the session copies tensors, or a span of a shared
 * segment where it shares them: the whole storage, into which offset and strides point. */
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

/* core_tensor_layout: dtype, shape and strides of a tensor, and what memory they span. */
#define CORE_TENSOR_DIMS 64
typedef struct core_tensor_layout {
    core_torch_dtype *dtype;
    Py_ssize_t ndim, offset;
    int64_t shape[CORE_TENSOR_DIMS], strides[CORE_TENSOR_DIMS];
    int64_t count;  /* of elements */
    int64_t extent; /* elements from the first to behind the last in memory */
    bool dense;     /* no element in between that is not the tensor's */
} core_tensor_layout;

/* core_layout_measure: fills in count, extent and dense. False where numbers overflow or are negative. */
bool core_layout_measure(core_tensor_layout *l);

/* core_tensor_measure: the layout of a tensor of this dtype. 0, or -1: with an exception, or without one if it has none that
 * can be sent. */
int core_tensor_measure(core_torch_state *t, PyObject *tensor, core_torch_dtype *dtype, core_tensor_layout *ret_layout);
/* core_tensor_write_head: all but the data. */
void core_tensor_write_head(piso_writer *w, const core_tensor_layout *l, Py_ssize_t offset, int flags);
/* core_tensor_write_span: a whole tensor, whose data is the span with this index. */
void core_tensor_write_span(piso_writer *w, const core_tensor_layout *l, Py_ssize_t offset, int flags, int index);
/* core_storage_shared: the Shared of a storage, a new reference; NULL, without an exception, when it has none. */
core_shared *core_storage_shared(core_state *state, PyObject *storage);
/* core_storage_obstacle: why a storage that has no Shared must not be moved into shared memory; 0: it may; -1. Other threads
 * run while it asks, but not after the last question. */
int core_storage_obstacle(core_torch_state *t, PyObject *tensor, PyObject *storage);
/* core_storage_warn: the warning that it is copied therefore; with an exception where warnings are errors. */
void core_storage_warn(core_torch_state *t, PyObject *storage, int obstacle);
/* core_tensor_holders, core_storage_holders: how many references C++ counts, with those of their Python objects; -1. */
long core_tensor_holders(core_torch_state *t, PyObject *tensor);
long core_storage_holders(core_torch_state *t, PyObject *storage);
/* core_may_be_in_use: whether somebody may still use the memory, of so many bytes, that a tensor's storage has left. */
bool core_may_be_in_use(core_state *state, PyObject *tensor, PyObject *storage, size_t size);
/* core_storage_share: the Shared of a tensor's storage, which is moved into shared memory if it is not there yet, with
 * all tensors that view it; or with this one alone, whose offset is another then (storages.c). New reference; NULL,
 * without an exception, when it has to be copied. */
core_shared *core_storage_share(core_state *state, PyObject *tensor, PyObject *storage, core_tensor_layout *l);
/* core_tensor_plain: the same memory without gradient, conjugate and negative bits. New reference. */
PyObject *core_tensor_plain(core_torch_state *t, PyObject *tensor, int flags);
/* core_tensor_compact: a plain copy without what lies between the elements, and its layout: with zeros there, or, where
 * these would be most of it, contiguous. New reference, on the same device. */
PyObject *core_tensor_compact(core_torch_state *t, PyObject *tensor, core_tensor_layout *l, int flags);

/* core_tensor_head: a tensor as it is described before its data. */
typedef struct core_tensor_head {
    core_tensor_layout layout;
    int flags;
} core_tensor_head;
/* core_tensor_read_head: numbers that fit each other. 0 or -1. */
int core_tensor_read_head(core_decoder *d, piso_reader *r, core_tensor_head *ret_head);
/* core_tensor_numbers: what torch takes for a place in a storage. New references. */
typedef struct core_tensor_numbers {
    PyObject *offset, *shape, *strides;
} core_tensor_numbers;
/* core_tensor_numbers_new: 0 or -1; to be cleared in any case. */
int core_tensor_numbers_new(const core_tensor_layout *l, core_tensor_numbers *ret_numbers);
void core_tensor_numbers_clear(core_tensor_numbers *n);
/* core_tensor_over: a tensor over a storage of the CPU. New reference. */
PyObject *core_tensor_over(core_torch_state *t, PyObject *storage, const core_tensor_layout *l);
/* core_tensor_fits: whether all elements lie in `size` bytes. */
bool core_tensor_fits(const core_tensor_layout *l, uint64_t size);
/* core_tensor_charge: for elements that stand for more than the `size` bytes that came (core_charge_virtual). */
bool core_tensor_charge(core_decoder *d, const core_tensor_layout *l, uint64_t size);
/* core_tensor_finish: adds what is not in memory: bits, gradient, class. Takes `tensor`, which may be NULL. */
PyObject *core_tensor_finish(core_torch_state *t, PyObject *tensor, int flags);

/* core_tensor_bits: CORE_TENSOR_CONJ and _NEG as a tensor of this dtype has them; -1 on failure. */
/* core_tensor_flag: asks the tensor, by an attribute or a method: `value`, 0, or -1. */
int core_tensor_flag(PyObject *tensor, PyObject *name, bool is_method, int value);
int core_tensor_bits(core_torch_state *t, PyObject *tensor, const core_torch_dtype *dtype);

#endif
