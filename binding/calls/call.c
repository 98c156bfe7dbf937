/* call.c - the Call: what calling a method of the other side returns.
 *
 * It was sent when it was made. Awaiting it takes the reply if that is there; else polls for it within the
 * session's budget, serving the peer's requests meanwhile; else its task waits for a parker (parker.c). It has the
 * protocol of a coroutine, so create_task, gather and wait_for take it.
 *
 * A Call is not tracked by the garbage collector. While it is parked it keeps itself alive (the session needs it,
 * and nothing else may hold the waiting task); while not, it holds nothing that could lead back to it but an
 * unread result. */
#include "session.h"

#include "aio.h"
#include "parker.h"

#define MAX_NESTING 32   /* deeper, requests wait until the loop serves them, so the C stack is bounded */
#define POLL_LIMIT  64   /* events handled before looking at our own reply again */
#define MAX_POLLS   4096 /* turns before the event loop gets its own */

int core_send(core_session *s, core_pending *pending, uint32_t object, uint32_t number, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames) {
    piso_writer w;
    piso_writer_init(&w);
    pending->thread = PyThread_get_thread_ident();
    int flags = core_encode_call(&s->codec, &w, args, nargs, kwnames);
    int r = -1;
    if (flags >= 0) {
        int64_t deadline = pending->timeout_ns ? piso_now_coarse_ns() + pending->timeout_ns : PISO_NO_DEADLINE;
        bool buffers = w.nspans > 0 || w.size > PISO_INLINE_BODY;
        r = piso_session_call(s->session, &pending->call, object, number, (unsigned)flags, 0, deadline, &w);
        if (r < 0)
            core_session_error(s, r, pending);
        else if (buffers)
            core_links_trim_later(s);
    }
    if (r < 0)
        core_codec_abandon(&s->codec, &w);
    piso_writer_fini(&w);
    return r < 0 ? -1 : 0;
}

PyObject *core_pending_take(core_pending *pending) {
    PyObject *value = pending->value;
    bool failed = pending->outcome == CORE_EXCEPTION;
    pending->value = NULL;
    pending->outcome = CORE_TAKEN;
    if (!failed)
        return value;
    PyErr_SetObject((PyObject *)Py_TYPE(value), value);
    Py_DECREF(value);
    return NULL;
}

/* ---- making one ---- */

static core_call *call_alloc(core_state *state) {
    core_async_state *a = state->async;
    if (a->free_call_count == 0)
        return PyObject_New(core_call, state->call_type);
    core_call *call = (core_call *)a->free_calls[--a->free_call_count];
    Py_INCREF(state->call_type);
    return (core_call *)PyObject_Init((PyObject *)call, state->call_type);
}

PyObject *core_call_new(core_session *s, uint32_t object, uint32_t number, PyObject *name, int64_t timeout_ns,
                        PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    core_call *call = call_alloc(s->state);
    if (!call)
        return NULL;
    call->pending = (core_pending){.name = Py_NewRef(name), .timeout_ns = timeout_ns};
    call->session = (core_session *)Py_NewRef((PyObject *)s);
    call->awaited = call->closed = false;
    call->parker = NULL;
    call->callbacks = NULL;
    call->link = NULL;
    if (core_send(s, &call->pending, object, number, args, nargs, kwnames) < 0) {
        call->pending.value = core_fetch_exception();
        call->pending.outcome = CORE_EXCEPTION;
    }
    return (PyObject *)call;
}

void core_call_freelist_clear(core_state *state) {
    core_async_state *a = state->async;
    while (a && a->free_call_count)
        PyObject_Free(a->free_calls[--a->free_call_count]);
}

/* ---- parking ---- */

void core_call_park(core_call *call, core_link *link) {
    if (call->link)
        return;
    call->link = link;
    call->next = link->parked;
    call->previous_next = &link->parked;
    if (call->next)
        call->next->previous_next = &call->next;
    link->parked = call;
    link->gathered += call->callbacks != NULL;
    Py_INCREF(call);
    if (call->pending.call.deadline_ns != PISO_NO_DEADLINE)
        core_link_watch_deadline(link, call->pending.call.deadline_ns);
}

