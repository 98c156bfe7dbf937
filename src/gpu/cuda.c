/* cuda.c - CUDA allocations that processes share: what this process has exported, and what it has opened.
 *
 * A handle is requested once for each allocation. An allocation's buffer id, which the driver never reuses,
 * shows whether the allocation at an address is still the same.
 *
 * Opening a handle takes longer than most calls. So an allocation without users stays open for a keeper (a
 * session), until the keeper reports that its peer has freed the memory, or ends. Until then the peer's process
 * keeps the memory anyway. */
#include "gpu/cuda.h"

#include <stdatomic.h>
#include <string.h>

/* An allocation for which this process has given out a handle. */
typedef struct exported {
    piso__cuda_pointer base;
    uint64_t size;
    unsigned long long buffer_id;
    int device;
    piso__cuda_handle handle;
} exported;

/* An allocation that this process has opened. */
typedef struct opened {
    piso__cuda_pointer base;
    uint64_t size; /* SIZE_UNKNOWN: the driver does not report it */
    uint64_t references, idle_since;
    const void *keeper; /* for whom it stays open without references; NULL: nobody */
    int device;
    piso__cuda_handle handle;
} opened;

#define SIZE_UNKNOWN ((uint64_t)1 << 62)
#define IDLE_MAX     64 /* mappings without a user; the one that has been idle longest is closed first */

static struct {
    exported *exports;
    size_t export_count, export_capacity;
    opened *opens;
    size_t open_count, open_capacity;
    uint64_t closes; /* how many last references were dropped: the clock for idle_since */
} table;             /* guarded by the lock of piso__cuda_enter */

static _Atomic uint64_t used_devices; /* bits of the devices on which something has been opened */

static int grow(void **array, size_t *capacity, size_t count, size_t item_size) {
    if (count < *capacity)
        return 0;
    size_t more = *capacity ? *capacity * 2 : 16;
    void *items = reallocarray(*array, more, item_size);
    if (!items)
        return -ENOMEM;
    *array = items;
    *capacity = more;
    return 0;
}

