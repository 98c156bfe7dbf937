/* session.h - the moving parts of the binding and how they hold each other.
 *
 *     Method --> Session --> piso_session          Call, synchronous wait: a core_pending, known to piso_session
 *       |         |  |                             by address until its event or piso_session_forget
 *       v         |  +--> Link (one per event loop) --> loop
 *     Call -------+---------^         |
 *       |         |                   +-- ReaderCallback, owned by the loop: its death tells us the loop closed
 *       |         +--> Handler (one per request that is a coroutine) <--> its asyncio.Task
 *       +-- Parker (parked)
 *
 * Everything here needs the GIL, which is also the lock of all fields. core_pump takes events from the session
 * and is called from three places: a Call that is awaited (call.c), a loop that was woken (link.c), a thread
 * that waits synchronously (sync.c). Each of them may run user code and re-enter.
 *
 * Who runs a request (dispatch.c): the thread that waits synchronously for the call in whose handler the request was
 * made; else the loop that awaits it; else the session's first loop, its home; and where that one's thread is blocked in
 * a synchronous wait, the service loop of a host, and nobody until it is free again in an extension. */
#ifndef BINDING_SESSION_H
#define BINDING_SESSION_H

#include "common/arguments.h"
#include "common/errors.h"
#include "thread.h"
#include "codec/codec.h"

typedef struct core_session core_session;
typedef struct core_link core_link;
typedef struct core_call core_call;
typedef struct core_handler core_handler;
typedef struct core_gather core_gather;

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
    /* while parked: what the awaiting task waits for, and a reference to itself, because nobody else holds a task that
     * waits for a reply */
    struct core_parker *parker;
    core_gather *gather;              /* instead of a parker of its own; strong */
    core_link *link;                  /* NULL: not parked */
    core_call *next, **previous_next; /* link->parked */
};

/* ---- one event loop's interest in a session ---- */

struct core_link {
    PyObject_HEAD core_session *session; /* borrowed; NULL once detached */
    piso_session *handle;                /* own reference: the descriptor must outlive the loop's reader */
    core_link *next;                     /* session->links, which owns a reference */
    core_thread *home;                   /* that runs the loop; NULL: not started */
    core_link *next_here;                /* home->links */
    PyObject *loop;                      /* strong until the loop closes */
    PyObject *holder;                    /* core_running_holder() when it was last seen running, or NULL */
    unsigned long thread;                /* that runs the loop */
    bool alive;                          /* the reader is registered */
    bool asleep;                         /* piso_session_sleep_begin has been called for this loop */
    bool rearm_scheduled;                /* a call_soon(rearm) is on its way */
    bool serving;                        /* the child's main loop: poll before sleeping */
    bool gave_way;                       /* its last turn ended for tasks that can go on: the next one polls */
    bool trim_scheduled;
    uint64_t trim_seen; /* session's buffer_uses when the trim timer was set */
    unsigned blocked;   /* synchronous waits that this loop's thread is in */
    unsigned held;      /* by those who are about to give it something to do */
    PyObject *timer;    /* the loop's handle of the expiry timer, or NULL */
    int64_t timer_ns;   /* when it fires, PISO_NO_DEADLINE: not set */
    core_call *parked;
    core_inbox inbox;       /* requests for this loop that came elsewhere, or when it could not run them */
    PyObject *unscheduled;  /* list: what the loop refused to schedule, to be tried again; or NULL */
    core_handler *finished; /* whose answers wait until their tasks have ended (handler.c), a reference each */
    unsigned suspended;     /* handlers that wait for something */
    PyObject *rearm;        /* bound method, made once */
};

/* ---- the session ---- */

#define CORE_OBJECTS_INLINE 16

