/* remote.c - see remote.h: the life of a remote object, and what functions and Refs have in common. */
#include "remote.h"
#include "common/misuse.h"
#include "rpc/session_error.h"

#include <string.h>

core_remote *core_remote_of(core_state *state, PyObject *object) {
    bool is = Py_IS_TYPE(object, state->function_type) || Py_IS_TYPE(object, state->ref_type);
    return is ? (core_remote *)object : NULL;
}

int core_remote_check(const core_remote *r) {
    const core_remote *base = r->base ? r->base : r;
    if (!base->to.session || base->lease)
        return 0;
    PyErr_Format(PyExc_ReferenceError, "%R of %R has been released: this process no longer holds it", base->to.name,
                 base->to.session->name);
    return -1;
}

/* ---- one for each object of the peer ---- */

PyObject *core_remote_known(core_session *s, uint32_t object) {
    PyObject *key = s->remotes ? PyLong_FromUnsignedLong(object) : NULL;
    PyObject *address = key ? PyDict_GetItemWithError(s->remotes, key) : NULL;
    PyObject *known = address ? PyLong_AsVoidPtr(address) : NULL;
    Py_XDECREF(key);
    PyErr_Clear(); /* out of memory: a second one is created */
    return Py_XNewRef(known);
}

/* remember: makes core_remote_known find it. Returns 0 or -1. */
static int remember(core_session *s, core_remote *r) {
    if (!s->remotes && !(s->remotes = PyDict_New()))
        return -1;
    PyObject *key = PyLong_FromUnsignedLong(r->to.object), *address = key ? PyLong_FromVoidPtr(r) : NULL;
    int done = address ? PyDict_SetItem(s->remotes, key, address) : -1;
    Py_XDECREF(key);
    Py_XDECREF(address);
    return done;
}

/* forget: the object is about to end its lease. It may have been replaced if memory was short. */
static void forget(core_remote *r) {
    PyObject *remotes = r->to.session->remotes;
    PyObject *key = remotes ? PyLong_FromUnsignedLong(r->to.object) : NULL;
    PyObject *address = key ? PyDict_GetItemWithError(remotes, key) : NULL;
    if (address && PyLong_AsVoidPtr(address) == r)
        PyDict_DelItem(remotes, key);
    Py_XDECREF(key);
}

/* end_lease: the peer need not keep the object for this process. */
static void end_lease(core_remote *r) {
    uint64_t lease = r->lease;
    if (!lease)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    forget(r);
    PyErr_Restore(type, value, traceback);
    r->lease = 0;
    piso_session_end_lease(r->to.session->session, lease);
    piso_session_flush(r->to.session->session);
}

/* ---- calling a function ---- */

int core_function_callee(core_remote *r, core_callee *ret) {
    core_remote *base = core_remote_base(r);
    if (core_remote_check(r) < 0)
        return -1;
    *ret = r->to;
    ret->remote = (PyObject *)base;
    ret->method = base->to.method;
    if (ret->method != CORE_NOT_INTERNED)
        return 0;
    int id = piso_session_intern(ret->session->session, PISO_METHOD_CALL, strlen(PISO_METHOD_CALL), &ret->method);
    if (id < 0) {
        core_session_error(ret->session, id, NULL);
        return -1;
    }
    base->to.method = ret->method;
    return 0;
}

static PyObject *function_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    core_remote *r = (core_remote *)self;
    core_callee to;
    if (core_function_callee(r, &to) < 0)
        return NULL;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    return r->sync ? core_sync_call(&to, args, nargs, kwnames) : to.session->on->call(&to, args, nargs, kwnames);
}

/* ---- creation ---- */

static core_remote *allocate(core_state *state, bool is_function) {
    PyTypeObject *type = is_function ? state->function_type : state->ref_type;
    core_remote *r = PyObject_GC_New(core_remote, type);
    if (r)
        memset((char *)r + sizeof(PyObject), 0, sizeof *r - sizeof(PyObject));
    return r;
}