void core_call_unpark(core_call *call) {
    if (!call->link)
        return;
    call->link->gathered -= call->callbacks != NULL;
    *call->previous_next = call->next;
    if (call->next)
        call->next->previous_next = call->previous_next;
    call->next = NULL;
    call->link = NULL;
    Py_CLEAR(call->parker);
    Py_CLEAR(call->callbacks);
    Py_DECREF(call); /* the reference to itself */
}

void core_call_completed(core_call *call, core_pump_context *context) {
    core_link *link = call->link;
    if (!link)
        return;
    core_parker *parker = (core_parker *)Py_XNewRef((PyObject *)call->parker);
    PyObject *callbacks = Py_XNewRef(call->callbacks);
    if (link == context->link)
        context->completed = true;
    Py_INCREF(link);
    Py_INCREF(call);
    core_call_unpark(call);
    if (callbacks)
        core_link_call_back(link, call, callbacks);
    if (parker)
        core_parker_wake(parker, link->thread == PyThread_get_thread_ident());
    Py_DECREF(call);
    Py_DECREF(link);
    Py_XDECREF(parker);
}

static bool finished(const core_call *call) {
    return call->pending.outcome != CORE_PENDING;
}

static PySendResult take(core_call *call, PyObject **ret_value) {
    if (call->pending.outcome == CORE_TAKEN || call->closed) {
        PyErr_Format(PyExc_RuntimeError, "cannot reuse the already awaited call of %R", call->pending.name);
        return PYGEN_ERROR;
    }
    *ret_value = core_pending_take(&call->pending);
    return *ret_value ? PYGEN_RETURN : PYGEN_ERROR;
}

static PySendResult park(core_session *s, core_call *call, PyObject **ret_value) {
    core_link *link = core_link_here(s);
    core_parker *parker = link && !finished(call) ? core_parker_new(s->state, link->loop) : NULL;
    PySendResult r = PYGEN_ERROR;
    if (finished(call)) { /* by another thread, or by the end of the session, while asyncio's code ran */
        PyErr_Clear();    /* without a session there is no link; the call knows why */
        r = take(call, ret_value);
    } else if (parker) {
        call->parker = (core_parker *)Py_NewRef((PyObject *)parker);
        core_call_park(call, link);
        *ret_value = Py_NewRef((PyObject *)parker); /* which may have been woken meanwhile */
        r = PYGEN_NEXT;
    }
    Py_XDECREF(parker);
    Py_XDECREF(link);
    return r;
}

/* ---- awaiting ---- */

/* home_has_spun: this thread's loop has polled in vain since its last turn. */
static bool home_has_spun(const core_session *s) {
    return s->links && s->links->spun && s->links->thread == PyThread_get_thread_ident();
}

static void poll_briefly(core_session *s, core_call *call) {
    core_pump_context context = {.in_task = true};
    if (s->depth >= MAX_NESTING)
        return;
    s->depth++;
    for (int i = 0; i < MAX_POLLS && !finished(call); i++) {
        int ready;
        if (home_has_spun(s)) {
            ready = piso_session_ready(s->session);
        } else {
            piso_session_poll_begin(s->session);
            ready = piso_session_spin(s->session);
            ready |= piso_session_poll_end(s->session);
            if (ready <= 0 && s->links)
                s->links->spun = true;
        }
        if (ready <= 0 || core_pump(s, &context, POLL_LIMIT) == 0)
            break;
    }
    core_pump_leftovers(s, &context);
    s->depth--;
}

