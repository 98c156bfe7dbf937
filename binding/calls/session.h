/* session.h - the moving parts of the binding and how they hold each other.
 *
 *     Method --> Session --> piso_session          Call, sync wait: a core_pending, known to piso_session
 *       |            |                             by address until its event or piso_session_forget
 *       v            +--> Link (one per event loop) --> loop
 *     Call ----------^        ^         |
 *       |                     |         +--> spare Handler tasks
 *       +-- Parker (parked)   +-- ReaderCallback, owned by the loop: its death tells us the loop closed
 *
 * Everything here needs the GIL, which is also the lock of all fields. core_pump takes events from the session
 * and is called from three places: a Call that is awaited (call.c), a loop that was woken (link.c), a thread
 * that waits synchronously (sync.c). Each of them may run user code and re-enter. */
#ifndef BINDING_SESSION_H
#define BINDING_SESSION_H

#include "common/arguments.h"
#include "common/errors.h"
#include "values/convert.h"

typedef struct core_session core_session;
typedef struct core_link core_link;
typedef struct core_call core_call;
typedef struct core_handler core_handler;

/* ---- a call that has been sent ---- */

typedef enum core_outcome { CORE_PENDING, CORE_RESULT, CORE_EXCEPTION, CORE_TAKEN } core_outcome;

typedef struct core_pending {
    piso_call call;
    uint8_t outcome;      /* core_outcome */
    bool is_sync;         /* a core_wait (sync.c), else a core_call */
    bool arriving;        /* its end is being decoded, perhaps in another thread: it has to stay */
    unsigned long thread; /* that made the call */
    PyObject *value;      /* result or exception instance; owned */
    PyObject *name;       /* the method, for messages; owned by whoever embeds this */
    int64_t timeout_ns;   /* as configured, for messages; 0: none */
} core_pending;

struct core_call {
    PyObject_HEAD core_pending pending;
    core_session *session; /* strong; NULL once the call has ended */
    bool awaited, closed;
    /* while parked: what the awaiting task waits for, or callbacks, and a reference to itself, because nobody else holds
     * a task that waits for a reply */
    struct core_parker *parker;
    PyObject *callbacks;              /* list: callback, context, callback, context, ... */
    core_link *link;                  /* NULL: not parked */
    core_call *next, **previous_next; /* link->parked */
};

/* ---- one event loop's interest in a session ---- */

struct core_link {
    PyObject_HEAD core_session *session; /* borrowed; NULL once detached */
    piso_session *handle;                /* own reference: the descriptor must outlive the loop's reader */
    core_link *next;                     /* session->links, which owns a reference */
    PyObject *loop;                      /* strong until the loop closes */
    PyObject *holder;                    /* core_running_holder() when it was last seen running, or NULL */
    unsigned long thread;                /* that runs the loop */
    bool alive;                          /* the reader is registered */
    bool asleep;                         /* piso_session_sleep_begin has been called for this loop */
    bool rearm_scheduled;                /* a call_soon(rearm) is on its way */
    bool serving;                        /* the child's main loop: poll before sleeping */
    bool spun;                           /* polling was in vain since the loop last ran: do not poll again */
    bool trim_scheduled;
    uint64_t trim_seen; /* session's buffer_uses when the trim timer was set */
    unsigned blocked;   /* synchronous waits that this loop's thread is in */
    PyObject *timer;    /* the loop's handle of the expiry timer, or NULL */
    int64_t timer_ns;   /* when it fires, PISO_NO_DEADLINE: not set */
    core_call *parked;
    unsigned gathered;    /* parked calls with callbacks */
    PyObject *due;        /* list: loop, callbacks, their call, callbacks, their call, ...: to be run by the loop */
    core_handler *spares; /* idle handler tasks, linked by next_spare */
    unsigned spare_count;
    unsigned suspended; /* handlers that wait for something */
    PyObject *rearm;    /* bound method, made once */
};

/* ---- the session ---- */

#define CORE_OBJECTS_INLINE 16

