/* handler.c - runs the coroutine of a request, its first step without the event loop.
 *
 * A Handler is a coroutine that an asyncio.Task wraps. While it is spare, its task waits for its parker. To run a
 * request's coroutine, the spare's task is made the current task and the coroutine is driven for one step right
 * here: most finish, and asyncio was not involved. One that suspends is adopted: the handler hands what it
 * yielded to its task, which from then on drives it. So the task that the coroutine saw first is the one that it
 * keeps: timeout(), TaskGroup and cancellation, which hold on to the current task, work as in any task.
 *
 *     FRESH  the task has been made, its first step is scheduled       send() -> yields the parker -> PARKED
 *     PARKED the task waits for the parker
 *     OWNED  the task drives the request's coroutine
 *     OVER   the coroutine has finished or the spare is not wanted     send() -> returns, the task ends
 *
 * A spare that somebody kept a reference to, or cancelled, is not used again: it ends as a task does. */
#include "session.h"

#include "aio.h"
#include "parker.h"

#define MAX_SPARES 16

typedef enum stage { FRESH, PARKED, OWNED, OVER } stage;

struct core_handler {
    PyObject_HEAD uint8_t stage;
    core_link *link;       /* strong; NULL for a spare (the link owns it) */
    core_session *session; /* strong while OWNED or scheduled elsewhere */
    core_handler *next_spare;
    PyObject *task; /* strong until it drives us or ends; then NULL */
    core_parker *parker;
    PyObject *awaiter; /* the request's coroutine or iterator */
    PyObject *context;
    PyObject *yielded; /* by the first step, still to be handed to the task */
    PyObject *result;  /* of a coroutine that finished in the first step of a kept task */
    uint64_t request;
};

static core_async_state *async_of(PyObject *o) {
    return core_type_state(Py_TYPE(o))->async;
}

/* ---- driving the coroutine ---- */

/* stop_value: the value of the current StopIteration, which is cleared; NULL when another exception is set. */
static PyObject *stop_value(void) {
    if (!PyErr_Occurred())
        return Py_NewRef(Py_None);
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return NULL;
    PyObject *type, *stop, *traceback;
    PyErr_Fetch(&type, &stop, &traceback);
    PyErr_NormalizeException(&type, &stop, &traceback);
    PyObject *value = PyObject_GetAttrString(stop, "value");
    Py_XDECREF(type);
    Py_XDECREF(stop);
    Py_XDECREF(traceback);
    return value;
}

/* drive: one step of the coroutine in its context; `thrown` is an exception to throw in, or NULL. */
static PySendResult drive(core_handler *h, PyObject *thrown, PyObject **ret_value) {
    PySendResult r;
    *ret_value = NULL;
    if (PyContext_Enter(h->context) < 0)
        return PYGEN_ERROR;
    PyObject *awaiter = Py_NewRef(h->awaiter);
    if (thrown) {
        *ret_value = PyObject_CallMethodOneArg(awaiter, async_of((PyObject *)h)->throw, thrown);
        r = PYGEN_NEXT;
        if (!*ret_value) {
            *ret_value = stop_value();
            r = *ret_value ? PYGEN_RETURN : PYGEN_ERROR;
        }
    } else {
        r = PyIter_Send(awaiter, Py_None, ret_value);
    }
    Py_DECREF(awaiter);
    if (PyContext_Exit(h->context) < 0) {
        Py_CLEAR(*ret_value);
        r = PYGEN_ERROR;
    }
    return r;
}

/* release: the coroutine and its context are dropped; done before the reply, so that buffers are free again. */
static void release(core_handler *h) {
    Py_CLEAR(h->awaiter);
    Py_CLEAR(h->context);
}

/* unlist: the request is answered or given up: it can no longer be cancelled. */
static void unlist(core_handler *h) {
    core_session *s = h->session;
    PyObject *key = PyLong_FromUnsignedLongLong(h->request);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (!key || PyDict_DelItem(s->suspended, key) < 0)
        PyErr_Clear(); /* a request without reply is not in the table */
    PyErr_Restore(type, value, traceback);
    Py_XDECREF(key);
    h->link->suspended--;
}

/* finish: an adopted coroutine has ended: answer, and end the task the way the coroutine ended. */
static PySendResult finish(core_handler *h, PySendResult r, PyObject **value) {
    core_session *s = h->session;
    h->stage = OVER;
    release(h);
    unlist(h);
    bool cancelled = r == PYGEN_ERROR && PyErr_ExceptionMatches(async_of((PyObject *)h)->cancelled_error);
    PyObject *task_result =
        r == PYGEN_RETURN ? Py_NewRef(*value) : NULL; /* a second reference: not the reply's alone */
    core_reply(s, h->request, task_result);
    Py_XDECREF(task_result);
    Py_CLEAR(h->task);
    h->session = NULL;
    Py_CLEAR(h->link);
    Py_DECREF(s);
    if (cancelled) {
        PyErr_SetNone(async_of((PyObject *)h)->cancelled_error);
        return PYGEN_ERROR;
    }
    if (r == PYGEN_ERROR)
        *value = Py_NewRef(Py_None); /* the caller has been told; the task has nothing to add */
    return PYGEN_RETURN;
}

