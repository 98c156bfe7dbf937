/* handler.h - a Handler: the coroutine of a task that answers a request whose method is a coroutine (handler.c). */
#ifndef BINDING_HANDLER_H
#define BINDING_HANDLER_H

#include "link.h"

struct core_handler {
    PyObject_HEAD core_session *session; /* strong until it is over */
    core_link *link;                     /* of the loop that runs it; strong until it is over */
    core_handler *next, **previous_next; /* session->handlers */
    core_handler *next_finished;         /* link->finished */
    PyObject *task;                      /* strong until it is over; NULL until it is created */
    PyObject *awaiter;                   /* the request's coroutine, or iterator */
    PyObject *context;                   /* until the task is created */
    PyObject *result;                    /* until it is sent */
    core_thread *ready_on;               /* set until the loop has run its first step */
    uint64_t request;                    /* 0: no reply is expected */
    bool has_buffers;                    /* the request carried buffers */
    bool stepped;                        /* the task has started */
    bool failed;                         /* it has raised the exception that its task raises */
    bool over;                           /* the coroutine has ended, or must not be run */
    bool cancelled;                      /* the peer no longer waits */
};

int core_handler_init(PyObject *module, core_state *state);
/* core_handler_run: creates a task of the link's loop that runs `awaitable` (stolen) in that context and answers
 * `request`. `has_buffers`: the request carried buffers, which the reply may return. */
void core_handler_run(core_session *s, core_link *link, uint64_t request, PyObject *awaitable, PyObject *context,
                      bool has_buffers, core_pump_context *pump);
/* core_handler_cancel: called when the caller has given up the request. core_handlers_cancel: cancels all handlers of a
 * session whose peer has gone. */
void core_handler_cancel(core_handler *h);
void core_handlers_cancel(core_session *s);
/* core_handlers_answer: sends the replies of link->finished, whose tasks have ended. core_handlers_end: the link's loop
 * has been closed: all handlers on it fail. */
void core_handlers_answer(core_link *link);
void core_handlers_end(core_session *s, core_link *link);

#endif
