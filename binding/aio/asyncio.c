/* asyncio.c - see asyncio.h. */
#include "asyncio.h"

#include "common/errors.h"
#include "common/interruption.h"

#define ATTEMPTS 2 /* to call a loop, if a signal handler raises inside the call */

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
        {&a->create_task, "create_task"},
        {&a->get_task_factory, "get_task_factory"},
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
    a->context_name = Py_BuildValue("(s)", "context");
#if PY_VERSION_HEX >= 0x030c0000
    a->task_names = Py_BuildValue("(sss)", "loop", "context", "eager_start");
#elif PY_VERSION_HEX >= 0x030b0000
    a->task_names = Py_BuildValue("(ss)", "loop", "context");
#else
    a->task_names = Py_BuildValue("(s)", "loop");
#endif
    return a->context_name && a->task_names && intern_names(a) == 0 ? 0 : -1;
}

int core_aio_visit(core_state *state, visitproc visit, void *arg) {
    core_async_state *a = state->async;
    if (!a)
        return 0;
    Py_VISIT(a->get_running_loop);
    Py_VISIT(a->current_task);
    Py_VISIT(a->enter_task);
    Py_VISIT(a->leave_task);
    Py_VISIT(a->task_type);
    Py_VISIT(a->cancelled_error);
    Py_VISIT(a->service_loop);
    Py_VISIT(a->link_type);
    Py_VISIT(a->fd_reader_type);
    Py_VISIT(a->handler_type);
    Py_VISIT(a->waiter_type);
    Py_VISIT(a->gather_type);
    return 0;
}

