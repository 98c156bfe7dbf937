/* future.c - the side of a Call that asyncio.gather sees: a future.
 *
 * gather makes a task of every coroutine that it is given, which takes several times as long as the call itself; a
 * future it takes as it is. asyncio asks an object whether it is one by its attribute _asyncio_future_blocking. A Call
 * says so to gather and to nobody else, because others rely on what is only true of tasks or of coroutines:
 * ensure_future() must return a task that asyncio.wait() takes, wait_for() must cancel and wait.
 *
 * Callbacks run as those of any future do: from the event loop, each in its context. Those of all calls that completed
 * in one turn of the loop are run by one callback of the loop. */
#include "session.h"

#include <frameobject.h> /* until 3.10 Python.h does not declare PyFrame_GetBack */

#include "aio.h"

/* ---- being one ---- */

/* gather_asks: whether the running Python code is isfuture() < ensure_future() < gather(). */
static bool gather_asks(core_state *state) {
    PyObject *gather = state->async->gather_code;
    PyFrameObject *frame = PyEval_GetFrame();
    Py_XINCREF(frame);
    bool found = false;
    for (int depth = 0; gather && frame && !found && depth < 4; depth++) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        found = (PyObject *)code == gather;
        Py_DECREF(code);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    return found;
}

PyObject *core_future_get_blocking(PyObject *self, void *Py_UNUSED(closure)) {
    core_state *state = core_type_state(Py_TYPE(self));
    if (core_aio_load(state) < 0)
        return NULL;
    if (!gather_asks(state))
        Py_RETURN_NONE;
    ((core_call *)self)->awaited = true; /* of one that is done, gather asks for the result, from 3.12 on at once */
    Py_RETURN_FALSE;
}

PyObject *core_future_get_loop(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_call *call = (core_call *)self;
    core_state *state = core_type_state(Py_TYPE(self));
    if (call->link)
        return Py_NewRef(call->link->loop);
    PyObject *loop = core_running_loop(state);
    if (!loop && !PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "no running event loop");
    return loop;
}

/* ---- the outcome ---- */

/* is_cancelled: whether the outcome is that the call, or its handler, was cancelled. */
static bool is_cancelled(const core_call *call) {
    PyObject *value = call->pending.outcome == CORE_EXCEPTION ? call->pending.value : NULL;
    PyObject *cancelled = core_type_state(Py_TYPE(call))->async->cancelled_error;
    return call->closed || (value && cancelled && PyErr_GivenExceptionMatches(value, cancelled));
}

/* cancelled_error: a new reference; NULL with an exception. */
static PyObject *cancelled_error(const core_call *call) {
    return call->pending.value ? Py_NewRef(call->pending.value)
                               : PyObject_CallNoArgs(core_type_state(Py_TYPE(call))->async->cancelled_error);
}

/* raise_unless_known: 0; -1 with the exception that result() and exception() raise when there is none to tell. */
static int raise_unless_known(core_call *call) {
    core_state *state = core_type_state(Py_TYPE(call));
    if (core_aio_load(state) < 0)
        return -1;
    if (is_cancelled(call)) {
        PyObject *error = cancelled_error(call);
        if (error)
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_XDECREF(error);
        return -1;
    }
    if (call->pending.outcome == CORE_RESULT || call->pending.outcome == CORE_EXCEPTION)
        return 0;
    PyErr_SetString(state->async->invalid_state_error,
                    call->pending.outcome == CORE_PENDING ? "Result is not set." : "The result was taken by await.");
    return -1;
}

PyObject *core_future_result(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_call *call = (core_call *)self;
    if (raise_unless_known(call) < 0)
        return NULL;
    if (call->pending.outcome == CORE_RESULT)
        return Py_NewRef(call->pending.value);
    PyErr_SetObject((PyObject *)Py_TYPE(call->pending.value), call->pending.value);
    return NULL;
}

PyObject *core_future_exception(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_call *call = (core_call *)self;
    if (raise_unless_known(call) < 0)
        return NULL;
    return Py_NewRef(call->pending.outcome == CORE_EXCEPTION ? call->pending.value : Py_None);
}

PyObject *core_future_cancelled(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return PyBool_FromLong(is_cancelled((core_call *)self));
}

PyObject *core_future_make_cancelled_error(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return core_aio_load(core_type_state(Py_TYPE(self))) < 0 ? NULL : cancelled_error((core_call *)self);
}

PyObject *core_future_get_cancel_message(PyObject *self, void *Py_UNUSED(closure)) {
    PyObject *value = ((core_call *)self)->pending.value;
    PyObject *args = value && PyExceptionInstance_Check(value) ? ((PyBaseExceptionObject *)value)->args : NULL;
    return Py_NewRef(args && PyTuple_Check(args) && PyTuple_GET_SIZE(args) ? PyTuple_GET_ITEM(args, 0) : Py_None);
}

/* ---- callbacks ---- */