/* How many notifications of one kind the peer may send: what is more is dropped before it is decoded (supervise.c). */
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
    piso_session *session;
    core_codec codec;
    PyObject *name;                         /* str */
    PyObject *context;                      /* base of every request's context; current_session() is set in it */
    PyObject *objects[CORE_OBJECTS_INLINE]; /* id -> object */
    PyObject *more_objects;                 /* dict for the other ids */
    PyObject *names;                        /* list: names of methods by the peer's number; None: not called yet */
    struct core_open *open;                 /* by index of the request's id (dispatch.c) */
    uint32_t open_capacity;
    core_handler *handlers; /* that have not ended, a reference each */
    unsigned unanswered;    /* of these, those whose requests want no answer */
    bool dropped;           /* a request was, because too many are unanswered: it has been told */
    PyObject *finished;     /* future of serve(), or NULL */
    core_link *links;       /* the first is the home: where requests are served */
    uint64_t buffer_uses;   /* messages sent with shared buffers */
    unsigned depth;         /* nested pumps on this session */
    unsigned sync_sleepers; /* threads that sleep in a synchronous wait */
    unsigned completing;    /* threads that have taken a call's end and not told the call yet */
    bool closed;
    core_session *next_session, **previous_session; /* state->sessions */
    PyObject *end_note;                             /* str: what an error of its end says besides; or NULL */
    PyObject *error_hook;                           /* called with exceptions before they are sent; or NULL */
    PyObject *refusal_hook;     /* called with exceptions of a child that was refused calls; or NULL */
    int64_t refused;            /* how many, when it was called last */
    PyObject *end_hook;         /* called before a caller is told of the end; or NULL */
    PyObject *copy_hook;        /* ends a process that was forked here: an extension's; or NULL */
    unsigned unanswered_errors; /* that were reported */
    bool hung;                  /* it was ended because it did not answer */
    core_meter meter;
    PyObject *weakrefs;
};

/* core_pump_context: who pumps. `link`: that of the loop that runs in this thread right now, or NULL; `in_task`: it is a
 * task that awaits, so a task may be current, which handlers must not see; `waits`: a thread that waits synchronously. */
typedef struct core_pump_context {
    core_thread *thread;
    core_link *link;
    bool in_task, waits;
    bool polls;   /* the session, since a wait: until the first event is taken (core_pump_polled) */
    bool started; /* out: the loop of this thread has a new task */
} core_pump_context;
/* core_pump: handles the events that are there (at most `limit`); returns how many. Never raises: what goes wrong belongs
 * to a call or a request. */
int core_pump(core_session *s, core_pump_context *context, int limit);

/* core_pump_polled: ends the poll that a wait has left. What is there still may be for others, and they slept through it. */
void core_pump_polled(core_session *s, core_pump_context *context);
/* core_pump_leftovers: for who stops polling: what came while others slept did not wake them, so it is handled
 * here. */
void core_pump_leftovers(core_session *s, core_pump_context *context);
/* core_run_inbox: the requests that a thread or a loop was handed, at most `limit`; returns how many. */
int core_run_inbox(core_inbox *inbox, core_pump_context *context, int limit);

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
PyObject *core_session_on_copy(PyObject *self, PyObject *hook);
PyObject *core_session_on_end(PyObject *self, PyObject *hook);
/* core_session_tell_end: calls that hook if the session has ended by itself. Keeps the current exception. */
void core_session_tell_end(core_session *s);
/* core_session_remark: lets the hook see an exception that is about to be sent. None is set, before or after. */
void core_session_remark(core_session *s, PyObject *exception);
/* core_session_remark_refused: lets the hook remark on an exception of the child's, if its sandbox has refused a call since
 * the last time. */
