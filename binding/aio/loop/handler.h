/* handler.h - a Handler: what a task runs to answer a request whose method is a coroutine (handler.c). */
#ifndef BINDING_HANDLER_H
#define BINDING_HANDLER_H

#include "link.h"
#include "rpc/requests.h"

struct core_handler {
    PyObject_HEAD core_session *session; /* strong until it is over */
    core_link *link;                     /* of the loop that it runs on; strong until it is over */
    core_handler *next, **previous_next; /* session->handlers */
    core_handler *next_finished;         /* link->finished */
    PyObject *task;                      /* strong until it is over; NULL until it is made */
    PyObject *awaiter;                   /* the request's coroutine, or iterator */
    PyObject *context;                   /* until the task is made */
    PyObject *result;                    /* until it is sent */
    core_thread *ready_on;                    /* while the loop is to take its first step */
    uint64_t request;                    /* 0: no answer is wanted */
    bool has_buffers;                    /* the request came with some */
    bool stepped;                        /* the task has begun */
    bool failed;                         /* it has raised what its task raises */
    bool over;                           /* the coroutine has ended, or is not to be run */
    bool cancelled;                      /* the peer does not wait any more */
};

int core_handler_init(PyObject *module, core_state *state);
/* core_handler_run: has a task of the link's loop run `awaitable` (stolen) in that context and answer `request`.
 * `has_buffers`: the request came with some, which the answer may give back. */
void core_handler_run(core_session *s, core_link *link, uint64_t request, PyObject *awaitable, PyObject *context,
                      bool has_buffers, core_pump_context *pump);
/* core_handler_cancel: its caller has given it up. core_handlers_cancel: all of a session's: the peer has gone. */
void core_handler_cancel(core_handler *h);
void core_handlers_cancel(core_session *s);
/* core_handlers_answer: those of link->finished, whose tasks have ended. core_handlers_end: the link's loop has been closed:
 * whatever runs there fails. */
void core_handlers_answer(core_link *link);
void core_handlers_end(core_session *s, core_link *link);

#endif
