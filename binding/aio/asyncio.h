/* asyncio.h - the parts of asyncio that the binding uses, looked up once: the running loop, the current task, the
 * service loop. asyncio is imported on first use, so that a host without a loop never pays for it. */
#ifndef BINDING_ASYNCIO_H
#define BINDING_ASYNCIO_H

#include "common/state.h"

struct core_link;

struct core_async_state {
    bool loaded;
    PyObject *get_running_loop; /* asyncio._get_running_loop */
    PyObject *current_task;     /* asyncio.current_task */
    PyObject *enter_task,
        *leave_task; /* asyncio._enter_task and _leave_task, which asyncio provides for other event loops */
    PyObject *task_type, *cancelled_error;
    PyObject *service_loop;      /* event loop of the service thread, or NULL */
    int service_epoll;           /* the file descriptor of its selector */
    unsigned service_generation; /* fork generation of the process that started it */
    PyTypeObject *link_type, *fd_reader_type, *handler_type, *waiter_type, *gather_type;
    void (*loop_closed)(struct core_link *link); /* set by closing.c, whose layer is above its callers */
    /* interned names */
    PyObject *call_soon, *call_soon_threadsafe, *call_later, *create_future, *create_task, *get_task_factory,
        *set_result, *done, *cancel, *add_reader, *remove_reader, *wake_future, *running_key, *throw, *close,
        *is_running;
    PyObject *context_name; /* tuple: "context" */
    PyObject *task_names;   /* tuple: the keyword arguments with which a task is created */
};

int core_aio_init(PyObject *module, core_state *state);
int core_aio_visit(core_state *state, visitproc visit, void *arg);
void core_aio_clear(core_state *state);
void core_aio_free(core_state *state);
/* core_aio_load: imports asyncio. Returns 0 or -1. */
int core_aio_load(core_state *state);

/* core_running_loop: returns the loop that runs in this thread (new reference); NULL without an exception when there is
 * none, NULL with one on failure. */
PyObject *core_running_loop(core_state *state);

/* core_running_token: returns an object that identifies the running loop of this thread, borrowed; the same object as
 * long as the loop runs. NULL when that is unknown. Up to Python 3.11 asking asyncio for the running loop takes a
 * system call. */
PyObject *core_running_token(core_state *state);

/* core_task_new: creates a task of the loop, which runs in this thread. Up to Python 3.11 the task runs in a copy of
 * the context; from 3.12 on it runs in the context itself and has taken its first step on return. The loop's task
 * factory creates it, if there is one. New reference or NULL. */
PyObject *core_task_new(core_state *state, PyObject *loop, PyObject *coroutine, PyObject *context);

/* core_task_hide: leaves the current task of the loop that runs in this thread, until core_task_show, which takes the
 * returned task and keeps the current exception. NULL without an exception: there is no current task. */
PyObject *core_task_hide(core_state *state, PyObject **ret_loop);
void core_task_show(core_state *state, PyObject *loop, PyObject *task);

/* core_loop_call: calls a method of args[0], the loop or one of its objects, that may be called twice: it is called
 * again if a signal handler has raised inside it, and that exception is kept. `names`: NULL or the names of keyword
 * arguments, as in a vectorcall. args[-1] may be overwritten. Returns a new reference. NULL without an exception: the
 * loop is closed, or, if ret_again is not NULL and *ret_again is set, the call failed for another reason: the stack is
 * too deep, memory is exhausted. */
PyObject *core_loop_call(core_state *state, PyObject *loop, PyObject *method, PyObject **args, size_t count,
                         PyObject *names, bool *ret_again);

/* core_service_loop: returns an event loop that runs in its own daemon thread, which is started on first use;
 * borrowed. */
PyObject *core_service_loop(core_state *state);

#endif
