/* slots.h - a table from 64-bit ids to pointers, in which a stale id never finds a newer entry.
 *
 * An id is (generation << 32 | index + 1): never 0, and the generation of an index moves on each time it is
 * freed. Ids come back from the peer, so lookup checks everything. Not thread-safe: the owner's lock. */
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
/* piso__slots_add: puts a non-NULL pointer in; its id, or 0 when memory is exhausted. O(1) amortised. */
uint64_t piso__slots_add(piso__slots *t, void *pointer);
/* piso__slots_get: the pointer, or NULL for an id that is not there (any value is safe). */
void *piso__slots_get(const piso__slots *t, uint64_t id);
/* piso__slots_replace: puts another non-NULL pointer under an id; the old one, or NULL when it is not there. */
void *piso__slots_replace(piso__slots *t, uint64_t id, void *pointer);
/* piso__slots_remove: takes the pointer out, or NULL. */
void *piso__slots_remove(piso__slots *t, uint64_t id);
/* piso__slots_take_any: takes some pointer out, or NULL when the table is empty. For draining: ids given out
 * before may come again afterwards. */
void *piso__slots_take_any(piso__slots *t);

#endif
