/* method.c - a method of a remote object. Proxies keep one in their __dict__ for each name, so a call costs an ordinary
 * attribute look-up and one vectorcall. */
#include "method.h"
#include "common/misuse.h"
#include "rpc/pump/sync.h"
#include "rpc/session_error.h"

#include <errno.h>
#include <structmember.h>

typedef struct core_method {
    PyObject_HEAD vectorcallfunc vectorcall;
    core_callee to;
    PyObject *timeout; /* float or None, as given */
    PyObject *awaited; /* of a method with `sync`: the same without it, or NULL until it is used */
    bool sync;
} core_method;

int core_callee_intern(core_callee *to) {
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(to->name, &size);
    if (!text)
        return -1;
    int r =
        size > 0 && size <= 255 ? piso_session_intern(to->session->session, text, (size_t)size, &to->method) : -EINVAL;
    if (r == -EINVAL) {
        PyErr_Format(PyExc_AttributeError, "%R is not a method name: it must have 1 to 255 bytes", to->name);
        return -1;
    }
    core_pending pending = {.name = to->name};
    return r < 0 ? (core_session_error(to->session, r, &pending), -1) : 0;
}

static PyObject *method_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    core_method *m = (core_method *)self;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (m->to.method == CORE_NOT_INTERNED && core_callee_intern(&m->to) < 0)
        return NULL;
    return m->sync ? core_sync_call(&m->to, args, nargs, kwnames)
                   : m->to.session->on->call(&m->to, args, nargs, kwnames);
}

int core_method_callee(PyObject *method, core_callee *ret) {
    core_method *m = (core_method *)method;
    if (m->to.method == CORE_NOT_INTERNED && core_callee_intern(&m->to) < 0)
        return -1;
    *ret = m->to;
    return 0;
}

int core_call_timeout(PyObject *timeout, int64_t *ret_ns) {
    double seconds = 0;
    if (timeout != Py_None) {
        seconds = PyFloat_AsDouble(timeout);
        if (PyErr_Occurred())
            return -1;
        if (!(seconds > 0)) {
            PyErr_Format(PyExc_ValueError, "timeout must be a positive number of seconds or None, not %R", timeout);
            return -1;
        }
    }
    *ret_ns = seconds == 0 || seconds > 4e6 ? 0 : (int64_t)(seconds * 1e9) + 1; /* beyond 46 days: none */
    return 0;
}

PyObject *core_method_new(const core_callee *to, bool sync, PyObject *timeout) {
    core_method *m = PyObject_GC_New(core_method, to->session->state->method_type);
    if (!m)
        return NULL;
    m->vectorcall = method_vectorcall;
    m->to = *to;
    Py_INCREF(to->session);
    Py_INCREF(to->name);
    Py_XINCREF(to->remote);
    m->timeout = Py_NewRef(timeout);
    m->awaited = NULL;
    m->sync = sync;
    PyObject_GC_Track(m);
    return (PyObject *)m;
}

static int method_traverse(PyObject *self, visitproc visit, void *arg) {
    core_method *m = (core_method *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(m->to.session);
    Py_VISIT(m->to.remote);
    Py_VISIT(m->awaited);
    return 0;
}

static void method_dealloc(PyObject *self) {
    core_method *m = (core_method *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_DECREF(m->to.session);
    Py_DECREF(m->to.name);
    Py_XDECREF(m->to.remote);
    Py_DECREF(m->timeout);
    Py_XDECREF(m->awaited);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *method_repr(PyObject *self) {
    core_method *m = (core_method *)self;
    return PyUnicode_FromFormat("<pyisolate.Method %U of %R>", m->to.name, m->to.session->name);
}

/* method_sent: a receiver decides itself whether to wait. The method must not block the thread that answers it. */
static PyObject *method_sent(PyObject *self, void *Py_UNUSED(ignored)) {
    core_method *m = (core_method *)self;
    if (m->sync && !m->awaited)
        m->awaited = core_method_new(&m->to, false, m->timeout);
    return Py_XNewRef(m->sync ? m->awaited : self);
}

static PyObject *method_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return core_misuse_copy(self, "it is a method of an object of another process: send it as an argument or a result");
}

static PyMethodDef method_methods[] = {
    CORE_REFUSE_COPIES(method_reduce),
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef method_attributes[] = {
    {"_sent", method_sent, NULL, "The same method, whose calls are awaited. It is what is sent.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMemberDef method_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(core_method, vectorcall), READONLY, NULL},
    {"__name__", T_OBJECT, offsetof(core_method, to.name), READONLY, "The method's name."},
    {"__qualname__", T_OBJECT, offsetof(core_method, to.name), READONLY, "The method's name."},
    {"name", T_OBJECT, offsetof(core_method, to.name), READONLY, "The method's name."},
    {"session", T_OBJECT, offsetof(core_method, to.session), READONLY, "The session that sends the calls."},
    {"timeout", T_OBJECT, offsetof(core_method, timeout), READONLY, "Seconds a call may take, or None."},
    {"sync", T_BOOL, offsetof(core_method, sync), READONLY, "Whether a call waits for its result."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot method_slots[] = {
    {Py_tp_doc, "A method of a remote object."},
    {Py_tp_methods, method_methods},
    {Py_tp_getset, method_attributes},
    {Py_tp_members, method_members},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, method_repr},
    {Py_tp_traverse, method_traverse},
    {Py_tp_dealloc, method_dealloc},
    CORE_MISUSE_SLOTS,
    {0, NULL},
};
static PyType_Spec method_spec = {
    .name = "pyisolate._core.Method",
    .basicsize = sizeof(core_method),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = method_slots,
};

int core_method_init(PyObject *module, core_state *state) {
    state->method_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &method_spec, NULL);
    return state->method_type ? PyModule_AddType(module, state->method_type) : -1;
}
