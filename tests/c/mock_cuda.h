/* mock_cuda.h - the settings and counters of the mock of CUDA's driver. */
#ifndef PISO_TESTS_MOCK_CUDA_H
#define PISO_TESTS_MOCK_CUDA_H

#include <stdbool.h>
#include <stddef.h>

typedef struct mock_cuda {
    void *(*allocate)(size_t size, bool exportable);
    void (*free)(void *memory);
    void (*work)(void *stream); /* submits work to the stream */
    /* settings */
    int devices;
    bool no_memory;      /* every allocation fails */
    bool no_opening;     /* as on systems without IPC */
    bool events_pending; /* recorded events have not happened */
    bool idle;           /* streams have finished all work */
    bool capturing;      /* every stream is being captured into a graph */
    bool no_ranges;      /* opened allocations have no range */
    bool no_shm;         /* the files of events are missing */
    bool tracked;        /* streams are busy while `work` is pending on them, and so are their events */
    int fault;           /* result of each call that uses the device; 0: none */
    /* counts */
    int handles, opens, closes, events, event_opens, event_destroys, synchronisations, waits;
    int drains;        /* of streams */
    int forbidden;     /* calls that ended a capture */
    int capture_mode;  /* of the thread */
    int context_depth; /* pushed and not popped */
    void *last_stream;
    unsigned last_recorded; /* how often the event that a stream waited for last had been recorded */
} mock_cuda;

#endif
