/* handler.c - requests that are coroutines, each in its own task.
 *
 * A Handler is the coroutine of the task: it passes everything on to the request's coroutine, and answers in the same
 * step in which that ends. The task is created as loop.create_task() does, so everything that asyncio or the
 * application does with tasks applies to it: its factory, names, callbacks, all_tasks(). From Python 3.12 on its first
 * step runs at once (eager_start); before, in the loop's next iteration.
 *
 * Two things differ from a plain task. SystemExit and KeyboardInterrupt do not end the loop: they are sent to the
 * caller. And an exception counts as retrieved, because the caller gets it; if the caller has given up the request, it
 * is passed to the loop's exception handler.
 *
 * A reply may return buffers that the request carried, without a copy, if no code here can access them any more. Code
 * that has kept the task could, through task.result(). Therefore such a reply is sent when the task has ended, and
 * without a copy only if nobody has kept the task. */
#include "handler.h"
#include "aio/asyncio.h"
#include "common/steps.h"
#include "link.h"
#include "rpc/pump/reply.h"
#include "rpc/request.h"
#include "scheduling.h"

static core_async_state *async_of(const core_handler *h) {
    return core_type_state(Py_TYPE(h))->async;
}

/* ---- the list of running handlers ---- */

static void enlist(core_handler *h, core_session *s, core_link *link) {
    h->session = (core_session *)Py_NewRef((PyObject *)s);
    h->link = (core_link *)Py_NewRef((PyObject *)link);
    h->next = s->handlers;
    h->previous_next = &s->handlers;
    if (h->next)
        h->next->previous_next = &h->next;
    s->handlers = h;
    Py_INCREF(h);
    link->suspended++;
    core_open_request *open = core_open_request_find(s, h->request);
    if (open)
        open->handler = h;
    s->unanswered += h->request == 0;
}

/* unlist: removes a handler that is over. The list's reference is dropped, so the caller needs one. */
static void unlist(core_handler *h) {
    core_session *s = h->session;
    h->over = true;
    *h->previous_next = h->next;
    if (h->next)
        h->next->previous_next = h->previous_next;
    core_open_request *open = core_open_request_find(s, h->request);
    if (open)
        open->handler = NULL;
    s->unanswered -= h->request == 0;
    h->link->suspended--;
    Py_DECREF(h);
}

static void let_go(core_handler *h) {
    core_thread_task_ran(&h->ready_on);
    Py_CLEAR(h->task);
    Py_CLEAR(h->awaiter);
    Py_CLEAR(h->context);
    Py_CLEAR(h->result);
    Py_CLEAR(h->link);
    Py_CLEAR(h->session);
}

/* ---- the end of the coroutine ---- */

/* report: passes an exception of a handler that nobody waits for to the loop's exception handler. Clears the current
 * exception. */
static void report(core_handler *h) {
    PyObject *error = core_fetch_exception();
    PyObject *loop = h->link->loop;
    PyObject *context = Py_BuildValue("{s:s,s:O,s:O}", "message", "exception in a call that its caller has given up",
                                      "exception", error, "task", h->task ? h->task : Py_None);
    if (context && !h->task && PyDict_DelItemString(context, "task") < 0)
        PyErr_Clear(); /* out of memory: the field is None */
    PyObject *result = context && loop ? PyObject_CallMethod(loop, "call_exception_handler", "O", context) : NULL;
    if (!result) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        PyErr_WriteUnraisable((PyObject *)h);
    }
    Py_XDECREF(result);
    Py_XDECREF(context);
    Py_DECREF(error);
}

/* ends_loops: returns whether the exception would end the loop of a task that raises it. */
static bool ends_loops(PyObject *type) {
    return PyErr_GivenExceptionMatches(type, PyExc_SystemExit) ||
           PyErr_GivenExceptionMatches(type, PyExc_KeyboardInterrupt);
}

/* answer_error: sends the current exception to the caller; restores it for the task, unless it would end the loop. */
static PySendResult answer_error(core_handler *h, PyObject **ret_value) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback)
        PyException_SetTraceback(value, traceback);
    bool was_cancelled = PyErr_GivenExceptionMatches(type, async_of(h)->cancelled_error);
    if (h->cancelled && !was_cancelled) {
        PyErr_Restore(Py_NewRef(type), Py_NewRef(value), Py_XNewRef(traceback));
        report(h);
    }
    PyErr_Restore(Py_NewRef(type), Py_NewRef(value), Py_XNewRef(traceback));
    core_reply(h->session, h->request, NULL);
    if (ends_loops(type)) {
        Py_DECREF(type);
        Py_DECREF(value);
        Py_XDECREF(traceback);
        *ret_value = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    PyErr_Restore(type, value, traceback);
    return PYGEN_ERROR;
}