void core_aio_clear(core_state *state) {
    core_async_state *a = state->async;
    if (!a)
        return;
    PyObject **fields[] = {
        &a->get_running_loop,
        &a->current_task,
        &a->enter_task,
        &a->leave_task,
        &a->task_type,
        &a->cancelled_error,
        &a->service_loop,
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
        &a->create_task,
        &a->get_task_factory,
        &a->running_key,
        &a->throw,
        &a->close,
        &a->context_name,
        &a->task_names,
        &a->is_running,
        (PyObject **)&a->link_type,
        (PyObject **)&a->fd_reader_type,
        (PyObject **)&a->handler_type,
        (PyObject **)&a->waiter_type,
        (PyObject **)&a->gather_type,
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        Py_CLEAR(*fields[i]);
}

void core_aio_free(core_state *state) {
    PyMem_Free(state->async);
    state->async = NULL;
}

static int attribute(PyObject *module, const char *name, PyObject **field) {
    *field = PyObject_GetAttrString(module, name);
    return *field ? 0 : -1;
}

int core_aio_load(core_state *state) {
    core_async_state *a = state->async;
    if (a->loaded)
        return 0;
    PyObject *tasks = PyImport_ImportModule("asyncio.tasks");
    PyObject *events = tasks ? PyImport_ImportModule("asyncio.events") : NULL;
    PyObject *exceptions = events ? PyImport_ImportModule("asyncio.exceptions") : NULL;
    a->loaded = exceptions && attribute(events, "_get_running_loop", &a->get_running_loop) == 0 &&
                attribute(tasks, "current_task", &a->current_task) == 0 &&
                attribute(tasks, "_enter_task", &a->enter_task) == 0 &&
                attribute(tasks, "_leave_task", &a->leave_task) == 0 && attribute(tasks, "Task", &a->task_type) == 0 &&
                attribute(exceptions, "CancelledError", &a->cancelled_error) == 0;
    Py_XDECREF(tasks);
    Py_XDECREF(events);
    Py_XDECREF(exceptions);
    return a->loaded ? 0 : -1;
}

PyObject *core_running_loop(core_state *state) {
    if (core_aio_load(state) < 0)
        return NULL;
    PyObject *loop = PyObject_CallNoArgs(state->async->get_running_loop);
    if (loop == Py_None)
        Py_CLEAR(loop);
    return loop;
}

PyObject *core_running_token(core_state *state) {
#if PY_VERSION_HEX < 0x030c0000
    PyObject *thread = PyThreadState_GetDict();
    return thread ? PyDict_GetItemWithError(thread, state->async->running_key) : NULL;
#else
    (void)state;
    return NULL;
#endif
}

/* ---- tasks ---- */

/* in_context: makes one call in a context. */
static PyObject *in_context(PyObject *context, PyObject *function, PyObject **args, size_t count, PyObject *names) {
    if (PyContext_Enter(context) < 0)
        return NULL;
    PyObject *result = PyObject_Vectorcall(function, args, count | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    if (PyContext_Exit(context) < 0)
        Py_CLEAR(result);
    return result;
}

/* plain_task: creates a task as loop.create_task does without a factory. */
static PyObject *plain_task(core_async_state *a, PyObject *loop, PyObject *coroutine, PyObject *context) {
    PyObject *args[5] = {NULL, coroutine, loop, context, Py_True};
#if PY_VERSION_HEX >= 0x030b0000
    return PyObject_Vectorcall(a->task_type, args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, a->task_names);
#else
    return in_context(context, a->task_type, args + 1, 1, a->task_names);
#endif
}

PyObject *core_task_new(core_state *state, PyObject *loop, PyObject *coroutine, PyObject *context) {
    core_async_state *a = state->async;
    PyObject *factory = PyObject_CallMethodNoArgs(loop, a->get_task_factory), *task = NULL;
    if (factory == Py_None) {
        task = plain_task(a, loop, coroutine, context);
    } else if (factory) {
        PyObject *create = PyObject_GetAttr(loop, a->create_task), *args[2] = {NULL, coroutine};
        if (create) /* not through its argument `context`, which older factories do not accept */
            task = in_context(context, create, args + 1, 1, NULL);
        Py_XDECREF(create);
    }
    Py_XDECREF(factory);
    return task;
}

PyObject *core_task_hide(core_state *state, PyObject **ret_loop) {
    core_async_state *a = state->async;
    PyObject *loop = core_running_loop(state), *task = loop ? PyObject_CallOneArg(a->current_task, loop) : NULL;
    PyObject *args[3] = {NULL, loop, task}, *left = NULL;
    if (task && task != Py_None)
        left = PyObject_Vectorcall(a->leave_task, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (!left) {
        PyErr_Clear(); /* out of memory: it stays visible */
        Py_CLEAR(task);
        Py_CLEAR(loop);
    }
    Py_XDECREF(left);
    *ret_loop = loop;
    return task;
}

void core_task_show(core_state *state, PyObject *loop, PyObject *task) {
    PyObject *type, *value, *traceback, *args[3] = {NULL, loop, task};
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *entered =
        PyObject_Vectorcall(state->async->enter_task, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (!entered)
        PyErr_WriteUnraisable(task);
    Py_XDECREF(entered);
    PyErr_Restore(type, value, traceback);
    Py_DECREF(task);
    Py_DECREF(loop);
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

/* ---- calling a loop ---- */

/* is_closed: a loop whose is_closed() raises counts as closed. */
static bool is_closed(PyObject *loop) {
    PyObject *closed = loop ? PyObject_CallMethod(loop, "is_closed", NULL) : NULL;
    bool is = !closed || PyObject_IsTrue(closed) != 0;
    Py_XDECREF(closed);
    PyErr_Clear(); /* the return value replaces the exception */
    return is;
}

/* take_interruption: takes the current exception. Returns whether it has another reason than that the loop is closed.
 * An exception raised by a signal handler, which can only be in the main thread, is kept. */
static bool take_interruption(core_state *state, PyObject *loop) {
    bool may_be_closed = PyErr_ExceptionMatches(PyExc_RuntimeError) && !PyErr_ExceptionMatches(PyExc_RecursionError);
    bool is_ours = PyErr_ExceptionMatches(PyExc_RecursionError) || PyErr_ExceptionMatches(PyExc_MemoryError);
    PyObject *exception = core_fetch_exception();
    bool again = !may_be_closed || !is_closed(loop);
    if (again && !is_ours && core_is_main_thread())
        core_keep_interruption(state, exception);
    Py_DECREF(exception);
    return again;
}

PyObject *core_loop_call(core_state *state, PyObject *loop, PyObject *method, PyObject **args, size_t count,
                         PyObject *names, bool *ret_again) {
    bool again = args[0] != NULL, held = again; /* otherwise the link has lost it, and the objects of the call */
    PyObject *result = NULL;
    size_t all = held ? count + (names ? (size_t)PyTuple_GET_SIZE(names) : 0) : 0;
    Py_XINCREF(loop); /* code that runs meanwhile may drop all of these */
    for (size_t i = 0; i < all; i++)
        Py_INCREF(args[i]);
    for (int i = 0; i < ATTEMPTS && again && !result; i++) {
        result = PyObject_VectorcallMethod(method, args, count | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
        if (!result)
            again = take_interruption(state, loop);
    }
    for (size_t i = 0; i < all; i++)
        Py_DECREF(args[i]);
    Py_XDECREF(loop);
    if (ret_again)
        *ret_again = !result && again;
    return result;
}

/* new_service_loop: creates a loop that does not run yet, and gets its selector's epoll descriptor; NULL with an
 * exception. */
static PyObject *new_service_loop(int *ret_epoll) {
    PyObject *selectors = PyImport_ImportModule("selectors");
    PyObject *selector = selectors ? PyObject_CallMethod(selectors, "EpollSelector", NULL) : NULL;
    PyObject *asyncio = selector ? PyImport_ImportModule("asyncio") : NULL;
    PyObject *loop = asyncio ? PyObject_CallMethod(asyncio, "SelectorEventLoop", "O", selector) : NULL;
    PyObject *number = loop ? PyObject_CallMethod(selector, "fileno", NULL) : NULL;
    *ret_epoll = number ? (int)PyLong_AsLong(number) : -1;
    if (!number)
        Py_CLEAR(loop);
    Py_XDECREF(number);
    Py_XDECREF(asyncio);
    Py_XDECREF(selector);
    Py_XDECREF(selectors);
    return loop;
}

/* close_loop: closes a loop that does not run. Keeps the current exception. */
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
    return a->service_loop && a->service_generation == piso_fork_generation();
}

PyObject *core_service_loop(core_state *state) {
    core_async_state *a = state->async;
    if (is_serviced(a))
        return a->service_loop;
    int epoll_fd;
    PyObject *loop = core_aio_load(state) < 0 ? NULL : new_service_loop(&epoll_fd);
    if (!loop)
        return NULL;
    if (is_serviced(a)) { /* another thread was faster */
        close_loop(loop);
        Py_DECREF(loop);
        return a->service_loop;
    }
    Py_XSETREF(a->service_loop,
               Py_NewRef(loop)); /* the parent process's loop is not closed: its thread does not exist here */
    a->service_generation = piso_fork_generation();
    a->service_epoll = epoll_fd;
    int r = start_thread(loop);
    if (r < 0) {
        if (a->service_loop == loop)
            Py_CLEAR(a->service_loop);
        close_loop(loop);
    }
    Py_DECREF(loop);
    return r < 0 ? NULL : a->service_loop;
}
