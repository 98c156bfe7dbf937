/* dispatch.c - runs the peer's requests: finds the object and the method, decodes, calls, replies.
 *
 * A plain function is answered at once. An awaitable is run by handler.c, on a loop. Arguments are dropped before the
 * reply is sent, so that a shared buffer that nobody has kept is free again when the caller sends the next one. */
#include "dispatch.h"
#include "meter.h"
#include "prefetch.h"
#include "reply.h"
#include "rpc/exports.h"
#include "rpc/request.h"

/* learn_name: stores the name of a method id in the session's list, at that index. Borrowed. */
static PyObject *learn_name(core_session *s, uint32_t method) {
    size_t size;
    const char *text = piso_session_name(s->session, method, &size);
    if (!text) {
        PyErr_SetString(s->state->protocol_error, "the peer called a method id that it has not named");
        core_reject(&s->codec);
        return NULL;
    }
    PyObject *name = PyUnicode_DecodeUTF8(text, (Py_ssize_t)size, "replace");
    if (!name)
        return NULL;
    /* names are shown verbatim in error messages */
    if (PyUnicode_GET_LENGTH(name) && PyUnicode_READ_CHAR(name, 0) != '_' && !PyUnicode_IsIdentifier(name)) {
        PyErr_Format(PyExc_AttributeError, "%R cannot be the name of a method", name);
        Py_DECREF(name);
        return NULL;
    }
    PyUnicode_InternInPlace(&name);
    int r = 0;
    while (r == 0 && PyList_GET_SIZE(s->names) <= method) /* ids may arrive in any order */
        r = PyList_Append(s->names, Py_None);
    if (r < 0) {
        Py_DECREF(name);
        return NULL;
    }
    PyList_SetItem(s->names, method, name); /* steals it; cannot fail */
    return name;
}

/* method_name: returns the name of a method id, borrowed from the session's list. */
static PyObject *method_name(core_session *s, uint32_t method) {
    PyObject *name = method < PyList_GET_SIZE(s->names) ? PyList_GET_ITEM(s->names, method) : Py_None;
    return name != Py_None ? name : learn_name(s, method);
}

/* What a request calls. */
typedef struct target {
    PyObject *object;  /* a new reference, because decoding the arguments may run code that unregisters it */
    PyObject *name;    /* of the method, borrowed; NULL: the object is a function */
    PyObject *threads; /* borrowed, or NULL: the hook that runs a plain method in a thread */
    bool strict;       /* only functions that the object's class defines can be called */
} target;

static int find_registered(core_session *s, uint32_t id, target *ret) {
    if (PyUnicode_GET_LENGTH(ret->name) == 0 || PyUnicode_READ_CHAR(ret->name, 0) == '_') {
        PyErr_Format(PyExc_AttributeError, "%R is private: only methods without a leading underscore can be called",
                     ret->name);
        return -1;
    }
    ret->object = Py_XNewRef(core_object_find(s, id));
    ret->strict = piso_session_process(s->session) != NULL; /* an extension does not choose what it calls in its host */
    if (!ret->object)
        PyErr_Format(PyExc_LookupError,
                     "no object with id %u is registered here: it was unregistered or never "
                     "registered",
                     (unsigned)id);
    return ret->object ? 0 : -1;
}

/* find_export: finds an object that the peer holds by reference, if it may call that method. */
static int find_export(core_session *s, uint32_t id, target *ret) {
    core_export *found = core_export_find(s, id);
    int permitted = 0;
    if (!found)
        PyErr_SetString(PyExc_LookupError, "the function or object is not held any more: its reference has ended");
    else if (found->methods)
        permitted = PySequence_Contains(found->methods, ret->name);
    else
        permitted = PyUnicode_CompareWithASCIIString(ret->name, PISO_METHOD_CALL) == 0;
    if (permitted > 0) {
        ret->object = Py_NewRef(found->object);
        ret->name = found->methods ? ret->name : NULL;
        ret->strict = true;
        return 0;
    }
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_AttributeError, "%R is not among the methods that the reference permits", ret->name);
    return -1;
}

static int find(core_session *s, const piso_event *event, target *ret) {
    *ret = (target){.name = method_name(s, event->method)};
    if (!ret->name)
        return -1;
    return event->object >= PISO_OBJECT_REFERENCED ? find_export(s, event->object, ret)
                                                   : find_registered(s, event->object, ret);
}

