/* serving.c - runs the coroutines of requests in handlers (handler.c): takes a spare one, drives the first step at once, has
 * the task adopt what suspends, cancels. */
#include "handler.h"

#define MAX_SPARES 16

/* ---- spares ---- */

/* spare_try: a handler with a task of its own, whose first step is scheduled. Not in all_tasks(): an application
 * that waits for all tasks must not wait for an idle one. */
static core_handler *spare_try(core_state *state, PyObject *loop) {
    core_async_state *a = state->async;
    core_handler *h = core_handler_new(a);
    if (!h || !(h->parker = core_parker_new(state, loop)))
        goto failed;
    PyObject *names = PyTuple_Pack(1, a->loop);
    PyObject *args[3] = {NULL, (PyObject *)h, loop};
    h->task = names ? PyObject_Vectorcall(a->task_type, args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, names) : NULL;
    Py_XDECREF(names);
    if (!h->task || PyObject_SetAttr(h->task, a->log_destroy_pending, Py_False) < 0)
        goto failed;
    PyObject *result = PyObject_CallOneArg(a->unregister_task, h->task);
    if (!result)
        goto failed;
    Py_DECREF(result);
    return h;
failed:
    if (h)
        h->stage = CORE_OVER; /* its task may have been made all the same, and ends with its first step */
    Py_XDECREF(h);
    return NULL;
}

/* spare_new: again, where the handler of a signal has raised in asyncio's code. */
static core_handler *spare_new(core_state *state, PyObject *loop) {
    core_handler *h = spare_try(state, loop);
    PyObject *kept = h ? NULL : core_take_interruption(loop);
    if (kept) {
        h = spare_try(state, loop);
        core_raise_later(kept);
    }
    return h;
}

/* spare_take: NULL, without an exception, if there is none. */
static core_handler *spare_take(core_link *link) {
    core_handler *h = link->spares;
    if (!h)
        return NULL;
    link->spares = h->next_spare;
    link->spare_count--;
    h->next_spare = NULL;
    return h;
}

/* is_pristine: nobody else holds the task, and nobody cancelled it. Two references are ours and that of its
 * scheduled step or its wake-up; two more those of asyncio and `pump` while it is the current one. */
static bool is_pristine(core_handler *h, const core_pump_context *pump) {
    if (Py_REFCNT(h->task) != (pump->entered == h->task ? 4 : 2) || h->parker->cancelled)
        return false;
    if (h->stage == CORE_PARKED)
        return true;
    PyObject *flag = PyObject_GetAttr(h->task, core_handler_async(h)->must_cancel);
    bool clean = flag == Py_False;
    Py_XDECREF(flag);
    PyErr_Clear(); /* without the attribute it is not clean */
    return clean;
}

/* retire: the task of a handler that is not used again ends; those who kept it see it done. */
static void retire(core_handler *h) {
    core_stage before = h->stage;
    h->stage = CORE_OVER;
    Py_CLEAR(h->task);
    if (before == CORE_PARKED)
        core_parker_wake(h->parker, true);
    Py_DECREF(h);
}

/* spare_give_back: `result`, for those who kept the task, or NULL. */
static void spare_give_back(core_link *link, core_handler *h, PyObject *result, const core_pump_context *pump) {
    if (!link->alive || link->spare_count >= MAX_SPARES || result || !is_pristine(h, pump)) {
        h->result = Py_XNewRef(result);
        retire(h);
        return;
    }
    h->next_spare = link->spares;
    link->spares = h;
    link->spare_count++;
}

void core_handler_drop_spares(core_link *link) {
    core_handler *h;
    while ((h = spare_take(link))) {
        h->stage = CORE_OVER;
        Py_CLEAR(h->task);
        Py_DECREF(h);
    }
}

/* ---- running a request ---- */

static void cancel_task(core_handler *h);

/* enlist: the task is one of all_tasks() from now on. 0 or -1. */
static int enlist(core_async_state *a, core_handler *h) {
    PyObject *registered = PyObject_CallOneArg(a->register_task, h->task);
    PyObject *kept = registered ? NULL : core_take_interruption(h->link->loop);
    if (kept) {
        registered = PyObject_CallOneArg(a->register_task, h->task);
        core_raise_later(kept);
    }
    Py_XDECREF(registered);
    return registered ? 0 : -1;
}

