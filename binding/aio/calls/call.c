/* call.c - the Call: the result of calling a remote method.
 *
 * The call is sent when the object is created. Awaiting it takes the reply if that has arrived; otherwise polls for it,
 * and handles the peer's requests meanwhile; otherwise its task waits for a Waiter (waiter.c). A Call has the protocol
 * of a coroutine, so create_task, gather and wait_for accept it.
 *
 * While it is parked a Call keeps itself alive: the session needs it, and nothing else may refer to the waiting
 * task. */
#include "call.h"
#include "aio/asyncio.h"
#include "aio/loop/link.h"
#include "aio/loop/links.h"
#include "aio/loop/parked.h"
#include "aio/loop/polling.h"
#include "aio/loop/scheduling.h"
#include "aio/loop/timers.h"
#include "aio/waiter.h"

#include <structmember.h>

#include "common/interruption.h"
#include "common/misuse.h"
#include "common/steps.h"
#include "rpc/pump/pump.h"
#include "rpc/send.h"

#define MAX_NESTING 32   /* beyond, requests wait until the loop handles them, so the C stack is bounded */
#define POLL_LIMIT  64   /* events handled before the call's own reply is checked again */
#define MAX_POLLS   4096 /* polls before the event loop continues */

/* ended: drops what the call needed while it was in flight. */
static void ended(core_pending *pending) {
    core_call *call = (core_call *)pending->owner;
    core_call_completed(call);
    Py_CLEAR(call->pending.remotes);
    Py_CLEAR(call->pending.origin);
    Py_CLEAR(call->session);
}

PyObject *core_call_new(const core_callee *to, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    core_session *s = to->session;
    core_links_ensure_here(s);
    core_call *call = PyObject_GC_New(core_call, s->state->call_type);
    if (!call)
        return NULL;
    core_pending_init(&call->pending, to);
    call->pending.owner = (PyObject *)call;
    call->pending.ended = ended;
    call->session = (core_session *)Py_NewRef((PyObject *)s);
    call->awaited = false;
    call->waiter = NULL;
    call->group = NULL;
    call->link = NULL;
    PyObject_GC_Track(call);
    if (core_send(to, &call->pending, args, nargs, kwnames) < 0) {
        call->pending.value = core_fetch_exception();
        call->pending.outcome = CORE_EXCEPTION;
    }
    return (PyObject *)call;
}

/* ---- parking ---- */

static void park_on(core_call *call, core_link *link) {
    call->link = link;
    call->next = link->parked;
    call->previous_next = &link->parked;
    if (call->next)
        call->next->previous_next = &call->next;
    link->parked = call;
    Py_INCREF(call);
    if (call->pending.call.deadline_ns != PISO_NO_DEADLINE)
        core_link_watch_deadline(link, call->pending.call.deadline_ns);
}

void core_call_completed(core_call *call) {
    core_link *link = call->link;
    if (!link)
        return;
    core_waiter *waiter = call->group ? call->group->ended(call->group, call) : call->waiter;
    Py_XINCREF(waiter);
    Py_INCREF(link);
    core_call_unpark(call);
    PyObject *wakeup_context = waiter ? core_waiter_wake(waiter) : NULL;
    if (wakeup_context) {
        Py_INCREF(wakeup_context);
        core_thread_task_ready(link->home, &waiter->ready_on);
        core_link_schedule(link, (PyObject *)waiter, wakeup_context);
        Py_DECREF(wakeup_context);
    }
    Py_DECREF(link);
    Py_XDECREF(waiter);
}

void core_call_park_in(core_call *call, core_link *link, core_group *group) {
    call->group = (core_group *)Py_NewRef((PyObject *)group);
    park_on(call, link);
}

static bool finished(const core_call *call) {
    return call->pending.outcome != CORE_PENDING;
}

static PySendResult take(core_call *call, PyObject **ret_value) {
    if (call->pending.outcome == CORE_TAKEN || call->pending.closed) {
        PyErr_Format(PyExc_RuntimeError, "cannot reuse the already awaited call of %R", call->pending.name);
        return PYGEN_ERROR;
    }
    *ret_value = core_pending_take(&call->pending);
    return *ret_value ? PYGEN_RETURN : PYGEN_ERROR;
}

