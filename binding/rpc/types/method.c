/* method.c - a method of a remote object. Proxies keep one in their __dict__ for each name, so a call costs an ordinary
 * attribute look-up and one vectorcall. */
#include "method.h"
#include "common/misuse.h"
#include "rpc/pump/sync.h"
#include "rpc/session_error.h"

#include <errno.h>
#include <structmember.h>

#define NOT_INTERNED UINT32_MAX

typedef struct core_method {
    PyObject_HEAD vectorcallfunc vectorcall;
    core_session *session;
    PyObject *name;
    PyObject *timeout;  /* float or None, as given */
    int64_t timeout_ns; /* 0: none */
    uint32_t object, method;
    bool sync;
} core_method;

static int intern(core_method *m) {
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(m->name, &size);
    if (!text)
        return -1;
    int r =
        size > 0 && size <= 255 ? piso_session_intern(m->session->session, text, (size_t)size, &m->method) : -EINVAL;
    if (r == -EINVAL) {
        PyErr_Format(PyExc_AttributeError, "%R is not a method name: it must have 1 to 255 bytes", m->name);
        return -1;
    }
    core_pending pending = {.name = m->name};
    return r < 0 ? (core_session_error(m->session, r, &pending), -1) : 0;
}

static PyObject *method_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    core_method *m = (core_method *)self;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (m->method == NOT_INTERNED && intern(m) < 0)
        return NULL;
    if (m->sync)
        return core_sync_call(m->session, m->object, m->method, m->name, m->timeout_ns, args, nargs, kwnames);
    return m->session->on->call(m->session, m->object, m->method, m->name, m->timeout_ns, args, nargs, kwnames);
}

PyObject *core_method_new(core_session *s, uint32_t object, PyObject *name, bool sync, PyObject *timeout) {
    double seconds = 0;
    if (timeout != Py_None) {
        seconds = PyFloat_AsDouble(timeout);
        if (PyErr_Occurred())
            return NULL;
        if (!(seconds > 0)) {
            PyErr_Format(PyExc_ValueError, "timeout must be a positive method of seconds or None, not %R", timeout);
            return NULL;
        }
    }
    core_method *m = PyObject_GC_New(core_method, s->state->method_type);
    if (!m)
        return NULL;
    m->vectorcall = method_vectorcall;
    m->session = (core_session *)Py_NewRef((PyObject *)s);
    m->name = Py_NewRef(name);
    m->timeout = Py_NewRef(timeout);
    m->timeout_ns = seconds == 0 || seconds > 4e6 ? 0 : (int64_t)(seconds * 1e9) + 1; /* beyond 46 days: none */
    m->object = object;
    m->method = NOT_INTERNED;
    m->sync = sync;
    PyObject_GC_Track(m);
    return (PyObject *)m;
}

static int method_traverse(PyObject *self, visitproc visit, void *arg) {
    core_method *m = (core_method *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(m->session);
    return 0;
}

static void method_dealloc(PyObject *self) {
    core_method *m = (core_method *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_DECREF(m->session);
    Py_DECREF(m->name);
    Py_DECREF(m->timeout);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *method_repr(PyObject *self) {
    core_method *m = (core_method *)self;
    return PyUnicode_FromFormat("<pyisolate.Method %U of %R>", m->name, m->session->name);
}

static PyMemberDef method_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(core_method, vectorcall), READONLY, NULL},
    {"__name__", T_OBJECT, offsetof(core_method, name), READONLY, "The method's name."},
    {"name", T_OBJECT, offsetof(core_method, name), READONLY, "The method's name."},
    {"session", T_OBJECT, offsetof(core_method, session), READONLY, "The session that sends the calls."},
    {"timeout", T_OBJECT, offsetof(core_method, timeout), READONLY, "Seconds a call may take, or None."},
    {"sync", T_BOOL, offsetof(core_method, sync), READONLY, "Whether a call waits for its result."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot method_slots[] = {
    {Py_tp_doc, "A method of a remote object."},
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