/* retrieve(task): a done callback: marks the exception as retrieved, because the caller gets it. */
static PyObject *retrieve(PyObject *Py_UNUSED(self), PyObject *task) {
    PyObject *exception = PyObject_CallMethod(task, "exception", NULL);
    if (!exception)
        PyErr_Clear(); /* cancelled */
    Py_XDECREF(exception);
    Py_RETURN_NONE;
}

static PyMethodDef retrieve_method = {"retrieve", retrieve, METH_O, NULL};

/* mark_retrieved: adds that callback. Keeps the current exception. */
static void mark_retrieved(PyObject *task) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *callback = PyCFunction_New(&retrieve_method, NULL);
    PyObject *result = callback ? PyObject_CallMethod(task, "add_done_callback", "O", callback) : NULL;
    Py_XDECREF(result);
    Py_XDECREF(callback);
    PyErr_Restore(type, value, traceback);
}

/* finish: the coroutine has returned or raised: replies, and ends the task in the same way. */
static PySendResult finish(core_handler *h, PySendResult r, PyObject **value) {
    core_check_forked(h->session, r == PYGEN_ERROR);
    Py_INCREF(h);
    unlist(h);
    Py_CLEAR(h->awaiter); /* it may hold buffers */
    if (r == PYGEN_RETURN && h->has_buffers && h->request) {
        h->result = Py_NewRef(*value);
        if (h->task) {
            h->next_finished = h->link->finished;
            h->link->finished = (core_handler *)Py_NewRef((PyObject *)h);
            core_link_nudge(h->link);
        }
        Py_DECREF(h);
        return r;
    }
    if (r == PYGEN_RETURN) {
        core_reply(h->session, h->request, Py_NewRef(*value)); /* a second reference: the reply's is not the only one */
        Py_DECREF(*value);
    } else {
        r = answer_error(h, value);
        h->failed = r == PYGEN_ERROR;
        if (h->failed && h->task)
            mark_retrieved(h->task);
    }
    if (h->task)
        let_go(h); /* otherwise core_handler_run still uses it */
    Py_DECREF(h);
    return r;
}

/* answer_late: the task has ended. If nobody has kept it, the only reference to its result is ours. */
static void answer_late(core_handler *h) {
    PyObject *task = h->task, *result = h->result;
    h->task = h->result = NULL;
    if (Py_REFCNT(task) == 1)
        Py_CLEAR(task);
    core_reply(h->session, h->request, result);
    Py_XDECREF(task);
    Py_DECREF(result);
    let_go(h);
}

void core_handlers_answer(core_link *link) {
    core_handler *h, *rest = NULL;
    while ((h = link->finished)) { /* newest first: reverse the list */
        link->finished = h->next_finished;
        h->next_finished = rest;
        rest = h;
    }
    while ((h = rest)) {
        rest = h->next_finished;
        answer_late(h);
        Py_DECREF(h);
    }
}

/* ---- the protocol of a coroutine ---- */

/* stop_value: returns the value of the current StopIteration, which is cleared; NULL when another exception is set. */
static PyObject *stop_value(void) {
    if (!PyErr_Occurred())
        return Py_NewRef(Py_None);
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return NULL;
    PyObject *stop = core_fetch_exception(), *value = PyObject_GetAttrString(stop, "value");
    Py_DECREF(stop);
    return value;
}

static PySendResult drive(core_handler *h, PyObject *thrown, PyObject *sent, PyObject **ret_value) {
    *ret_value = NULL;
    PyObject *awaiter = Py_NewRef(h->awaiter);
    PySendResult r;
    if (!thrown) {
        r = PyIter_Send(awaiter, sent, ret_value);
    } else {
        r = PYGEN_NEXT;
        *ret_value = PyObject_CallMethodOneArg(awaiter, async_of(h)->throw, thrown);
        if (!*ret_value) {
            *ret_value = stop_value();
            r = *ret_value ? PYGEN_RETURN : PYGEN_ERROR;
        }
    }
    Py_DECREF(awaiter);
    return r;
}