void core_session_remark_refused(core_session *s, PyObject *exception);
PyObject *core_session_refusals(PyObject *self, PyObject *unused);
PyObject *core_session_on_refused(PyObject *self, PyObject *hook);
PyObject *core_session_meter(PyObject *self, PyObject *args);
PyObject *core_session_metered(PyObject *self, PyObject *ignored);
/* core_session_refuses: whether this notification is one too many; it is counted then. */
bool core_session_refuses(core_session *s, const piso_event *event);
PyObject *core_session_follow_output(PyObject *self, PyObject *cookie);
PyObject *core_session_echo_dropped(PyObject *self, PyObject *stream);
/* core_supervise_init: the functions of the module that are about all processes. */
int core_supervise_init(PyObject *module);
PyObject *core_session_read_output(PyObject *self, PyObject *stream);

/* ---- calls (call.c, method.c, sync.c) ---- */

int core_call_init(PyObject *module, core_state *state);
int core_method_init(PyObject *module, core_state *state);
/* core_call_new: encodes, sends; a failure is kept for the await. */
PyObject *core_call_new(core_session *s, uint32_t object, uint32_t number, PyObject *name, int64_t timeout_ns,
                        PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* core_call_completed: pending.outcome has been set; wakes whoever waits. */
void core_call_completed(core_call *call);
/* core_call_unpark: forgets parker and link. */
void core_call_unpark(core_call *call);
PyObject *core_method_new(core_session *s, uint32_t object, PyObject *name, bool sync, PyObject *timeout);

/* core_sync_call: sends and waits without the GIL. The result or NULL. */
PyObject *core_sync_call(core_session *s, uint32_t object, uint32_t number, PyObject *name, int64_t timeout_ns,
                         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
void core_sync_completed(core_pending *pending);
/* core_sync_thread: the thread that waits for this call, whose pending says is_sync. */
core_thread *core_sync_thread(const core_pending *pending);

/* core_send: encodes arguments and sends; shared by both. 0, or -1 with an exception. */
int core_send(core_session *s, core_pending *pending, uint32_t object, uint32_t number, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames);
/* core_pending_take: the result (new reference) or NULL with the exception raised; outcome becomes TAKEN. */
PyObject *core_pending_take(core_pending *pending);

/* ---- links (link.c) ---- */

int core_link_init(PyObject *module, core_state *state);
/* core_link_for_loop: the session's link for this loop, made and registered if needed; a new reference, since it
 * may have been closed again when this returns. The link of the service loop does not leave before core_link_let_go. */
core_link *core_link_for_loop(core_session *s, PyObject *loop);
void core_link_let_go(core_link *link); /* takes NULL */
/* core_link_here: the same for the loop that runs in this thread, alive; NULL with an exception when none does, or the
 * session has ended meanwhile. */
core_link *core_link_here(core_session *s);
/* core_links_know: before a call is made: if a loop runs in this thread, it is known, so that it gets what is called
 * back. */
void core_links_know(core_session *s);
/* core_links_wake: a loop of this thread that has gone to sleep is awake again, and will re-arm by itself. */
void core_links_wake(core_session *s);
/* core_links_poll: polls without the GIL for what `s` gets, and for what else loops of this thread wait for: 1: something
 * is there for `s`; 0: not. Once in vain, it is not done again before one of the loops has had a turn. */
int core_links_poll(core_session *s, core_thread *thread);
/* core_service_watch: whether the service loop is woken by what the peer sends; not while a thread sleeps for it, which
 * takes it, and would be in its way. */
void core_service_watch(core_session *s, bool on);
/* core_link_nudge: its loop takes a turn soon, whatever thread this is. */
void core_link_nudge(core_link *link);
void core_link_detach_all(core_session *s);
/* core_link_watch_deadline: sees to it that the loop wakes up at that time. */
void core_link_watch_deadline(core_link *link, int64_t deadline_ns);
/* core_link_serve: makes this loop poll for requests before it sleeps. */
int core_link_serve(core_link *link);
/* core_links_trim_later: a message with shared buffers was sent: give free ones back once the session has been
 * idle for a second. */
void core_links_trim_later(core_session *s);
/* core_link_wake_future: sets the result of a future of the loop, on the loop's thread or from another. */
void core_link_wake_future(core_link *link, PyObject *future);
/* core_link_schedule: has the loop call something, in a context (or NULL). What the loop does not take now, because the
 * handler of a signal has raised in its code or the stack is too deep, it gets at its next turn; a loop that is closed
 * never does. Keeps the current exception. */
void core_link_schedule(core_link *link, PyObject *callback, PyObject *context);

/* ---- what is sent ahead (ahead.c) ---- */

#define CORE_OBJECT_NONE UINT32_MAX /* a call of it is for its arguments only; no object has this number */
/* core_send_ahead: lets the sessions that are likely to be sent this tensor or array, which lies in new shared memory,
 * open it now. Never fails: it is a hint. */
void core_send_ahead(core_state *state, PyObject *value);
/* core_take_ahead: opens what the peer may send later. Calls nothing; ends the event. */
void core_take_ahead(core_session *s, piso_event *event);

/* ---- requests (request.c, dispatch.c, handler.c, reply.c) ---- */

#define CORE_CONTROL 0 /* number of each side's control object */

/* What is known of a request that has not been answered. */
typedef struct core_open {
    core_handler *handler; /* borrowed; NULL: it is no coroutine, or has not been started */
    bool cancelled;        /* the peer does not wait for it any more */
} core_open;

int core_request_init(PyObject *module, core_state *state);
/* core_request_mark: makes it the current request of a context. 0 or -1. */
int core_request_mark(PyObject *context, core_session *s, uint64_t id);
/* core_request_current: the id of the request of this session that the running code belongs to, or 0. */
uint64_t core_request_current(core_session *s);
/* core_request_session: the session of the current request: a new reference, or NULL without an exception. */
PyObject *core_request_session(core_state *state);

/* core_open_find: the entry of an open request; NULL for 0, and without memory for one. */
core_open *core_open_find(core_session *s, uint64_t request);

/* core_leave_copy: ends a process that a handler has forked, as the interpreter ends one: with the current exception, if it
 * has `failed`. Does not return. */
void core_leave_copy(core_session *s, bool failed);
/* core_check_copy: after a handler, which has raised the current exception if it has `failed`: whether this process was
 * forked by it. There is nobody to answer: the request is its parent's. A host's code may go on there, unless it has
 * failed; of an extension's nothing may run but what the handler does: then this does not return. */
bool core_check_copy(core_session *s, bool failed);
/* core_reply: sends a result (NULL: the current exception, which is cleared). */
void core_reply(core_session *s, uint64_t request, PyObject *result);
int core_handler_init(PyObject *module, core_state *state);
/* core_route: has a request run where it belongs; takes the event. */
void core_route(core_session *s, piso_event *event, core_pump_context *context);
/* core_reroute: requests that whoever was handed them cannot run any more. */
void core_reroute(core_inbox *inbox);
/* core_dispatch: answers a request here; ends the event. */
void core_dispatch(core_session *s, piso_event *event, core_pump_context *context);
/* core_dispatch_cancel: the peer no longer waits for that request. */
void core_dispatch_cancel(core_session *s, uint64_t request);
/* core_dispatch_cancel_all: the peer has gone: its requests that have not ended are cancelled. */
void core_dispatch_cancel_all(core_session *s);
/* core_handler_next: of session->handlers. */
core_handler *core_handler_next(const core_handler *h);
/* core_handler_run: has a task of the link's loop run `awaitable` (stolen) in that context and answer `request`.
 * `has_buffers`: the request came with some, which the answer may give back. */
void core_handler_run(core_session *s, core_link *link, uint64_t request, PyObject *awaitable, PyObject *context,
                      bool has_buffers, core_pump_context *pump);
/* core_handlers_answer: those of link->finished, whose tasks have ended. core_handlers_end: the link's loop has been closed:
 * whatever runs there fails. */
void core_handlers_answer(core_link *link);
void core_handlers_end(core_session *s, core_link *link);

#endif
