/* dlpack.h - the binary interface of DLPack 1.x (https://dmlc.github.io/dlpack/latest/): the parts used here. */
#ifndef BINDING_DLPACK_H
#define BINDING_DLPACK_H

#include <stdint.h>

enum { CORE_DLPACK_MAJOR = 1, CORE_DLPACK_CPU = 1, CORE_DLPACK_CUDA = 2, CORE_DLPACK_COMPLEX = 5 };

typedef struct core_dlpack_dtype {
    uint8_t code, bits;
    uint16_t lanes;
} core_dlpack_dtype;

typedef struct core_dlpack_tensor {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    core_dlpack_dtype dtype;
    int64_t *shape, *strides; /* of the tensor: valid until it changes */
    uint64_t byte_offset;
} core_dlpack_tensor;

/* core_dlpack_managed: a tensor with an owner, in a capsule named "dltensor". */
typedef struct core_dlpack_managed {
    core_dlpack_tensor tensor;
    void *context;
    void (*deleter)(struct core_dlpack_managed *self);
} core_dlpack_managed;

/* core_dlpack_exchange: the functions that a tensor class offers to C as __dlpack_c_exchange_api__ (from version 1.3
 * on). */
typedef struct core_dlpack_exchange {
    uint32_t major, minor;
    void *previous;
    void *allocate, *managed_from_object, *managed_to_object;
    int (*tensor_from_object)(void *object, core_dlpack_tensor *ret_tensor); /* or NULL; -1 with an exception */
    int (*current_stream)(int32_t device_type, int32_t device_id, void **ret_stream);
} core_dlpack_exchange;

#endif
