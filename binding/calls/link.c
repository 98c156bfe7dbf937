/* link.c - how a session and an event loop wake each other.
 *
 * A link is awake while its loop runs callbacks and asleep while the loop may be blocked in its selector: only
 * then must the peer ring the doorbell. Whoever finds a link asleep on its own thread wakes it (core_links_wake)
 * and schedules one `rearm` with call_soon; so a loop that makes a thousand calls in one iteration arms and
 * disarms once. Invariant: a link that is alive is asleep, or has a rearm scheduled, or is in core_link_run.
 * The loop owns a reader (reader.h).
 *
 * A method of a loop may be Python code. Within it handlers of signals run, other threads, and what a collection of
 * garbage brings: afterwards the link may have been closed, and dropped by all but who holds a reference here. */
#include "session.h"

#include "aio.h"
#include "common/allocator.h"
#include "reader.h"

#define PUMP_LIMIT   256
#define SLICE_NS     1000000 /* how long one callback may serve requests before the loop gets its turn */
#define TRIM_SECONDS 1.0

static core_async_state *async_of(const core_link *link) {
    return core_type_state(Py_TYPE(link))->async;
}

/* ---- going to sleep and waking ---- */

static void link_wake(core_link *link) {
    if (link->asleep) {
        link->asleep = false;
        piso_session_sleep_end(link->handle);
    }
}

/* schedule: loop.call_soon(callback); a loop that refuses is closed. */
static void schedule(core_link *link, PyObject *method, PyObject *callback) {
    PyObject *args[3] = {NULL, link->loop, callback};
    Py_INCREF(link);
    PyObject *handle = core_loop_call(link->loop, method, args + 1, 2, NULL);
    if (!handle)
        core_link_closed(link); /* and with the loop everything that waits on it */
    Py_XDECREF(handle);
    Py_DECREF(link);
}

static void schedule_rearm(core_link *link) {
    if (link->rearm_scheduled || !link->alive)
        return;
    link->rearm_scheduled = true;
    schedule(link, async_of(link)->call_soon, link->rearm);
}

void core_links_wake(core_session *s) {
    unsigned long here = PyThread_get_thread_ident();
    for (core_link *link = s->links; link; link = link->next)
        if (link->asleep && link->thread == here) {
            link_wake(link);
            schedule_rearm(link);
            return; /* schedule may have changed the list; one loop runs in a thread */
        }
}

static bool spin(core_link *link) {
    piso_session_poll_begin(link->handle);
    int ready = piso_session_spin(link->handle);
    return piso_session_poll_end(link->handle) > 0 || ready > 0;
}

/* core_link_run: the loop's turn: handle what is there, poll a little, sleep. */
void core_link_run(core_link *link) {
    core_session *s = link->session;
    link->spun = false;
    link_wake(link);
    if (!s || !link->alive)
        return;
    Py_INCREF(s);
    Py_INCREF(link);
    int64_t slice_end = piso_now_ns() + SLICE_NS;
    core_pump_context context = {.link = link};
    int rounds = 0;
    for (;;) {
        int handled = core_pump(s, &context, PUMP_LIMIT);
        if (!link->alive || !link->session || s->closed)
            break;
        /* tasks that can go on come first; a busy peer must not starve the loop */
        if (context.completed || (rounds++ + handled > 0 && piso_now_ns() > slice_end)) {
            schedule_rearm(link);
            break;
        }
        if ((handled || link->serving || link->gathered) && spin(link))
            continue;
        int r = piso_session_sleep_begin(link->handle);
        link->asleep = true;
        if (r <= 0)
            break;
        link_wake(link);
    }
    core_handler_leave(s->state, &context);
    Py_DECREF(link);
    Py_DECREF(s);
}

/* ---- methods that loops call ---- */

static PyObject *link_rearm(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link *link = (core_link *)self;
    link->rearm_scheduled = false;
    core_link_run(link);
    Py_RETURN_NONE;
}

