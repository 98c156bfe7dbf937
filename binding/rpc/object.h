/* object.h - the session object, one end of a connection, and the callbacks that the layer above fills.
 *
 *     Method --> Session --> piso_session          Call, synchronous wait: a core_pending, known to piso_session
 *       |         |  |                             by address until its event or piso_session_forget
 *       v         |  +--> Link (one per event loop) --> loop
 *     Call -------+---------^         |
 *       |         |                   +-- FdReader, owned by the loop: its deallocation reports that the loop closed
 *       |         +--> Handler (one per request that is a coroutine) <--> its asyncio.Task
 *       +-- Waiter (parked)
 *
 * Everything here needs the GIL, which is also the lock of all fields. core_pump (pump/pump.h) takes events from the
 * session. It is called from three places: by a Call that is awaited (aio/calls/call.c), by a loop that was woken
 * (aio/loop/iteration.c), and by a thread that waits synchronously (pump/sync.c). Each of them may run user code and
 * re-enter. */
#ifndef BINDING_OBJECT_H
#define BINDING_OBJECT_H

#include "codec/codec.h"
#include "common/errors.h"
#include "thread.h"

typedef struct core_session core_session;
typedef struct core_link core_link;
typedef struct core_call core_call;
typedef struct core_handler core_handler;
typedef struct core_pending core_pending;

/* core_callee: what calls are sent to. The references are owned by whatever embeds this. */
typedef struct core_callee {
    core_session *session;
    uint32_t object, method;
    PyObject *name;     /* of the method, for messages */
    int64_t timeout_ns; /* 0: none */
    PyObject *remote;   /* the remote object (references/remote.h), which stays while calls are in flight; or NULL */
} core_callee;

/* ---- callbacks of the layer above (aio/calls/callbacks.c) ---- */

