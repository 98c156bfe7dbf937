/* gpu.h - sharing of GPU memory. */
#ifndef PISO_GPU_H
#define PISO_GPU_H

#include <stdbool.h>
#include <stdint.h>

#include "piso/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* CUDA memory, shared between processes by the driver's IPC handles. The driver, libcuda.so.1, is loaded when
 * one of these functions is first called; they return -ENODEV without it. They may be called from any thread,
 * and leave its current context unchanged. `device` is the driver's index in this process, which depends on
 * CUDA_VISIBLE_DEVICES; between processes a UUID identifies a device. Errors: -ENOMEM: no memory on the device;
 * -ENOTRECOVERABLE: a fault on the device, which this process cannot use any more; -EBUSY: another process uses
 * the device exclusively; -EAGAIN: not possible while a stream is captured into a graph; -EIO: any other. */
#define PISO_CUDA_UUID   16
#define PISO_CUDA_HANDLE 64
typedef struct piso_cuda_memory { /* the location of a pointer */
    int device;
    uint8_t handle[PISO_CUDA_HANDLE]; /* of the whole allocation */
    uint64_t offset, size;            /* offset of the pointer in the allocation; size of the allocation */
} piso_cuda_memory;

/* piso_cuda_count: returns how many devices this process has, at most 64; makes no context. piso_cuda_find:
 * returns the index of the device with a UUID, or -ENOENT. */
PISO_API int piso_cuda_count(void);
PISO_API int piso_cuda_uuid(int device, uint8_t ret_uuid[PISO_CUDA_UUID]);
PISO_API int piso_cuda_find(const uint8_t uuid[PISO_CUDA_UUID]);
/* piso_cuda_export: returns a handle for the allocation that contains `data`. -ENOTSUP: the allocation has none
 * (virtual memory). */
PISO_API int piso_cuda_export(int device, const void *data, piso_cuda_memory *ret_memory);
/* piso_cuda_open: maps the allocation behind a handle, or finds its mapping. *ret_base is its first byte,
 * *ret_size its size (2^62: unknown). 1: the allocation is this process's own. 0: the caller must call
 * piso_cuda_close once, after piso_cuda_synchronize. With a `keeper` (any address, or NULL) the mapping stays
 * when it has no users, until piso_cuda_release with that keeper (handle NULL: all of its mappings). */
PISO_API int piso_cuda_open(int device, const uint8_t handle[PISO_CUDA_HANDLE], const void *keeper, void **ret_base,
                            uint64_t *ret_size);
PISO_API void piso_cuda_close(int device, const void *base);
PISO_API void piso_cuda_release(const void *keeper, const uint8_t *handle);
/* These wait for the work that this process has submitted to the device, or to one stream (NULL: the default
 * one). They end a capture into a graph. piso_cuda_captured reports whether a stream is being captured. */
PISO_API int piso_cuda_synchronize(int device);
PISO_API int piso_cuda_drain(int device, void *stream);
PISO_API int piso_cuda_captured(int device, void *stream);
/* piso_cuda_record: records what others must wait for before they use what the stream writes. 0: nothing; 1: an
 * event; -EINPROGRESS: the stream is busy, and `events` forbids an event or all are in use: call
 * piso_cuda_drain. piso_cuda_wait: makes the stream wait for another process's event. */
PISO_API int piso_cuda_record(int device, void *stream, bool events, uint8_t ret_event[PISO_CUDA_HANDLE]);
PISO_API int piso_cuda_wait(int device, void *stream, const uint8_t event[PISO_CUDA_HANDLE]);
/* piso_cuda_failure: returns which driver call failed last in this thread, and how. */
PISO_API const char *piso_cuda_failure(void);

#ifdef __cplusplus
}
#endif

#endif