/* adopt: the coroutine has suspended: the task drives it from here on. `h` is given to the task. */
static void adopt(core_handler *h, core_session *s, core_link *link, PyObject *yielded) {
    core_async_state *a = s->state->async;
    bool was_parked = h->stage == CORE_PARKED;
    h->stage = CORE_OWNED;
    h->yielded = yielded;
    h->session = (core_session *)Py_NewRef((PyObject *)s);
    h->link = (core_link *)Py_NewRef((PyObject *)link);
    link->suspended++;
    PyObject *key = h->request ? PyLong_FromUnsignedLongLong(h->request) : NULL;
    if (enlist(a, h) < 0 || (key && PyDict_SetItem(s->suspended, key, (PyObject *)h) < 0))
        PyErr_WriteUnraisable((PyObject *)h); /* it runs, but cannot be cancelled */
    Py_XDECREF(key);
    if (was_parked)
        core_parker_wake(h->parker, true);
    if (s->closed) /* in its first step: it is one of those that core_dispatch_cancel_all has not found */
        cancel_task(h);
    Py_DECREF(h);
}

/* awaiter_of: the iterator behind an awaitable; steals it. */
static PyObject *awaiter_of(PyObject *awaitable) {
    if (PyCoro_CheckExact(awaitable))
        return awaitable;
    PyObject *awaiter = Py_TYPE(awaitable)->tp_as_async->am_await(awaitable);
    if (awaiter && !PyIter_Check(awaiter)) {
        PyErr_Format(PyExc_TypeError, "__await__() of %.200s returned a non-iterator", Py_TYPE(awaitable)->tp_name);
        Py_CLEAR(awaiter);
    }
    Py_DECREF(awaitable);
    return awaiter;
}

/* The current task. Where a loop only answers requests, one after the other, that of a handler which has finished stays
 * the current one for the next, which is likely to run in it: to change it takes longer than a small handler. */

/* enter: makes the handler's task the current one. *ret_previous: what was, to be so again right after (new
 * reference); or NULL: it stays until core_handler_leave. 0 or -1. */
static int enter(core_handler *h, core_state *state, PyObject *loop, core_pump_context *pump, PyObject **ret_previous) {
    *ret_previous = NULL;
    if (pump->entered == h->task)
        return 0;
    core_handler_leave(state, pump);
    PyObject *previous = core_task_swap(state, loop, h->task, pump->in_task);
    if (!previous || pump->in_task) {
        *ret_previous = previous;
        return previous ? 0 : -1;
    }
    Py_DECREF(previous); /* there was none */
    pump->entered = Py_NewRef(h->task);
    pump->entered_loop = Py_NewRef(loop);
    return 0;
}

void core_handler_leave(core_state *state, core_pump_context *pump) {
    if (!pump->entered)
        return;
    core_task_restore(state, pump->entered_loop, Py_NewRef(Py_None));
    Py_CLEAR(pump->entered);
    Py_CLEAR(pump->entered_loop);
}

void core_handler_run(core_session *s, core_link *link, uint64_t request, PyObject *awaitable, PyObject *context,
                      core_pump_context *pump) {
    Py_INCREF(link);
    PyObject *loop = Py_NewRef(link->loop); /* the link may be closed before the end of this */
    PyObject *awaiter = awaiter_of(awaitable), *previous, *value;
    core_handler *h = awaiter ? spare_take(link) : NULL;
    if (awaiter && !h)
        h = spare_new(s->state, loop);
    if (!h || enter(h, s->state, loop, pump, &previous) < 0) {
        core_reply(s, request, NULL);
        Py_XDECREF(awaiter);
        if (h)
            retire(h);
        Py_DECREF(loop);
        Py_DECREF(link);
        return;
    }
    h->awaiter = awaiter;
    h->context = Py_NewRef(context);
    h->request = request;
    PySendResult r = core_handler_drive(h, NULL, &value);
    if (previous)
        core_task_restore(s->state, loop, previous);
    else if (r == PYGEN_NEXT) /* from here on the task's own steps make it the current one */
        core_handler_leave(s->state, pump);
    Py_DECREF(loop);
    if (r == PYGEN_NEXT && link->alive) {
        adopt(h, s, link, value);
    } else {
        if (r == PYGEN_NEXT) { /* the loop was closed under it */
            Py_CLEAR(value);
            PyErr_SetString(PyExc_RuntimeError, "the event loop was closed while a call was being answered");
        }
        if (pump->has_buffers)
            core_handler_release(h);
        /* who kept the task sees the result too: a second reference says that it is not the reply's alone */
        PyObject *kept = value && !(link->alive && is_pristine(h, pump)) ? Py_NewRef(value) : NULL;
        core_reply(s, request, value);
        core_handler_release(h); /* while the answer is on its way */
        spare_give_back(link, h, kept, pump);
        Py_XDECREF(kept);
        Py_XDECREF(value);
    }
    Py_DECREF(link);
}