typedef struct core_session_callbacks {
    /* call: makes a call that is not synchronous, and returns an awaitable. It raises errors of sending when it is
     * awaited. */
    PyObject *(*call)(const core_callee *to, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

    /* request: runs the request in the right thread or loop; takes the event. `origin`: the Request in whose handler
     * the call was made in whose handler the peer made this one, or NULL. cancel: the caller has given up the
     * request. end: the session has ended, and all calls have been notified. */
    void (*request)(core_session *s, piso_event *event, PyObject *origin, core_pump_context *context);
    void (*cancel)(core_handler *h);
    void (*end)(core_session *s);
    /* buffers_sent: a message with shared buffers was sent: free ones must be released once the session has been
     * idle. */
    void (*buffers_sent)(core_session *s);

    /* awaitable: a method has returned an awaitable, whose reference is stolen: runs it in that context and answers
     * `request`. `has_buffers`: the request carried buffers, which the reply may return. */
    void (*awaitable)(core_session *s, uint64_t request, PyObject *awaitable, PyObject *request_context,
                      bool has_buffers, core_pump_context *context);
    /* hide_task: leaves the current task until show_task, which takes the returned task and keeps the current
     * exception. NULL without an exception: there is no current task. */
    PyObject *(*hide_task)(core_state *state, PyObject **ret_loop);
    void (*show_task)(core_state *state, PyObject *loop, PyObject *task);
    /* raise_cancelled: raises the exception of a cancelled task. */
    void (*raise_cancelled)(core_state *state);

    /* block: this thread starts or ends a synchronous wait, during which its loops cannot run. wait: this thread is
     * about to sleep: another loop must watch the session while it does not; returns 0 or -1. sleeps: this thread
     * starts or ends a sleep, in which it takes the peer's messages. */
    void (*block)(core_thread *thread, bool blocked);
    int (*wait)(core_session *s);
    /* watch: a call was sent that no thread and no task waits for: some loop must take its reply. Returns 0 or -1. */
    int (*watch)(core_session *s);
    void (*sleeps)(core_session *s, bool asleep);

    int (*visit)(core_session *s, visitproc visit, void *arg);
    void (*clear)(core_session *s);
} core_session_callbacks;

/* ---- forwarding ---- */

struct core_forward;

/* core_forwarding: what references/forward.c does for this layer: it passes on requests whose object is another
 * process's, and knows which remote objects have been released. */
typedef struct core_forwarding {
    /* send: if `object` is a remote one, calls its method `name` (NULL: it is a function) for the request, which is
     * answered later, and returns true. `a`: the arguments. */
    bool (*send)(core_session *s, uint64_t request, PyObject *origin, PyObject *object, PyObject *name,
                 int64_t deadline_ns, core_arguments *a);
    /* cancel: the peer no longer waits for the request. */
    void (*cancel)(struct core_forward *f);
    /* check: raises if a remote object has been released: its id may be another object's by now. Returns 0 or -1. */
    int (*check)(PyObject *remote);
} core_forwarding;

/* ---- the session ---- */

/* core_objects: what the peer may call (exports.h). */
typedef struct core_objects {
    PyObject *registered[16];       /* id -> object */
    PyObject *more;                 /* dict for the other ids */
    struct core_export_slot *slots; /* of exports, by the low half of their ids */
    PyObject *by_key;               /* dict: key -> id of the export */
    uint32_t slot_count, free_slot, exports;
} core_objects;

/* The limit on the peer's notifications of one kind: further ones are dropped before they are decoded (pump/meter.c). */
typedef struct core_meter {
    uint32_t object;
    char name[16];
    size_t size; /* of the name; 0: there is no limit */
    double left, burst, per_second;
    int64_t refilled_ns;
    uint64_t dropped;
} core_meter;

struct core_session {
    PyObject_HEAD core_state *state;
    const core_session_callbacks *on;
    piso_session *session;
    core_codec codec;
    PyObject *name;      /* str */
    unsigned generation; /* of the extension, as the package has set it */
    PyObject *context;   /* the base of every request's context; current_session() is set in it */
    core_objects objects;
    PyObject *remotes;              /* dict: id of an object of the peer -> address of its core_remote */
    int64_t call_timeout_ns;        /* of calls of remote objects; 0: none */
    PyObject *names;                /* list: names of methods by the peer's ids; None: not called yet */
    struct core_open_request *open; /* by index of the request's id (request.c) */
    uint32_t open_capacity;
    unsigned depth;         /* nested pumps on this session */
    unsigned forwarded;     /* calls whose outcome another process waits for */
    unsigned sync_sleepers; /* threads that sleep in a synchronous wait */
    unsigned loops_asleep;  /* the links that sleep: their loops may be blocked in their selectors */
    unsigned completing;    /* threads that have taken a reply and not yet notified its call */
    bool closed;
    core_session *next_session, **previous_session; /* state->sessions */
    core_meter meter;
    PyObject *weakrefs;
    /* functions of the package, or NULL (hooks.h) */
    PyObject *error_hook;       /* called with exceptions before they are sent */
    PyObject *refusal_hook;     /* called with exceptions of a child whose system calls were refused */
    int64_t refused;            /* refused system calls when it was last called */
    PyObject *end_hook;         /* called before the end is reported to a caller */
    PyObject *threads_hook;     /* runs plain methods of registered objects in threads */
    PyObject *fork_hook;        /* ends a process forked from this one, which is an extension's */
    unsigned unanswered_errors; /* errors of calls without a reply that were reported */
    /* for messages (session_error.c) */
    PyObject *end_note; /* str: added to errors that report the end; or NULL */
    bool hung;          /* the watchdog ended it because it did not answer */
    /* of aio/ */
    core_link *links;       /* the first is the home, which handles requests */
    core_handler *handlers; /* handlers that have not ended, a reference each */
    unsigned unanswered;    /* those of them whose requests expect no reply */
    bool dropped;           /* a request was dropped because too many are unanswered, and a warning issued */
    PyObject *finished;     /* future of serve(), or NULL */
    uint64_t buffer_uses;   /* messages sent with shared buffers */
};

#endif
