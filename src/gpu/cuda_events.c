/* cuda_events.c - events by which a stream of one process waits for a stream of another.
 *
 * Most messages need no event. A stream without pending work needs none. The driver keeps the state of shared
 * events in files in /dev/shm, which a confined process does not share with others: there the sender waits for
 * its stream (piso_cuda_drain).
 *
 * Our events are reused: each process that received one keeps it open. An event is recorded again only after it
 * has happened. A process that still wants to wait for the earlier recording then waits too long, but never too
 * short. */
#include "gpu/cuda.h"

#include <string.h>

#define OWN_EVENTS    32  /* of each device */
#define OPENED_EVENTS 256 /* of all peers together; the one opened first is closed first */

typedef struct shared_event {
    void *event;
    piso__cuda_handle handle;
} shared_event;

typedef struct own_events {
    shared_event events[OWN_EVENTS];
    unsigned count, next;
} own_events;

static own_events owned[PISO__CUDA_DEVICES]; /* all are guarded by the lock of piso__cuda_enter */
static struct {
    shared_event events[OPENED_EVENTS];
    int devices[OPENED_EVENTS];
    unsigned count, next;
} opened;

/* add: makes one more event. */
static int add(const piso__cuda_driver *driver, own_events *own, shared_event **ret) {
    shared_event e;
    int r = piso__cuda_noted(driver->event_create(&e.event, PISO__CUDA_EVENT_FLAGS), "cuEventCreate");
    if (r != PISO__CUDA_OK)
        return r;
    r = piso__cuda_noted(driver->get_event_handle(&e.handle, e.event), "cuIpcGetEventHandle");
    if (r != PISO__CUDA_OK) {
        driver->event_destroy(e.event);
        return r;
    }
    own->events[own->count] = e;
    *ret = &own->events[own->count++];
    return PISO__CUDA_OK;
}

/* choose: returns an event that may be recorded: the least recently used one if it has happened, else a new
 * one. NOT_READY when none has happened and no more may be made. */
static int choose(const piso__cuda_driver *driver, own_events *own, shared_event **ret) {
    shared_event *oldest = own->count ? &own->events[own->next % own->count] : NULL;
    int r = oldest ? driver->event_query(oldest->event) : PISO__CUDA_NOT_READY;
    if (r == PISO__CUDA_NOT_READY && own->count < OWN_EVENTS)
        return add(driver, own, ret);
    if (r != PISO__CUDA_OK)
        return r == PISO__CUDA_NOT_READY ? r : piso__cuda_noted(r, "cuEventQuery");
    own->next = (own->next + 1) % own->count;
    *ret = oldest;
    return r;
}

/* record: does the work of piso_cuda_record in the context of the device. Returns a result of the driver;
 * NOT_READY: no event was recorded. */
static int record(const piso__cuda_driver *driver, int device, void *stream, bool events, shared_event **ret) {
    int r = driver->stream_query(stream);
    if (r != PISO__CUDA_NOT_READY || !events)
        return r == PISO__CUDA_NOT_READY ? r : piso__cuda_noted(r, "cuStreamQuery");
    if ((r = choose(driver, &owned[device], ret)) == PISO__CUDA_OK)
        r = piso__cuda_noted(driver->event_record((*ret)->event, stream), "cuEventRecord");
    return r;
}

int piso_cuda_record(int device, void *stream, bool events, uint8_t ret_event[PISO_CUDA_HANDLE]) {
    int r;
    const piso__cuda_driver *driver = piso__cuda_enter(device, &r);
    if (!driver)
        return r;
    shared_event *e = NULL;
    int captured = piso__cuda_captured(driver, stream);
    if (captured == 0 && (r = record(driver, device, stream, events, &e)) == PISO__CUDA_OK && e)
        memcpy(ret_event, e->handle.bytes, PISO_CUDA_HANDLE);
    piso__cuda_leave(driver);
    if (captured)
        return captured < 0 ? captured : -EAGAIN;
    return r == PISO__CUDA_NOT_READY ? -EINPROGRESS : r == PISO__CUDA_OK ? e != NULL : piso__cuda_error(r);
}

/* find: returns the event behind a handle, another process's or our own, and opens it if necessary. */
static int find(const piso__cuda_driver *driver, int device, const piso__cuda_handle *handle, void **ret) {
    for (unsigned i = 0; i < owned[device].count; i++)
        if (memcmp(&owned[device].events[i].handle, handle, sizeof *handle) == 0) {
            *ret = owned[device].events[i].event;
            return PISO__CUDA_OK;
        }
    for (unsigned i = 0; i < opened.count; i++)
        if (opened.devices[i] == device && memcmp(&opened.events[i].handle, handle, sizeof *handle) == 0) {
            *ret = opened.events[i].event;
            return PISO__CUDA_OK;
        }
    shared_event e = {.handle = *handle};
    int r = piso__cuda_noted(driver->open_event_handle(&e.event, *handle), "cuIpcOpenEventHandle");
    if (r != PISO__CUDA_OK)
        return r;
    unsigned at = opened.next;
    if (opened.count == OPENED_EVENTS)
        driver->event_destroy(opened.events[at].event); /* streams that wait for it already are not affected */
    else
        opened.count++;
    opened.events[at] = e;
    opened.devices[at] = device;
    opened.next = (at + 1) % OPENED_EVENTS;
    *ret = e.event;
    return PISO__CUDA_OK;
}

int piso_cuda_wait(int device, void *stream, const uint8_t event[PISO_CUDA_HANDLE]) {
    int r;
    const piso__cuda_driver *driver = piso__cuda_enter(device, &r);
    if (!driver)
        return r;
    piso__cuda_handle handle;
    void *found = NULL;
    memcpy(handle.bytes, event, sizeof handle.bytes);
    int captured = piso__cuda_captured(driver, stream);
    r = find(driver, device, &handle, &found);
    if (r == PISO__CUDA_OK && (r = driver->event_query(found)) == PISO__CUDA_NOT_READY) {
        /* a wait for another process cannot be part of a graph */
        if (captured)
            r = piso__cuda_noted(driver->event_synchronize(found), "cuEventSynchronize");
        else
            r = piso__cuda_noted(driver->stream_wait_event(stream, found, 0), "cuStreamWaitEvent");
    } else if (r != PISO__CUDA_OK && found) {
        piso__cuda_noted(r, "cuEventQuery");
    }
    piso__cuda_leave(driver);
    return piso__cuda_error(r);
}