/* like: returns a public method of the object with a similar name: a new reference; NULL, without an exception. */
static PyObject *like(PyObject *object, PyObject *name) {
    PyObject *names = PyObject_Dir(object), *publics = PyList_New(0), *found = NULL, *best = NULL;
    for (Py_ssize_t i = 0; names && publics && i < PyList_GET_SIZE(names); i++) {
        PyObject *other = PyList_GET_ITEM(names, i), *method = _PyType_Lookup(Py_TYPE(object), other);
        if (PyUnicode_Check(other) && PyUnicode_READ_CHAR(other, 0) != '_' && method && PyCallable_Check(method) &&
            PyList_Append(publics, other) < 0)
            break;
    }
    PyObject *difflib = publics ? PyImport_ImportModule("difflib") : NULL;
    if (difflib)
        found = PyObject_CallMethod(difflib, "get_close_matches", "OOi", name, publics, 1);
    if (found && PyList_Check(found) && PyList_GET_SIZE(found) > 0)
        best = Py_NewRef(PyList_GET_ITEM(found, 0));
    PyErr_Clear(); /* there is no name to suggest */
    Py_XDECREF(found);
    Py_XDECREF(difflib);
    Py_XDECREF(publics);
    Py_XDECREF(names);
    return best;
}

/* suggest: if the current exception says that the object has no such method, adds a method with a similar name. An
 * extension does so for its host; a host does not let extensions explore its objects. */
static void suggest(PyObject *object, PyObject *name) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError))
        return;
    PyObject *error = core_fetch_exception(), *traceback = PyException_GetTraceback(error);
    PyObject *of = PyObject_GetAttrString(error, "obj");
    PyObject *best =
        of == object && !traceback ? like(object, name) : NULL; /* with a traceback, the method's own code failed */
    PyErr_Clear();
    if (best) {
        PyErr_Format(PyExc_AttributeError, "%S; did you mean %R?", error, best);
    } else {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    Py_XDECREF(best);
    Py_XDECREF(of);
    Py_XDECREF(traceback);
    Py_DECREF(error);
}

/* explain_attribute: if the current exception says that a plain attribute of an extension cannot be called, explains
 * it. */
static void explain_attribute(PyObject *object, PyObject *name) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError))
        return;
    PyObject *error = core_fetch_exception(); /* before the look-up, which must not see an exception */
    PyObject *method = _PyType_Lookup(Py_TYPE(object), name), *attribute = NULL;
    if (!method || !PyCallable_Check(method))
        attribute = PyObject_GetAttr(object, name);
    PyErr_Clear(); /* no such attribute: the error had another reason */
    if (attribute && !PyCallable_Check(attribute))
        PyErr_Format(PyExc_TypeError,
                     "%R of %.200s is not a method but an attribute, of type %.200s: add a method that returns the "
                     "value",
                     name, Py_TYPE(object)->tp_name, Py_TYPE(attribute)->tp_name);
    else
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(attribute);
    Py_DECREF(error);
}

/* call_defined: calls a function that the object's class defines, whatever the object itself has under this name.
 * `args` begins with the object. */