struct core_session {
    PyObject_HEAD core_state *state;
    piso_session *session;
    core_codec codec;
    PyObject *name;                         /* str */
    PyObject *context;                      /* base of every request's context; current_session() is set in it */
    PyObject *objects[CORE_OBJECTS_INLINE]; /* id -> object */
    PyObject *more_objects;                 /* dict for the other ids */
    PyObject *names;                        /* list: names of methods by the peer's number; None: not called yet */
    PyObject *suspended;                    /* dict: request id -> core_handler, for cancellation */
    PyObject *finished;                     /* future of serve(), or NULL */
    core_link *links;                       /* the first is the home: where requests are served */
    uint64_t buffer_uses;                   /* messages sent with shared buffers */
    unsigned depth;                         /* nested pumps on this session */
    unsigned sync_sleepers;                 /* threads that sleep in a synchronous wait */
    unsigned completing;                    /* threads that have taken a call's end and not told the call yet */
    bool closed;
    core_session *next_session, **previous_session; /* state->sessions */
    PyObject *end_note;                             /* str: what an error of its end says besides; or NULL */
    PyObject *error_hook;                           /* called with exceptions before they are sent; or NULL */
    unsigned unanswered_errors;                     /* that were reported */
    bool hung;                                      /* it was ended because it did not answer */
    PyObject *weakrefs;
};

/* core_pump: handles the events that are there (at most `limit`). `link` is the link of the loop that runs in
 * this thread right now, or NULL in a synchronous wait; `in_task` says that the caller may be inside a task.
 * Returns how many were handled. Never raises: what goes wrong belongs to a call or a request. Sets
 * *completed when a parked call of `link` was completed. */
typedef struct core_pump_context {
    core_link *link;
    bool in_task;     /* a task may be current: hide it from handlers */
    bool sync;        /* asynchronous handlers must run elsewhere */
    bool completed;   /* out: a parked call was completed */
    bool has_buffers; /* the request that is being answered came with some */
    /* the task that the last handler ran in, which is still the current one of its loop (serving.c); or NULL */
    PyObject *entered, *entered_loop;
} core_pump_context;
int core_pump(core_session *s, core_pump_context *context, int limit);

/* core_pump_leftovers: for who stops polling: what came while others slept did not wake them, so it is handled
 * here. */
void core_pump_leftovers(core_session *s, core_pump_context *context);

/* core_session_error: raises what a negative code means for this session; returns NULL. `pending` (or NULL) is
 * the call it happened to. */
PyObject *core_session_error(core_session *s, int error, const core_pending *pending);
/* core_session_object: the registered object, borrowed, or NULL (no exception). */
PyObject *core_session_object(core_session *s, uint32_t id);
int core_session_init(PyObject *module, core_state *state);

/* ---- methods of Session (supervise.c) ---- */

