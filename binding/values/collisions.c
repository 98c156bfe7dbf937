/* collisions.c - keeps a peer from sending keys that all have the same hash (collisions.h).
 *
 * Each key that goes into a dict or set is compared with all that have its hash. Hashes of text are secret, those of
 * numbers and tuples are not: multiples of 2**61 - 1 all have hash 0, and a hundred thousand of them keep the
 * interpreter busy for a minute, whatever deadline there is. Honest keys hardly ever share one. The table here is no
 * victim itself: where a hash goes is decided by a number that the peer does not know. */
#include "collisions.h"

#include <string.h>

#include "convert_internal.h"

#define FEW      64  /* keys that are not counted */
#define MAX_SAME 64u /* keys of one hash */
/* An entry: the upper bits of a hash, mixed, with the number of keys in the lowest byte; 0: free. */
#define COUNT_MASK UINT64_C(0xff)

int core_collisions_init(core_collisions *c, size_t count) {
    *c = (core_collisions){0};
    if (count <= FEW)
        return 0;
    unsigned bits = 8;
    while ((size_t)1 << bits < 2 * count)
        bits++;
    c->entries = PyMem_Calloc((size_t)1 << bits, sizeof *c->entries);
    if (!c->entries) {
        PyErr_NoMemory();
        return -1;
    }
    /* the address of fresh memory, and the hash of a text, which depends on the interpreter's secret */
    PyObject *text = PyUnicode_FromString("collisions");
    Py_hash_t secret = text ? PyObject_Hash(text) : -1;
    Py_XDECREF(text);
    if (secret == -1) {
        core_collisions_fini(c);
        return -1;
    }
    c->factor = ((uint64_t)(uintptr_t)c->entries ^ (uint64_t)secret) | 1;
    c->shift = 64 - bits;
    return 0;
}

bool core_collisions_add(core_collisions *c, PyObject *key) {
    if (!c->entries || PyUnicode_CheckExact(key) || PyBytes_CheckExact(key))
        return true;
    Py_hash_t hash = PyObject_Hash(key);
    if (hash == -1) {
        PyErr_Clear(); /* the container raises it again */
        return true;
    }
    uint64_t mixed = (uint64_t)hash * c->factor, wanted = mixed & ~COUNT_MASK,
             mask = (UINT64_C(1) << (64 - c->shift)) - 1;
    uint64_t at = mixed >> c->shift;
    while (c->entries[at] && (c->entries[at] & ~COUNT_MASK) != wanted)
        at = (at + 1) & mask;
    if (!c->entries[at])
        c->entries[at] = wanted;
    return ++c->entries[at] <= (wanted | MAX_SAME);
}

void core_collisions_fini(core_collisions *c) {
    PyMem_Free(c->entries);
    c->entries = NULL;
}