/* ---- what the task calls ---- */

static PySendResult handler_step(core_handler *h, PyObject *thrown, PyObject **ret_value) {
    PySendResult r;
    *ret_value = NULL;
    switch (h->stage) {
    case OWNED:
        if (h->yielded) { /* the first step's: hand it on; or pass a cancellation on to it */
            PyObject *yielded = h->yielded, *cancelled = NULL;
            h->yielded = NULL;
            if (thrown && yielded != Py_None)
                cancelled = PyObject_CallMethodNoArgs(yielded, async_of((PyObject *)h)->cancel);
            if (!thrown || (cancelled && PyObject_IsTrue(cancelled) > 0)) {
                Py_XDECREF(cancelled);
                *ret_value = yielded;
                return PYGEN_NEXT;
            }
            PyErr_Clear(); /* it cannot be cancelled: the coroutine gets the exception itself */
            Py_XDECREF(cancelled);
            Py_DECREF(yielded);
        }
        Py_INCREF(h);
        r = drive(h, thrown, ret_value);
        if (r != PYGEN_NEXT)
            r = finish(h, r, ret_value);
        Py_DECREF(h);
        return r;
    case FRESH:
        if (!thrown) {
            h->stage = PARKED;
            h->parker->blocking = 1;
            *ret_value = Py_NewRef((PyObject *)h->parker);
            return PYGEN_NEXT;
        }
        /* fall through */
    case PARKED:
    case OVER:
        break;
    }
    h->stage = OVER;
    Py_CLEAR(h->task);
    if (thrown) {
        PyErr_SetObject((PyObject *)Py_TYPE(thrown), thrown);
        return PYGEN_ERROR;
    }
    *ret_value = h->result ? h->result : Py_NewRef(Py_None);
    h->result = NULL;
    return PYGEN_RETURN;
}

static PySendResult handler_am_send(PyObject *self, PyObject *Py_UNUSED(value), PyObject **ret_value) {
    return handler_step((core_handler *)self, NULL, ret_value);
}

/* as_method: a step's outcome the way send() and throw() return it. */
static PyObject *as_method(PySendResult r, PyObject *value) {
    if (r != PYGEN_RETURN)
        return value;
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    Py_DECREF(value);
    if (stop)
        PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
    return NULL;
}

static PyObject *handler_send(PyObject *self, PyObject *Py_UNUSED(value)) {
    PyObject *value;
    PySendResult r = handler_step((core_handler *)self, NULL, &value);
    return as_method(r, value);
}

static PyObject *handler_iternext(PyObject *self) {
    return handler_send(self, NULL);
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
    PyObject *value;
    PySendResult r = handler_step((core_handler *)self, thrown, &value);
    Py_DECREF(thrown);
    return as_method(r, value);
}

static PyObject *handler_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_handler *h = (core_handler *)self;
    PyObject *result = h->awaiter ? PyObject_CallMethodNoArgs(h->awaiter, async_of(self)->close) : Py_NewRef(Py_None);
    Py_XDECREF(result);
    return result ? Py_NewRef(Py_None) : NULL;
}

