/* mock_cuda.c - a mock of libcuda.so.1. Device memory is a memfd, which another process opens by its handle:
 * the process and the descriptor. It enforces the rules of the driver that matter here: a context must be
 * current; a process cannot open its own handles, nor open a handle twice, as with older drivers; only
 * exportable memory has handles; some calls end a capture into a graph.
 *
 * Streams behave as the settings say. With `tracked` they behave as the test requests: `work` on a stream is
 * done when somebody waits for it and no sooner, so nothing depends on time. */
#include "mock_cuda.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define LIMIT  256
/* environment variable: for device memory, where /proc of other processes cannot be used */
#define FOLDER "CUDA_MOCK_FOLDER"
/* environment variable: how many bytes the device has, for all processes; needs FOLDER */
#define MEMORY "CUDA_MOCK_MEMORY"

enum {
    OK = 0,
    INVALID = 1,
    NO_MEMORY = 2,
    NO_DEVICE = 100,
    NO_CONTEXT = 201,
    ALREADY_MAPPED = 208,
    OPERATING_SYSTEM = 304,
    NOT_READY = 600,
    NOT_SUPPORTED = 801,
    CAPTURED = 900,
};

typedef struct place {
    int pid, name;
    size_t size;
} place;

typedef struct handle {
    char bytes[64]; /* begins with the place */
} handle;

typedef struct block {
    void *base;
    size_t size;
    int fd, name;
    unsigned long long id;
    bool exportable, foreign, counted;
    char handle[64]; /* with which it was opened */
} block;

typedef struct event {
    block memory;
    _Atomic unsigned *recorded; /* in the mapping; behind that, whether the recorded work is still pending */
    void *stream;
} event;

typedef struct stream {
    bool used, blocking, busy;
} stream;

extern mock_cuda mock;

static block blocks[LIMIT];
static unsigned long long last_id;
static event created[LIMIT], opened[2 * LIMIT];
static event *awaited[LIMIT]; /* by streams of this process */
static int awaited_count;
static stream streams[LIMIT]; /* the first one is the default stream */
static int contexts[16];

static void *take(block b) {
    for (int i = 0; i < LIMIT; i++)
        if (!blocks[i].base) {
            b.id = ++last_id;
            blocks[i] = b;
            return b.base;
        }
    return NULL;
}

static block *find(uintptr_t pointer) {
    for (int i = 0; i < LIMIT; i++)
        if (pointer - (uintptr_t)blocks[i].base < blocks[i].size)
            return &blocks[i];
    return NULL;
}

/* path_of: returns the file of a process's device memory. */
static void path_of(char path[256], int pid, int name) {
    snprintf(path, 256, "%s/%d-%d", getenv(FOLDER), pid, name);
}

static void drop(block *b) {
    char path[256];
    munmap(b->base, b->size);
    close(b->fd);
    if (!b->foreign && getenv(FOLDER)) {
        path_of(path, getpid(), b->name);
        unlink(path);
    }
    *b = (block){.base = NULL};
}

static void *map(int fd, size_t size) {
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return base == MAP_FAILED ? NULL : base;
}

