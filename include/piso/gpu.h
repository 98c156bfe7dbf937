/* gpu.h - memory of GPUs. */
#ifndef PISO_GPU_H
#define PISO_GPU_H

#include <stdbool.h>
#include <stdint.h>

#include "piso/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Memory of CUDA, shared between processes by the driver's IPC handles. The driver, libcuda.so.1, is loaded when one of
 * these is first called; without it they return -ENODEV. Any thread; the current context of the thread stays what it
 * is. `device` is the driver's number here, which depends on CUDA_VISIBLE_DEVICES; between processes a device goes by its
 * UUID. -ENOMEM: its memory; -ENOTRECOVERABLE: a fault on it, this process has lost it; -EBUSY: another process has it
 * for itself; -EAGAIN: not while a stream is captured into a graph; -EIO: others. */
#define PISO_CUDA_UUID   16
#define PISO_CUDA_HANDLE 64
typedef struct piso_cuda_memory { /* where a pointer lies */
    int device;
    uint8_t handle[PISO_CUDA_HANDLE]; /* of the whole allocation */
    uint64_t offset, size;            /* of the pointer in the allocation; of that */
} piso_cuda_memory;

/* piso_cuda_count: how many devices this process has, at most 64, without a context; piso_cuda_find: that with a UUID,
 * or -ENOENT. */
PISO_API int piso_cuda_count(void);
PISO_API int piso_cuda_uuid(int device, uint8_t ret_uuid[PISO_CUDA_UUID]);
PISO_API int piso_cuda_find(const uint8_t uuid[PISO_CUDA_UUID]);
/* piso_cuda_export: a handle for the allocation that `data` lies in; -ENOTSUP: it has none (virtual memory). */
PISO_API int piso_cuda_export(int device, const void *data, piso_cuda_memory *ret_memory);
/* piso_cuda_open: maps the allocation behind a handle, or finds it mapped: its first byte, its size (2^62: not known). 1:
 * it is this process's own; 0: piso_cuda_close is to be called once, after piso_cuda_synchronize. `keeper` (any
 * address, or NULL): for whom it stays mapped without users, until piso_cuda_release (handle NULL: all of it). */
PISO_API int piso_cuda_open(int device, const uint8_t handle[PISO_CUDA_HANDLE], const void *keeper, void **ret_base,
                            uint64_t *ret_size);
PISO_API void piso_cuda_close(int device, const void *base);
PISO_API void piso_cuda_release(const void *keeper, const uint8_t *handle);
/* Wait for what this process has given the device, or one stream (NULL: the default one). They end a capture into a
 * graph; piso_cuda_captured tells whether a stream is in one. */
PISO_API int piso_cuda_synchronize(int device);
PISO_API int piso_cuda_drain(int device, void *stream);
PISO_API int piso_cuda_captured(int device, void *stream);
/* piso_cuda_record: what others have to wait for before they use what the stream writes. 0: nothing; 1: an event;
 * -EINPROGRESS: it is busy, and `events` forbids one, or all are in use: see piso_cuda_drain. piso_cuda_wait: has the
 * stream wait for another process's event. */
PISO_API int piso_cuda_record(int device, void *stream, bool events, uint8_t ret_event[PISO_CUDA_HANDLE]);
PISO_API int piso_cuda_wait(int device, void *stream, const uint8_t event[PISO_CUDA_HANDLE]);
/* piso_cuda_failure: which call of the driver failed last in this thread, and how. */
PISO_API const char *piso_cuda_failure(void);

#ifdef __cplusplus
}
#endif

#endif