static bool same_handle(const piso__cuda_handle *a, const piso__cuda_handle *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

/* is_current: whether an exported allocation still exists. */
static bool is_current(const piso__cuda_driver *driver, const exported *e) {
    unsigned long long id = 0;
    return driver->pointer_attribute(&id, PISO__CUDA_BUFFER_ID, e->base) == PISO__CUDA_OK && id == e->buffer_id;
}

/* forget_stale: drops exports of freed memory. */
static void forget_stale(const piso__cuda_driver *driver) {
    size_t kept = 0;
    for (size_t i = 0; i < table.export_count; i++)
        if (is_current(driver, &table.exports[i]))
            table.exports[kept++] = table.exports[i];
    table.export_count = kept;
}

static opened *find_opened(int device, piso__cuda_pointer base) {
    for (size_t i = 0; i < table.open_count; i++)
        if (table.opens[i].base == base && table.opens[i].device == device)
            return &table.opens[i];
    return NULL;
}

static exported *find_exported(piso__cuda_pointer base) {
    for (size_t i = 0; i < table.export_count; i++)
        if (table.exports[i].base == base)
            return &table.exports[i];
    return NULL;
}

/* find_opened_around: returns the opened allocation that contains the address, or NULL. */
static opened *find_opened_around(int device, piso__cuda_pointer data) {
    for (size_t i = 0; i < table.open_count; i++)
        if (data - table.opens[i].base < table.opens[i].size && table.opens[i].device == device)
            return &table.opens[i];
    return NULL;
}

/* range_of: finds the allocation around a pointer. An allocation of another process may have attributes only. */
static int range_of(const piso__cuda_driver *driver, piso__cuda_pointer data, piso__cuda_pointer *ret_start,
                    size_t *ret_size) {
    int r = driver->address_range(ret_start, ret_size, data);
    if (r == PISO__CUDA_OK)
        return r;
    r = driver->pointer_attribute(ret_start, PISO__CUDA_RANGE_START, data);
    return r == PISO__CUDA_OK ? driver->pointer_attribute(ret_size, PISO__CUDA_RANGE_SIZE, data) : r;
}

/* make_handle: fills in the handle of `e`, whose base and size are known. */
static int make_handle(const piso__cuda_driver *driver, exported *e) {
    int capable = 0; /* the driver writes one byte or four */
    const char *call = "cuPointerGetAttribute";
    int r = driver->pointer_attribute(&capable, PISO__CUDA_LEGACY_IPC_CAPABLE, e->base);
    if (r == PISO__CUDA_OK && !(capable & 0xFF))
        return -ENOTSUP;
    if (r == PISO__CUDA_OK)
        r = driver->pointer_attribute(&e->buffer_id, PISO__CUDA_BUFFER_ID, e->base);
    if (r == PISO__CUDA_OK)
        r = driver->get_memory_handle(&e->handle, e->base), call = "cuIpcGetMemHandle";
    r = piso__cuda_error(piso__cuda_noted(r, call));
    return r == -EIO ? -ENOTSUP : r;
}

/* export_new: makes the entry of an allocation that has none, or an outdated one. */
static int export_new(const piso__cuda_driver *driver, exported *e) {
    exported *old = find_exported(e->base);
    int r = make_handle(driver, e);
    if (r < 0)
        return r;
    if (old) {
        *old = *e;
        return 0;
    }
    if (table.export_count == table.export_capacity)
        forget_stale(driver);
    void *array = table.exports;
    r = grow(&array, &table.export_capacity, table.export_count, sizeof *table.exports);
    table.exports = array;
    if (r == 0)
        table.exports[table.export_count++] = *e;
    return r;
}

/* look_up: finds base, size and handle of the allocation around a pointer. */
static int look_up(const piso__cuda_driver *driver, int device, piso__cuda_pointer data, exported *ret) {
    exported e = {.device = device};
    const opened *foreign = find_opened_around(device, data);
    if (foreign) {
        ret->base = foreign->base;
        ret->size = foreign->size;
        ret->handle = foreign->handle;
        return 0;
    }
    size_t size;
    int r = piso__cuda_noted(driver->address_range(&e.base, &size, data), "cuMemGetAddressRange");
    if (r != PISO__CUDA_OK)
        return piso__cuda_error(r) == -EIO
                   ? -ENOTSUP
                   : piso__cuda_error(r); /* some drivers report no range for pieces of virtual memory */
    e.size = size;
    const exported *known = find_exported(e.base);
    if (known && is_current(driver, known))
        e = *known;
    else if ((r = export_new(driver, &e)) < 0)
        return r;
    *ret = e;
    return 0;
}

int piso_cuda_export(int device, const void *data, piso_cuda_memory *ret_memory) {
    int r;
    const piso__cuda_driver *driver = piso__cuda_enter(device, &r);
    if (!driver)
        return r;
    exported e = {0};
    r = look_up(driver, device, (piso__cuda_pointer)data, &e);
    piso__cuda_leave(driver);
    if (r < 0)
        return r;
    ret_memory->device = device;
    memcpy(ret_memory->handle, e.handle.bytes, PISO_CUDA_HANDLE);
    ret_memory->offset = (piso__cuda_pointer)data - e.base;
    ret_memory->size = e.size;
    return 0;
}

static void close_at(const piso__cuda_driver *driver, size_t index) {
    piso__cuda_noted(driver->close_memory_handle(table.opens[index].base), "cuIpcCloseMemHandle");
    table.opens[index] = table.opens[--table.open_count];
}

/* close_idle: closes unused mappings of this keeper (NULL: of any) with this handle (NULL: with any). Returns
 * how many. */
static int close_idle(const piso__cuda_driver *driver, int device, const void *keeper,
                      const piso__cuda_handle *handle) {
    int closed = 0;
    for (size_t i = table.open_count; i-- > 0;) {
        opened *o = &table.opens[i];
        if (o->device != device || (keeper && o->keeper != keeper) || (handle && !same_handle(&o->handle, handle)))
            continue;
        if (keeper)
            o->keeper = NULL;
        if (o->references == 0) {
            close_at(driver, i);
            closed++;
        }
    }
    return closed;
}

/* limit_idle: closes the mappings that have been idle longest, if there are too many. */
static void limit_idle(const piso__cuda_driver *driver, int device) {
    size_t idle = 0, oldest = 0;
    for (size_t i = 0; i < table.open_count; i++) {
        const opened *o = &table.opens[i];
        if (o->references || o->device != device)
            continue;
        if (idle++ == 0 || o->idle_since < table.opens[oldest].idle_since)
            oldest = i;
    }
    if (idle > IDLE_MAX)
        close_at(driver, oldest);
}

/* map: opens a handle. Idle mappings may be in the way: they take memory, or the address range, as when the
 * peer has freed what it had there. */
static int map(const piso__cuda_driver *driver, int device, const piso__cuda_handle *handle,
               piso__cuda_pointer *ret_base) {
    int r = driver->open_memory_handle(ret_base, *handle, PISO__CUDA_LAZY_PEER_ACCESS);
    if ((r == PISO__CUDA_NO_MEMORY || r == PISO__CUDA_ALREADY_MAPPED) && close_idle(driver, device, NULL, NULL))
        r = driver->open_memory_handle(ret_base, *handle, PISO__CUDA_LAZY_PEER_ACCESS);
    return piso__cuda_noted(r, "cuIpcOpenMemHandle");
}

/* open_new: maps an allocation that is not mapped yet. */
static int open_new(const piso__cuda_driver *driver, int device, const piso__cuda_handle *handle, opened **ret) {
    opened o = {.device = device, .handle = *handle, .size = SIZE_UNKNOWN};
    piso__cuda_pointer start;
    size_t size;
    void *array = table.opens;
    int r = grow(&array, &table.open_capacity, table.open_count, sizeof *table.opens);
    table.opens = array;
    if (r < 0)
        return r;
    r = map(driver, device, handle, &o.base);
    if (r != PISO__CUDA_OK)
        return piso__cuda_error(r);
    /* a handle may stand for a part of what the driver maps with it */
    if (range_of(driver, o.base, &start, &size) == PISO__CUDA_OK && o.base - start < size)
        o.size = size - (o.base - start);
    atomic_fetch_or(&used_devices, UINT64_C(1) << device);
    table.opens[table.open_count] = o;
    *ret = &table.opens[table.open_count++];
    return 0;
}

/* open: does the work of piso_cuda_open in the context of the device. */
static int open(const piso__cuda_driver *driver, int device, const piso__cuda_handle *handle, const void *keeper,
                piso__cuda_pointer *ret_base, uint64_t *ret_size) {
    for (size_t i = 0; i < table.export_count; i++) {
        const exported *own = &table.exports[i];
        if (own->device == device && same_handle(&own->handle, handle) && is_current(driver, own)) {
            *ret_base = own->base;
            *ret_size = own->size;
            return 1;
        }
    }
    opened *o = NULL;
    for (size_t i = 0; !o && i < table.open_count; i++)
        if (table.opens[i].device == device && same_handle(&table.opens[i].handle, handle))
            o = &table.opens[i];
    int r = o ? 0 : open_new(driver, device, handle, &o);
    if (r < 0)
        return r;
    o->references++;
    if (keeper)
        o->keeper = keeper;
    *ret_base = o->base;
    *ret_size = o->size;
    return 0;
}

int piso_cuda_open(int device, const uint8_t handle[PISO_CUDA_HANDLE], const void *keeper, void **ret_base,
                   uint64_t *ret_size) {
    int r;
    const piso__cuda_driver *driver = piso__cuda_enter(device, &r);
    if (!driver)
        return r;
    piso__cuda_handle h;
    piso__cuda_pointer base = 0;
    memcpy(h.bytes, handle, sizeof h.bytes);
    r = open(driver, device, &h, keeper, &base, ret_size);
    piso__cuda_leave(driver);
    if (r >= 0)
        *ret_base = (void *)base;
    return r;
}

void piso_cuda_close(int device, const void *base) {
    int r;
    const piso__cuda_driver *driver = piso__cuda_enter(device, &r);
    if (!driver)
        return;
    opened *o = find_opened(device, (piso__cuda_pointer)base);
    if (o && o->references && --o->references == 0) {
        o->idle_since = ++table.closes;
        if (o->keeper)
            limit_idle(driver, device);
        else
            close_at(driver, (size_t)(o - table.opens));
    }
    piso__cuda_leave(driver);
}

void piso_cuda_release(const void *keeper, const uint8_t *handle) {
    int r;
    piso__cuda_handle h;
    if (handle)
        memcpy(h.bytes, handle, sizeof h.bytes);
    for (int device = 0; keeper && device < PISO__CUDA_DEVICES; device++) {
        if (!(atomic_load(&used_devices) >> device & 1))
            continue; /* does not create a context on it */
        const piso__cuda_driver *driver = piso__cuda_enter(device, &r);
        if (!driver)
            return;
        close_idle(driver, device, keeper, handle ? &h : NULL);
        piso__cuda_leave(driver);
    }
}
