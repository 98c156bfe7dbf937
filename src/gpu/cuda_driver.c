/* cuda_driver.c - finds the CUDA driver when it is first needed, and the contexts of its devices.
 *
 * A process forked from one that has used CUDA cannot use CUDA: the driver itself refuses. So such a process
 * does not call it.
 *
 * A device is used in its primary context, as the CUDA runtime and therefore PyTorch do. Handles and streams of
 * another context would be useless to them. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "gpu/cuda.h"
#include "os/os.h"

static const char *library = "libcuda.so.1";

static void forget_in_child(void);
/* Guards everything below, and the tables of cuda.c and cuda_events.c. It is held while the driver works, for
 * as long as that takes. A forked process has no use for what it guards. */
PISO__STATIC_LOCK(lock, PISO__PLACE_CUDA, .anew = true, .in_child = forget_in_child);

enum { UNKNOWN, BEING_LOADED, KNOWN };

static struct {
    _Atomic int state;
    bool works;
    const char *missing; /* a file or a function that was not found */
    int init_result;
    uint32_t fork_generation;
    int capture_mode; /* previous mode of the thread that is between enter and leave */
    piso__cuda_driver driver;
    void *contexts[PISO__CUDA_DEVICES];
    piso__cuda_uuid uuids[PISO__CUDA_DEVICES]; /* of the devices that existed at the start; they stay */
    int device_count;
} cuda;

/* forget_in_child: discards a driver that another thread was loading during the fork; it stays half loaded for
 * good. */
static void forget_in_child(void) {
    if (atomic_load_explicit(&cuda.state, memory_order_relaxed) != BEING_LOADED)
        return;
    cuda.works = false;
    cuda.missing = NULL;
    cuda.init_result = 0;
    atomic_store_explicit(&cuda.state, KNOWN, memory_order_relaxed);
}

typedef struct symbol {
    const char *name;
    size_t offset;
} symbol;

#define SYMBOL(field, name)                                                                                            \
    { name, offsetof(piso__cuda_driver, field) }

static const symbol symbols[] = {
    SYMBOL(init, "cuInit"),
    SYMBOL(device_count, "cuDeviceGetCount"),
    SYMBOL(context_retain, "cuDevicePrimaryCtxRetain"),
    SYMBOL(context_push, "cuCtxPushCurrent_v2"),
    SYMBOL(context_pop, "cuCtxPopCurrent_v2"),
    SYMBOL(synchronize, "cuCtxSynchronize"),
    SYMBOL(address_range, "cuMemGetAddressRange_v2"),
    SYMBOL(pointer_attribute, "cuPointerGetAttribute"),
    SYMBOL(get_memory_handle, "cuIpcGetMemHandle"),
    SYMBOL(open_memory_handle, "cuIpcOpenMemHandle_v2"),
    SYMBOL(close_memory_handle, "cuIpcCloseMemHandle"),
    SYMBOL(get_event_handle, "cuIpcGetEventHandle"),
    SYMBOL(open_event_handle, "cuIpcOpenEventHandle"),
    SYMBOL(event_create, "cuEventCreate"),
    SYMBOL(event_record, "cuEventRecord"),
    SYMBOL(event_query, "cuEventQuery"),
    SYMBOL(event_synchronize, "cuEventSynchronize"),
    SYMBOL(event_destroy, "cuEventDestroy_v2"),
    SYMBOL(stream_wait_event, "cuStreamWaitEvent"),
    SYMBOL(stream_query, "cuStreamQuery"),
    SYMBOL(stream_synchronize, "cuStreamSynchronize"),
    SYMBOL(stream_is_capturing, "cuStreamIsCapturing"),
    SYMBOL(exchange_capture_mode, "cuThreadExchangeStreamCaptureMode"),
    SYMBOL(error_name, "cuGetErrorName"),
};

static _Thread_local struct {
    const char *call;
    int result;
} failure;

/* set: stores a function's address. POSIX guarantees that this works. */
static void set(piso__cuda_driver *driver, size_t offset, void *function) {
    *(void **)(void *)((char *)driver + offset) = function;
}

