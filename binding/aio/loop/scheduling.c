/* scheduling.c - schedules callbacks on a link's loop, from its own thread or another; wakes the link for that. */
#include "scheduling.h"
#include "aio/asyncio.h"
#include "link.h"

void core_link_wake(core_link *link) {
    if (link->asleep) {
        link->asleep = false;
        if (link->session)
            link->session->loops_asleep--;
        piso_session_sleep_end(link->handle);
    }
}

/* try_again: retries in the loop's next iteration, which the session's own file descriptor triggers. */
static void try_again(core_link *link, PyObject *callback, PyObject *context) {
    PyObject *pair = PyTuple_Pack(2, callback, context ? context : Py_None);
    if (pair && !link->unscheduled)
        link->unscheduled = PyList_New(0);
    if (!pair || !link->unscheduled || PyList_Append(link->unscheduled, pair) < 0)
        PyErr_Clear(); /* out of memory as well */
    Py_XDECREF(pair);
    piso_session_nudge(link->handle);
}

/* schedule: returns whether the loop will call it, now or later; false if the loop is closed. */
static bool schedule(core_link *link, PyObject *callback, PyObject *context) {
    core_async_state *a = core_link_state(link)->async;
    PyObject *args[4] = {NULL, link->loop, callback, context};
    PyObject *method = core_link_is_here(link) ? a->call_soon : a->call_soon_threadsafe;
    bool again;
    PyObject *handle = core_loop_call(core_link_state(link), link->loop, method, args + 1, 2,
                                      context ? a->context_name : NULL, &again);
    if (!handle && again)
        try_again(link, callback, context);
    Py_XDECREF(handle);
    return handle || again;
}

void core_link_schedule(core_link *link, PyObject *callback, PyObject *context) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_INCREF(link);
    if (!schedule(link, callback, context))
        core_link_state(link)->async->loop_closed(link); /* and everything that waits on the loop */
    Py_DECREF(link);
    PyErr_Restore(type, value, traceback);
}

void core_link_rearm(core_link *link) {
    if (link->rearm_scheduled || !link->alive)
        return;
    link->rearm_scheduled = true;
    core_link_schedule(link, link->rearm, NULL);
}

void core_link_schedule_rest(core_link *link) {
    PyObject *rest = link->unscheduled;
    link->unscheduled = NULL;
    for (Py_ssize_t i = 0; rest && i < PyList_GET_SIZE(rest); i++) {
        PyObject *pair = PyList_GET_ITEM(rest, i), *context = PyTuple_GET_ITEM(pair, 1);
        core_link_schedule(link, PyTuple_GET_ITEM(pair, 0), context == Py_None ? NULL : context);
    }
    Py_XDECREF(rest);
}

void core_links_wake(core_session *s) {
    for (core_link *link = s->links; link; link = link->next)
        if (link->asleep && core_link_is_here(link)) {
            core_link_wake(link);
            core_link_rearm(link);
            return; /* schedule may have changed the list; a thread runs one loop */
        }
}

void core_link_nudge(core_link *link) {
    if (core_link_is_here(link)) {
        core_link_wake(link);
        core_link_rearm(link);
    } else if (link->rearm) {
        core_link_schedule(link, link->rearm, NULL);
    }
}

/* ---- a future of the loop ---- */

/* wake_future: sets the result unless the future is done (cancelled meanwhile). */
static PyObject *wake_future(core_link *link, PyObject *future) {
    core_async_state *a = core_link_state(link)->async;
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

/* wake_bound: calls wake_future with its future. */
static PyObject *wake_bound(PyObject *pair, PyObject *Py_UNUSED(ignored)) {
    return wake_future((core_link *)PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
}

static PyMethodDef wake_bound_method = {"wake_future", wake_bound, METH_NOARGS, NULL};

void core_link_wake_future(core_link *link, PyObject *future) {
    PyObject *pair = PyTuple_Pack(2, (PyObject *)link, future);
    PyObject *callback = pair ? PyCFunction_New(&wake_bound_method, pair) : NULL;
    if (callback)
        core_link_schedule(link, callback, NULL);
    else
        PyErr_Clear(); /* out of memory: the future cannot be woken */
    Py_XDECREF(callback);
    Py_XDECREF(pair);
}