/* create: returns a new remote object. Takes the lease. */
static core_remote *create(core_session *s, uint32_t object, uint64_t lease, PyObject *name, PyObject *methods) {
    Py_ssize_t count = methods ? PyTuple_GET_SIZE(methods) : 0;
    uint32_t *ids = PyMem_New(uint32_t, count + 1);
    core_remote *r = ids ? allocate(s->state, !methods) : NULL;
    if (!r) {
        PyMem_Free(ids);
        piso_session_end_lease(s->session, lease);
        return (core_remote *)(PyErr_Occurred() ? NULL : PyErr_NoMemory());
    }
    for (Py_ssize_t i = 0; i < count; i++)
        ids[i] = CORE_NOT_INTERNED;
    r->to = (core_callee){.session = (core_session *)Py_NewRef((PyObject *)s), .object = object};
    r->to.name = Py_NewRef(name);
    r->to.method = CORE_NOT_INTERNED;
    r->to.timeout_ns = s->call_timeout_ns;
    r->lease = lease;
    r->methods = Py_XNewRef(methods);
    r->method_ids = ids;
    r->vectorcall = function_call;
    PyObject_GC_Track(r);
    if (remember(s, r) < 0)
        Py_CLEAR(r);
    return r;
}

PyObject *core_remote_take(core_session *s, uint32_t object, uint64_t lease, PyObject *name, PyObject *methods) {
    PyObject *known = core_remote_known(s, object);
    if (!known)
        return (PyObject *)create(s, object, lease, name, methods);
    piso_session_end_lease(s->session, lease); /* it holds one already */
    return known;
}

/* ---- of both types ---- */

int core_remote_traverse(PyObject *self, visitproc visit, void *arg) {
    core_remote *r = (core_remote *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(r->to.session);
    Py_VISIT(r->base);
    Py_VISIT(r->object);
    return 0;
}

int core_remote_clear(PyObject *self) {
    Py_CLEAR(((core_remote *)self)->object);
    return 0;
}

void core_remote_dealloc(PyObject *self) {
    core_remote *r = (core_remote *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    end_lease(r); /* first: callbacks of weak references may run code, for which it must not be known any more */
    if (r->weakrefs)
        PyObject_ClearWeakRefs(self);
    Py_XDECREF(r->to.session);
    Py_XDECREF(r->to.name);
    Py_XDECREF(r->base);
    Py_XDECREF(r->object);
    Py_XDECREF(r->methods);
    Py_XDECREF(r->timeout);
    PyMem_Free(r->method_ids);
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject *core_remote_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    bool own = !((core_remote *)self)->to.session;
    return core_misuse_copy(self, own ? "it refers to an object of this process: send it as an argument or a result"
                                      : "it stands for an object of another process: send it as an argument or a "
                                        "result");
}

PyObject *core_remote_release(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    end_lease(core_remote_base((core_remote *)self));
    Py_RETURN_NONE;
}

PyObject *core_remote_enter(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return Py_NewRef(self);
}

PyObject *core_remote_exit(PyObject *self, PyObject *Py_UNUSED(args)) {
    return core_remote_release(self, NULL);
}

/* ---- views ---- */

static PyObject *view(core_remote *r, bool sync, PyObject *timeout) {
    int64_t timeout_ns = r->to.timeout_ns;
    if (timeout && core_call_timeout(timeout, &timeout_ns) < 0)
        return NULL;
    core_state *state = core_type_state(Py_TYPE(r));
    core_remote *v = allocate(state, !r->methods);
    if (!v)
        return NULL;
    v->vectorcall = r->vectorcall;
    v->to = r->to;
    v->to.timeout_ns = timeout_ns;
    Py_XINCREF(v->to.session);
    Py_XINCREF(v->to.name);
    v->base = (core_remote *)Py_NewRef((PyObject *)core_remote_base(r));
    v->object = Py_XNewRef(r->object);
    v->methods = Py_XNewRef(r->methods);
    v->sync = sync;
    v->timeout = timeout ? Py_NewRef(timeout) : Py_XNewRef(r->timeout);
    PyObject_GC_Track(v);
    return (PyObject *)v;
}

PyObject *core_remote_with_timeout(PyObject *self, PyObject *seconds) {
    return view((core_remote *)self, ((core_remote *)self)->sync, seconds);
}

PyObject *core_remote_sync(PyObject *self, void *Py_UNUSED(ignored)) {
    return view((core_remote *)self, true, NULL);
}