static PySendResult park(core_session *s, core_call *call, PyObject **ret_value) {
    core_link *link = core_link_here(s);
    core_waiter *waiter = link && !finished(call) ? core_waiter_new(s->state, link->loop) : NULL;
    PySendResult r = PYGEN_ERROR;
    if (finished(call)) { /* by another thread, or by the end of the session, while asyncio's code ran */
        PyErr_Clear();    /* without a session there is no link; the call reports why */
        r = take(call, ret_value);
    } else if (waiter) {
        call->waiter = (core_waiter *)Py_NewRef((PyObject *)waiter);
        park_on(call, link);
        *ret_value = Py_NewRef((PyObject *)waiter); /* it may have been woken meanwhile */
        r = PYGEN_NEXT;
    }
    Py_XDECREF(waiter);
    Py_XDECREF(link);
    return r;
}

/* abandon: stops waiting. */
static void abandon(core_call *call, bool cancel) {
    if (call->session && !finished(call))
        piso_session_forget(call->session->session, &call->pending.call, cancel);
    core_call_unpark(call);
    call->pending.closed = true;
}

/* ---- awaiting ---- */

/* poll_briefly: polls until the reply has arrived, or the loop has other work. */
static void poll_briefly(core_session *s, core_call *call, core_thread *thread) {
    core_pump_context context = {.in_task = true, .thread = thread};
    if (s->depth >= MAX_NESTING || thread->ready_tasks)
        return;
    s->depth++;
    for (int i = 0; i < MAX_POLLS && !finished(call) && !call->pending.closed && !context.started; i++) {
        core_polled polled = core_links_poll(s, thread, true);
        if (!polled || (polled == CORE_POLLED_READY && core_pump(s, &context, POLL_LIMIT) == 0))
            break;
    }
    core_pump_leftovers(s, &context);
    s->depth--;
}

/* wait_here: polls, and then parks the call on the running loop. */
static PySendResult wait_here(core_session *s, core_call *call, PyObject **ret_value) {
    core_thread *thread = core_thread_here();
    if (!thread)
        return PYGEN_ERROR;
    if (s->links && thread->links) {
        core_links_wake(s);
    } else {
        core_link *link = core_link_here(s);
        Py_XDECREF(link);
        if (!link && !finished(call))
            return PYGEN_ERROR;
        PyErr_Clear(); /* the session has ended, and the call with it, which reports why */
    }
    if (!finished(call)) /* asyncio's code has run: another thread may have received the reply meanwhile */
        poll_briefly(s, call, thread);
    return finished(call) || call->pending.closed ? take(call, ret_value) : park(s, call, ret_value);
}

void core_call_abandon(core_call *call) {
    Py_INCREF(call);
    abandon(call, true);
    Py_DECREF(call);
}

void core_call_drop_value(core_call *call) {
    if (finished(call))
        call->pending.outcome = CORE_TAKEN;
    Py_CLEAR(call->pending.value);
}

static PySendResult call_send_step(PyObject *self, PyObject *Py_UNUSED(value), PyObject **ret_value) {
    core_call *call = (core_call *)self;
    *ret_value = NULL;
    call->awaited = true;
    if (finished(call) || call->pending.closed)
        return take(call, ret_value);
    if (call->link) {
        PyErr_Format(PyExc_RuntimeError, "the call of %R is already being awaited", call->pending.name);
        return PYGEN_ERROR;
    }
    core_session *s = (core_session *)Py_NewRef(call->session); /* the call drops it when it ends */
    core_state *state = s->state;
    Py_INCREF(call);
    PySendResult r = wait_here(s, call, ret_value);
    if (state->interruption && r != PYGEN_ERROR && core_raise_interruption(state) < 0) {
        Py_CLEAR(*ret_value);
        abandon(call, true);
        r = PYGEN_ERROR;
    }
    Py_DECREF(call);
    Py_DECREF(s);
    return r;
}

static PyObject *call_iternext(PyObject *self) {
    PyObject *value;
    PySendResult r = call_send_step(self, Py_None, &value);
    if (r != PYGEN_RETURN)
        return value;
    if (value != Py_None)
        return core_stop_iteration(value);
    Py_DECREF(value); /* an iterator that ends without an exception has returned None */
    return NULL;
}

static PyObject *call_send(PyObject *self, PyObject *Py_UNUSED(value)) {
    PyObject *result = call_iternext(self);
    if (!result && !PyErr_Occurred())
        PyErr_SetNone(PyExc_StopIteration);
    return result;
}

static PyObject *call_throw(PyObject *self, PyObject *args) {
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyArg_ParseTuple(args, "O|OO:throw", &type, &value, &traceback))
        return NULL;
    core_call *call = (core_call *)self;
    call->awaited = true;
    core_call_abandon(call);
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
    core_call_abandon(call);
    Py_RETURN_NONE;
}

