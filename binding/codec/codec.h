/* codec.h - Python objects to message bodies and back. Needs the GIL.
 *
 * Encoding goes by exact type; what is not listed in docs/wire-format.md is a TypeError that names the type
 * and where in the arguments it stood ("argument 1['mask'][3]: object of type 'socket' cannot cross"), and the
 * writer is to be thrown away (core_codec_abandon). Decoding trusts nothing: a malformed body is a
 * ProtocolError, and the end of the session, never a crash, and no name in it is ever imported. What is in order but cannot
 * be had here, such as an instance of a class that is not registered, is another error, of that message alone. */
#ifndef BINDING_CODEC_H
#define BINDING_CODEC_H

#include "common/state.h"

/* core_gpu_codec: what cuda/ keeps of one session. */
typedef struct core_gpu_codec {
    PyObject *devices;      /* frozenset: UUIDs of GPUs whose memory is shared; NULL: none, also not from the peer */
    bool warned;            /* that some is not shared although it should be */
    bool events;            /* the peer can wait for events of this process */
    uint64_t recalled;      /* bits of the GPUs with memory that came again while it was held here */
    uint64_t sends;         /* how often memory of GPUs was sent */
    PyObject *mapped;       /* dict: what the peer may keep mapped, for pyisolate/_rpc/gpus.py; NULL: nothing */
    struct core_lent *lent; /* what the peer holds leases on */
} core_gpu_codec;

/* core_codec: how one session converts. Embedded in the Session object, which owns the references. */
typedef struct core_codec {
    core_state *state;
    piso_session *session;  /* buffers are allocated and leased here; NULL (tests): everything inline */
    PyObject *owner;        /* the Session; borrowed: it holds the codec */
    PyObject *registry;     /* a Registry */
    int64_t value_limit;    /* bytes that one message may take here (quota.h) */
    bool refuse_subclasses; /* values of subclasses are not sent as their base */
    bool text_only;         /* exceptions are sent as type and text: the peer is confined (std/exceptions_reduce.c) */
    bool share_torch;       /* tensors are shared, not copied */
    bool share_numpy;       /* and arrays that lie in shared memory */
    core_gpu_codec gpu;
    uint64_t shared_at; /* when shared memory was last sent, by a count of such sends; 0: never */
    unsigned unsent;    /* how much was prefetched since then (rpc/prefetch.c) */
    PyObject *segment_cache;     /* dict: segment -> dict of what is kept over it; NULL: none (buffers/received.c) */
} core_codec;

/* core_value_limit: what one message of a session's peer may take here (quota.h): 1 GiB, or four times what an arena
 * holds if that is less, because who may share little with the host is not to make it take much; at least 64 MiB. */
#define CORE_DEFAULT_LIMIT ((int64_t)1 << 30)
int64_t core_value_limit(const piso_session *session);

/* core_keeps_fd: whether this process may send on to others what this session's peer shares with it. An extension cannot,
 * unless it is a host itself: its only peer is its host. */
static inline bool core_keeps_fd(const core_codec *c) {
    return c->value_limit != INT64_MAX || c->state->peers->has_others(c->state, c->session);
}

/* core_decode_init: adds the decoders of built-in types to the tables. */
int core_decode_init(PyObject *module, core_state *state);

/* core_encode_call: positional arguments as an array, then, when kwnames is not NULL or empty, a map; returns
 * the flags for piso_session_call (0 or PISO_CALL_KWARGS), or -1 with an exception. The vectorcall layout:
 * args[0..nargs) positional, then one value for each name. */
int core_encode_call(core_codec *c, piso_writer *w, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* core_encode_value: one value (a result). 0 or -1; `where` starts the path in the message ("result"). Received
 * buffers in it that have no reference but the caller's one go back without a copy, and must not be looked at again. */
int core_encode_value(core_codec *c, piso_writer *w, PyObject *value, const char *where);
/* core_codec_abandon: gives back the spans of a writer that will not be sent, and resets it. */
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

/* core_reject: the exception that is set is a ProtocolError: the session ends, and others are told the same reason. */
void core_reject(core_codec *c);
/* core_decode_for_other_thread: whether what this thread decodes from now on may be used by another one. What a GPU is still
 * writing is then waited for here: the stream that the other thread uses is known only there. */
void core_decode_for_other_thread(bool now);
bool core_decodes_for_other_thread(void);
int core_decode_call(core_codec *c, piso_event *event, core_arguments *ret_arguments);
void core_arguments_clear(core_arguments *a);
/* core_decode_value: the one value of a reply body; trailing bytes are an error. New reference. */
PyObject *core_decode_value(core_codec *c, piso_event *event);
/* core_decode_exception: the exception object (not raised) of an error body; with the remote traceback shown
 * by the ordinary traceback printer. New reference, or NULL with an exception when malformed. */
PyObject *core_decode_exception(core_codec *c, piso_event *event);

#endif
