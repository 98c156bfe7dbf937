/* collisions.h - bounds, for each message, the work that keys of dictionaries and sets cause.
 *
 * A key that is inserted is compared with every key of the same hash, and probes one slot after another until one is
 * free. Hashes of text and bytes are secret. Hashes of numbers, tuples and frozensets are not, and a sender that knows
 * them can keep the interpreter busy for hours: with keys of one hash (multiples of 2**61 - 1), with such keys nested
 * in keys, or with keys of different hashes that all probe the same slots. No deadline interrupts such work.
 *
 * Therefore the slots that CPython will probe are first probed here, in a table of hashes that grows as CPython's does.
 * A slot costs 1; a slot with the same hash costs as much as comparing the two keys. A message may cost CORE_WORK, plus
 * CORE_WORK_PER_BYTE for each byte of its body. Keys found in practice cost less than 1 for a byte; multiples of a
 * large power of two, such as identifiers that begin with a time, cost up to 7. */
#ifndef BINDING_COLLISIONS_H
#define BINDING_COLLISIONS_H

#include "converter.h"

#define CORE_WORK          (UINT64_C(1) << 23)
#define CORE_WORK_PER_BYTE 8

/* CORE_FEW_KEYS: in a container of at most this size, keys that are cheap to compare are not charged. */
#define CORE_FEW_KEYS 8

/* core_keys: the keys of one container that is being filled. */
typedef struct core_keys {
    size_t expected, count; /* in the end, and so far */
    bool is_set;
    uint64_t heaviest; /* the largest cost of comparing a key so far with another one */
    /* NULL until the first key whose hash is not secret */
    Py_hash_t *slots; /* by slot; -1: free. In a container of few keys, just their hashes */
    size_t mask, placed;
    Py_hash_t *order; /* of a dict: the hashes in the order of insertion */
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

/* core_keys_charge: charges for a key of this weight that is about to be inserted and whose hash is not secret. The
 * caller inserts no more keys than `expected`. Returns 0, or -1 with an exception. */
int core_keys_charge(core_keys *k, core_decoder *d, PyObject *key, uint64_t weight);
static inline int core_keys_add(core_keys *k, core_decoder *d, PyObject *key, uint64_t weight) {
    k->count++;
    if (PyUnicode_CheckExact(key) || PyBytes_CheckExact(key) || (k->expected <= CORE_FEW_KEYS && weight <= 1) ||
        core_is_trusted(d))
        return 0;
    return core_keys_charge(k, d, key, weight);
}

/* core_keys_weight: returns the cost of comparing a container of these keys with another one. The other one may be
 * crafted so that each key of the first is looked up in all of its slots. `sum`: the weights of keys and values. */
static inline uint64_t core_keys_weight(const core_keys *k, uint64_t sum) {
    if (k->count >= 1u << 15 || k->heaviest >= CORE_MAX_WEIGHT)
        return CORE_MAX_WEIGHT;
    return core_weight((uint64_t)k->count * k->count * (1 + k->heaviest) + core_weight(sum));
}

#endif