static PyObject *call_defined(PyObject *name, PyObject **args, size_t count, PyObject *kwnames) {
    PyObject *found = Py_XNewRef(core_method_of(Py_TYPE(args[0]), name)), *method = NULL, *result = NULL;
    if (!found)
        PyErr_Format(PyExc_AttributeError, CORE_NOT_A_METHOD, name, Py_TYPE(args[0])->tp_name);
    else if (PyType_HasFeature(Py_TYPE(found), Py_TPFLAGS_METHOD_DESCRIPTOR))
        result = PyObject_Vectorcall(found, args, count, kwnames);
    else
        method = core_method_bind(found, args[0]);
    if (method)
        result = PyObject_Vectorcall(method, args + 1, (count - 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, kwnames);
    Py_XDECREF(method);
    Py_XDECREF(found);
    return result;
}

/* call_in_thread: returns an awaitable for the result of a plain method. */
static PyObject *call_in_thread(const target *t, core_arguments *a) {
    PyObject *method = PyObject_GetAttr(t->object, t->name), *free_slot = a->args[-1];
    if (!method || !PyCallable_Check(method)) { /* raises here, where the error is explained */
        PyObject *none = method ? PyObject_CallNoArgs(method) : NULL;
        Py_XDECREF(method);
        return none;
    }
    a->args[-1] = method;
    PyObject *result = PyObject_Vectorcall(t->threads, a->args - 1, (size_t)a->nargs + 1, a->kwnames);
    a->args[-1] = free_slot;
    Py_DECREF(method);
    return result;
}

static PyObject *call_target(const target *t, core_arguments *a) {
    size_t count = (size_t)a->nargs + 1;
    PyObject **args = a->args - 1, *free_slot = args[0];
    if (!t->name)
        return PyObject_Vectorcall(t->object, a->args, (size_t)a->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, a->kwnames);
    args[0] = t->object;
    PyObject *result = t->strict ? call_defined(t->name, args, count, a->kwnames)
                                 : PyObject_VectorcallMethod(t->name, args, count, a->kwnames);
    args[0] = free_slot;
    return result;
}

/* is_coroutine_function: calling such a function only creates a coroutine, so it cannot observe our state. */
static bool is_coroutine_function(const target *t) {
    PyObject *method = t->name                     ? _PyType_Lookup(Py_TYPE(t->object), t->name)
                       : PyMethod_Check(t->object) ? PyMethod_GET_FUNCTION(t->object)
                                                   : t->object;
    return method && PyFunction_Check(method) &&
           (((PyCodeObject *)PyFunction_GET_CODE(method))->co_flags & CO_COROUTINE) != 0;
}

/* invoke: calls the method in the request's context; a plain function sees no current task. */
static PyObject *invoke(core_session *s, const target *t, core_arguments *a, PyObject *request_context,
                        const core_pump_context *context) {
    PyObject *loop = NULL, *task = NULL;
    if (context->in_task && !is_coroutine_function(t))
        task = s->on->hide_task(s->state, &loop);
    PyObject *result = NULL;
    if (PyContext_Enter(request_context) == 0) {
        result = t->threads && !is_coroutine_function(t) ? call_in_thread(t, a) : call_target(t, a);
        if (!result && !t->strict) {
            suggest(t->object, t->name);
            explain_attribute(t->object, t->name);
        }
        if (PyContext_Exit(request_context) < 0)
            Py_CLEAR(result);
    }
    if (task)
        s->on->show_task(s->state, loop, task);
    return result;
}

static bool is_awaitable(PyObject *o) {
    return PyCoro_CheckExact(o) || (Py_TYPE(o)->tp_as_async && Py_TYPE(o)->tp_as_async->am_await);
}

/* was_given_up: returns whether the caller has stopped waiting before the request was started. */
static bool was_given_up(core_session *s, uint64_t request) {
    core_open_request *open = core_open_request_find(s, request);
    return open && open->cancelled;
}

/* enter_request: makes the request the current one of the context in which an awaitable will run. Returns 0 or -1. */
static int enter_request(core_session *s, const core_answer *answer, PyObject *request_context) {
    PyObject *request = answer->request ? Py_NewRef(answer->request)
                                        : core_request_new(s, answer->id, answer->origin, answer->deadline_ns);
    int r = request ? core_request_enter(request_context, request) : -1;
    Py_XDECREF(request);
    return r;
}

/* answer: runs the request with the decoded arguments. */
static void answer(core_session *s, const target *t, core_arguments *a, uint64_t request, PyObject *origin,
                   int64_t deadline_ns, bool has_buffers, core_pump_context *context) {
    PyObject *result = NULL, *request_context = PyContext_Copy(s->context);
    core_thread *thread = context->thread ? context->thread : core_thread_here();
    core_answer answer = {.session = s, .id = request, .deadline_ns = deadline_ns, .origin = origin};
    if (thread && request_context && Py_EnterRecursiveCall(" while answering a call") == 0) {
        answer.outer = thread->answers;
        thread->answers = &answer;
        thread->nested += context->waits;
        result = invoke(s, t, a, request_context, context);
        thread->nested -= context->waits;
        thread->answers = answer.outer;
        Py_LeaveRecursiveCall();
    }
    core_arguments_clear(a);
    if (result && is_awaitable(result) && enter_request(s, &answer, request_context) == 0) {
        s->on->awaitable(s, request, result, request_context, has_buffers, context);
    } else {
        core_reply(s, request, PyErr_Occurred() ? NULL : result);
        Py_XDECREF(result);
    }
    Py_XDECREF(answer.request);
    Py_XDECREF(request_context);
}

void core_dispatch(core_session *s, piso_event *event, PyObject *origin, core_pump_context *context) {
    uint64_t request = event->flags & PISO_CALL_NO_REPLY ? 0 : event->id;
    if (event->object == PISO_OBJECT_PREFETCH && !request) {
        core_prefetch_take(s, event);
        return;
    }
    if (!request && core_session_meter_exceeded(s, event)) {
        piso_event_fini(event);
        return;
    }
    if (was_given_up(s, request)) {
        s->on->raise_cancelled(s->state);
        core_refuse(s, event);
        return;
    }
    target t;
    int found = find(s, event, &t);
    if (event->object != PISO_OBJECT_CONTROL && !t.strict && !context->waits) /* a thread that waits runs its own */
        t.threads = s->threads_hook;
    core_arguments a;
    bool has_buffers = event->nspans > 0;
    int64_t deadline_ns = event->deadline_ns;
    Py_XINCREF(origin);                           /* its call may end while user code runs */
    core_decode_for_other_thread(context->waits); /* a coroutine will run in another thread */
    bool decoded = found == 0 && core_decode_call(&s->codec, event, &a) == 0;
    core_decode_for_other_thread(false);
    piso_event_fini(event);
    if (!decoded)
        core_reply(s, request, NULL);
    else if (s->state->forwarding->send(s, request, origin, t.object, t.name, deadline_ns, &a))
        core_arguments_clear(&a);
    else
        answer(s, &t, &a, request, origin, deadline_ns, has_buffers, context);
    Py_XDECREF(origin);
    Py_XDECREF(t.object);
}
