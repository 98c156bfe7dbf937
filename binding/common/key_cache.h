/* key_cache.h - the last short keys that were decoded. Records of one kind have the same keys: a key that was decoded
 * shortly before is used again, with its hash. */
#ifndef BINDING_KEY_CACHE_H
#define BINDING_KEY_CACHE_H

#include "state.h"

#define CORE_CACHED_KEY_SIZE 48 /* characters at most: the cache holds little memory, whatever the peer sends */

int core_key_cache_init(PyObject *module, core_state *state);
void core_key_cache_clear(core_state *state);
void core_key_cache_free(core_state *state);
/* core_key_cache_get: returns the key of these bytes, 1 to CORE_CACHED_KEY_SIZE of them: a new reference; NULL without
 * an exception when it is not in the cache. */
PyObject *core_key_cache_get(core_state *state, const uint8_t *text, size_t size);
/* core_key_cache_add: keeps a key that was decoded from these bytes, if it is ASCII. */
void core_key_cache_add(core_state *state, const uint8_t *text, size_t size, PyObject *key);

#endif