/* call_soon: the call has ended: loop.call_soon(callback, call, context=context). */
static PyObject *call_soon(core_state *state, PyObject *call, PyObject *callback, PyObject *context) {
    PyObject *loop = core_future_get_loop(call, NULL), *handle = NULL;
    if (loop) {
        PyObject *args[] = {NULL, loop, callback, call, context};
        handle = PyObject_VectorcallMethod(state->async->call_soon, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                           state->async->context_name);
    }
    Py_XDECREF(loop);
    Py_XDECREF(handle);
    return handle ? Py_NewRef(Py_None) : NULL;
}

/* has_ended: there will be no event that completes it. */
static bool has_ended(const core_call *call) {
    return call->pending.outcome != CORE_PENDING || call->closed;
}

/* keep: the call waits for its reply on this link, and then for the loop to call what is in `pair`: one callback and its
 * context, stolen. */
static int keep(core_call *call, core_link *link, PyObject *pair) {
    int r = 0;
    if (call->callbacks) {
        Py_ssize_t end = PyList_GET_SIZE(call->callbacks);
        r = PyList_SetSlice(call->callbacks, end, end, pair);
        Py_DECREF(pair);
    } else {
        call->callbacks = pair;
        link->gathered += call->link != NULL; /* else core_call_park counts it */
    }
    if (r == 0)
        core_call_park(call, link);
    return r;
}

/* link_of: where the call waits or would wait; a new reference. NULL when it has ended, or with an exception. */
static core_link *link_of(core_call *call) {
    if (has_ended(call))
        return NULL;
    core_session *s = (core_session *)Py_NewRef((PyObject *)call->session);
    core_links_wake(s);
    core_link *link = call->link ? (core_link *)Py_NewRef((PyObject *)call->link) : core_link_here(s);
    Py_DECREF(s);
    if (has_ended(call)) { /* another thread may have got the reply meanwhile, or the session has ended */
        PyErr_Clear();     /* the call knows why there is no link */
        Py_CLEAR(link);
    }
    return link;
}

PyObject *core_future_add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    core_call *call = (core_call *)self;
    Py_ssize_t named = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    if (nargs != 1 || named > 1 ||
        (named && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "context") != 0)) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback(callback, *, context=None)");
        return NULL;
    }
    PyObject *context = named && args[1] != Py_None ? Py_NewRef(args[1]) : PyContext_CopyCurrent();
    /* made before it is known that the call has not ended: a collection of garbage may run anything */
    PyObject *pair = context ? Py_BuildValue("[OO]", args[0], context) : NULL;
    PyObject *result = NULL;
    call->awaited = true;
    core_link *link = pair ? link_of(call) : NULL;
    if (link)
        result = keep(call, link, Py_NewRef(pair)) < 0 ? NULL : Py_NewRef(Py_None);
    else if (!PyErr_Occurred())
        result = call_soon(core_type_state(Py_TYPE(self)), self, args[0], context);
    Py_XDECREF((PyObject *)link);
    Py_XDECREF(pair);
    Py_XDECREF(context);
    return result;
}

PyObject *core_future_remove_done_callback(PyObject *self, PyObject *callback) {
    PyObject *callbacks = ((core_call *)self)->callbacks;
    long removed = 0;
    for (Py_ssize_t i = 0; callbacks && i < PyList_GET_SIZE(callbacks);) {
        int same = PyObject_RichCompareBool(PyList_GET_ITEM(callbacks, i), callback, Py_EQ);
        if (same < 0 || (same > 0 && PyList_SetSlice(callbacks, i, i + 2, NULL) < 0))
            return NULL;
        removed += same;
        i += same ? 0 : 2;
    }
    return PyLong_FromLong(removed);
}

/* report: what a callback raised goes where the loop's own callbacks' exceptions go. */
static void report(PyObject *loop) {
    PyObject *value = core_fetch_exception();
    PyObject *report = Py_BuildValue("{s:s,s:O}", "message", "Exception in a callback of a call", "exception", value);
    PyObject *result = report ? PyObject_CallMethod(loop, "call_exception_handler", "O", report) : NULL;
    if (!result)
        PyErr_WriteUnraisable(loop);
    Py_XDECREF(result);
    Py_XDECREF(report);
    Py_XDECREF(value);
}

/* run_one: 0; -1 with an exception that has to end the loop. */
static int run_one(PyObject *loop, PyObject *call, PyObject *callback, PyObject *context) {
    PyObject *result = NULL;
    if (PyContext_Enter(context) == 0) {
        result = PyObject_CallOneArg(callback, call);
        if (PyContext_Exit(context) < 0)
            Py_CLEAR(result);
    }
    Py_XDECREF(result);
    if (result)
        return 0;
    if (PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        return -1;
    report(loop);
    return 0;
}

int core_future_run_callbacks(PyObject *loop, PyObject *due, Py_ssize_t *done) {
    while (*done + 1 < PyList_GET_SIZE(due)) {
        PyObject *callbacks = PyList_GET_ITEM(due, *done), *call = PyList_GET_ITEM(due, *done + 1);
        *done += 2;
        for (Py_ssize_t i = 0; i + 1 < PyList_GET_SIZE(callbacks); i += 2)
            if (run_one(loop, call, PyList_GET_ITEM(callbacks, i), PyList_GET_ITEM(callbacks, i + 1)) < 0)
                return -1;
    }
    return 0;
}
