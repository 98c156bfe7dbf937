/* cuda_driver.c - finds the driver of CUDA when it is first needed, and the contexts of its devices.
 *
 * A process forked from one that has used CUDA cannot use it: the driver itself refuses. It is not asked, then. */
#include <dlfcn.h>
#include <pthread.h>

#include "os/cuda.h"
#include "os/os.h"

static const char *library = "libcuda.so.1";

static struct {
    pthread_once_t once;
    pthread_mutex_t lock; /* of contexts, and of the tables of cuda.c and cuda_events.c */
    bool works;
    uint32_t fork_generation;
    piso__cuda_driver driver;
    void *contexts[PISO__CUDA_DEVICES];
} cuda = {.once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER};

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
};

/* set: stores a function's address; POSIX has it that this works. */
static void set(piso__cuda_driver *driver, size_t offset, void *function) {
    *(void **)(void *)((char *)driver + offset) = function;
}

static void load(void) {
    void *file = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!file)
        return;
    piso__cuda_driver *driver = &cuda.driver;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *function = dlsym(file, symbols[i].name);
        if (!function)
            return; /* an older driver than this can work with; what is loaded stays */
        set(driver, symbols[i].offset, function);
    }
    /* the second version tells the parts of a divided device apart */
    void *uuid = dlsym(file, "cuDeviceGetUuid_v2");
    if (!uuid)
        uuid = dlsym(file, "cuDeviceGetUuid");
    set(driver, offsetof(piso__cuda_driver, device_uuid), uuid);
    cuda.fork_generation = piso__fork_generation();
    cuda.works = uuid && driver->init(0) == PISO__CUDA_OK;
}

void piso__cuda_library(const char *path) {
    library = path;
}

const piso__cuda_driver *piso__cuda_driver_get(void) {
    pthread_once(&cuda.once, load);
    return cuda.works && cuda.fork_generation == piso__fork_generation() ? &cuda.driver : NULL;
}

int piso__cuda_error(int result) {
    return result == PISO__CUDA_OK ? 0 : result == PISO__CUDA_NO_MEMORY ? -ENOMEM : -EIO;
}

const piso__cuda_driver *piso__cuda_enter(int device, int *ret_error) {
    const piso__cuda_driver *driver = piso__cuda_driver_get();
    if (!driver || device < 0 || device >= PISO__CUDA_DEVICES) {
        *ret_error = driver ? -EINVAL : -ENODEV;
        return NULL;
    }
    pthread_mutex_lock(&cuda.lock);
    int r = PISO__CUDA_OK;
    if (!cuda.contexts[device])
        r = driver->context_retain(&cuda.contexts[device], device);
    if (r == PISO__CUDA_OK)
        r = driver->context_push(cuda.contexts[device]);
    if (r == PISO__CUDA_OK)
        return driver;
    pthread_mutex_unlock(&cuda.lock);
    *ret_error = piso__cuda_error(r);
    return NULL;
}

void piso__cuda_leave(const piso__cuda_driver *driver) {
    void *context;
    driver->context_pop(&context);
    pthread_mutex_unlock(&cuda.lock);
}

int piso_cuda_count(void) {
    const piso__cuda_driver *driver = piso__cuda_driver_get();
    int count;
    if (!driver)
        return -ENODEV;
    int r = piso__cuda_error(driver->device_count(&count));
    if (r < 0)
        return r;
    return count < PISO__CUDA_DEVICES ? count : PISO__CUDA_DEVICES;
}

int piso_cuda_uuid(int device, uint8_t ret_uuid[PISO_CUDA_UUID]) {
    const piso__cuda_driver *driver = piso__cuda_driver_get();
    piso__cuda_uuid uuid;
    if (!driver)
        return -ENODEV;
    int r = piso__cuda_error(driver->device_uuid(&uuid, device));
    for (int i = 0; r == 0 && i < PISO_CUDA_UUID; i++)
        ret_uuid[i] = uuid.bytes[i];
    return r;
}

int piso_cuda_find(const uint8_t uuid[PISO_CUDA_UUID]) {
    int count = piso_cuda_count();
    for (int device = 0; device < count; device++) {
        uint8_t found[PISO_CUDA_UUID];
        bool same = piso_cuda_uuid(device, found) == 0;
        for (int i = 0; same && i < PISO_CUDA_UUID; i++)
            same = found[i] == uuid[i];
        if (same)
            return device;
    }
    return count < 0 ? count : -ENOENT;
}

int piso_cuda_synchronize(int device) {
    int r;
    const piso__cuda_driver *driver = piso__cuda_driver_get();
    void *context, *ignored;
    /* not under the lock: it may take long */
    if (!(driver = piso__cuda_enter(device, &r)))
        return r;
    context = cuda.contexts[device];
    piso__cuda_leave(driver);
    r = driver->context_push(context);
    if (r == PISO__CUDA_OK) {
        r = driver->synchronize();
        driver->context_pop(&ignored);
    }
    return piso__cuda_error(r);
}