static PyObject *link_expire(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link *link = (core_link *)self;
    Py_CLEAR(link->timer);
    link->timer_ns = PISO_NO_DEADLINE;
    if (link->session && link->alive) {
        int64_t next = piso_session_expire(link->handle);
        if (link->parked && next != PISO_NO_DEADLINE)
            core_link_watch_deadline(link, next);
        core_link_run(link);
    }
    Py_RETURN_NONE;
}

/* call_later: the loop's handle; NULL, without an exception, if it is closed: nothing waits any more. */
static PyObject *call_later(core_link *link, double seconds, const char *method) {
    PyObject *callback = PyObject_GetAttrString((PyObject *)link, method);
    PyObject *delay = callback ? PyFloat_FromDouble(seconds) : NULL;
    PyObject *handle = NULL;
    if (delay) {
        PyObject *args[4] = {NULL, link->loop, delay, callback};
        handle = core_loop_call(link->loop, async_of(link)->call_later, args + 1, 3, NULL);
    }
    if (!delay)
        PyErr_Clear(); /* out of memory */
    Py_XDECREF(callback);
    Py_XDECREF(delay);
    return handle;
}

static bool trim_after_pause(core_link *link) {
    PyObject *handle = call_later(link, TRIM_SECONDS, "trim");
    Py_XDECREF(handle);
    return handle != NULL;
}

/* drop_timer: else the loop would keep the link, and with it the session's memory, until the deadline. */
static void drop_timer(core_link *link) {
    PyObject *timer = link->timer;
    link->timer = NULL;
    link->timer_ns = PISO_NO_DEADLINE;
    PyObject *args[2] = {NULL, timer};
    Py_XDECREF(timer ? core_loop_call(link->loop, async_of(link)->cancel, args + 1, 1, NULL) : NULL);
    Py_XDECREF(timer);
}

/* link_trim: one second after shared buffers were used: idle ever since? */
static PyObject *link_trim(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link *link = (core_link *)self;
    link->trim_scheduled = false;
    if (!link->session || !link->alive)
        Py_RETURN_NONE;
    if (link->trim_seen != link->session->buffer_uses) {
        link->trim_seen = link->session->buffer_uses;
        link->trim_scheduled = trim_after_pause(link);
        Py_RETURN_NONE;
    }
    link_wake(link); /* releases that are on their way count */
    piso_session_flush(link->handle);
    piso_session_trim(link->handle, 0);
    core_allocator_trim();
    core_link_run(link);
    Py_RETURN_NONE;
}

static PyObject *link_trim_later(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link *link = (core_link *)self;
    if (link->session && link->alive) {
        link->trim_seen = link->session->buffer_uses;
        link->trim_scheduled = trim_after_pause(link);
    }
    Py_RETURN_NONE;
}

void core_links_trim_later(core_session *s) {
    s->buffer_uses++;
    core_link *link = s->links;
    if (!link || !link->alive || link->trim_scheduled)
        return;
    link->trim_scheduled = true;
    Py_INCREF(link);
    PyObject *callback = NULL;
    if (link->thread == PyThread_get_thread_ident())
        Py_XDECREF(link_trim_later((PyObject *)link, NULL));
    else if ((callback = PyObject_GetAttrString((PyObject *)link, "trim_later")))
        schedule(link, async_of(link)->call_soon_threadsafe, callback);
    else
        PyErr_Clear(); /* out of memory: the memory is given back after the next use */
    Py_XDECREF(callback);
    Py_DECREF(link);
}

void core_link_watch_deadline(core_link *link, int64_t deadline_ns) {
    if (deadline_ns >= link->timer_ns)
        return;
    double seconds = (double)(deadline_ns - piso_now_ns()) / 1e9;
    Py_INCREF(link);
    PyObject *timer = call_later(link, seconds > 0 ? seconds : 0, "expire");
    if (timer) {
        drop_timer(link);
        link->timer = timer;
        link->timer_ns = deadline_ns;
        if (!link->alive)
            drop_timer(link);
    }
    Py_DECREF(link);
}

/* ---- a future of the loop ---- */