static void *mock_allocate(size_t size, bool exportable) {
    const char *folder = getenv(FOLDER);
    char path[256];
    static int number;
    int fd = -1, name = -1;
    if (!folder) {
        name = fd = memfd_create("mock-cuda", 0);
    } else {
        name = number++;
        path_of(path, getpid(), name);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        return NULL;
    return take((block){.base = map(fd, size), .size = size, .fd = fd, .name = name, .exportable = exportable});
}

static void mock_free(void *memory) {
    drop(find((uintptr_t)memory));
}

/* ---- streams and events that are tracked ---- */

static stream *stream_of(void *handle) {
    return handle ? handle : &streams[0];
}

static void mock_work(void *handle) {
    stream_of(handle)->busy = true;
}

/* pending: whether the recorded work is still pending, as all processes see it. */
static _Atomic unsigned *pending(event *e) {
    return e->recorded + 1;
}

/* finish: called to wait for a stream, or with NULL for all: completes the work that it depends on. */
static void finish(stream *waited) {
    for (int i = 0; i < awaited_count; i++) /* of a process that tracks its streams */
        *pending(awaited[i]) = 0;
    awaited_count = 0;
    if (!mock.tracked)
        return;
    for (int i = 0; i < LIMIT; i++)
        if (!waited || waited == &streams[i])
            streams[i].busy = false;
    for (int i = 0; i < mock.events; i++)
        if (created[i].recorded && (!waited || stream_of(created[i].stream) == waited))
            *pending(&created[i]) = 0;
}

static bool is_busy(void *handle) {
    if (!mock.tracked)
        return !mock.idle; /* the handle may be any number */
    const stream *s = stream_of(handle);
    bool busy = s->busy;
    for (int i = 1; s == &streams[0] && i < LIMIT; i++)
        busy |= streams[i].blocking && streams[i].busy;
    return busy;
}

EXPORT mock_cuda mock = {.allocate = mock_allocate, .free = mock_free, .work = mock_work, .devices = 2};

static int open_handle(const handle *h, block *ret) {
    char path[256];
    place where;
    memcpy(&where, h->bytes, sizeof where);
    if (where.pid == getpid())
        return INVALID;
    if (getenv(FOLDER))
        path_of(path, where.pid, where.name);
    else
        snprintf(path, sizeof path, "/proc/%d/fd/%d", where.pid, where.name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return INVALID;
    *ret = (block){.base = map(fd, where.size), .size = where.size, .fd = fd, .foreign = true};
    return OK;
}

static handle handle_of(const block *b) {
    handle h = {.bytes = {0}};
    place where = {.pid = getpid(), .name = b->name, .size = b->size};
    memcpy(h.bytes, &where, sizeof where);
    return h;
}

/* ---- the driver ---- */

EXPORT int cuInit(unsigned flags) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible && !*visible)
        return NO_DEVICE;
    return flags ? INVALID : OK;
}
EXPORT int cuDeviceGetCount(int *ret) {
    *ret = mock.devices;
    return OK;
}
EXPORT int cuDeviceGetUuid_v2(char ret[16], int device) {
    if (device >= mock.devices)
        return INVALID;
    memset(ret, 0xA0 + device, 16);
    return OK;
}
EXPORT int cuDevicePrimaryCtxRetain(void **ret, int device) {
    if (device >= mock.devices)
        return INVALID;
    if (mock.no_memory)
        return NO_MEMORY;
    *ret = &contexts[device];
    return OK;
}
EXPORT int cuCtxPushCurrent_v2(void *context) {
    mock.context_depth++;
    return context ? OK : INVALID;
}
EXPORT int cuCtxPopCurrent_v2(void **ret) {
    mock.context_depth--;
    *ret = NULL;
    return OK;
}
/* forbidden: what a call does that must not be made during a capture. */
static int forbidden(void) {
    if (mock.capturing)
        mock.forbidden++;
    return mock.capturing ? CAPTURED : mock.fault;
}
EXPORT int cuCtxGetCurrent(void **ret) {
    *ret = mock.context_depth ? &contexts[0] : NULL;
    return OK;
}
EXPORT int cuCtxSynchronize(void) {
    mock.synchronisations++;
    finish(NULL);
    return mock.context_depth ? forbidden() : NO_CONTEXT;
}
EXPORT int cuStreamSynchronize(void *stream) {
    mock.drains++;
    mock.last_stream = stream;
    finish(stream_of(stream));
    return mock.context_depth ? forbidden() : NO_CONTEXT;
}
EXPORT int cuStreamQuery(void *stream) {
    int r = mock.context_depth ? forbidden() : NO_CONTEXT;
    return r != OK ? r : is_busy(stream) ? NOT_READY : OK;
}
EXPORT int cuStreamIsCapturing(void *stream, int *ret) {
    (void)stream;
    *ret = mock.capturing;
    return mock.context_depth ? OK : NO_CONTEXT;
}
EXPORT int cuThreadExchangeStreamCaptureMode(int *mode) {
    int before = mock.capture_mode;
    mock.capture_mode = *mode;
    *mode = before;
    return OK;
}
EXPORT int cuGetErrorName(int result, const char **ret) {
    *ret = result == NO_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : result == INVALID ? "CUDA_ERROR_INVALID_VALUE" : NULL;
    return *ret ? OK : INVALID;
}
EXPORT int cuMemGetAddressRange_v2(uintptr_t *ret_base, size_t *ret_size, uintptr_t pointer) {
    const block *b = find(pointer);
    if (!b || !mock.context_depth || (mock.no_ranges && b->foreign))
        return INVALID;
    *ret_base = (uintptr_t)b->base;
    *ret_size = b->size;
    return OK;
}
EXPORT int cuPointerGetAttribute(void *ret, int attribute, uintptr_t pointer) {
    const block *b = find(pointer);
    if (!b || (attribute > 10 && mock.no_ranges && b->foreign))
        return INVALID;
    if (attribute == 7)
        memcpy(ret, &b->id, sizeof b->id);
    else if (attribute == 10)
        memset(ret, b->exportable, 1);
    else if (attribute == 11)
        memcpy(ret, &b->base, sizeof b->base);
    else if (attribute == 12)
        memcpy(ret, &b->size, sizeof b->size);
    else
        return INVALID;
    return OK;
}
EXPORT int cuIpcGetMemHandle(handle *ret, uintptr_t pointer) {
    const block *b = find(pointer);
    if (!b || !b->exportable || b->foreign || !mock.context_depth)
        return INVALID;
    mock.handles++;
    *ret = handle_of(b);
    return OK;
}
EXPORT int cuIpcOpenMemHandle_v2(uintptr_t *ret, handle h, unsigned flags) {
    block b;
    if (flags != 1 || !mock.context_depth)
        return INVALID;
    if (mock.no_memory)
        return NO_MEMORY;
    if (mock.no_opening)
        return NOT_SUPPORTED;
    int r = open_handle(&h, &b);
    if (r != OK)
        return r;
    for (int i = 0; i < LIMIT; i++)
        if (blocks[i].foreign && memcmp(blocks[i].handle, h.bytes, sizeof h.bytes) == 0) {
            munmap(b.base, b.size);
            close(b.fd);
            return ALREADY_MAPPED;
        }
    memcpy(b.handle, h.bytes, sizeof b.handle);
    mock.opens++;
    *ret = (uintptr_t)take(b);
    return OK;
}
EXPORT int cuIpcCloseMemHandle(uintptr_t pointer) {
    block *b = find(pointer);
    if (!b || !b->foreign || !mock.context_depth)
        return INVALID;
    mock.closes++;
    drop(b);
    return OK;
}
EXPORT int cuEventCreate(void **ret, unsigned flags) {
    if (flags != 6 || !mock.context_depth || mock.events == LIMIT)
        return INVALID;
    if (mock.no_memory)
        return NO_MEMORY;
    event *e = &created[mock.events++];
    e->memory = *find((uintptr_t)mock_allocate(4096, true));
    e->recorded = e->memory.base;
    *ret = e;
    return OK;
}
EXPORT int cuIpcGetEventHandle(handle *ret, void *p) {
    if (mock.no_shm)
        return OPERATING_SYSTEM;
    *ret = handle_of(&((event *)p)->memory);
    return OK;
}
EXPORT int cuIpcOpenEventHandle(void **ret, handle h) {
    event *e = &opened[mock.event_opens];
    if (mock.no_shm)
        return OPERATING_SYSTEM;
    int r = open_handle(&h, &e->memory);
    if (r != OK)
        return r;
    mock.event_opens++;
    e->recorded = e->memory.base;
    *ret = e;
    return OK;
}
EXPORT int cuEventRecord(void *p, void *stream) {
    if (mock.fault)
        return mock.fault;
    event *e = p;
    ++*e->recorded;
    e->stream = stream;
    *pending(e) = mock.tracked && is_busy(stream);
    mock.last_stream = stream;
    return mock.context_depth ? OK : NO_CONTEXT;
}
EXPORT int cuEventQuery(void *p) {
    return p && (mock.events_pending || *pending(p)) ? NOT_READY : OK;
}
EXPORT int cuEventSynchronize(void *p) {
    mock.synchronisations++;
    if (p)
        *pending(p) = 0;
    return p ? OK : INVALID;
}
EXPORT int cuEventDestroy_v2(void *p) {
    event *e = p;
    munmap(e->memory.base, e->memory.size);
    close(e->memory.fd);
    for (int i = 0; i < awaited_count; i++)
        if (awaited[i] == e)
            awaited[i--] = awaited[--awaited_count];
    e->recorded = NULL;
    mock.event_destroys++;
    return OK;
}
EXPORT int cuStreamWaitEvent(void *stream, void *p, unsigned flags) {
    mock.waits++;
    mock.last_stream = stream;
    mock.last_recorded = *((event *)p)->recorded;
    if (*pending(p) && awaited_count < LIMIT) {
        awaited[awaited_count++] = p;
        if (mock.tracked)
            stream_of(stream)->busy = true;
    }
    return flags || !mock.context_depth ? INVALID : OK;
}

