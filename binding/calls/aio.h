/* aio.h - what the binding uses of asyncio, looked up once: the running loop, the current task, the service
 * loop. asyncio is imported on first use, so that a host without a loop never pays for it. */
#ifndef BINDING_AIO_H
#define BINDING_AIO_H

#include "common/state.h"

struct core_async_state {
    bool loaded;
    PyObject *get_running_loop; /* asyncio._get_running_loop */
    PyObject *current_tasks;    /* dict: loop -> task, until 3.13; or NULL, and then: */
    PyObject *swap_task;        /* asyncio.tasks._swap_current_task */
    PyObject *register_task, *unregister_task;
    PyObject *task_type, *cancelled_error, *invalid_state_error;
    PyObject *gather_code;      /* of asyncio.gather; NULL: something else stands there */
    PyObject *service_loop;     /* event loop of the service thread, or NULL */
    int service_pid;            /* process that started it */
    PyObject *session_variable; /* ContextVar behind current_session() */
    PyTypeObject *link_type, *reader_type, *handler_type, *parker_type;
    PyObject *free_calls[64]; /* dead Call objects, to be used again */
    int free_call_count;
    /* interned names */
    PyObject *call_soon, *call_soon_threadsafe, *call_later, *create_future, *set_result, *done, *cancel, *add_reader,
        *remove_reader, *wake_future, *must_cancel, *log_destroy_pending, *loop, *running_key, *throw, *close,
        *is_running;
    PyObject *context_name; /* tuple: "context" */
};

int core_aio_init(PyObject *module, core_state *state);
int core_aio_visit(core_state *state, visitproc visit, void *arg);
void core_aio_clear(core_state *state);
/* core_aio_load: imports asyncio. 0 or -1. */
int core_aio_load(core_state *state);

/* core_running_loop: the loop that runs in this thread (new reference); NULL without an exception when there is
 * none, NULL with one on failure. */
PyObject *core_running_loop(core_state *state);

/* core_running_holder: what stands for the running loop in this thread, borrowed; the same object as long as the loop
 * runs. NULL when it cannot be told. Until 3.11 asking asyncio for the running loop takes a system call. */
PyObject *core_running_holder(core_state *state);

/* core_task_swap: makes `task` (or None) the current task of the loop running in this thread and returns the one
 * it was (new reference, None if there was none), to be swapped back. `in_task`: false if there is surely
 * none. */
PyObject *core_task_swap(core_state *state, PyObject *loop, PyObject *task, bool in_task);
/* core_task_restore: swaps back; steals `previous`; keeps the current exception. */
void core_task_restore(core_state *state, PyObject *loop, PyObject *previous);

/* core_take_interruption: after Python code of a loop has failed. Unless the loop is closed, or memory is exhausted, the
 * exception was raised in the middle of it by the handler of a signal: then it is taken. NULL: it stays.
 * core_raise_later (steals it): when that code has been called again, for which this would come too early; raises it in
 * the main thread as soon as this runs Python code, or waits. Keeps the current exception. */
PyObject *core_take_interruption(PyObject *loop);
void core_raise_later(PyObject *exception);

/* core_loop_call: calls a method of args[0], the loop or something of it, that may be called twice: it is called again
 * after an interruption, and where the application's own calls are so deep that there is no room for one more. `names`
 * (or NULL) of keyword arguments, as in a vectorcall. args[-1] may be overwritten. New reference, or NULL without an
 * exception: the loop is closed. */
PyObject *core_loop_call(PyObject *loop, PyObject *method, PyObject **args, size_t count, PyObject *names);

/* core_service_loop: an event loop that runs in a daemon thread of its own, started on first use; borrowed. */
PyObject *core_service_loop(core_state *state);

#endif
