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
#include "handler.h"

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

PySendResult core_handler_drive(core_handler *h, PyObject *thrown, PyObject **ret_value) {
    PySendResult r;
    *ret_value = NULL;
    if (PyContext_Enter(h->context) < 0)
        return PYGEN_ERROR;
    PyObject *awaiter = Py_NewRef(h->awaiter);
    if (thrown) {
        *ret_value = PyObject_CallMethodOneArg(awaiter, core_handler_async(h)->throw, thrown);
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

void core_handler_release(core_handler *h) {
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
    h->stage = CORE_OVER;
    core_handler_release(h);
    unlist(h);
    bool cancelled = r == PYGEN_ERROR && PyErr_ExceptionMatches(core_handler_async(h)->cancelled_error);
    PyObject *task_result =
        r == PYGEN_RETURN ? Py_NewRef(*value) : NULL; /* a second reference: not the reply's alone */
    core_reply(s, h->request, task_result);
    Py_XDECREF(task_result);
    Py_CLEAR(h->task);
    h->session = NULL;
    Py_CLEAR(h->link);
    Py_DECREF(s);
    if (cancelled) {
        PyErr_SetNone(core_handler_async(h)->cancelled_error);
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
    case CORE_OWNED:
        if (h->yielded) { /* the first step's: hand it on; or pass a cancellation on to it */
            PyObject *yielded = h->yielded, *cancelled = NULL;
            h->yielded = NULL;
            if (thrown && yielded != Py_None)
                cancelled = PyObject_CallMethodNoArgs(yielded, core_handler_async(h)->cancel);
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
        r = core_handler_drive(h, thrown, ret_value);
        if (r != PYGEN_NEXT)
            r = finish(h, r, ret_value);
        Py_DECREF(h);
        return r;
    case CORE_FRESH:
        if (!thrown) {
            h->stage = CORE_PARKED;
            h->parker->blocking = 1;
            *ret_value = Py_NewRef((PyObject *)h->parker);
            return PYGEN_NEXT;
        }
        /* fall through */
    case CORE_PARKED:
    case CORE_OVER:
        break;
    }
    h->stage = CORE_OVER;
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
    PyObject *result =
        h->awaiter ? PyObject_CallMethodNoArgs(h->awaiter, core_handler_async(h)->close) : Py_NewRef(Py_None);
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

/* ---- type ---- */

core_handler *core_handler_new(core_async_state *a) {
    core_handler *h = PyObject_GC_New(core_handler, a->handler_type);
    if (!h)
        return NULL;
    memset((char *)h + sizeof(PyObject), 0, sizeof *h - sizeof(PyObject));
    PyObject_GC_Track(h);
    return h;
}

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
    h->stage = CORE_OVER;
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