static PySendResult step(core_handler *h, PyObject *thrown, PyObject *sent, PyObject **ret_value) {
    h->stepped = true;
    core_thread_task_ran(&h->ready_on);
    if (h->over || !h->awaiter) { /* it was given up before its first step */
        if (thrown) {
            PyErr_SetObject((PyObject *)Py_TYPE(thrown), thrown);
            return PYGEN_ERROR;
        }
        *ret_value = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    PySendResult r = drive(h, thrown, sent, ret_value);
    return r == PYGEN_NEXT || h->over ? r : finish(h, r, ret_value);
}

static PySendResult handler_am_send(PyObject *self, PyObject *value, PyObject **ret_value) {
    return step((core_handler *)self, NULL, value, ret_value);
}

static PyObject *handler_send(PyObject *self, PyObject *sent) {
    PyObject *value;
    PySendResult r = step((core_handler *)self, NULL, sent, &value);
    return core_step_outcome(r, value);
}

static PyObject *handler_iternext(PyObject *self) {
    return handler_send(self, Py_None);
}

static PyObject *handler_throw(PyObject *self, PyObject *args) {
    PyObject *type, *given = NULL, *traceback = NULL;
    if (!PyArg_ParseTuple(args, "O|OO:throw", &type, &given, &traceback))
        return NULL;
    PyObject *thrown = PyExceptionClass_Check(type)
                           ? (given && given != Py_None ? PyObject_CallOneArg(type, given) : PyObject_CallNoArgs(type))
                           : Py_NewRef(type);
    if (!thrown)
        return NULL;
    PyObject *value = NULL;
    PySendResult r = step((core_handler *)self, thrown, Py_None, &value);
    Py_DECREF(thrown);
    return core_step_outcome(r, value);
}

/* handler_close: called when there will be no further step: the loop has been closed, or the task was destroyed. */
static PyObject *handler_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_handler *h = (core_handler *)self;
    PyObject *result = h->awaiter ? PyObject_CallMethodNoArgs(h->awaiter, async_of(h)->close) : Py_NewRef(Py_None);
    Py_XDECREF(result);
    return result ? Py_NewRef(Py_None) : NULL;
}

/* handler_getattro: returns cr_code, cr_frame and similar attributes of the request's coroutine, for code that inspects
 * tasks. */
