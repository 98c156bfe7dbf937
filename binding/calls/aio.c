/* aio.c - see aio.h. The functions used are those that asyncio exports for other implementations of tasks
 * (_register_task and its kin); they exist in every version from 3.10 on, in C. */
#include "aio.h"

#include <unistd.h>

#include "common/errors.h"

#define INTERRUPTIONS 3   /* of one call, after which it is given up */
#define DEPTH         100 /* of the calls that a loop makes in a method of its own */

static int intern(PyObject **field, const char *text) {
    *field = PyUnicode_InternFromString(text);
    return *field ? 0 : -1;
}

static int intern_names(core_async_state *a) {
    struct {
        PyObject **field;
        const char *text;
    } names[] = {
        {&a->call_soon, "call_soon"},
        {&a->call_soon_threadsafe, "call_soon_threadsafe"},
        {&a->call_later, "call_later"},
        {&a->create_future, "create_future"},
        {&a->set_result, "set_result"},
        {&a->done, "done"},
        {&a->cancel, "cancel"},
        {&a->add_reader, "add_reader"},
        {&a->remove_reader, "remove_reader"},
        {&a->wake_future, "wake_future"},
        {&a->must_cancel, "_must_cancel"},
        {&a->log_destroy_pending, "_log_destroy_pending"},
        {&a->loop, "loop"},
        {&a->running_key, "__asyncio_running_event_loop__"},
        {&a->throw, "throw"},
        {&a->close, "close"},
        {&a->is_running, "is_running"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (intern(names[i].field, names[i].text) < 0)
            return -1;
    return 0;
}

int core_aio_init(PyObject *Py_UNUSED(module), core_state *state) {
    core_async_state *a = PyMem_Calloc(1, sizeof *a);
    if (!a) {
        PyErr_NoMemory();
        return -1;
    }
    state->async = a;
    a->session_variable = PyContextVar_New("pyisolate_session", NULL);
    a->context_name = Py_BuildValue("(s)", "context");
    return a->session_variable && a->context_name && intern_names(a) == 0 ? 0 : -1;
}

int core_aio_visit(core_state *state, visitproc visit, void *arg) {
    core_async_state *a = state->async;
    if (!a)
        return 0;
    Py_VISIT(a->get_running_loop);
    Py_VISIT(a->current_tasks);
    Py_VISIT(a->swap_task);
    Py_VISIT(a->register_task);
    Py_VISIT(a->unregister_task);
    Py_VISIT(a->task_type);
    Py_VISIT(a->cancelled_error);
    Py_VISIT(a->invalid_state_error);
    Py_VISIT(a->gather_code);
    Py_VISIT(a->service_loop);
    Py_VISIT(a->session_variable);
    Py_VISIT(a->link_type);
    Py_VISIT(a->reader_type);
    Py_VISIT(a->handler_type);
    Py_VISIT(a->parker_type);
    return 0;
}

void core_aio_clear(core_state *state) {
    core_async_state *a = state->async;
    if (!a)
        return;
    PyObject **fields[] = {
        &a->get_running_loop,
        &a->current_tasks,
        &a->swap_task,
        &a->register_task,
        &a->unregister_task,
        &a->task_type,
        &a->cancelled_error,
        &a->invalid_state_error,
        &a->gather_code,
        &a->service_loop,
        &a->session_variable,
        &a->call_soon,
        &a->call_soon_threadsafe,
        &a->call_later,
        &a->create_future,
        &a->set_result,
        &a->done,
        &a->cancel,
        &a->add_reader,
        &a->remove_reader,
        &a->wake_future,
        &a->must_cancel,
        &a->log_destroy_pending,
        &a->loop,
        &a->running_key,
        &a->throw,
        &a->close,
        &a->context_name,
        &a->is_running,
        (PyObject **)&a->link_type,
        (PyObject **)&a->reader_type,
        (PyObject **)&a->handler_type,
        (PyObject **)&a->parker_type,
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        Py_CLEAR(*fields[i]);
}

static int attribute(PyObject *module, const char *name, PyObject **field) {
    *field = PyObject_GetAttrString(module, name);
    return *field ? 0 : -1;
}

/* load_current_task: how to change the current task. Until 3.13 the dict behind asyncio's own functions is there
 * for all; changing it takes a fifth of the time of calling them. */
static int load_current_task(core_async_state *a, PyObject *tasks) {
#if PY_VERSION_HEX < 0x030e0000
    return attribute(tasks, "_current_tasks", &a->current_tasks);
#else
    return attribute(tasks, "_swap_current_task", &a->swap_task);
#endif
}

/* load_gather: the code of asyncio.gather, unless somebody has put something else in its place. */
static int load_gather(core_async_state *a, PyObject *tasks) {
    PyObject *gather;
    if (attribute(tasks, "gather", &gather) < 0)
        return -1;
    if (PyFunction_Check(gather))
        a->gather_code = Py_NewRef(PyFunction_GET_CODE(gather));
    Py_DECREF(gather);
    return 0;
}

int core_aio_load(core_state *state) {
    core_async_state *a = state->async;
    if (a->loaded)
        return 0;
    PyObject *tasks = PyImport_ImportModule("asyncio.tasks");
    PyObject *events = tasks ? PyImport_ImportModule("asyncio.events") : NULL;
    PyObject *exceptions = events ? PyImport_ImportModule("asyncio.exceptions") : NULL;
    int r = -1;
    if (exceptions && attribute(events, "_get_running_loop", &a->get_running_loop) == 0 &&
        load_current_task(a, tasks) == 0 && attribute(tasks, "_register_task", &a->register_task) == 0 &&
        attribute(tasks, "_unregister_task", &a->unregister_task) == 0 &&
        attribute(tasks, "Task", &a->task_type) == 0 &&
        attribute(exceptions, "CancelledError", &a->cancelled_error) == 0 &&
        attribute(exceptions, "InvalidStateError", &a->invalid_state_error) == 0)
        r = load_gather(a, tasks);
    a->loaded = r == 0;
    Py_XDECREF(tasks);
    Py_XDECREF(events);
    Py_XDECREF(exceptions);
    return r;
}

PyObject *core_running_loop(core_state *state) {
    if (core_aio_load(state) < 0)
        return NULL;
    PyObject *loop = PyObject_CallNoArgs(state->async->get_running_loop);
    if (loop == Py_None)
        Py_CLEAR(loop);
    return loop;
}

PyObject *core_running_holder(core_state *state) {
#if PY_VERSION_HEX < 0x030c0000
    PyObject *thread = PyThreadState_GetDict();
    return thread ? PyDict_GetItemWithError(thread, state->async->running_key) : NULL;
#else
    (void)state;
    return NULL;
#endif
}

static PyObject *call_two(PyObject *function, PyObject *first, PyObject *second) {
    PyObject *args[3] = {NULL, first, second};
    return PyObject_Vectorcall(function, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

/* set_current: `task` or None. */
static int set_current(core_async_state *a, PyObject *loop, PyObject *task) {
    if (task != Py_None)
        return PyDict_SetItem(a->current_tasks, loop, task);
    int there = PyDict_Contains(a->current_tasks, loop);
    return there <= 0 ? there : PyDict_DelItem(a->current_tasks, loop);
}

PyObject *core_task_swap(core_state *state, PyObject *loop, PyObject *task, bool in_task) {
    core_async_state *a = state->async;
    if (!a->current_tasks)
        return call_two(a->swap_task, loop, task);
    PyObject *previous = in_task ? PyDict_GetItemWithError(a->current_tasks, loop) : NULL;
    if (!previous && PyErr_Occurred())
        return NULL;
    previous = Py_NewRef(previous ? previous : Py_None);
    if (set_current(a, loop, task) < 0)
        Py_CLEAR(previous);
    return previous;
}

void core_task_restore(core_state *state, PyObject *loop, PyObject *previous) {
    core_async_state *a = state->async;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (a->current_tasks) {
        if (set_current(a, loop, previous) < 0)
            PyErr_WriteUnraisable(loop);
    } else {
        PyObject *result = call_two(a->swap_task, loop, previous);
        if (!result)
            PyErr_WriteUnraisable(loop);
        Py_XDECREF(result);
    }
    PyErr_Restore(type, value, traceback);
    Py_DECREF(previous);
}

/* start_thread: runs loop.run_forever in a daemon thread. */
static int start_thread(PyObject *loop) {
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *target = threading ? PyObject_GetAttrString(loop, "run_forever") : NULL;
    PyObject *type = target ? PyObject_GetAttrString(threading, "Thread") : NULL;
    PyObject *arguments = type ? PyTuple_New(0) : NULL;
    PyObject *options =
        arguments ? Py_BuildValue("{s:O,s:s,s:O}", "target", target, "name", "pyisolate-service", "daemon", Py_True)
                  : NULL;
    PyObject *thread = options ? PyObject_Call(type, arguments, options) : NULL;
    PyObject *started = thread ? PyObject_CallMethod(thread, "start", NULL) : NULL;
    int r = started ? 0 : -1;
    Py_XDECREF(threading);
    Py_XDECREF(target);
    Py_XDECREF(type);
    Py_XDECREF(arguments);
    Py_XDECREF(options);
    Py_XDECREF(thread);
    Py_XDECREF(started);
    return r;
}

/* ---- interruptions ---- */

/* raise_kept: run by the interpreter in its main thread. */
static int raise_kept(void *argument) {
    PyObject *exception = argument;
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
    return -1;
}

/* is_closed: a loop that cannot tell is as good as closed. */
static bool is_closed(PyObject *loop) {
    PyObject *closed = loop ? PyObject_CallMethod(loop, "is_closed", NULL) : NULL;
    bool is = !closed || PyObject_IsTrue(closed) != 0;
    Py_XDECREF(closed);
    PyErr_Clear(); /* the answer stands for it */
    return is;
}

PyObject *core_take_interruption(PyObject *loop) {
    /* handlers of signals run in the main thread only */
    if (gettid() != getpid() || PyErr_ExceptionMatches(PyExc_MemoryError))
        return NULL;
    PyObject *exception = core_fetch_exception();
    if (!PyErr_GivenExceptionMatches(exception, PyExc_RuntimeError) || !is_closed(loop))
        return exception;
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
    return NULL;
}

void core_raise_later(PyObject *exception) {
    if (Py_AddPendingCall(raise_kept, exception) == 0)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    PyErr_WriteUnraisable(NULL); /* more than 30 at once */
    PyErr_Restore(type, value, traceback);
    Py_DECREF(exception);
}

/* call_deep: again, with room for some more calls. By difference: other threads may do the same at the same time. */
static PyObject *call_deep(PyObject *method, PyObject **args, size_t count, PyObject *names) {
    PyErr_Clear(); /* the RecursionError, which is not raised */
    Py_SetRecursionLimit(Py_GetRecursionLimit() + DEPTH);
    PyObject *result = PyObject_VectorcallMethod(method, args, count | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    Py_SetRecursionLimit(Py_GetRecursionLimit() - DEPTH);
    return result;
}

PyObject *core_loop_call(PyObject *loop, PyObject *method, PyObject **args, size_t count, PyObject *names) {
    if (!args[0])
        return NULL; /* the link has lost it, and what is there to be called with it */
    size_t all = count + (names ? (size_t)PyTuple_GET_SIZE(names) : 0);
    PyObject *result = NULL, *kept[INTERRUPTIONS];
    int interruptions = 0;
    Py_XINCREF(loop); /* what runs in the meantime may drop all of these */
    for (size_t i = 0; i < all; i++)
        Py_INCREF(args[i]);
    while (!result && interruptions < INTERRUPTIONS) {
        result = PyObject_VectorcallMethod(method, args, count | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
        if (!result && PyErr_ExceptionMatches(PyExc_RecursionError))
            result = call_deep(method, args, count, names);
        if (!result && !(kept[interruptions++] = core_take_interruption(loop))) {
            PyErr_Clear(); /* the loop is closed, or memory is exhausted and it cannot do more either */
            break;
        }
    }
    for (int i = 0; i < interruptions && kept[i]; i++)
        core_raise_later(kept[i]);
    for (size_t i = 0; i < all; i++)
        Py_DECREF(args[i]);
    Py_XDECREF(loop);
    return result;
}

/* new_service_loop: one that does not run yet; NULL with an exception. */
static PyObject *new_service_loop(void) {
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    PyObject *loop = asyncio ? PyObject_CallMethod(asyncio, "new_event_loop", NULL) : NULL;
    Py_XDECREF(asyncio);
    return loop;
}

/* close_loop: one that does not run. Keeps the current exception. */
static void close_loop(PyObject *loop) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *closed = PyObject_CallMethod(loop, "close", NULL);
    if (!closed)
        PyErr_WriteUnraisable(loop);
    Py_XDECREF(closed);
    PyErr_Restore(type, value, traceback);
}

static bool is_serviced(const core_async_state *a) {
    return a->service_loop && a->service_pid == getpid();
}

PyObject *core_service_loop(core_state *state) {
    core_async_state *a = state->async;
    if (is_serviced(a))
        return a->service_loop;
    PyObject *loop = core_aio_load(state) < 0 ? NULL : new_service_loop();
    if (!loop)
        return NULL;
    if (is_serviced(a)) { /* another thread has been faster */
        close_loop(loop);
        Py_DECREF(loop);
        return a->service_loop;
    }
    Py_XSETREF(a->service_loop, Py_NewRef(loop)); /* one of a parent process stays as it was: its thread is not here */
    a->service_pid = getpid();
    int r = start_thread(loop);
    if (r < 0) {
        if (a->service_loop == loop)
            Py_CLEAR(a->service_loop);
        close_loop(loop);
    }
    Py_DECREF(loop);
    return r < 0 ? NULL : a->service_loop;
}