/* wait_here: polls, and if that was not enough leaves the call to the running loop. */
static PySendResult wait_here(core_session *s, core_call *call, PyObject **ret_value) {
    if (s->links) {
        core_links_wake(s);
    } else {
        core_link *link = core_link_here(s);
        Py_XDECREF(link);
        if (!link && !finished(call))
            return PYGEN_ERROR;
        PyErr_Clear(); /* the session has ended, and with it the call, which knows why */
    }
    if (!finished(call)) /* asyncio's code has run: another thread may have got the reply meanwhile */
        poll_briefly(s, call);
    return finished(call) ? take(call, ret_value) : park(s, call, ret_value);
}

static PySendResult call_send_step(PyObject *self, PyObject *Py_UNUSED(value), PyObject **ret_value) {
    core_call *call = (core_call *)self;
    *ret_value = NULL;
    call->awaited = true;
    if (finished(call) || call->closed)
        return take(call, ret_value);
    if (call->link) {
        PyErr_Format(PyExc_RuntimeError, "the call of %R is already being awaited", call->pending.name);
        return PYGEN_ERROR;
    }
    core_session *s = (core_session *)Py_NewRef(call->session); /* the call lets go of it when it ends */
    Py_INCREF(call);
    PySendResult r = wait_here(s, call, ret_value);
    Py_DECREF(call);
    Py_DECREF(s);
    return r;
}

static PyObject *call_iternext(PyObject *self) {
    PyObject *value;
    PySendResult r = call_send_step(self, Py_None, &value);
    if (r != PYGEN_RETURN)
        return value;
    if (value != Py_None) {
        /* a tuple or an exception given as the type's argument would be taken apart */
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
        if (stop)
            PyErr_SetObject(PyExc_StopIteration, stop);
        Py_XDECREF(stop);
    }
    Py_DECREF(value);
    return NULL;
}

static PyObject *call_send(PyObject *self, PyObject *Py_UNUSED(value)) {
    PyObject *result = call_iternext(self);
    if (!result && !PyErr_Occurred())
        PyErr_SetNone(PyExc_StopIteration);
    return result;
}

/* abandon: nobody waits any more. */
static void abandon(core_call *call, bool cancel) {
    if (call->session && !finished(call))
        piso_session_forget(call->session->session, &call->pending.call, cancel);
    core_call_unpark(call);
    call->closed = true;
}

static PyObject *call_throw(PyObject *self, PyObject *args) {
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyArg_ParseTuple(args, "O|OO:throw", &type, &value, &traceback))
        return NULL;
    core_call *call = (core_call *)self;
    call->awaited = true;
    Py_INCREF(call);
    abandon(call, true);
    Py_DECREF(call);
    if (PyExceptionInstance_Check(type)) {
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    } else if (PyExceptionClass_Check(type)) {
        PyErr_SetObject(type, value == Py_None ? NULL : value);
    } else {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %s",
                     Py_TYPE(type)->tp_name);
    }
    return NULL;
}

static PyObject *call_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_call *call = (core_call *)self;
    call->awaited = true;
    Py_INCREF(call);
    abandon(call, true);
    Py_DECREF(call);
    Py_RETURN_NONE;
}

static PyObject *call_cancel(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"msg", NULL};
    core_call *call = (core_call *)self;
    PyObject *message = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:cancel", names, &message))
        return NULL;
    if (finished(call) || call->closed)
        Py_RETURN_FALSE;
    core_state *state = call->session->state;
    if (core_aio_load(state) < 0)
        return NULL;
    PyObject *error_type = state->async->cancelled_error;
    PyObject *error = message == Py_None ? PyObject_CallNoArgs(error_type) : PyObject_CallOneArg(error_type, message);
    if (!error)
        return NULL;
    if (finished(call) || call->closed) { /* by another thread, while Python's code ran */
        Py_DECREF(error);
        Py_RETURN_FALSE;
    }
    piso_session_forget(call->session->session, &call->pending.call, true);
    call->pending.value = error;
    call->pending.outcome = CORE_EXCEPTION;
    core_pump_context context = {0};
    core_call_completed(call, &context);
    Py_RETURN_TRUE;
}

