/* converter.h - used by the converters of types: traversal of a value in both directions, and errors. tables.h
 * registers converters. */
#ifndef BINDING_CONVERTER_H
#define BINDING_CONVERTER_H

#include "codec.h"
#include "common/errors.h"

/* core_get_by_class: returns the entry of a class in a dict of classes, borrowed; NULL without an exception. A class whose
 * metaclass has no hash, or one that raises, is in none. */
static inline PyObject *core_get_by_class(PyObject *dict, PyTypeObject *cls) {
    PyObject *found = PyDict_GetItemWithError(dict, (PyObject *)cls);
    if (!found)
        PyErr_Clear(); /* as said above */
    return found;
}

/* ---- encoding ---- */

/* core_path: the place of a value in the arguments; a linked list on the C stack, innermost first. */
typedef struct core_path {
    const struct core_path *parent;
    const char *root; /* of the outermost: "result"; else NULL */
    PyObject *key;    /* key of a dict, or a name; borrowed */
    Py_ssize_t index; /* used where key is NULL */
    enum { CORE_AT_ROOT, CORE_AT_ARGUMENT, CORE_AT_INDEX, CORE_AT_KEY, CORE_AT_FIELD, CORE_IN_SET, CORE_ENCODED } kind;
} core_path;

typedef struct core_encoder {
    core_codec *codec;
    piso_writer *w;
    int depth;
    bool exceptions;    /* the value is a part of an exception: if it cannot be sent, its text is */
    int linked;         /* causes and contexts written so far */
    int references;     /* references to the current value held by us or its container; 0: others may use it later */
    PyObject **remotes; /* list of the peer's own objects that were written so far (core_encode_call), or NULL */
} core_encoder;

int core_encode(core_encoder *e, PyObject *value, const core_path *path);
/* core_encode_data: encodes bytes: from PISO_BUFFER_THRESHOLD on in a shared buffer, as long as the message has one
 * left, else inline. */
int core_encode_data(core_encoder *e, const void *data, size_t size);
/* core_is_last: returns whether only this message will use the value: it has no references but these. */
static inline bool core_is_last(PyObject *value, int references) {
    Py_ssize_t weak = Py_TYPE(value)->tp_weaklistoffset;
    return Py_REFCNT(value) == references && !(weak > 0 && *(PyObject **)((char *)value + weak));
}
/* core_encode_owned: the same for bytes in the memory of `owner`, which nobody else can access. A received buffer that
 * is sent to its sender is returned without a copy. `owner` may be NULL. */
int core_encode_owned(core_encoder *e, PyObject *owner, const void *data, size_t size);
/* core_note_shared: counts a send of shared memory. */
static inline void core_note_shared(core_codec *c) {
    c->shared_at = ++c->state->shared_sends;
    c->unsent = 0;
}
/* core_encode_error: raises TypeError "<path>: <problem>; <remedy>" and returns -1. */
int core_encode_error(const core_path *path, PyObject *value, const char *remedy);

/* ---- decoding ---- */

typedef struct core_decoder {
    core_codec *codec;
    piso_event *event; /* the event whose spans the body refers to; NULL: none */
    int depth;
    int exceptions;    /* exceptions that enclose the current value */
    bool raises;       /* the value is the exception of an error */
    size_t items_left; /* of all containers together: at most the bytes of the body */
    /* quota.h */
    int64_t left, granted; /* memory: until the next check of the limit, and granted so far */
    uint64_t work;         /* comparisons of keys so far (collisions.h) */
    uint64_t weight;       /* cost of comparing the value that was decoded last */
    /* the kind of the current exception */
    bool malformed; /* the peer broke the protocol */
    bool failed;    /* the message is well-formed but cannot be decoded here */
    /* decoded so far */
    bool registered; /* instances of registered classes, or objects that came home, whose code may run and raise */
    bool special;    /* these, or objects whose repr is another package's, such as arrays */
} core_decoder;

/* core_is_trusted: returns whether the peer is the host. A trusted peer has no limit. */
static inline bool core_is_trusted(const core_decoder *d) {
    return d->codec->value_limit == INT64_MAX;
}

/* core_malformed: raises ProtocolError: the peer broke the protocol, so the session ends. Returns NULL. */
void *core_malformed(core_decoder *d, const char *what);
/* core_cannot_decode: raises `type`: the message follows the protocol, but this process cannot decode it. Only the call
 * that it belongs to fails. Returns NULL. */
void *core_cannot_decode(core_decoder *d, PyObject *type, const char *format, ...);
/* core_constructor_failed: a constructor refused the peer's data. Its exception is replaced by that of core_malformed,
 * unless it is not about the data (memory, a missing module) or was raised by core_cannot_decode. Returns NULL. */
void *core_constructor_failed(core_decoder *d);
/* core_weight: clamps the sum of the weights of a container's items, so that sums do not overflow. */
#define CORE_MAX_WEIGHT (UINT64_C(1) << 31)
static inline uint64_t core_weight(uint64_t sum) {
    return sum < CORE_MAX_WEIGHT ? sum : CORE_MAX_WEIGHT;
}
#endif
