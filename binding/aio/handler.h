/* handler.h - a Handler: what a task runs to answer a request whose method is a coroutine (handler.c). */
#ifndef BINDING_HANDLER_H
#define BINDING_HANDLER_H

#include "rpc/session.h"

struct core_handler {
    PyObject_HEAD core_session *session; /* strong until it is over */
    core_link *link;                     /* of the loop that it runs on; strong until it is over */
    core_handler *next, **previous_next; /* session->handlers */
    core_handler *next_finished;         /* link->finished */
    PyObject *task;                      /* strong until it is over; NULL until it is made */
    PyObject *awaiter;                   /* the request's coroutine, or iterator */
    PyObject *context;                   /* until the task is made */
    PyObject *result;                    /* until it is sent */
    core_thread *due;                    /* while the loop is to take its first step */
    uint64_t request;                    /* 0: no answer is wanted */
    bool has_buffers;                    /* the request came with some */
    bool stepped;                        /* the task has begun */
    bool failed;                         /* it has raised what its task raises */
    bool over;                           /* the coroutine has ended, or is not to be run */
    bool cancelled;                      /* the peer does not wait any more */
};

#endif
