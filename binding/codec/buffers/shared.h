/* shared.h - a segment as Python holds it: the type Shared, one for each segment that memory of this process lies in.
 *
 *     torch's storage --(attribute, buffer)--> Shared --> piso_segment <-- numbers of the sessions
 *     array's buffer  -----------------------^   |
 *                                                +--(weak)--> storage
 *
 * Arrays and storages lie in one mapping, the segment's. The end of the last of them is the end of the Shared: that is when
 * the peers are told. All of it needs the GIL. */
#ifndef BINDING_SHARED_H
#define BINDING_SHARED_H

#include "common/state.h"

typedef struct core_shared {
    PyObject_HEAD core_state *state;
    piso_segment *segment; /* a reference */
    PyObject *owner;       /* weak reference to the storage, or NULL */
    void *data;            /* where it is mapped */
    PyObject *recent;      /* weak reference to the tensor that was sent last, or NULL */
    PyObject *before;      /* the memory that the storage had before, where somebody may still be reading it, or NULL */
} core_shared;

int core_shared_init(PyObject *module, core_state *state);
/* core_shared_find: that of a segment, borrowed, or NULL. */
core_shared *core_shared_find(piso_segment *segment);
/* core_shared_map: that of a segment, which is mapped if it is not yet. It has the buffer protocol. New reference.
 * `keep_fd`: as of piso_segment_map. */
core_shared *core_shared_map(core_state *state, piso_segment *segment, bool keep_fd);
/* core_shared_set_owner: notes the storage over it. 0 or -1. */
int core_shared_set_owner(core_shared *shared, PyObject *storage);
/* core_shared_storage: that storage, a new reference, or NULL without an exception. */
PyObject *core_shared_storage(core_shared *shared);
/* core_shared_write: its memory as a span of a message: the span's index, or -1; `what` is done by that, for the exception. */
int core_shared_write(core_state *state, piso_writer *w, core_shared *shared, const char *what);
/* core_shared_segment: new shared memory, or NULL with an exception. */
piso_segment *core_shared_segment(core_state *state, size_t size);

#endif
