/* tensors.h - tensors on the wire (docs/wire-format.md): [framework, dtype, shape, strides, offset, flags, data].
 *
 * Shape, strides and offset are in elements. `data` are bytes where the session copies tensors, or a span of a shared
 * segment where it shares them: the whole storage, into which offset and strides point. */
#ifndef BINDING_TENSORS_H
#define BINDING_TENSORS_H

#include "torch.h"

enum { CORE_FRAMEWORK_TORCH = 1 };

enum {
    CORE_TENSOR_GRAD = 1,
    CORE_TENSOR_PARAMETER = 2,
    CORE_TENSOR_CONJ = 4,
    CORE_TENSOR_NEG = 8,
};

/* core_tensor_layout: shape and strides of a tensor, and what memory they span. */
#define CORE_TENSOR_DIMS 64
typedef struct core_tensor_layout {
    Py_ssize_t ndim, itemsize, offset;
    int64_t shape[CORE_TENSOR_DIMS], strides[CORE_TENSOR_DIMS];
    int64_t count;  /* of elements */
    int64_t extent; /* elements from the first to behind the last in memory */
    bool dense;     /* no element in between that is not the tensor's */
} core_tensor_layout;

/* core_layout_measure: fills in count, extent and dense. False where numbers overflow or are negative. */
bool core_layout_measure(core_tensor_layout *l);

/* core_tensor_bits: CORE_TENSOR_CONJ and _NEG as a tensor has them; -1 on failure. */
int core_tensor_bits(core_torch_state *t, PyObject *tensor);

#endif