/* ---- what programs use that PyIsolate does not ---- */

/* account: how much of the device's memory a process has taken. The memory of a process that has ended is free
 * again. */
typedef struct account {
    _Atomic int pid;
    _Atomic size_t bytes;
} account;

static account *accounts(void) {
    static account *mapped;
    char path[256];
    const char *folder = getenv(FOLDER);
    if (!mapped && folder) {
        snprintf(path, sizeof path, "%s/accounts", folder);
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (ftruncate(fd, LIMIT * sizeof *mapped) == 0)
            mapped = map(fd, LIMIT * sizeof *mapped);
        close(fd);
    }
    return mapped;
}

static bool has_ended(int pid) {
    return kill(pid, 0) < 0 && errno == ESRCH;
}

/* own_account: returns this process's account. */
static account *own_account(void) {
    account *all = accounts();
    for (int i = 0; all && i < LIMIT; i++)
        if (all[i].pid == getpid())
            return &all[i];
    for (int i = 0; all && i < LIMIT; i++) {
        int pid = all[i].pid;
        if ((pid == 0 || has_ended(pid)) && __atomic_compare_exchange_n((int *)&all[i].pid, &pid, getpid(), false,
                                                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            all[i].bytes = 0;
            return &all[i];
        }
    }
    return NULL;
}

EXPORT int cuMemGetInfo_v2(size_t *ret_free, size_t *ret_total) {
    const char *memory = getenv(MEMORY);
    account *all = accounts();
    *ret_total = *ret_free = memory ? strtoull(memory, NULL, 10) : (size_t)1 << 40;
    for (int i = 0; all && i < LIMIT; i++)
        if (all[i].pid && !has_ended(all[i].pid))
            *ret_free -= all[i].bytes;
    return OK;
}
EXPORT int cuMemAlloc_v2(uintptr_t *ret, size_t size) {
    size_t available, total;
    cuMemGetInfo_v2(&available, &total);
    if (!mock.context_depth)
        return NO_CONTEXT;
    if (mock.no_memory || size > available)
        return NO_MEMORY;
    *ret = (uintptr_t)mock_allocate(size, true);
    if (!*ret)
        return NO_MEMORY;
    find(*ret)->counted = true;
    if (own_account())
        own_account()->bytes += size;
    return OK;
}
EXPORT int cuMemFree_v2(uintptr_t pointer) {
    block *b = find(pointer);
    if (!b || b->foreign || (uintptr_t)b->base != pointer)
        return INVALID;
    if (b->counted && own_account())
        own_account()->bytes -= b->size;
    finish(NULL);
    drop(b);
    return OK;
}
EXPORT int cuMemsetD8_v2(uintptr_t pointer, unsigned char value, size_t size) {
    memset((void *)pointer, value, size);
    return OK;
}
EXPORT int cuMemcpyDtoH_v2(void *target, uintptr_t pointer, size_t size) {
    finish(&streams[0]);
    memcpy(target, (void *)pointer, size);
    return OK;
}
EXPORT int cuStreamCreate(void **ret, unsigned flags) {
    for (int i = 1; i < LIMIT; i++)
        if (!streams[i].used) {
            streams[i] = (stream){.used = true, .blocking = !flags};
            *ret = &streams[i];
            return OK;
        }
    return INVALID;
}
EXPORT int cuStreamDestroy_v2(void *handle) {
    *stream_of(handle) = (stream){.used = false};
    return OK;
}