static PyObject *call_done(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_call *call = (core_call *)self;
    return PyBool_FromLong(finished(call) || call->closed);
}

static PyObject *call_repr(PyObject *self) {
    core_call *call = (core_call *)self;
    static const char *const states[] = {"pending", "done", "failed", "awaited"};
    return PyUnicode_FromFormat("<pyisolate.Call %R %s>", call->pending.name,
                                call->closed ? "closed" : states[call->pending.outcome]);
}

static void call_dealloc(PyObject *self) {
    core_call *call = (core_call *)self;
    PyTypeObject *type = Py_TYPE(self);
    /* before any of Python's code, in which another thread could still bring the reply */
    if (call->session && !finished(call) && !call->closed)
        piso_session_forget(call->session->session, &call->pending.call, false);
    if (!call->awaited && call->pending.name) {
        PyObject *t, *v, *tb;
        PyErr_Fetch(&t, &v, &tb);
        if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "call of %R was never awaited", call->pending.name) < 0)
            PyErr_WriteUnraisable(call->pending.name); /* the call has no references left to give away */
        PyErr_Restore(t, v, tb);
    }
    core_async_state *a = core_type_state(type)->async;
    Py_XDECREF(call->session);
    Py_XDECREF(call->pending.name);
    Py_XDECREF(call->pending.value);
    Py_XDECREF(call->callbacks); /* they were not accepted */
    if (a->free_call_count < (int)(sizeof a->free_calls / sizeof *a->free_calls))
        a->free_calls[a->free_call_count++] = self;
    else
        PyObject_Free(self);
    Py_DECREF(type);
}

static PyMethodDef call_methods[] = {
    {"send", call_send, METH_O, "Take the next step, as coroutine.send does."},
    {"throw", call_throw, METH_VARARGS, "Give up waiting, ask for cancellation, raise."},
    {"close", call_close, METH_NOARGS, "Give up waiting and ask for cancellation."},
    {"cancel", (PyCFunction)(void (*)(void))call_cancel, METH_VARARGS | METH_KEYWORDS,
     "cancel(msg=None) -> bool\n\nAsk the other side to cancel the handler; a later await raises CancelledError."},
    {"done", call_done, METH_NOARGS, "done() -> bool\n\nWhether an await would return at once."},
    {"get_loop", core_future_get_loop, METH_NOARGS, "The event loop that the call is awaited on."},
    {"result", core_future_result, METH_NOARGS, "The result of a call that is done; raises its exception."},
    {"exception", core_future_exception, METH_NOARGS, "The exception of a call that is done, or None."},
    {"cancelled", core_future_cancelled, METH_NOARGS, "Whether it ended by cancellation."},
    {"add_done_callback", (PyCFunction)(void (*)(void))core_future_add_done_callback, METH_FASTCALL | METH_KEYWORDS,
     "Have the event loop call a function with this call once it is done."},
    {"remove_done_callback", core_future_remove_done_callback, METH_O, "Take a callback back; returns how many."},
    {"_make_cancelled_error", core_future_make_cancelled_error, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "For type annotations."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef call_attributes[] = {
    {"_asyncio_future_blocking", core_future_get_blocking, NULL, NULL, NULL},
    {"_cancel_message", core_future_get_cancel_message, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_doc, "A call on its way: sent when it was made, its result is taken by await."},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, call_send_step},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, call_iternext},
    {Py_tp_repr, call_repr},
    {Py_tp_methods, call_methods},
    {Py_tp_getset, call_attributes},
    {Py_tp_dealloc, call_dealloc},
    {0, NULL},
};
static PyType_Spec call_spec = {
    .name = "pyisolate._core.Call",
    .basicsize = sizeof(core_call),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

int core_call_init(PyObject *module, core_state *state) {
    state->call_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &call_spec, NULL);
    return state->call_type ? PyModule_AddType(module, state->call_type) : -1;
}