/* handler_getattro: cr_code, cr_frame and the like are those of the coroutine it runs, for who looks at tasks. */
static PyObject *handler_getattro(PyObject *self, PyObject *name) {
    PyObject *found = PyObject_GenericGetAttr(self, name);
    PyObject *awaiter = ((core_handler *)self)->awaiter;
    if (found || !awaiter || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return found;
    PyErr_Clear(); /* not ours: ask the coroutine */
    return PyObject_GetAttr(awaiter, name);
}

/* ---- spares ---- */

static core_handler *handler_new(core_async_state *a) {
    core_handler *h = PyObject_GC_New(core_handler, a->handler_type);
    if (!h)
        return NULL;
    memset((char *)h + sizeof(PyObject), 0, sizeof *h - sizeof(PyObject));
    PyObject_GC_Track(h);
    return h;
}

/* spare_try: a handler with a task of its own, whose first step is scheduled. Not in all_tasks(): an application
 * that waits for all tasks must not wait for an idle one. */
static core_handler *spare_try(core_state *state, PyObject *loop) {
    core_async_state *a = state->async;
    core_handler *h = handler_new(a);
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
        h->stage = OVER; /* its task may have been made all the same, and ends with its first step */
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
 * scheduled step or its wake-up. */
static bool is_pristine(core_handler *h) {
    if (Py_REFCNT(h->task) != 2 || h->parker->cancelled)
        return false;
    if (h->stage == PARKED)
        return true;
    PyObject *flag = PyObject_GetAttr(h->task, async_of((PyObject *)h)->must_cancel);
    bool clean = flag == Py_False;
    Py_XDECREF(flag);
    PyErr_Clear(); /* without the attribute it is not clean */
    return clean;
}

/* retire: the task of a handler that is not used again ends; those who kept it see it done. */
static void retire(core_handler *h) {
    stage before = h->stage;
    h->stage = OVER;
    Py_CLEAR(h->task);
    if (before == PARKED)
        core_parker_wake(h->parker, true);
    Py_DECREF(h);
}

/* spare_give_back: `result`, for those who kept the task, or NULL. */
static void spare_give_back(core_link *link, core_handler *h, PyObject *result) {
    if (!link->alive || link->spare_count >= MAX_SPARES || result || !is_pristine(h)) {
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
        h->stage = OVER;
        Py_CLEAR(h->task);
        Py_DECREF(h);
    }
}

/* ---- running a request ---- */

static void cancel_task(core_handler *h);

/* enter: the task is one of all_tasks() from now on. 0 or -1. */
static int enter(core_async_state *a, core_handler *h) {
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
    bool was_parked = h->stage == PARKED;
    h->stage = OWNED;
    h->yielded = yielded;
    h->session = (core_session *)Py_NewRef((PyObject *)s);
    h->link = (core_link *)Py_NewRef((PyObject *)link);
    link->suspended++;
    PyObject *key = h->request ? PyLong_FromUnsignedLongLong(h->request) : NULL;
    if (enter(a, h) < 0 || (key && PyDict_SetItem(s->suspended, key, (PyObject *)h) < 0))
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

void core_handler_run(core_session *s, core_link *link, uint64_t request, PyObject *awaitable, PyObject *context,
                      bool in_task) {
    Py_INCREF(link);
    PyObject *loop = Py_NewRef(link->loop); /* the link may be closed before the end of this */
    PyObject *awaiter = awaiter_of(awaitable);
    core_handler *h = awaiter ? spare_take(link) : NULL;
    if (awaiter && !h)
        h = spare_new(s->state, loop);
    PyObject *previous = h ? core_task_swap(s->state, loop, h->task, in_task) : NULL;
    if (!previous) {
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
    PyObject *value;
    PySendResult r = drive(h, NULL, &value);
    core_task_restore(s->state, loop, previous);
    Py_DECREF(loop);
    if (r == PYGEN_NEXT && link->alive) {
        adopt(h, s, link, value);
    } else {
        if (r == PYGEN_NEXT) { /* the loop was closed under it */
            Py_CLEAR(value);
            PyErr_SetString(PyExc_RuntimeError, "the event loop was closed while a call was being answered");
        }
        release(h);
        /* who kept the task sees the result too: a second reference says that it is not the reply's alone */
        PyObject *kept = value && !(link->alive && is_pristine(h)) ? Py_NewRef(value) : NULL;
        core_reply(s, request, value);
        spare_give_back(link, h, kept);
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
        core_handler_run(s, link, h->request, awaiter, context, false);
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

int core_handler_elsewhere(core_session *s, core_link *link, uint64_t request, PyObject *awaitable, PyObject *context) {
    core_async_state *a = s->state->async;
    core_handler *h = handler_new(a);
    if (!h)
        return -1;
    h->stage = OVER;
    h->session = (core_session *)Py_NewRef((PyObject *)s);
    h->link = (core_link *)Py_NewRef((PyObject *)link);
    h->awaiter = Py_NewRef(awaitable);
    h->context = Py_NewRef(context);
    h->request = request;
    PyObject *start = PyObject_GetAttrString((PyObject *)h, "start");
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
    core_async_state *a = async_of((PyObject *)h);
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

/* ---- type ---- */

static int handler_traverse(PyObject *self, visitproc visit, void *arg) {
    core_handler *h = (core_handler *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(h->link);
    Py_VISIT(h->session);
    Py_VISIT(h->task);
    Py_VISIT(h->parker);
    Py_VISIT(h->awaiter);
    Py_VISIT(h->context);
    Py_VISIT(h->yielded);
    Py_VISIT(h->result);
    return 0;
}

static int handler_clear(PyObject *self) {
    core_handler *h = (core_handler *)self;
    h->stage = OVER;
    Py_CLEAR(h->link);
    Py_CLEAR(h->session);
    Py_CLEAR(h->task);
    Py_CLEAR(h->parker);
    Py_CLEAR(h->awaiter);
    Py_CLEAR(h->context);
    Py_CLEAR(h->yielded);
    Py_CLEAR(h->result);
    return 0;
}

static void handler_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    handler_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef handler_methods[] = {
    {"send", handler_send, METH_O, NULL},
    {"throw", handler_throw, METH_VARARGS, NULL},
    {"close", handler_close, METH_NOARGS, NULL},
    {"start", handler_start, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot handler_slots[] = {
    {Py_tp_doc, "The coroutine of the task in which a request is answered."},
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
    return state->async->handler_type ? core_parker_init(module, state) : -1;
}
