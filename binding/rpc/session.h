/* session.h - the Session, one end of a connection, and what it asks of the layer above.
 *
 *     Method --> Session --> piso_session          Call, synchronous wait: a core_pending, known to piso_session
 *       |         |  |                             by address until its event or piso_session_forget
 *       v         |  +--> Link (one per event loop) --> loop
 *     Call -------+---------^         |
 *       |         |                   +-- FdReader, owned by the loop: its death tells us the loop closed
 *       |         +--> Handler (one per request that is a coroutine) <--> its asyncio.Task
 *       +-- Waiter (parked)
 *
 * Everything here needs the GIL, which is also the lock of all fields. core_pump (pump.h) takes events from the session
 * and is called from three places: a Call that is awaited (aio/call.c), a loop that was woken (aio/iteration.c), a thread
 * that waits synchronously (sync.c). Each of them may run user code and re-enter. */
#ifndef BINDING_SESSION_H
#define BINDING_SESSION_H

#include "codec/codec.h"
#include "common/errors.h"
#include "thread.h"

typedef struct core_session core_session;
typedef struct core_link core_link;
typedef struct core_call core_call;
typedef struct core_handler core_handler;
typedef struct core_pending core_pending;
typedef struct core_pump_context core_pump_context;

/* ---- what the layer above does (aio/callbacks.c) ---- */

typedef struct core_session_callbacks {
    /* call: what a method returns that is not synchronous: an awaitable. A failure is kept for the await. */
    PyObject *(*call)(core_session *s, uint32_t object, uint32_t method, PyObject *name, int64_t timeout_ns,
                      PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

    /* request: has it run where it belongs; takes the event. cancel: its caller has given it up. reply: the outcome of a
     * call that has an owner has been set. end: the session has ended, and all calls have been told. */
    void (*request)(core_session *s, piso_event *event, core_pump_context *context);
    void (*cancel)(core_handler *h);
    void (*reply)(core_pending *pending);
    void (*end)(core_session *s);
    /* buffers_sent: a message with shared buffers was sent: free ones are to go back once the session has been idle. */
    void (*buffers_sent)(core_session *s);

    /* awaitable: a method has returned one, which is stolen: has it run in that context, and answer `request`.
     * `has_buffers`: the request came with some, which the answer may give back. */
    void (*awaitable)(core_session *s, uint64_t request, PyObject *awaitable, PyObject *request_context,
                      bool has_buffers, core_pump_context *context);
    /* hide_task: no task is the current one until show_task, which takes what the former returns, and keeps the current
     * exception. NULL without an exception: there is nothing to hide. */
    PyObject *(*hide_task)(core_state *state, PyObject **ret_loop);
    void (*show_task)(core_state *state, PyObject *loop, PyObject *task);
    /* raise_cancelled: the exception of a task that was cancelled. */
    void (*raise_cancelled)(core_state *state);

    /* block: the loops of this thread, which waits synchronously, cannot run anything; can again. wait: it is about to
     * sleep: somebody has to look after the session when it does not; 0 or -1. sleeps: it does, and takes what the peer
     * sends; not any more. */
    void (*block)(core_thread *thread, bool blocked);
    int (*wait)(core_session *s);
    void (*sleeps)(core_session *s, bool asleep);

    int (*visit)(core_session *s, visitproc visit, void *arg);
    void (*clear)(core_session *s);
} core_session_callbacks;

/* ---- the session ---- */

#define CORE_OBJECTS_INLINE 16

/* How many notifications of one kind the peer may send: what is more is dropped before it is decoded (meter.c). */
typedef struct core_meter {
    uint32_t object;
    char name[16];
    size_t size; /* of the name; 0: none is counted */
    double left, burst, per_second;
    int64_t refilled_ns;
    uint64_t dropped;
} core_meter;

struct core_session {
    PyObject_HEAD core_state *state;
    const core_session_callbacks *on;
    piso_session *session;
    core_codec codec;
    PyObject *name;                         /* str */
    PyObject *context;                      /* base of every request's context; current_session() is set in it */
    PyObject *objects[CORE_OBJECTS_INLINE]; /* id -> object */
    PyObject *more_objects;                 /* dict for the other ids */
    PyObject *names;                        /* list: names of methods by the peer's method; None: not called yet */
    struct core_open_request *open;                 /* by index of the request's id (request.c) */
    uint32_t open_capacity;
    unsigned depth;         /* nested pumps on this session */
    unsigned sync_sleepers; /* threads that sleep in a synchronous wait */
    unsigned loops_asleep;  /* of `links`, those that sleep: their loops may be blocked in their selectors */
    unsigned completing;    /* threads that have taken a call's end and not told the call yet */
    bool closed;
    core_session *next_session, **previous_session; /* state->sessions */
    core_meter meter;
    PyObject *weakrefs;
    /* functions of the package, or NULL (hooks.h) */
    PyObject *error_hook;       /* called with exceptions before they are sent */
    PyObject *refusal_hook;     /* called with exceptions of a child that was refused calls */
    int64_t refused;            /* how many, when it was called last */
    PyObject *end_hook;         /* called before a caller is told of the end */
    PyObject *fork_hook;        /* ends a process that was forked here: an extension's */
    unsigned unanswered_errors; /* that were reported */
    /* what errors say (session_error.c) */
    PyObject *end_note; /* str: what an error of its end says besides; or NULL */
    bool hung;          /* it was ended because it did not answer */
    /* of aio/ */
    core_link *links;       /* the first is the home: where requests are served */
    core_handler *handlers; /* that have not ended, a reference each */
    unsigned unanswered;    /* of these, those whose requests want no answer */
    bool dropped;           /* a request was, because too many are unanswered: it has been told */
    PyObject *finished;     /* future of serve(), or NULL */
    uint64_t buffer_uses;   /* messages sent with shared buffers */
};

/* core_sessions_init: what the layers below ask of all sessions (sessions.c). */
int core_sessions_init(PyObject *module, core_state *state);
int core_session_init(PyObject *module, core_state *state);
/* core_session_add: methods and attributes of the type Session (either NULL), by the layers above. 0 or -1. */
int core_session_add(core_state *state, PyMethodDef *methods, PyGetSetDef *attributes);
/* core_session_new: one without a connection. core_session_set_handle: takes that. */
PyObject *core_session_new(core_state *state, PyObject *name, PyObject *registry);
void core_session_set_handle(core_session *s, piso_session *session);

/* core_session_error: raises what a negative code means for this session; returns NULL. `pending` (or NULL) is
 * the call it happened to. */
PyObject *core_session_error(core_session *s, int error, const core_pending *pending);
/* core_session_explain: Session.explain. */
PyObject *core_session_explain(PyObject *self, PyObject *args, PyObject *kwargs);

#endif