/* find_devices: finds the driver's devices. One without a UUID, which no other process could name, ends the
 * list. */
static void find_devices(piso__cuda_driver *driver) {
    int count = 0;
    piso__cuda_noted(driver->device_count(&count), "cuDeviceGetCount");
    for (int i = 0; i < count && i < PISO__CUDA_DEVICES; i++) {
        if (piso__cuda_noted(driver->device_uuid(&cuda.uuids[i], i), "cuDeviceGetUuid") != PISO__CUDA_OK)
            break;
        cuda.device_count = i + 1;
    }
}

static void load(void) {
    void *file = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    cuda.missing = library;
    if (!file)
        return;
    piso__cuda_driver *driver = &cuda.driver;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *function = dlsym(file, symbols[i].name);
        cuda.missing = symbols[i].name;
        if (!function)
            return; /* the driver is too old; what is loaded stays */
        set(driver, symbols[i].offset, function);
    }
    /* the second version distinguishes the parts of a divided device */
    cuda.missing = "cuDeviceGetUuid";
    void *uuid = dlsym(file, "cuDeviceGetUuid_v2");
    if (!uuid)
        uuid = dlsym(file, "cuDeviceGetUuid");
    set(driver, offsetof(piso__cuda_driver, device_uuid), uuid);
    cuda.fork_generation = piso__fork_generation();
    if (!uuid)
        return;
    cuda.missing = NULL;
    cuda.init_result = driver->init(0);
    cuda.works = cuda.init_result == PISO__CUDA_OK;
    if (cuda.works)
        find_devices(driver);
}

void piso__cuda_library(const char *path) {
    library = path;
}

const piso__cuda_driver *piso__cuda_driver_get(void) {
    if (PISO__UNLIKELY(atomic_load_explicit(&cuda.state, memory_order_acquire) != KNOWN)) {
        piso__lock_take(&lock);
        if (atomic_load_explicit(&cuda.state, memory_order_relaxed) == UNKNOWN) {
            atomic_store_explicit(&cuda.state, BEING_LOADED, memory_order_relaxed);
            load();
            atomic_store_explicit(&cuda.state, KNOWN, memory_order_release);
        }
        piso__lock_give(&lock);
    }
    return cuda.works && cuda.fork_generation == piso__fork_generation() ? &cuda.driver : NULL;
}

int piso__cuda_error(int result) {
    switch (result) {
    case PISO__CUDA_OK:
        return 0;
    case PISO__CUDA_NO_MEMORY:
        return -ENOMEM;
    case PISO__CUDA_UNAVAILABLE:
        return -EBUSY;
    case PISO__CUDA_UNCORRECTABLE:
    case PISO__CUDA_ILLEGAL_ADDRESS:
    case PISO__CUDA_TIMED_OUT:
    case PISO__CUDA_DESTROYED:
    case PISO__CUDA_ASSERTED:
        return -ENOTRECOVERABLE;
    default:
        if (result >= PISO__CUDA_CAPTURE_FIRST && result <= PISO__CUDA_CAPTURE_LAST)
            return -EAGAIN;
        return result >= PISO__CUDA_STACK_ERROR && result <= PISO__CUDA_LAUNCH_FAILED ? -ENOTRECOVERABLE : -EIO;
    }
}

int piso__cuda_noted(int result, const char *call) {
    if (result != PISO__CUDA_OK) {
        failure.call = call;
        failure.result = result;
    }
    return result;
}

const char *piso_cuda_failure(void) {
    static _Thread_local char text[128];
    const char *name = NULL;
    const piso__cuda_driver *driver = piso__cuda_driver_get();
    const char *call = failure.call ? failure.call : cuda.init_result ? "cuInit" : NULL;
    int result = failure.call ? failure.result : cuda.init_result;
    if (!driver && cuda.missing)
        snprintf(text, sizeof text, "%s is missing", cuda.missing);
    else if (!call)
        return driver ? "no call has failed" : "the process was forked from one that had used CUDA";
    else {
        cuda.driver.error_name(result, &name);
        snprintf(text, sizeof text, "%s: %d %s", call, result, name ? name : "unknown to the driver");
    }
    return text;
}

