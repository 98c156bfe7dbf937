/* shared.h - the type Shared, a segment as Python holds it: one for each segment that this process uses.
 *
 *     torch's storage --(attribute, buffer)--> Shared --> piso_segment <-- ids of the sessions
 *     array's buffer  -----------------------^   |
 *                                                +--(weak)--> storage
 *
 * Arrays and storages use one mapping, the segment's. The last of them deallocates the Shared, which notifies the
 * peers. All of it needs the GIL. */
#ifndef BINDING_SHARED_H
#define BINDING_SHARED_H

#include "common/state.h"

typedef struct core_shared {
    PyObject_HEAD core_state *state;
    piso_segment *segment; /* strong */
    PyObject *owner;       /* weak reference to the storage, or NULL */
    void *data;            /* the address of its mapping */
    PyObject *recent;      /* weak reference to the tensor sent last, or NULL */
    PyObject *before;      /* the memory that the storage had before, while somebody may still read it, or NULL */
} core_shared;

int core_shared_init(PyObject *module, core_state *state);
/* core_shared_find: returns the Shared of a segment, borrowed, or NULL. */
core_shared *core_shared_find(piso_segment *segment);
/* core_shared_map: returns the Shared of a segment, which is mapped if it is not yet. It has the buffer protocol. New
 * reference. `keep_fd`: as for piso_segment_map. */
core_shared *core_shared_map(core_state *state, piso_segment *segment, bool keep_fd);
/* core_shared_set_owner: stores the storage over it. Returns 0 or -1. */
int core_shared_set_owner(core_shared *shared, PyObject *storage);
/* core_shared_storage: returns that storage, a new reference, or NULL without an exception. */
PyObject *core_shared_storage(core_shared *shared);
/* core_shared_write: adds its memory to a message as a span. Returns the span's index or -1. `what`: the operation, for
 * the exception. */
int core_shared_write(core_state *state, piso_writer *w, core_shared *shared, const char *what);
/* core_shared_segment: allocates new shared memory. NULL with an exception. */
piso_segment *core_shared_segment(core_state *state, size_t size);

#endif