static PyObject *handler_getattro(PyObject *self, PyObject *name) {
    PyObject *found = PyObject_GenericGetAttr(self, name);
    PyObject *awaiter = ((core_handler *)self)->awaiter;
    if (found || !awaiter || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return found;
    PyErr_Clear(); /* not ours: ask the coroutine */
    return PyObject_GetAttr(awaiter, name);
}

/* ---- running a request ---- */

static core_handler *handler_new(core_async_state *a, PyObject *awaiter, PyObject *context, uint64_t request,
                                 bool has_buffers) {
    core_handler *h = PyObject_GC_New(core_handler, a->handler_type);
    if (!h)
        return NULL;
    memset((char *)h + sizeof(PyObject), 0, sizeof *h - sizeof(PyObject));
    h->awaiter = Py_NewRef(awaiter);
    h->context = Py_NewRef(context);
    h->request = request;
    h->has_buffers = has_buffers;
    PyObject_GC_Track(h);
    return h;
}

/* awaiter_of: returns the iterator of an awaitable; steals the awaitable. */
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

/* cancel_task: must be called in the loop's thread. */
static void cancel_task(core_handler *h) {
    if (!h->task || !h->link || !h->link->loop)
        return; /* it is cancelled when it is created; or the loop is closed, and the task has ended with it */
    PyObject *cancel = PyObject_GetAttr(h->task, async_of(h)->cancel), *result = NULL;
    if (cancel && h->link->thread == PyThread_get_thread_ident())
        result = PyObject_CallNoArgs(cancel);
    else if (cancel)
        core_link_schedule(h->link, cancel, NULL);
    if (!result)
        PyErr_Clear(); /* out of memory: it runs to its end */
    Py_XDECREF(result);
    Py_XDECREF(cancel);
}

/* give_up: the task could not be created: replies with the current exception. */
static void give_up(core_handler *h) {
    if (h->over) { /* it has answered in its first step, and something after that failed */
        PyErr_WriteUnraisable((PyObject *)h);
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    unlist(h);
    Py_XDECREF(
        handler_close((PyObject *)h, NULL)); /* otherwise Python would warn that the coroutine was never awaited */
    PyErr_Clear();
    PyErr_Restore(type, value, traceback);
    core_reply(h->session, h->request, NULL);
}

/* start: creates the task. Must be called in the loop's thread, while the loop runs. */
static void start(core_handler *h, core_pump_context *pump) {
    Py_INCREF(h);
    PyObject *loop = Py_XNewRef(h->link->loop), *context = h->context, *task = NULL;
    core_thread *thread = h->link->home;
    core_answer *answers = thread ? thread->answers : NULL;
    h->context = NULL;
    if (loop && thread) {
        thread->answers = NULL; /* the task may run its first step */
        task = core_task_new(h->session->state, loop, (PyObject *)h, context);
        thread->answers = answers;
    } else
        PyErr_SetString(PyExc_RuntimeError, "the event loop was closed before a call could be answered");
    if (!task) {
        give_up(h);
    } else if (h->over) { /* in its first step */
        h->task = task;
        if (h->result)
            answer_late(h);
        else if (h->failed)
            Py_DECREF(retrieve(NULL, task));
    } else {
        h->task = task;
        if (pump)
            pump->started = true;
        if (!h->stepped)
            core_thread_task_ready(thread, &h->ready_on);
        if (h->cancelled || h->session->closed)
            cancel_task(h);
    }
    if (h->over)
        let_go(h);
    Py_XDECREF(context);
    Py_XDECREF(loop);
    Py_DECREF(h);
}

/* start_here(): the callback with which another thread starts a handler on the loop. */
static PyObject *start_here(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_handler *h = (core_handler *)self;
    if (!h->over)
        start(h, NULL);
    Py_RETURN_NONE;
}

static PyMethodDef start_method = {"start", start_here, METH_NOARGS, NULL};

void core_handler_run(core_session *s, core_link *link, uint64_t request, PyObject *awaitable, PyObject *context,
                      bool has_buffers, core_pump_context *pump) {
    PyObject *awaiter = awaiter_of(awaitable);
    core_handler *h = awaiter ? handler_new(s->state->async, awaiter, context, request, has_buffers) : NULL;
    Py_XDECREF(awaiter);
    if (!h) {
        core_reply(s, request, NULL);
        return;
    }
    enlist(h, s, link);
    if (link->thread == PyThread_get_thread_ident()) {
        start(h, pump);
    } else {
        PyObject *callback = PyCFunction_New(&start_method, (PyObject *)h);
        if (callback)
            core_link_schedule(link, callback, NULL);
        if (callback && !link->alive && !h->over)
            PyErr_SetString(PyExc_RuntimeError, "the event loop was closed before a call could be answered");
        if (!callback || PyErr_Occurred())
            give_up(h);
        Py_XDECREF(callback);
    }
    Py_DECREF(h);
}

/* ---- cancelling ---- */

void core_handler_cancel(core_handler *h) {
    Py_INCREF(h);
    h->cancelled = true;
    cancel_task(h);
    Py_DECREF(h);
}

/* those_of: returns a list of the handlers on this link, or of all. NULL without an exception when out of memory. */
static PyObject *those_of(core_session *s, const core_link *link) {
    PyObject *list = PyList_New(0);
    for (core_handler *h = s->handlers; list && h; h = h->next)
        if ((!link || h->link == link) && PyList_Append(list, (PyObject *)h) < 0)
            Py_CLEAR(list);
    PyErr_Clear(); /* out of memory: they run to their ends */
    return list;
}

void core_handlers_cancel(core_session *s) {
    PyObject *list = those_of(s, NULL);
    for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(list); i++) {
        core_handler *h = (core_handler *)PyList_GET_ITEM(list, i);
        h->cancelled = true;
        cancel_task(h);
    }
    Py_XDECREF(list);
}

void core_handlers_end(core_session *s, core_link *link) {
    core_handlers_answer(link);
    PyObject *list = those_of(s, link);
    for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(list); i++) {
        core_handler *h = (core_handler *)PyList_GET_ITEM(list, i);
        if (h->over)
            continue;
        PyErr_SetString(PyExc_RuntimeError, "the event loop was closed while a call was being answered");
        give_up(h);
        let_go(h);
    }
    Py_XDECREF(list);
}

/* ---- type ---- */

static int handler_traverse(PyObject *self, visitproc visit, void *arg) {
    core_handler *h = (core_handler *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(h->link);
    Py_VISIT(h->session);
    Py_VISIT(h->task);
    Py_VISIT(h->awaiter);
    Py_VISIT(h->context);
    Py_VISIT(h->result);
    return 0;
}

static int handler_clear(PyObject *self) {
    core_handler *h = (core_handler *)self;
    h->over = true;
    let_go(h);
    return 0;
}

static void handler_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    core_thread_task_ran(&((core_handler *)self)->ready_on);
    handler_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef handler_methods[] = {
    {"send", handler_send, METH_O, NULL},
    {"throw", handler_throw, METH_VARARGS, NULL},
    {"close", handler_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot handler_slots[] = {
    {Py_tp_doc, "The coroutine of a task that handles a request."},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, handler_am_send},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, handler_iternext},
    {Py_tp_getattro, handler_getattro},
    {Py_tp_methods, handler_methods},
    {Py_tp_traverse, handler_traverse},
    {Py_tp_clear, handler_clear},
    {Py_tp_dealloc, handler_dealloc},
    {0, NULL},
};
static PyType_Spec handler_spec = {
    .name = "pyisolate._core.Handler",
    .basicsize = sizeof(core_handler),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = handler_slots,
};

int core_handler_init(PyObject *module, core_state *state) {
    state->async->handler_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &handler_spec, NULL);
    return state->async->handler_type ? 0 : -1;
}
