#ifndef PISO_BINDING_COLLISIONS_H
#define PISO_BINDING_COLLISIONS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

/* Counts the keys of one container by their hashes. */
typedef struct core_collisions {
    uint64_t *entries; /* NULL: so few keys that it does not matter */
    uint64_t factor;
    unsigned shift;
} core_collisions;

/* core_collisions_init: for a container of `count` keys. 0, or -1 with an exception. */
int core_collisions_init(core_collisions *c, size_t count);
/* core_collisions_add: a key, before it goes into the container. False, without an exception, when too many had the same
 * hash. Keys without a hash are for the container to refuse. No more keys than said may be added. */
bool core_collisions_add(core_collisions *c, PyObject *key);
void core_collisions_fini(core_collisions *c);

#endif
