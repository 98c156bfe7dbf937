/* converter.h - what converters of types use: the walk down a value in both directions, and what is wrong with it. How they
 * become known: tables.h. */
#ifndef BINDING_CONVERTER_H
#define BINDING_CONVERTER_H

#include "codec.h"
#include "common/errors.h"

/* ---- encoding ---- */

/* core_path: where in the arguments a value stands; a list on the C stack, outermost last. */
typedef struct core_path {
    const struct core_path *parent;
    const char *root; /* the outermost: "result"; else NULL */
    PyObject *key;    /* of a dict, or a name; borrowed */
    Py_ssize_t index; /* where key is NULL */
    enum { CORE_AT_ROOT, CORE_AT_ARGUMENT, CORE_AT_INDEX, CORE_AT_KEY, CORE_AT_FIELD, CORE_IN_SET } kind;
} core_path;

typedef struct core_encoder {
    core_codec *codec;
    piso_writer *w;
    int depth;
    bool exceptions; /* exceptions may stand where values stand: in the arguments of an exception */
    int linked;      /* causes and contexts written so far */
    int references;  /* to the value in hand, that are ours or its container's; 0: others may look at it later */
} core_encoder;

int core_encode(core_encoder *e, PyObject *value, const core_path *path);
/* core_encode_data: bytes where bytes stand: in a shared buffer from PISO_BUFFER_THRESHOLD on while the message has
 * one left, else inline. */
int core_encode_data(core_encoder *e, const void *data, size_t size);
/* core_is_last: whether nobody but this message will see the value again: `references` are all that it has. */
static inline bool core_is_last(PyObject *value, int references) {
    Py_ssize_t weak = Py_TYPE(value)->tp_weaklistoffset;
    return Py_REFCNT(value) == references && !(weak > 0 && *(PyObject **)((char *)value + weak));
}
/* core_encode_owned: the same for bytes that lie in `owner`, which nobody else can see: a received buffer that goes
 * back to where it came from does so without a copy. `owner` may be NULL. */
int core_encode_owned(core_encoder *e, PyObject *owner, const void *data, size_t size);
/* core_note_shared: shared memory is being sent. */
static inline void core_note_shared(core_codec *c) {
    c->shared_at = ++c->state->shared_sends;
    c->unsent = 0;
}
/* core_encode_error: -1 with the TypeError "<path>: <problem>". */
int core_encode_error(const core_path *path, PyObject *value, const char *remedy);

/* ---- decoding ---- */

typedef struct core_decoder {
    core_codec *codec;
    piso_event *event; /* whose spans are referred to; NULL: none */
    int depth;
    int exceptions;    /* around what is being decoded */
    size_t items_left; /* of all containers together: no more than the body has bytes */
    /* quota.h */
    int64_t left, granted; /* memory: until the next look at the limit, and from the start until then */
    uint64_t work;         /* comparisons of keys so far (collisions.h) */
    uint64_t weight;       /* what it costs to compare the value that was decoded last with another one */
    /* what the exception that is set is about */
    bool malformed; /* the peer broke the protocol */
    bool failed;     /* what came is in order, but cannot be had here */
    /* what has come so far */
    bool registered; /* instances of registered classes, whose code may run and fail */
    bool special;    /* besides, what another package makes text of, such as an array */
} core_decoder;

/* core_is_trusted: the peer is the host: there is no limit. */
static inline bool core_is_trusted(const core_decoder *d) {
    return d->codec->value_limit == INT64_MAX;
}

/* core_malformed: raises ProtocolError: the peer broke the protocol, and the session will end. Returns NULL. */
void *core_malformed(core_decoder *d, const char *what);
/* core_cannot_decode: raises `type`: the message follows the protocol, but holds what cannot be had on this side. That call fails
 * and no other. Returns NULL. */
void *core_cannot_decode(core_decoder *d, PyObject *type, const char *format, ...);
/* core_constructor_failed: a constructor would not take the peer's data: what it raised becomes core_malformed, but for what is not
 * about the data (memory, a missing module), or is core_cannot_decode. Returns NULL. */
void *core_constructor_failed(core_decoder *d);
/* core_weight: of a container: the sum of its items' weights, as far as it counts, so that sums do not overflow. */
#define CORE_MAX_WEIGHT (UINT64_C(1) << 31)
static inline uint64_t core_weight(uint64_t sum) {
    return sum < CORE_MAX_WEIGHT ? sum : CORE_MAX_WEIGHT;
}
#endif
