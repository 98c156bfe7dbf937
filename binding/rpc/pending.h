/* pending.h - a call that has been sent: the state that its caller keeps until it ends, and sending it. */
#ifndef BINDING_PENDING_H
#define BINDING_PENDING_H

#include "session.h"

typedef enum core_outcome { CORE_PENDING, CORE_RESULT, CORE_EXCEPTION, CORE_TAKEN } core_outcome;

typedef struct core_pending {
    piso_call call;
    uint8_t outcome;      /* core_outcome */
    bool arriving;        /* its reply is being decoded, perhaps in another thread: do not free it */
    bool closed;          /* its owner no longer waits */
    bool woken;           /* `waiter` has been woken */
    unsigned long thread; /* the thread that made the call */
    PyObject *owner;      /* the object that embeds this, borrowed. NULL: a thread waits for it (sync.c) */
    core_thread *waiter;  /* that thread; NULL: there is an owner */
    PyObject *value;      /* result or exception instance; strong */
    PyObject *name;       /* the method, for messages; strong, owned by whatever embeds this */
    int64_t timeout_ns;   /* as configured, for messages; 0: none */
} core_pending;

/* core_send: encodes the arguments and sends the call. Returns 0, or -1 with an exception. */
int core_send(core_session *s, core_pending *pending, uint32_t object, uint32_t method, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames);
/* core_pending_take: returns the result (new reference), or NULL with the exception raised; outcome becomes
 * CORE_TAKEN. */
PyObject *core_pending_take(core_pending *pending);
/* core_session_notify: Session.notify. */
PyObject *core_session_notify(PyObject *self, PyObject *args);

/* core_sync_call: sends a call and waits for its reply without the GIL. Returns the result (new reference) or NULL. */
PyObject *core_sync_call(core_session *s, uint32_t object, uint32_t method, PyObject *name, int64_t timeout_ns,
                         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

int core_method_init(PyObject *module, core_state *state);
PyObject *core_method_new(core_session *s, uint32_t object, PyObject *name, bool sync, PyObject *timeout);

#endif
