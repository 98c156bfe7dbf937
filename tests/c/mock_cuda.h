/* mock_cuda.h - what a test can tell the mock of CUDA's driver, and ask it. */
#ifndef PISO_TESTS_MOCK_CUDA_H
#define PISO_TESTS_MOCK_CUDA_H

#include <stdbool.h>
#include <stddef.h>

typedef struct mock_cuda {
    void *(*allocate)(size_t size, bool exportable);
    void (*free)(void *memory);
    void (*work)(void *stream); /* gives it something to do */
    /* settings */
    int devices;
    bool no_memory;      /* everything that takes memory fails */
    bool no_opening;     /* as on systems without that */
    bool events_pending; /* recorded events have not happened */
    bool idle;           /* streams have done all that they were given */
    bool capturing;      /* every stream is being captured into a graph */
    bool no_ranges;      /* what has been opened has no range */
    bool no_shm;         /* the files of events are not there */
    bool tracked;        /* streams are busy as `work` made them, and events of these pending */
    int fault;           /* result of each call that makes the device do something; 0: none */
    /* counts */
    int handles, opens, closes, events, event_opens, event_destroys, synchronisations, waits;
    int drains;        /* of streams */
    int forbidden;     /* calls that ended a capture */
    int capture_mode;  /* of the thread */
    int context_depth; /* pushed and not popped */
    void *last_stream;
    unsigned last_recorded; /* how often the event had been recorded that a stream waited for last */
} mock_cuda;

#endif
