/* cuda_header.c - compares the declarations of src/gpu/cuda.h with NVIDIA's own cuda.h, which the compiler must
 * find. tests/python/tensors/test_cuda_header.py builds it against each version that is installed. Whether the
 * driver conforms to its header only the driver could show. */
#include <cuda.h>
#include <stdlib.h>

#include "gpu/cuda_driver.c"

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #theirs)

SAME(PISO__CUDA_OK, CUDA_SUCCESS);
SAME(PISO__CUDA_NO_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
SAME(PISO__CUDA_UNAVAILABLE, CUDA_ERROR_DEVICE_UNAVAILABLE);
SAME(PISO__CUDA_ALREADY_MAPPED, CUDA_ERROR_ALREADY_MAPPED);
SAME(PISO__CUDA_UNCORRECTABLE, CUDA_ERROR_ECC_UNCORRECTABLE);
SAME(PISO__CUDA_NOT_READY, CUDA_ERROR_NOT_READY);
SAME(PISO__CUDA_ILLEGAL_ADDRESS, CUDA_ERROR_ILLEGAL_ADDRESS);
SAME(PISO__CUDA_TIMED_OUT, CUDA_ERROR_LAUNCH_TIMEOUT);
SAME(PISO__CUDA_DESTROYED, CUDA_ERROR_CONTEXT_IS_DESTROYED);
SAME(PISO__CUDA_ASSERTED, CUDA_ERROR_ASSERT);
SAME(PISO__CUDA_STACK_ERROR, CUDA_ERROR_HARDWARE_STACK_ERROR);
SAME(PISO__CUDA_LAUNCH_FAILED, CUDA_ERROR_LAUNCH_FAILED);
SAME(PISO__CUDA_CAPTURE_FIRST, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
SAME(PISO__CUDA_CAPTURE_LAST, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
SAME(PISO__CUDA_BUFFER_ID, CU_POINTER_ATTRIBUTE_BUFFER_ID);
SAME(PISO__CUDA_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
SAME(PISO__CUDA_LEGACY_IPC_CAPABLE, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE);
SAME(PISO__CUDA_RANGE_START, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR);
SAME(PISO__CUDA_RANGE_SIZE, CU_POINTER_ATTRIBUTE_RANGE_SIZE);
SAME(PISO__CUDA_EVENT_FLAGS, CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS);
SAME(PISO__CUDA_LAZY_PEER_ACCESS, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
SAME(PISO__CUDA_CAPTURE_RELAXED, CU_STREAM_CAPTURE_MODE_RELAXED);
SAME(CU_STREAM_CAPTURE_STATUS_NONE, 0); /* what piso__cuda_captured takes as "no" */

/* Types that are passed by value, and types that a result or a mode is written to. */
SAME(sizeof(piso__cuda_handle), sizeof(CUipcMemHandle));
SAME(sizeof(piso__cuda_handle), sizeof(CUipcEventHandle));
SAME(sizeof(piso__cuda_uuid), sizeof(CUuuid));
SAME(sizeof(piso__cuda_pointer), sizeof(CUdeviceptr));
SAME(sizeof(int), sizeof(CUresult));
SAME(sizeof(int), sizeof(CUdevice));
SAME(sizeof(int), sizeof(CUstreamCaptureMode));
SAME(sizeof(int), sizeof(CUstreamCaptureStatus));

#define TAKES(function, ...)                                                                                           \
    _Static_assert(__builtin_types_compatible_p(__typeof__(function), CUresult CUDAAPI(__VA_ARGS__)), #function)

/* Functions that take a handle by value. The compiler compares the others, below. */
TAKES(cuIpcOpenMemHandle, CUdeviceptr *, CUipcMemHandle, unsigned);
TAKES(cuIpcOpenEventHandle, CUevent *, CUipcEventHandle);

/* check: cuda.h spells the function of a field as cuda_driver.c looks it up. */
static int check(size_t offset, const char *spelled) {
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
        if (symbols[i].offset == offset && strcmp(symbols[i].name, spelled) == 0)
            return 1;
    fprintf(stderr, "%s is not what is looked up\n", spelled);
    exit(1);
}

#define SPELLED(function)      #function
#define NAMED(field, function) check(offsetof(piso__cuda_driver, field), SPELLED(function))
/* -Wcast-function-type warns when the number of parameters, or a parameter that is not a pointer, differs. */
#define ALIKE(field, function)                                                                                         \
    ((void)(__typeof__(((piso__cuda_driver *)0)->field))(__typeof__(&function))NULL, NAMED(field, function))

int main(void) {
    size_t checked = 0;
    checked += ALIKE(init, cuInit);
    checked += ALIKE(device_count, cuDeviceGetCount);
    checked += ALIKE(context_retain, cuDevicePrimaryCtxRetain);
    checked += ALIKE(context_push, cuCtxPushCurrent);
    checked += ALIKE(context_pop, cuCtxPopCurrent);
    checked += ALIKE(synchronize, cuCtxSynchronize);
    checked += ALIKE(address_range, cuMemGetAddressRange);
    checked += ALIKE(pointer_attribute, cuPointerGetAttribute);
    checked += ALIKE(get_memory_handle, cuIpcGetMemHandle);
    checked += NAMED(open_memory_handle, cuIpcOpenMemHandle);
    checked += ALIKE(close_memory_handle, cuIpcCloseMemHandle);
    checked += ALIKE(get_event_handle, cuIpcGetEventHandle);
    checked += NAMED(open_event_handle, cuIpcOpenEventHandle);
    checked += ALIKE(event_create, cuEventCreate);
    checked += ALIKE(event_record, cuEventRecord);
    checked += ALIKE(event_query, cuEventQuery);
    checked += ALIKE(event_synchronize, cuEventSynchronize);
    checked += ALIKE(event_destroy, cuEventDestroy);
    checked += ALIKE(stream_wait_event, cuStreamWaitEvent);
    checked += ALIKE(stream_query, cuStreamQuery);
    checked += ALIKE(stream_synchronize, cuStreamSynchronize);
    checked += ALIKE(stream_is_capturing, cuStreamIsCapturing);
    checked += ALIKE(exchange_capture_mode, cuThreadExchangeStreamCaptureMode);
    checked += ALIKE(error_name, cuGetErrorName);
    if (checked != sizeof symbols / sizeof *symbols) {
        fprintf(stderr, "%zu of %zu functions are compared\n", checked, sizeof symbols / sizeof *symbols);
        return 1;
    }
    return 0;
}
