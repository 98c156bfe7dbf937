/* remote.h - objects of the peer that this process holds by reference: a RemoteFunction, which can be called, and a
 * remote Ref, whose methods can be called.
 *
 * One object stands for one object of the peer, as long as it lives, and holds one lease of it. Views of it (.sync,
 * .with_timeout) refer to it. A Ref that this process creates itself holds an object until that is sent. */
#ifndef BINDING_REMOTE_H
#define BINDING_REMOTE_H

#include "rpc/pump/sync.h"
#include "rpc/types/method.h"

typedef struct core_remote {
    PyObject_HEAD vectorcallfunc vectorcall; /* of a function */
    core_callee to;                          /* session NULL: an object of this process */
    struct core_remote *base;                /* of a view; NULL: it holds the lease itself */
    uint64_t lease;                          /* 0: it has been released, or has none */
    PyObject *object;                        /* of this process */
    PyObject *methods;                       /* tuple of names; NULL: it is a function */
    uint32_t *method_ids;                    /* of these names, CORE_NOT_INTERNED until used; of the base */
    bool sync;
    PyObject *timeout; /* of a view, as given; NULL: the session's */
    PyObject *weakrefs;
} core_remote;

/* core_remote_of: returns the object as a remote function or a Ref, or NULL without an exception. */
core_remote *core_remote_of(core_state *state, PyObject *object);
/* core_remote_base: returns what a view refers to; else the object itself. */
static inline core_remote *core_remote_base(core_remote *r) {
    return r->base ? r->base : r;
}
/* core_remote_take: returns the object that stands for an object of the peer: a new reference. Takes the lease. `name`
 * and `methods` (NULL: a function) are used if there is none yet. NULL with an exception. */
PyObject *core_remote_take(core_session *s, uint32_t object, uint64_t lease, PyObject *name, PyObject *methods);
/* core_remote_known: returns the object that stands for an object of the peer: a new reference; NULL, without an
 * exception, if there is none. */
PyObject *core_remote_known(core_session *s, uint32_t object);

/* core_remote_visit, _clear, _dealloc: of both types. core_remote_members: attributes and methods of both. */
int core_remote_traverse(PyObject *self, visitproc visit, void *arg);
int core_remote_clear(PyObject *self);
void core_remote_dealloc(PyObject *self);
PyObject *core_remote_reduce(PyObject *self, PyObject *ignored);
PyObject *core_remote_release(PyObject *self, PyObject *ignored);
PyObject *core_remote_enter(PyObject *self, PyObject *ignored);
PyObject *core_remote_exit(PyObject *self, PyObject *args);
PyObject *core_remote_with_timeout(PyObject *self, PyObject *seconds);
PyObject *core_remote_sync(PyObject *self, void *ignored);
/* core_remote_check: raises if the object has been released. Returns 0 or -1. */
int core_remote_check(const core_remote *r);

/* core_function_callee, core_ref_callee: get what a call of the function, or of a method of the Ref, is sent to. The
 * references stay the object's own. Return 0, or -1 with an exception. */
int core_function_callee(core_remote *r, core_callee *ret);
int core_ref_callee(core_remote *r, PyObject *method, core_callee *ret);
/* core_ref_permitted: returns the names of methods, from an iterable, as a sorted tuple without repetitions. Raises for a
 * name that a Ref to an instance of the class cannot permit. */
PyObject *core_ref_permitted(core_state *state, PyTypeObject *cls, PyObject *methods);

int core_function_init(PyObject *module, core_state *state);
int core_ref_init(PyObject *module, core_state *state);
/* core_forward_init: lets requests whose object is another process's be passed on. core_convert_init: registers the
 * encoders and the decoder. */
int core_forward_init(PyObject *module, core_state *state);
int core_convert_init(PyObject *module, core_state *state);

#endif