/* They watch over the process. */
PyObject *core_session_notify(PyObject *self, PyObject *args);
PyObject *core_session_progress(PyObject *self, PyObject *ignored);
PyObject *core_session_explain(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *core_session_on_error(PyObject *self, PyObject *hook);
/* core_session_remark: lets the hook see an exception that is about to be sent. None is set, before or after. */
void core_session_remark(core_session *s, PyObject *exception);
PyObject *core_session_output_fd(PyObject *self, PyObject *ignored);
PyObject *core_session_read_output(PyObject *self, PyObject *stream);

/* ---- calls (call.c, method.c, sync.c) ---- */

int core_call_init(PyObject *module, core_state *state);
int core_method_init(PyObject *module, core_state *state);
/* core_call_new: encodes, sends; a failure is kept for the await. */
PyObject *core_call_new(core_session *s, uint32_t object, uint32_t number, PyObject *name, int64_t timeout_ns,
                        PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* core_call_completed: pending.outcome has been set; wakes whoever waits. */
void core_call_completed(core_call *call, core_pump_context *context);
/* core_call_park: the call, which has a parker or callbacks, waits on this link. */
void core_call_park(core_call *call, core_link *link);
/* core_call_unpark: forgets parker, callbacks and link. */
void core_call_unpark(core_call *call);
PyObject *core_method_new(core_session *s, uint32_t object, PyObject *name, bool sync, PyObject *timeout);
void core_call_freelist_clear(core_state *state);

/* core_sync_call: sends and waits without the GIL. The result or NULL. */
PyObject *core_sync_call(core_session *s, uint32_t object, uint32_t number, PyObject *name, int64_t timeout_ns,
                         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
void core_sync_completed(core_pending *pending);

/* core_send: encodes arguments and sends; shared by both. 0, or -1 with an exception. */
int core_send(core_session *s, core_pending *pending, uint32_t object, uint32_t number, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames);
/* core_pending_take: the result (new reference) or NULL with the exception raised; outcome becomes TAKEN. */
PyObject *core_pending_take(core_pending *pending);

/* ---- calls as futures (future.c): methods and attributes of Call ---- */

PyObject *core_future_get_blocking(PyObject *self, void *closure);
PyObject *core_future_get_cancel_message(PyObject *self, void *closure);
PyObject *core_future_get_loop(PyObject *self, PyObject *ignored);
PyObject *core_future_result(PyObject *self, PyObject *ignored);
PyObject *core_future_exception(PyObject *self, PyObject *ignored);
PyObject *core_future_cancelled(PyObject *self, PyObject *ignored);
PyObject *core_future_make_cancelled_error(PyObject *self, PyObject *ignored);
PyObject *core_future_add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *core_future_remove_done_callback(PyObject *self, PyObject *callback);
/* core_future_run_callbacks: those in a list like link->due, from index *done on, which moves on with them. 0; -1 with
 * an exception that has to end the loop. */
int core_future_run_callbacks(PyObject *loop, PyObject *due, Py_ssize_t *done);

/* ---- links (link.c) ---- */

int core_link_init(PyObject *module, core_state *state);
/* core_link_for_loop: the session's link for this running loop, made and registered if needed; a new reference, since it
 * may have been closed again when this returns. */
core_link *core_link_for_loop(core_session *s, PyObject *loop);
/* core_link_here: the same for the loop that runs in this thread, alive; NULL with an exception when none does, or the
 * session has ended meanwhile. */
core_link *core_link_here(core_session *s);
/* core_links_wake: a loop of this thread that has gone to sleep is awake again, and will re-arm by itself. */
void core_links_wake(core_session *s);
void core_link_detach_all(core_session *s);
/* core_link_watch_deadline: sees to it that the loop wakes up at that time. */
void core_link_watch_deadline(core_link *link, int64_t deadline_ns);
/* core_link_serve: makes this loop poll for requests before it sleeps. */
int core_link_serve(core_link *link);
/* core_links_trim_later: a message with shared buffers was sent: give free ones back once the session has been
 * idle for a second. */
void core_links_trim_later(core_session *s);
/* core_link_call_back: has the loop run the callbacks (a list, stolen) of a call that has completed. */
void core_link_call_back(core_link *link, core_call *call, PyObject *callbacks);
/* core_link_wake_future: sets the result of a future of the loop, on the loop's thread or from another. */
void core_link_wake_future(core_link *link, PyObject *future);

/* ---- what is sent ahead (ahead.c) ---- */

#define CORE_OBJECT_NONE UINT32_MAX /* a call of it is for its arguments only; no object has this number */
/* core_send_ahead: lets the sessions that are likely to be sent this tensor or array, which lies in new shared memory,
 * open it now. Never fails: it is a hint. */
void core_send_ahead(core_state *state, PyObject *value);
/* core_take_ahead: opens what the peer may send later. Calls nothing; ends the event. */
void core_take_ahead(core_session *s, piso_event *event);

/* ---- handlers (dispatch.c, handler.c, serving.c, reply.c) ---- */

/* core_reply: sends a result (NULL: the current exception, which is cleared). */
void core_reply(core_session *s, uint64_t request, PyObject *result);
int core_handler_init(PyObject *module, core_state *state);
/* core_dispatch: answers one request event. */
void core_dispatch(core_session *s, piso_event *event, core_pump_context *context);
/* core_dispatch_cancel: the peer no longer waits for that request. */
void core_dispatch_cancel(core_session *s, uint64_t request);
/* core_dispatch_cancel_all: the peer has gone: its suspended requests are cancelled. */
void core_dispatch_cancel_all(core_session *s);
/* core_handler_run: on a link that is alive: drives `awaitable` (stolen) to its end, the first step now, and answers
 * `request`. */
void core_handler_run(core_session *s, core_link *link, uint64_t request, PyObject *awaitable, PyObject *context,
                      core_pump_context *pump);
/* core_handler_leave: no task is the current one any more; to be called before the loop goes on, and before code that is
 * to see none. */
void core_handler_leave(core_state *state, core_pump_context *pump);
/* core_handler_elsewhere: has it run on `link`'s loop, in another thread. 0 or -1. */
int core_handler_elsewhere(core_session *s, core_link *link, uint64_t request, PyObject *awaitable, PyObject *context);
void core_handler_drop_spares(core_link *link);

#endif