/* handler_start(): on the loop of another thread: what core_handler_elsewhere scheduled. */
static PyObject *handler_start(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_handler *h = (core_handler *)self;
    core_session *s = h->session;
    core_link *link = h->link;
    PyObject *awaiter = h->awaiter, *context = h->context;
    if (!s)
        Py_RETURN_NONE;
    h->session = NULL;
    h->link = NULL;
    h->awaiter = h->context = NULL;
    if (link->alive) {
        core_pump_context pump = {.link = link, .has_buffers = true};
        core_handler_run(s, link, h->request, awaiter, context, &pump);
        core_handler_leave(s->state, &pump);
    } else {
        PyErr_SetString(PyExc_RuntimeError, "the event loop was closed before a call could be answered");
        core_reply(s, h->request, NULL);
        Py_DECREF(awaiter);
    }
    Py_DECREF(context);
    Py_DECREF(link);
    Py_DECREF(s);
    Py_RETURN_NONE;
}

static PyMethodDef start_method = {"start", handler_start, METH_NOARGS, NULL};

int core_handler_elsewhere(core_session *s, core_link *link, uint64_t request, PyObject *awaitable, PyObject *context) {
    core_async_state *a = s->state->async;
    core_handler *h = core_handler_new(a);
    if (!h)
        return -1;
    h->stage = CORE_OVER;
    h->session = (core_session *)Py_NewRef((PyObject *)s);
    h->link = (core_link *)Py_NewRef((PyObject *)link);
    h->awaiter = Py_NewRef(awaitable);
    h->context = Py_NewRef(context);
    h->request = request;
    PyObject *start = PyCFunction_New(&start_method, (PyObject *)h);
    PyObject *args[3] = {NULL, link->loop, start};
    PyObject *handle = start && link->loop ? PyObject_VectorcallMethod(a->call_soon_threadsafe, args + 1,
                                                                       2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
                                           : NULL;
    Py_XDECREF(start);
    Py_DECREF(h);
    if (!handle) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_RuntimeError, "the event loop that answers calls has been closed");
        return -1;
    }
    Py_DECREF(handle);
    Py_DECREF(awaitable);
    return 0;
}

/* ---- cancelling ---- */

static void cancel_task(core_handler *h) {
    core_async_state *a = core_handler_async(h);
    if (!h->task || !h->link || !h->link->loop)
        return;
    PyObject *cancel = PyObject_GetAttr(h->task, a->cancel), *result = NULL;
    if (cancel && h->link->thread == PyThread_get_thread_ident()) {
        result = PyObject_CallNoArgs(cancel);
    } else if (cancel) {
        PyObject *args[3] = {NULL, h->link->loop, cancel};
        result = core_loop_call(h->link->loop, a->call_soon_threadsafe, args + 1, 2, NULL);
    }
    if (!result)
        PyErr_Clear(); /* the loop is closed: the task has ended with it */
    Py_XDECREF(result);
    Py_XDECREF(cancel);
}

void core_dispatch_cancel(core_session *s, uint64_t request) {
    PyObject *key = PyLong_FromUnsignedLongLong(request);
    PyObject *h = key ? PyDict_GetItemWithError(s->suspended, key) : NULL;
    Py_XDECREF(key);
    if (h) {
        Py_INCREF(h);
        cancel_task((core_handler *)h);
        Py_DECREF(h);
    }
    PyErr_Clear(); /* out of memory: the handler runs to its end */
}

void core_dispatch_cancel_all(core_session *s) {
    PyObject *handlers = PyDict_Values(s->suspended);
    if (!handlers) {
        PyErr_Clear(); /* out of memory: the handlers run to their end */
        return;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(handlers); i++)
        cancel_task((core_handler *)PyList_GET_ITEM(handlers, i));
    Py_DECREF(handlers);
}