const piso__cuda_driver *piso__cuda_enter(int device, int *ret_error) {
    const piso__cuda_driver *driver = piso__cuda_driver_get();
    if (!driver || device < 0 || device >= PISO__CUDA_DEVICES) {
        *ret_error = driver ? -EINVAL : -ENODEV;
        return NULL;
    }
    piso__lock_take(&lock);
    cuda.capture_mode = PISO__CUDA_CAPTURE_RELAXED;
    driver->exchange_capture_mode(&cuda.capture_mode);
    int r = PISO__CUDA_OK;
    if (!cuda.contexts[device])
        r = piso__cuda_noted(driver->context_retain(&cuda.contexts[device], device), "cuDevicePrimaryCtxRetain");
    if (r == PISO__CUDA_OK)
        r = piso__cuda_noted(driver->context_push(cuda.contexts[device]), "cuCtxPushCurrent");
    if (r == PISO__CUDA_OK)
        return driver;
    driver->exchange_capture_mode(&cuda.capture_mode);
    piso__lock_give(&lock);
    *ret_error = piso__cuda_error(r);
    return NULL;
}

void piso__cuda_leave(const piso__cuda_driver *driver) {
    void *context;
    driver->context_pop(&context);
    driver->exchange_capture_mode(&cuda.capture_mode);
    piso__lock_give(&lock);
}

int piso__cuda_captured(const piso__cuda_driver *driver, void *stream) {
    int status = 0;
    int r = piso__cuda_noted(driver->stream_is_capturing(stream, &status), "cuStreamIsCapturing");
    r = piso__cuda_error(r); /* -EAGAIN: the default stream must not be used while another stream is captured */
    return r == -EAGAIN ? 1 : r < 0 ? r : status != 0;
}

int piso_cuda_count(void) {
    return piso__cuda_driver_get() ? cuda.device_count : -ENODEV;
}

int piso_cuda_uuid(int device, uint8_t ret_uuid[PISO_CUDA_UUID]) {
    if (!piso__cuda_driver_get())
        return -ENODEV;
    if (device < 0 || device >= cuda.device_count)
        return -EINVAL;
    memcpy(ret_uuid, cuda.uuids[device].bytes, PISO_CUDA_UUID);
    return 0;
}

int piso_cuda_find(const uint8_t uuid[PISO_CUDA_UUID]) {
    int count = piso_cuda_count();
    for (int device = 0; device < count; device++)
        if (memcmp(cuda.uuids[device].bytes, uuid, PISO_CUDA_UUID) == 0)
            return device;
    return count < 0 ? count : -ENOENT;
}

int piso_cuda_captured(int device, void *stream) {
    int r;
    const piso__cuda_driver *driver = piso__cuda_enter(device, &r);
    if (!driver)
        return r;
    r = piso__cuda_captured(driver, stream);
    piso__cuda_leave(driver);
    return r;
}

/* What to wait for: all work of the device, or of one stream. */
typedef struct waiting {
    bool whole;
    void *stream;
} waiting;

/* wait: waits without the lock, since it may take long. */
static int wait(int device, waiting what) {
    int r;
    void *ignored;
    const piso__cuda_driver *driver = piso__cuda_enter(device, &r);
    if (!driver)
        return r;
    void *context = cuda.contexts[device];
    piso__cuda_leave(driver);
    r = piso__cuda_noted(driver->context_push(context), "cuCtxPushCurrent");
    if (r != PISO__CUDA_OK)
        return piso__cuda_error(r);
    if (what.whole)
        r = piso__cuda_noted(driver->synchronize(), "cuCtxSynchronize");
    else
        r = piso__cuda_noted(driver->stream_synchronize(what.stream), "cuStreamSynchronize");
    driver->context_pop(&ignored);
    return piso__cuda_error(r);
}

int piso_cuda_synchronize(int device) {
    return wait(device, (waiting){.whole = true});
}

int piso_cuda_drain(int device, void *stream) {
    return wait(device, (waiting){.stream = stream});
}
