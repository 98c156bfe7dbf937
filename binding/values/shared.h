/* shared.h - a segment as Python holds it: the type Shared, one for each segment that memory of this process lies in.
 *
 *     torch's storage --(attribute)--> Shared --> piso_segment <-- numbers of the sessions
 *     array's buffer  ---------------^   |
 *                                        +--(weak)--> storage
 *
 * The storage owns its Shared, so that the end of the one is the end of the other: that is when the peers are told.
 * All of it needs the GIL. */
#ifndef BINDING_SHARED_H
#define BINDING_SHARED_H

#include "common/state.h"

typedef struct core_shared {
    PyObject_HEAD core_state *state;
    piso_segment *segment; /* a reference */
    PyObject *owner;       /* weak reference to the storage, or NULL */
    void *data;            /* where it is mapped */
    bool mapped;           /* by this object, which unmaps it */
    PyObject *recent;      /* weak reference to the tensor that was sent last, or NULL */
    PyObject *before;      /* the memory that the storage had before, where somebody may still be reading it, or NULL */
} core_shared;

int core_shared_init(PyObject *module, core_state *state);
/* core_shared_new: takes the reference to `segment`; `owner` may be NULL. The segment has no other Shared. */
core_shared *core_shared_new(core_state *state, piso_segment *segment, PyObject *owner, void *data);
/* core_shared_find: that of a segment, borrowed, or NULL. */
core_shared *core_shared_find(piso_segment *segment);
/* core_shared_map: one with a mapping of its own, which has the buffer protocol. New reference. */
core_shared *core_shared_map(core_state *state, piso_segment *segment);
/* core_shared_segment: new shared memory, or NULL with an exception. */
piso_segment *core_shared_segment(core_state *state, size_t size);

#endif
