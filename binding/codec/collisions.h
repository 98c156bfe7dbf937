/* collisions.h - the work that keys of dictionaries and sets cause, which is bounded for each message.
 *
 * A key that is inserted is compared with every key of the same hash, and looked for in one place after another until
 * one is free. Hashes of text and bytes are secret; those of numbers, tuples and frozensets are not, and a sender that
 * knows them can have the interpreter busy for hours: by keys of one hash (multiples of 2**61 - 1), by such keys nested
 * in keys, or by keys of different hashes that all lead to the same places. Such work does not stop for a deadline.
 *
 * So the places that CPython will look at are gone through here first, in a table of hashes that grows as CPython's does.
 * A place costs 1, and one with the same hash what it costs to compare the two keys. A message may cost CORE_WORK, and
 * CORE_WORK_PER_BYTE of its body. Keys as they are in practice take less than 1 for a byte; multiples of a large power of
 * two, such as identifiers that begin with a time, up to 7. */
#ifndef BINDING_COLLISIONS_H
#define BINDING_COLLISIONS_H

#include "converter.h"

#define CORE_WORK          (UINT64_C(1) << 23)
#define CORE_WORK_PER_BYTE 8

/* CORE_FEW_KEYS: in so small a container keys that are cheap to compare are not looked at. */
#define CORE_FEW_KEYS 8

/* core_keys: those of one container that is being filled. */
typedef struct core_keys {
    size_t expected, count; /* in the end; so far */
    bool is_set;
    uint64_t heaviest; /* of the keys so far: what it costs to compare one with another */
    /* from the first key on whose hash is not secret; NULL before */
    Py_hash_t *slots; /* by place; -1: free. Where few are expected just their hashes */
    size_t mask, placed;
    Py_hash_t *order; /* of a dict: what was placed, in the order in which it came */
} core_keys;

static inline void core_keys_init(core_keys *k, size_t expected, bool is_set) {
    k->expected = expected;
    k->count = k->placed = 0;
    k->heaviest = 0;
    k->is_set = is_set;
    k->slots = k->order = NULL;
}
static inline void core_keys_fini(core_keys *k) {
    if (k->slots) {
        PyMem_Free(k->slots);
        PyMem_Free(k->order);
    }
}

/* core_keys_charge: a key of this weight is about to be inserted, whose hash is not secret. No more may be than were
 * expected. 0, or -1 with an exception. */
int core_keys_charge(core_keys *k, core_decoder *d, PyObject *key, uint64_t weight);
static inline int core_keys_add(core_keys *k, core_decoder *d, PyObject *key, uint64_t weight) {
    k->count++;
    if (PyUnicode_CheckExact(key) || PyBytes_CheckExact(key) || (k->expected <= CORE_FEW_KEYS && weight <= 1) ||
        core_is_trusted(d))
        return 0;
    return core_keys_charge(k, d, key, weight);
}

/* core_keys_weight: what it costs to compare a container of these keys with another one, which may be made so that
 * each key of the one is looked for in all places of the other. `sum`: the weights of keys and values. */
static inline uint64_t core_keys_weight(const core_keys *k, uint64_t sum) {
    if (k->count >= 1u << 15 || k->heaviest >= CORE_MAX_WEIGHT)
        return CORE_MAX_WEIGHT;
    return core_weight((uint64_t)k->count * k->count * (1 + k->heaviest) + core_weight(sum));
}

#endif