/* wake_future(future): sets the result unless it is done (cancelled meanwhile). */
static PyObject *wake_future(PyObject *self, PyObject *future) {
    core_async_state *a = async_of((core_link *)self);
    PyObject *done = PyObject_CallMethodNoArgs(future, a->done);
    if (!done)
        return NULL;
    int is_done = PyObject_IsTrue(done);
    Py_DECREF(done);
    if (is_done)
        Py_RETURN_NONE;
    PyObject *args[3] = {NULL, future, Py_None};
    return PyObject_VectorcallMethod(a->set_result, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

void core_link_wake_future(core_link *link, PyObject *future) {
    core_async_state *a = async_of(link);
    PyObject *result = NULL;
    if (link->thread == PyThread_get_thread_ident()) {
        PyObject *args[] = {NULL, (PyObject *)link, future};
        result = core_loop_call(link->loop, a->wake_future, args + 1, 2, NULL);
    } else {
        PyObject *callback = PyObject_GetAttr((PyObject *)link, a->wake_future);
        PyObject *args[] = {NULL, link->loop, callback, future};
        if (callback)
            result = core_loop_call(link->loop, a->call_soon_threadsafe, args + 1, 3, NULL);
        else
            PyErr_Clear(); /* out of memory: nobody can be told */
        Py_XDECREF(callback);
    }
    Py_XDECREF(result); /* or the loop is closed: nobody waits for this future any more */
}

/* ---- callbacks of completed calls ---- */

/* schedule_callbacks: has the loop that link->due begins with call link_call_back, whatever became of the link. */
static void schedule_callbacks(core_link *link) {
    core_async_state *a = async_of(link);
    PyObject *callback = PyObject_GetAttrString((PyObject *)link, "call_back"), *handle = NULL;
    if (callback) {
        PyObject *args[] = {NULL, PyList_GET_ITEM(link->due, 0), callback};
        PyObject *method = link->thread == PyThread_get_thread_ident() ? a->call_soon : a->call_soon_threadsafe;
        handle = core_loop_call(args[1], method, args + 1, 2, NULL);
    }
    if (!handle) {
        PyErr_Clear(); /* out of memory, if the loop is not closed: nobody waits there any more */
        Py_CLEAR(link->due);
    }
    Py_XDECREF(callback);
    Py_XDECREF(handle);
}

void core_link_call_back(core_link *link, core_call *call, PyObject *callbacks) {
    bool first = !link->due;
    if (first && link->loop && (link->due = PyList_New(0)) && PyList_Append(link->due, link->loop) < 0)
        Py_CLEAR(link->due);
    if (!link->due || PyList_Append(link->due, callbacks) < 0 || PyList_Append(link->due, (PyObject *)call) < 0)
        PyErr_Clear(); /* out of memory: whoever waits is not told */
    Py_DECREF(callbacks);
    if (first && link->due)
        schedule_callbacks(link);
}

/* put_back: an exception ends the loop; when it runs again it goes on with the rest. */
static void put_back(core_link *link, PyObject *loop, PyObject *due) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *newer = link->due;
    Py_ssize_t end = PyList_GET_SIZE(due);
    if (newer && PyList_SetSlice(due, end, end, newer) == 0)
        PyList_SetSlice(due, end, end + 1, NULL); /* the loop */
    if (PyList_Insert(due, 0, loop) == 0) {
        link->due = Py_NewRef(due);
        Py_XDECREF(newer);
        schedule_callbacks(link);
    }
    PyErr_Restore(type, value, traceback);
}

/* link_call_back(): the loop's turn to run what is due. */
static PyObject *link_call_back(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link *link = (core_link *)self;
    PyObject *due = link->due;
    if (!due)
        Py_RETURN_NONE;
    link->due = NULL;
    PyObject *loop = Py_NewRef(PyList_GET_ITEM(due, 0));
    Py_ssize_t done = 1;
    int r = core_future_run_callbacks(loop, due, &done);
    if (r < 0 && PyList_SetSlice(due, 0, done, NULL) == 0)
        put_back(link, loop, due);
    Py_DECREF(loop);
    Py_DECREF(due);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- registering with a loop ---- */

/* link_start(): on the loop's thread: registers the reader and takes the first turn. */
static PyObject *link_start(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link *link = (core_link *)self;
    if (!link->session || link->thread)
        Py_RETURN_NONE; /* detached, or started before */
    link->thread = PyThread_get_thread_ident();
    Py_INCREF(link);
    PyObject *loop = Py_NewRef(link->loop);
    int r = core_reader_add(link, loop);
    if (r < 0)
        core_link_closed(link); /* nobody else waits on it yet: it runs no code that would mind the exception */
    if (!link->alive)
        core_reader_remove(link, loop);
    schedule_rearm(link);
    Py_DECREF(loop);
    Py_DECREF(link);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

/* link_stop(): on the loop's thread: takes the reader away; its deallocation does the rest. */
static PyObject *link_stop(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_link *link = (core_link *)self;
    if (!link->alive)
        Py_RETURN_NONE;
    Py_INCREF(link);
    core_reader_remove(link, link->loop);
    core_link_closed(link);
    Py_DECREF(link);
    Py_RETURN_NONE;
}

static core_link *link_new(core_session *s, PyObject *loop) {
    core_async_state *a = s->state->async;
    core_link *link = PyObject_GC_New(core_link, a->link_type);
    if (!link)
        return NULL;
    memset((char *)link + sizeof(PyObject), 0, sizeof *link - sizeof(PyObject));
    link->session = s;
    link->handle = piso_session_ref(s->session);
    link->loop = Py_NewRef(loop);
    link->timer_ns = PISO_NO_DEADLINE;
    PyObject_GC_Track(link);
    link->rearm = PyObject_GetAttrString((PyObject *)link, "rearm");
    if (!link->rearm)
        Py_CLEAR(link);
    return link;
}

/* unlist: takes the link out of its session's list, which owned a reference. */
static void unlist(core_link *link) {
    core_session *s = link->session;
    if (!s)
        return;
    for (core_link **at = &s->links; *at; at = &(*at)->next)
        if (*at == link) {
            *at = link->next;
            link->next = NULL;
            link->session = NULL;
            Py_DECREF(link);
            return;
        }
}

static void detach(core_link *link) {
    Py_INCREF(link);
    unlist(link);
    link->session = NULL;
    if (link->alive && link->thread == PyThread_get_thread_ident()) {
        Py_XDECREF(link_stop((PyObject *)link, NULL));
    } else if (link->alive) {
        PyObject *callback = PyObject_GetAttrString((PyObject *)link, "stop");
        if (callback)
            schedule(link, async_of(link)->call_soon_threadsafe, callback);
        PyErr_Clear(); /* out of memory: the reader stays until its loop closes, and does nothing */
        Py_XDECREF(callback);
    }
    Py_DECREF(link);
}

void core_link_detach_all(core_session *s) {
    while (s->links)
        detach(s->links);
}

/* core_link_closed: the loop has gone. What was parked on it stays pending, but nobody waits there any more. */
void core_link_closed(core_link *link) {
    Py_INCREF(link);
    link->alive = false;
    link_wake(link);
    while (link->parked)
        core_call_unpark(link->parked);
    core_handler_drop_spares(link);
    unlist(link);
    drop_timer(link);
    Py_CLEAR(link->rearm);
    Py_CLEAR(link->loop);
    Py_CLEAR(link->holder);
    Py_DECREF(link);
}

/* enlist: gives the link to its session's list, behind the home; an application's own loop takes over from the
 * service loop, which is returned for detaching. */
static core_link *enlist(core_session *s, core_link *link) {
    PyObject *service_loop = s->state->async->service_loop;
    core_link *service = s->links && s->links->loop == service_loop ? s->links : NULL;
    core_link **at = &s->links;
    while (!service && *at)
        at = &(*at)->next;
    link->next = *at;
    *at = link;
    return service;
}

/* start: has link_start run on the loop's thread. 0 or -1. */
static int start(core_session *s, core_link *link) {
    PyObject *running = core_running_loop(s->state), *result = NULL;
    if (running == link->loop) {
        result = link_start((PyObject *)link, NULL);
    } else if (!PyErr_Occurred()) {
        result = PyObject_GetAttrString((PyObject *)link, "start");
        if (result)
            schedule(link, s->state->async->call_soon_threadsafe, result);
    }
    Py_XDECREF(running);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

core_link *core_link_for_loop(core_session *s, PyObject *loop) {
    for (core_link *link = s->links; link; link = link->next)
        if (link->loop == loop)
            return (core_link *)Py_NewRef((PyObject *)link);
    core_link *link = link_new(s, loop);
    if (!link)
        return NULL;
    /* listed first: starting it runs Python code, which may ask for the same link again */
    link->alive = true;
    Py_INCREF(link);
    core_link *service = enlist(s, link);
    if (service)
        detach(service);
    if (start(s, link) == 0)
        return link;
    link->alive = false;
    unlist(link);
    Py_DECREF(link);
    return NULL;
}

core_link *core_link_here(core_session *s) {
    PyObject *holder = core_running_holder(s->state);
    for (core_link *link = s->links; holder && link; link = link->next)
        if (link->holder == holder)
            return (core_link *)Py_NewRef((PyObject *)link);
    PyObject *loop = core_running_loop(s->state);
    if (!loop) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_RuntimeError,
                         "awaiting a call of %R needs a running asyncio event loop; "
                         "without one use extension.sync.method(...)",
                         s->name);
        return NULL;
    }
    core_link *link = core_link_for_loop(s, loop);
    Py_DECREF(loop);
    if (link && link->alive) {
        Py_XSETREF(link->holder, Py_XNewRef(core_running_holder(s->state)));
    } else if (link) {
        int state = piso_session_state(s->session);
        Py_CLEAR(link);
        core_session_error(s, state ? state : PISO_ECLOSED, NULL);
    }
    return link;
}

int core_link_serve(core_link *link) {
    link->serving = true;
    link_wake(link);
    schedule_rearm(link);
    return 0;
}

/* ---- types ---- */

static int link_traverse(PyObject *self, visitproc visit, void *arg) {
    core_link *link = (core_link *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(link->loop);
    Py_VISIT(link->holder);
    Py_VISIT(link->rearm);
    Py_VISIT(link->timer);
    Py_VISIT(link->due);
    return 0;
}

static int link_clear(PyObject *self) {
    core_link *link = (core_link *)self;
    Py_CLEAR(link->loop);
    Py_CLEAR(link->holder);
    Py_CLEAR(link->rearm);
    Py_CLEAR(link->timer);
    Py_CLEAR(link->due);
    return 0;
}

static void link_dealloc(PyObject *self) {
    core_link *link = (core_link *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    link_wake(link);
    core_handler_drop_spares(link);
    link_clear(self);
    piso_session_unref(link->handle);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef link_methods[] = {
    {"rearm", link_rearm, METH_NOARGS, "Take a turn and go to sleep."},
    {"expire", link_expire, METH_NOARGS, "Fail the calls whose deadline has passed."},
    {"trim", link_trim, METH_NOARGS, "Give free shared memory back if the session has been idle."},
    {"trim_later", link_trim_later, METH_NOARGS, "Start the timer for trim."},
    {"start", link_start, METH_NOARGS, "Register with the loop."},
    {"stop", link_stop, METH_NOARGS, "Unregister from the loop."},
    {"call_back", link_call_back, METH_NOARGS, "Run the callbacks of calls that have completed."},
    {"wake_future", wake_future, METH_O, "Set a future's result to None unless it is done."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot link_slots[] = {
    {Py_tp_doc, "A session's place in an event loop."},
    {Py_tp_methods, link_methods},
    {Py_tp_traverse, link_traverse},
    {Py_tp_clear, link_clear},
    {Py_tp_dealloc, link_dealloc},
    {0, NULL},
};
static PyType_Spec link_spec = {
    .name = "pyisolate._core.Link",
    .basicsize = sizeof(core_link),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = link_slots,
};

int core_link_init(PyObject *module, core_state *state) {
    core_async_state *a = state->async;
    a->link_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &link_spec, NULL);
    return a->link_type ? core_reader_init(module, state) : -1;
}
