/* handler.h - a Handler, shared by handler.c (what its task calls) and serving.c (requests). */
#ifndef BINDING_HANDLER_H
#define BINDING_HANDLER_H

#include "session.h"

#include "aio.h"
#include "parker.h"

/* Where it is; see handler.c. */
typedef enum core_stage { CORE_FRESH, CORE_PARKED, CORE_OWNED, CORE_OVER } core_stage;

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

/* core_handler_new: one without a task. NULL with an exception. */
core_handler *core_handler_new(core_async_state *a);
/* core_handler_drive: one step of the coroutine in its context; `thrown` is an exception to throw in, or NULL. */
PySendResult core_handler_drive(core_handler *h, PyObject *thrown, PyObject **ret_value);
/* core_handler_release: the coroutine and its context are dropped; before the reply where they may hold buffers, so that
 * these are free again. */
void core_handler_release(core_handler *h);

static inline core_async_state *core_handler_async(core_handler *h) {
    return core_type_state(Py_TYPE(h))->async;
}

#endif
