/* pending.h - a call that has been sent: what its sender keeps until the end, and sending it. */
#ifndef BINDING_PENDING_H
#define BINDING_PENDING_H

#include "session.h"

typedef enum core_outcome { CORE_PENDING, CORE_RESULT, CORE_EXCEPTION, CORE_TAKEN } core_outcome;

typedef struct core_pending {
    piso_call call;
    uint8_t outcome;      /* core_outcome */
    bool arriving;        /* its end is being decoded, perhaps in another thread: it has to stay */
    bool closed;          /* its owner waits no more */
    bool woken;           /* `waiter` has been told */
    unsigned long thread; /* that made the call */
    PyObject *owner;      /* the object whose part this is; borrowed. NULL: a thread waits for it (sync.c) */
    core_thread *waiter;  /* that thread; NULL: there is an owner */
    PyObject *value;      /* result or exception instance; owned */
    PyObject *name;       /* the method, for messages; owned by whoever embeds this */
    int64_t timeout_ns;   /* as configured, for messages; 0: none */
} core_pending;

/* core_send: encodes arguments and sends. 0, or -1 with an exception. */
int core_send(core_session *s, core_pending *pending, uint32_t object, uint32_t method, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames);
/* core_pending_take: the result (new reference) or NULL with the exception raised; outcome becomes TAKEN. */
PyObject *core_pending_take(core_pending *pending);
/* core_session_notify: Session.notify. */
PyObject *core_session_notify(PyObject *self, PyObject *args);

/* core_sync_call: sends and waits without the GIL. The result or NULL. */
PyObject *core_sync_call(core_session *s, uint32_t object, uint32_t method, PyObject *name, int64_t timeout_ns,
                         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

int core_method_init(PyObject *module, core_state *state);
PyObject *core_method_new(core_session *s, uint32_t object, PyObject *name, bool sync, PyObject *timeout);

#endif
