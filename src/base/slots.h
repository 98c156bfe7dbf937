/* slots.h - a table from 64-bit ids to pointers, in which a stale id never finds a newer entry.
 *
 * An id is (generation << 32 | index + 1). It is never 0, and the generation of an index increases each time it
 * is freed. Ids come back from the peer, so a lookup accepts any value. Not thread-safe: the owner's lock
 * guards a table. */
#ifndef PISO_BASE_SLOTS_H
#define PISO_BASE_SLOTS_H

#include "base/base.h"

typedef struct piso__slot {
    void *pointer; /* NULL: free */
    uint32_t generation;
    uint32_t next_free; /* index of the next free slot, or UINT32_MAX */
} piso__slot;

typedef struct piso__slots {
    piso__slot *slots;
    uint32_t size, capacity, free_head, live;
} piso__slots;

void piso__slots_init(piso__slots *t);
void piso__slots_fini(piso__slots *t);
/* piso__slots_add: stores a non-NULL pointer and returns its id, or 0 when memory is exhausted. O(1) amortised. */
uint64_t piso__slots_add(piso__slots *t, void *pointer);
/* piso__slots_get: returns the pointer, or NULL for an unknown id (any value is safe). */
void *piso__slots_get(const piso__slots *t, uint64_t id);
/* piso__slots_replace: stores another non-NULL pointer under an id. Returns the old one, or NULL for an unknown
 * id. */
void *piso__slots_replace(piso__slots *t, uint64_t id, void *pointer);
/* piso__slots_remove: takes the pointer out and returns it, or NULL for an unknown id. */
void *piso__slots_remove(piso__slots *t, uint64_t id);
/* piso__slots_take_any: takes some pointer out and returns it, or NULL when the table is empty. Used to drain
 * the table: ids given out before may be given out again afterwards. */
void *piso__slots_take_any(piso__slots *t);

#endif
