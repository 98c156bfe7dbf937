/* gather.c - awaits several calls at once, as asyncio.gather does, without a task for each.
 *
 * A Gather has the protocol of a coroutine. Its calls are parked with one Waiter, which is woken when the last of them
 * has ended, or the first has failed. If there are other awaitables among them, asyncio.gather is used. */
#include "gather.h"
#include "aio/asyncio.h"
#include "aio/loop/link.h"
#include "aio/loop/links.h"
#include "aio/loop/parked.h"
#include "aio/loop/polling.h"
#include "aio/loop/scheduling.h"
#include "aio/waiter.h"
#include "call.h"
#include "common/steps.h"
#include "rpc/pump/pump.h"

#define POLL_LIMIT 256 /* events of a session handled before the other sessions are checked */

typedef struct core_gather {
    core_group group;
    PyObject *calls;     /* tuple */
    core_waiter *waiter; /* while parked */
    core_call *failed;   /* the first one, if that ends the wait; borrowed from `calls` */
    Py_ssize_t missing;  /* while parked: calls that have not ended */
    bool return_exceptions, over;
} core_gather;

static core_call *call_at(const core_gather *g, Py_ssize_t i) {
    return (core_call *)PyTuple_GET_ITEM(g->calls, i);
}

/* ---- waiting ---- */

static core_waiter *ended(core_group *group, core_call *call) {
    core_gather *g = (core_gather *)group;
    g->missing--;
    if (!g->return_exceptions && call->pending.outcome == CORE_EXCEPTION && !g->failed)
        g->failed = call;
    return g->waiter && (g->missing == 0 || g->failed) ? g->waiter : NULL;
}

/* look: returns whether the wait is over: all calls have ended, or one has failed. */
static bool look(core_gather *g) {
    bool all = true;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(g->calls) && !g->failed; i++) {
        core_call *call = call_at(g, i);
        all &= call->pending.outcome != CORE_PENDING || call->pending.closed;
        if (!g->return_exceptions && call->pending.outcome == CORE_EXCEPTION)
            g->failed = call;
    }
    return all || g->failed;
}

/* take_ready: handles the events that have arrived for the calls, and polls briefly for each session. */
static int take_ready(core_gather *g) {
    core_pump_context context = {.in_task = true, .thread = core_thread_here()};
    if (!context.thread)
        return -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(g->calls) && !context.started; i++) {
        core_call *call = call_at(g, i);
        if (call->pending.outcome != CORE_PENDING || call->pending.closed)
            continue;
        core_session *s = (core_session *)Py_NewRef((PyObject *)call->session);
        core_links_wake(s);
        while (call->pending.outcome == CORE_PENDING && !call->pending.closed && !context.started &&
               core_links_poll(s, context.thread, true) == CORE_POLLED_READY && core_pump(s, &context, POLL_LIMIT) > 0)
            ;
        core_pump_leftovers(s, &context);
        Py_DECREF(s);
    }
    return 0;
}

/* park: parks one call on the loop. asyncio's code may run, and other threads may receive the reply meanwhile. Returns
 * 0 or -1. */
static int park(core_gather *g, core_call *call) {
    core_link *link = core_link_here(call->session);
    if (!link && call->pending.outcome == CORE_PENDING)
        return -1;
    PyErr_Clear(); /* the session has ended, and the call reports why */
    if (link && !g->waiter)
        g->waiter = core_waiter_new(call->session->state, link->loop);
    int r = link && !g->waiter ? -1 : 0;
    if (link && r == 0 && call->pending.outcome == CORE_PENDING) {
        g->missing++;
        core_call_park_in(call, link, &g->group);
    }
    Py_XDECREF(link);
    return r;
}

/* park_all: parks the calls that have not ended with one waiter. Returns 0 or -1. */
static int park_all(core_gather *g) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(g->calls); i++) {
        core_call *call = call_at(g, i);
        bool waits = call->pending.outcome == CORE_PENDING && !call->pending.closed;
        bool parked = call->group == &g->group; /* by the previous step, or because it was given twice */
        if (waits && !parked && park(g, call) < 0)
            return -1;
        if (parked && !g->waiter && !(g->waiter = core_waiter_new(call->session->state, call->link->loop)))
            return -1;
    }
    return 0;
}

/* leave_all: stops waiting for the calls that have not ended. */
static void leave_all(core_gather *g, bool cancel) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(g->calls); i++) {
        core_call *call = call_at(g, i);
        if (cancel)
            core_call_abandon(call);
        else if (call->group == &g->group)
            core_call_unpark(call);
    }
    Py_CLEAR(g->waiter);
    g->over = true;
}

/* ---- the outcome ---- */

/* value_of: returns a new reference; NULL with an exception: it was awaited before. */
static PyObject *value_of(const core_call *call) {
    if (call->pending.value)
        return Py_NewRef(call->pending.value);
    return PyErr_Format(PyExc_RuntimeError, "cannot reuse the already awaited call of %R", call->pending.name);
}

static PySendResult finish(core_gather *g, PyObject **ret_value) {
    PyObject *list = g->failed ? NULL : PyList_New(PyTuple_GET_SIZE(g->calls));
    for (Py_ssize_t i = 0; list && i < PyTuple_GET_SIZE(g->calls); i++) {
        PyObject *value = value_of(call_at(g, i));
        if (value)
            PyList_SET_ITEM(list, i, value);
        else
            Py_CLEAR(list);
    }
    PyObject *error = g->failed ? value_of(g->failed) : NULL;
    leave_all(g, false);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(g->calls); i++)
        core_call_drop_value(call_at(g, i)); /* after all values are taken: a call may be given twice */
    if (error)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    *ret_value = list;
    return list ? PYGEN_RETURN : PYGEN_ERROR;
}