static PyObject *call_cancel(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"msg", NULL};
    core_call *call = (core_call *)self;
    PyObject *message = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:cancel", names, &message))
        return NULL;
    if (finished(call) || call->pending.closed)
        Py_RETURN_FALSE;
    core_state *state = call->session->state;
    if (core_aio_load(state) < 0)
        return NULL;
    PyObject *error_type = state->async->cancelled_error;
    PyObject *error = message == Py_None ? PyObject_CallNoArgs(error_type) : PyObject_CallOneArg(error_type, message);
    if (!error)
        return NULL;
    if (finished(call) || call->pending.closed) { /* by another thread, while Python code ran */
        Py_DECREF(error);
        Py_RETURN_FALSE;
    }
    piso_session_forget(call->session->session, &call->pending.call, true);
    call->pending.value = error;
    call->pending.outcome = CORE_EXCEPTION;
    core_call_completed(call);
    Py_RETURN_TRUE;
}

static PyObject *call_done(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_call *call = (core_call *)self;
    return PyBool_FromLong(finished(call) || call->pending.closed);
}

static PyObject *call_repr(PyObject *self) {
    core_call *call = (core_call *)self;
    static const char *const states[] = {"pending", "done", "failed", "awaited"};
    return PyUnicode_FromFormat("<pyisolate.Call %R %s>", call->pending.name,
                                call->pending.closed ? "closed" : states[call->pending.outcome]);
}

/* ---- the type ---- */

static int call_traverse(PyObject *self, visitproc visit, void *arg) {
    core_call *call = (core_call *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(call->session);
    Py_VISIT(call->pending.value);
    Py_VISIT(call->pending.remotes);
    Py_VISIT(call->pending.origin);
    Py_VISIT(call->waiter);
    Py_VISIT(call->group);
    return 0;
}

static int call_clear(PyObject *self) {
    core_call *call = (core_call *)self;
    if (!call->link)
        abandon(call, false);
    Py_CLEAR(call->session);
    Py_CLEAR(call->pending.value);
    Py_CLEAR(call->pending.remotes);
    Py_CLEAR(call->pending.origin);
    return 0;
}

static void call_finalize(PyObject *self) {
    core_call *call = (core_call *)self;
    if (call->awaited || !call->pending.name)
        return;
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "call of %R was never awaited", call->pending.name) < 0)
        PyErr_WriteUnraisable(call->pending.name);
    PyErr_Restore(t, v, tb);
}

static void call_dealloc(PyObject *self) {
    core_call *call = (core_call *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0)
        return;
    PyObject_GC_UnTrack(self);
    if (call->session && !finished(call) && !call->pending.closed)
        piso_session_forget(call->session->session, &call->pending.call, false);
    Py_XDECREF(call->session);
    core_pending_fini(&call->pending);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *call_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return core_misuse_copy(self, "this process waits for its result: await it, and use the result");
}

static PyMethodDef call_methods[] = {
    {"send", call_send, METH_O, "Take the next step, as coroutine.send does."},
    {"throw", call_throw, METH_VARARGS, "Stop waiting, request cancellation, raise."},
    {"close", call_close, METH_NOARGS, "Stop waiting and request cancellation."},
    {"cancel", (PyCFunction)(void (*)(void))call_cancel, METH_VARARGS | METH_KEYWORDS,
     "cancel(msg=None) -> bool\n\nRequest the peer to cancel the handler; a later await raises CancelledError."},
    {"done", call_done, METH_NOARGS, "done() -> bool\n\nReturn whether an await would return at once."},
    CORE_REFUSE_COPIES(call_reduce),
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "For type annotations."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef call_members[] = {
    {"__name__", T_OBJECT, offsetof(core_call, pending.name), READONLY, "The method's name."},
    {"__qualname__", T_OBJECT, offsetof(core_call, pending.name), READONLY, "The method's name."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_doc, "A call in progress. It was sent when it was created; await takes its result."},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, call_send_step},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, call_iternext},
    {Py_tp_repr, call_repr},
    {Py_tp_methods, call_methods},
    {Py_tp_members, call_members},
    {Py_tp_traverse, call_traverse},
    {Py_tp_clear, call_clear},
    {Py_tp_finalize, call_finalize},
    {Py_tp_dealloc, call_dealloc},
    CORE_MISUSE_SLOTS,
    {0, NULL},
};
static PyType_Spec call_spec = {
    .name = "pyisolate._core.Call",
    .basicsize = sizeof(core_call),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

int core_call_init(PyObject *module, core_state *state) {
    state->call_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &call_spec, NULL);
    return state->call_type ? PyModule_AddType(module, state->call_type) : -1;
}
