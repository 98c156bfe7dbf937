/* key_cache.c - see key_cache.h. A slot holds the last key whose bytes select it. A peer that chooses keys of one slot
 * has each of them decoded as without the cache. */
#include "key_cache.h"

#include <string.h>

#define BITS 9

struct core_key_cache {
    PyObject *slots[1 << BITS]; /* ASCII text, or NULL */
};

/* slot: selects by the first and the last eight bytes and the size. */
static inline PyObject **slot(core_key_cache *cache, const uint8_t *text, size_t size) {
    size_t part = size < sizeof(uint64_t) ? size : sizeof(uint64_t);
    uint64_t first = 0, last = 0;
    memcpy(&first, text, part);
    memcpy(&last, text + size - part, part);
    uint64_t mixed = (first + size) * UINT64_C(0x9e3779b97f4a7c15) ^ last;
    return &cache->slots[mixed * UINT64_C(0xbf58476d1ce4e5b9) >> (64 - BITS)];
}

PyObject *core_key_cache_get(core_state *state, const uint8_t *text, size_t size) {
    PyObject *key = *slot(state->key_cache, text, size);
    if (key && (size_t)PyUnicode_GET_LENGTH(key) == size && memcmp(PyUnicode_1BYTE_DATA(key), text, size) == 0)
        return Py_NewRef(key);
    return NULL;
}

void core_key_cache_add(core_state *state, const uint8_t *text, size_t size, PyObject *key) {
    if (PyUnicode_IS_COMPACT_ASCII(key))
        Py_XSETREF(*slot(state->key_cache, text, size), Py_NewRef(key));
}

int core_key_cache_init(PyObject *Py_UNUSED(module), core_state *state) {
    state->key_cache = PyMem_Calloc(1, sizeof *state->key_cache);
    if (!state->key_cache) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void core_key_cache_clear(core_state *state) {
    for (size_t i = 0; state->key_cache && i < 1 << BITS; i++)
        Py_CLEAR(state->key_cache->slots[i]);
}

void core_key_cache_free(core_state *state) {
    PyMem_Free(state->key_cache);
    state->key_cache = NULL;
}