static PySendResult gather_send_step(PyObject *self, PyObject *Py_UNUSED(value), PyObject **ret_value) {
    core_gather *g = (core_gather *)self;
    *ret_value = NULL;
    if (g->over) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited gather()");
        return PYGEN_ERROR;
    }
    if (g->waiter && !g->waiter->woken) {
        PyErr_SetString(PyExc_RuntimeError, "gather() is already being awaited");
        return PYGEN_ERROR;
    }
    Py_INCREF(g);
    Py_CLEAR(g->waiter); /* it can be used once, and may have been woken too early, while others were parked */
    PySendResult r = PYGEN_ERROR;
    if (look(g) || (take_ready(g) == 0 && look(g))) {
        r = finish(g, ret_value);
    } else if (!PyErr_Occurred() && park_all(g) == 0) {
        bool over = look(g);
        r = over ? finish(g, ret_value) : PYGEN_NEXT;
        if (!over)
            *ret_value = Py_NewRef((PyObject *)g->waiter);
    }
    if (r == PYGEN_ERROR && !g->over)
        leave_all(g, true);
    Py_DECREF(g);
    return r;
}

/* ---- the protocol of a coroutine ---- */

static PyObject *gather_iternext(PyObject *self) {
    PyObject *value;
    PySendResult r = gather_send_step(self, Py_None, &value);
    return core_step_outcome(r, value);
}

static PyObject *gather_send(PyObject *self, PyObject *Py_UNUSED(value)) {
    return gather_iternext(self);
}

static PyObject *gather_throw(PyObject *self, PyObject *args) {
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyArg_ParseTuple(args, "O|OO:throw", &type, &value, &traceback))
        return NULL;
    leave_all((core_gather *)self, true);
    if (PyExceptionInstance_Check(type))
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    else if (PyExceptionClass_Check(type))
        PyErr_SetObject(type, value == Py_None ? NULL : value);
    else
        PyErr_SetString(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException");
    return NULL;
}

static PyObject *gather_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    leave_all((core_gather *)self, true);
    Py_RETURN_NONE;
}

/* ---- the function ---- */

/* by_asyncio: asyncio.gather(*args, return_exceptions=...). */
static PyObject *by_asyncio(PyObject *args, PyObject *kwargs) {
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    PyObject *gather = asyncio ? PyObject_GetAttrString(asyncio, "gather") : NULL;
    PyObject *result = gather ? PyObject_Call(gather, args, kwargs) : NULL;
    Py_XDECREF(gather);
    Py_XDECREF(asyncio);
    return result;
}

static PyObject *gather_new(PyObject *module, PyObject *args, PyObject *kwargs) {
    core_state *state = core_module_state(module);
    static char *names[] = {"return_exceptions", NULL};
    PyObject *empty = PyTuple_New(0);
    int return_exceptions = 0;
    if (!empty || !PyArg_ParseTupleAndKeywords(empty, kwargs, "|$p:gather", names, &return_exceptions) ||
        core_aio_load(state) < 0) {
        Py_XDECREF(empty);
        return NULL;
    }
    Py_DECREF(empty);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++)
        if (!Py_IS_TYPE(PyTuple_GET_ITEM(args, i), state->call_type))
            return by_asyncio(args, kwargs);
    core_gather *g = PyObject_GC_New(core_gather, state->async->gather_type);
    if (!g)
        return NULL;
    g->group.ended = ended;
    g->calls = Py_NewRef(args);
    g->waiter = NULL;
    g->failed = NULL;
    g->missing = 0;
    g->return_exceptions = return_exceptions != 0;
    g->over = false;
    PyObject_GC_Track(g);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++)
        call_at(g, i)->awaited = true;
    return (PyObject *)g;
}

/* ---- the type ---- */

static int gather_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((core_gather *)self)->calls);
    Py_VISIT(((core_gather *)self)->waiter);
    return 0;
}

static void gather_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    core_gather *g = (core_gather *)self;
    PyObject_GC_UnTrack(self);
    Py_DECREF(g->calls); /* parked calls hold a reference to this object: there are none */
    Py_XDECREF(g->waiter);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef gather_methods[] = {
    {"send", gather_send, METH_O, "Take the next step, as coroutine.send does."},
    {"throw", gather_throw, METH_VARARGS, "Stop waiting, request cancellation of all calls, raise."},
    {"close", gather_close, METH_NOARGS, "Stop waiting and request cancellation of all calls."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot gather_slots[] = {
    {Py_tp_doc, "Several calls that are awaited together."},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, gather_send_step},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, gather_iternext},
    {Py_tp_methods, gather_methods},
    {Py_tp_traverse, gather_traverse},
    {Py_tp_dealloc, gather_dealloc},
    {0, NULL},
};
static PyType_Spec gather_spec = {
    .name = "pyisolate._core.Gather",
    .basicsize = sizeof(core_gather),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = gather_slots,
};

static PyMethodDef functions[] = {
    {"gather", (PyCFunction)(void (*)(void))gather_new, METH_VARARGS | METH_KEYWORDS,
     "gather(*awaitables, return_exceptions=False)\n\nAwait several calls together and return their results, as "
     "asyncio.gather does, without a task for each."},
    {NULL, NULL, 0, NULL},
};

int core_gather_init(PyObject *module, core_state *state) {
    state->async->gather_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &gather_spec, NULL);
    return state->async->gather_type ? PyModule_AddFunctions(module, functions) : -1;
}
