/* codec.h - converts Python objects to message bodies, and message bodies to Python objects. Needs the GIL.
 *
 * Encoding is by exact type. A type that is not listed in docs/wire-format.md raises a TypeError that names the type
 * and its place in the arguments ("argument 1['mask'][3]: objects of type 'socket' cannot be sent"); the caller must
 * then discard the writer (core_codec_abandon). Decoding trusts nothing: a malformed body raises a ProtocolError and
 * ends the session, and never crashes; no name in it is ever imported. A body that is well-formed but cannot be decoded
 * in this process, such as an instance of a class that is not registered, raises another error, which fails that
 * message alone. */
#ifndef BINDING_CODEC_H
#define BINDING_CODEC_H

#include "common/state.h"

/* core_leased: what the cookie of each lease that this module gives points to begins with this. */
typedef struct core_leased {
    void (*ended)(void *leased); /* called when the lease has ended */
} core_leased;

/* core_gpu_codec: the part of a codec that cuda/ uses. */
typedef struct core_gpu_codec {
    PyObject *devices;      /* frozenset: UUIDs of the GPUs whose memory is shared; NULL: none, in either direction */
    bool warned;            /* it was warned that memory is copied which should be shared */
    bool events;            /* the peer can wait for this process's events */
    uint64_t recalled;      /* bits of the GPUs with memory that arrived again while this process held it */
    uint64_t sends;         /* messages sent with memory of GPUs */
    PyObject *mapped;       /* dict: the memory that the peer may keep mapped, for pyisolate/_rpc/gpus.py; NULL: none */
    struct core_lent *lent; /* storages on which the peer holds leases */
} core_gpu_codec;

/* core_codec: how one session converts values. Embedded in the Session object, which owns the references. */
typedef struct core_codec {
    core_state *state;
    piso_session *session;  /* allocates and leases buffers; NULL (tests): everything is inline */
    PyObject *owner;        /* the Session, borrowed: it embeds the codec */
    PyObject *registry;     /* a Registry */
    int64_t value_limit;    /* bytes that one message may take in this process (quota.h) */
    bool refuse_subclasses; /* values of subclasses are refused, not sent as their base */
    bool text_only;         /* exceptions are sent as type and text: the peer is confined (std/exceptions_reduce.c) */
    bool share_torch;       /* tensors are shared, not copied */
    bool share_numpy;       /* and so are arrays in shared memory */
    core_gpu_codec gpu;
    uint64_t shared_at;      /* state->shared_sends when shared memory was last sent; 0: never */
    unsigned unsent;         /* values prefetched since then and not sent (rpc/pump/prefetch.c) */
    PyObject *segment_cache; /* dict: segment -> dict of objects cached over it; NULL: none (buffers/received.c) */
} core_codec;

/* core_value_limit: returns the bytes that one message of the session's peer may take in this process (quota.h): 1 GiB,
 * or four times the size of an arena if that is less, because a peer that may share little with the host must not make
 * it allocate much; at least 64 MiB. */
#define CORE_DEFAULT_LIMIT ((int64_t)1 << 30)
int64_t core_value_limit(const piso_session *session);

/* core_keeps_fd: returns whether this process may send to other peers what this session's peer shares with it. An
 * extension may not, unless it is a host itself: its only peer is its host. */
static inline bool core_keeps_fd(const core_codec *c) {
    return c->value_limit != INT64_MAX || c->state->peers->has_others(c->state, c->session);
}

/* core_decode_init: adds the decoders of built-in types to the tables. */
int core_decode_init(PyObject *module, core_state *state);

/* core_encode_call: encodes the positional arguments as an array and, unless kwnames is NULL or empty, the keyword
 * arguments as a map. Arguments are in the vectorcall layout: args[0..nargs) positional, then one value for each name.
 * ret_remotes: a new list of the peer's own objects among the values, which must live until the message has been sent;
 * unchanged if there are none. It may be NULL. Returns the flags for piso_session_call (0 or PISO_CALL_KWARGS), or -1
 * with an exception. */
int core_encode_call(core_codec *c, piso_writer *w, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                     PyObject **ret_remotes);
/* core_encode_value: encodes one value (a result). `where` starts the path in an error's message ("result"). A received
 * buffer in the value whose only reference is the caller's is returned to the peer without a copy; the caller must not
 * access it afterwards. Returns 0 or -1. */
int core_encode_value(core_codec *c, piso_writer *w, PyObject *value, const char *where);
/* core_codec_abandon: releases the spans of a writer that will not be sent, and resets it. */
void core_codec_abandon(core_codec *c, piso_writer *w);

/* core_arguments: decoded arguments in vectorcall layout, with one free slot in front for `self`
 * (PY_VECTORCALL_ARGUMENTS_OFFSET). */
#define CORE_ARGUMENTS_INLINE 8
typedef struct core_arguments {
    PyObject **args; /* args[-1] is free for the callee */
    Py_ssize_t nargs;
    PyObject *kwnames; /* tuple or NULL */
    Py_ssize_t total;  /* nargs + keyword values */
    PyObject *inline_args[CORE_ARGUMENTS_INLINE + 1];
} core_arguments;

/* core_reject: ends the session because of the current exception, a ProtocolError. Later calls fail with the same
 * reason. */
void core_reject(core_codec *c);
/* core_decode_for_other_thread: sets whether another thread may use what this thread decodes from now on. Decoding then
 * waits until a GPU has finished writing, because only the other thread knows which stream it uses. */
void core_decode_for_other_thread(bool now);
bool core_decodes_for_other_thread(void);
int core_decode_call(core_codec *c, piso_event *event, core_arguments *ret_arguments);
void core_arguments_clear(core_arguments *a);
/* core_decode_value: decodes the one value of a reply's body; trailing bytes are an error. New reference. */
PyObject *core_decode_value(core_codec *c, piso_event *event);
/* core_decode_exception: decodes the exception of an error's body, without raising it. Its remote traceback is shown by
 * the ordinary traceback printers. New reference, or NULL with an exception when the body is malformed. */
PyObject *core_decode_exception(core_codec *c, piso_event *event);

#endif
