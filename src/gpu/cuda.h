/* cuda.h - the functions of the CUDA driver that are used. They are found at run time: nothing is built against
 * CUDA. The declarations follow cuda.h of CUDA 12 and 13, whose binary interface is stable. */
#ifndef PISO_GPU_CUDA_H
#define PISO_GPU_CUDA_H

#include "base/base.h"

#define PISO__CUDA_DEVICES 64

enum { /* results */
       PISO__CUDA_OK = 0,
       PISO__CUDA_NO_MEMORY = 2,
       PISO__CUDA_UNAVAILABLE = 46, /* another process uses the device exclusively (compute mode) */
       PISO__CUDA_ALREADY_MAPPED = 208,
       PISO__CUDA_UNCORRECTABLE = 214,
       PISO__CUDA_NOT_READY = 600,
       PISO__CUDA_ILLEGAL_ADDRESS = 700,
       PISO__CUDA_TIMED_OUT = 702,
       PISO__CUDA_DESTROYED = 709,
       PISO__CUDA_ASSERTED = 710,
       PISO__CUDA_STACK_ERROR = 714, /* up to LAUNCH_FAILED: faults of a kernel */
       PISO__CUDA_LAUNCH_FAILED = 719,
       PISO__CUDA_CAPTURE_FIRST = 900, /* the call is not allowed while a stream is captured */
       PISO__CUDA_CAPTURE_LAST = 908,
};

enum {                                     /* attributes of pointers */
       PISO__CUDA_BUFFER_ID = 7,           /* unsigned long long */
       PISO__CUDA_DEVICE_ORDINAL = 9,      /* int */
       PISO__CUDA_LEGACY_IPC_CAPABLE = 10, /* a bool, written as one byte or as an int, depending on the version */
       PISO__CUDA_RANGE_START = 11,        /* a pointer */
       PISO__CUDA_RANGE_SIZE = 12,         /* a size_t */
};

enum {
    PISO__CUDA_EVENT_FLAGS = 0x2 | 0x4, /* without timing; can be shared with other processes */
    PISO__CUDA_LAZY_PEER_ACCESS = 1,
    PISO__CUDA_CAPTURE_RELAXED = 2,
};

typedef struct piso__cuda_handle {
    uint8_t bytes[PISO_CUDA_HANDLE];
} piso__cuda_handle; /* CUipcMemHandle and CUipcEventHandle, which are passed by value */

typedef struct piso__cuda_uuid {
    uint8_t bytes[PISO_CUDA_UUID];
} piso__cuda_uuid;

typedef uintptr_t piso__cuda_pointer; /* CUdeviceptr on 64-bit systems */

typedef struct piso__cuda_driver {
    int (*init)(unsigned flags);
    int (*device_count)(int *ret);
    int (*device_uuid)(piso__cuda_uuid *ret, int device);
    int (*context_retain)(void **ret, int device);
    int (*context_push)(void *context);
    int (*context_pop)(void **ret);
    int (*synchronize)(void);
    int (*address_range)(piso__cuda_pointer *ret_base, size_t *ret_size, piso__cuda_pointer pointer);
    int (*pointer_attribute)(void *ret, int attribute, piso__cuda_pointer pointer);
    int (*get_memory_handle)(piso__cuda_handle *ret, piso__cuda_pointer pointer);
    int (*open_memory_handle)(piso__cuda_pointer *ret, piso__cuda_handle handle, unsigned flags);
    int (*close_memory_handle)(piso__cuda_pointer pointer);
    int (*get_event_handle)(piso__cuda_handle *ret, void *event);
    int (*open_event_handle)(void **ret, piso__cuda_handle handle);
    int (*event_create)(void **ret, unsigned flags);
    int (*event_record)(void *event, void *stream);
    int (*event_query)(void *event);
    int (*event_synchronize)(void *event);
    int (*event_destroy)(void *event);
    int (*stream_wait_event)(void *stream, void *event, unsigned flags);
    int (*stream_query)(void *stream);
    int (*stream_synchronize)(void *stream);
    int (*stream_is_capturing)(void *stream, int *ret_status);
    int (*exchange_capture_mode)(int *mode); /* sets the mode of this thread */
    int (*error_name)(int result, const char **ret_name);
} piso__cuda_driver;

/* piso__cuda_library: sets another file than libcuda.so.1. For tests, before any other call. */
void piso__cuda_library(const char *path);
/* piso__cuda_driver_get: returns the driver, which is loaded and initialised once, or NULL. */
const piso__cuda_driver *piso__cuda_driver_get(void);
/* piso__cuda_error: returns 0 or a negative code for a result. */
int piso__cuda_error(int result);
/* piso__cuda_noted: returns the result unchanged, and records a failure for piso_cuda_failure. `call` is
 * static. */
int piso__cuda_noted(int result, const char *call);

/* piso__cuda_enter: makes the device's primary context current in this thread until piso__cuda_leave, and takes
 * the lock of all tables. In between, calls that are unsafe while a stream is captured into a graph do not end
 * that capture. Returns the driver, or NULL with *ret_error. The context stays retained for the life of the
 * process. */
const piso__cuda_driver *piso__cuda_enter(int device, int *ret_error);
void piso__cuda_leave(const piso__cuda_driver *driver);
/* piso__cuda_captured: returns 1 if a stream is being captured into a graph, 0 if not, or -errno. Must be
 * called between enter and leave. */
int piso__cuda_captured(const piso__cuda_driver *driver, void *stream);

#endif
