/* function.c - RemoteFunction: a function of the peer that was sent here. */
#include "common/misuse.h"
#include "remote.h"

#include <structmember.h>

static PyObject *function_repr(PyObject *self) {
    core_remote *r = (core_remote *)self;
    return PyUnicode_FromFormat("<pyisolate.RemoteFunction %U of %R>", r->to.name, r->to.session->name);
}

static PyMethodDef function_methods[] = {
    {"with_timeout", core_remote_with_timeout, METH_O,
     "with_timeout($self, seconds, /)\n--\n\n"
     "Return a view of the function whose calls raise CallTimeout after that time; None: no limit."},
    {"release", core_remote_release, METH_NOARGS,
     "release($self, /)\n--\n\n"
     "End the reference. Its owner need not keep the function, and calls here raise ReferenceError."},
    {"__enter__", core_remote_enter, METH_NOARGS, NULL},
    {"__exit__", core_remote_exit, METH_VARARGS, NULL},
    CORE_REFUSE_COPIES(core_remote_reduce),
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef function_attributes[] = {
    {"sync", core_remote_sync, NULL, "A view of the function whose calls block and return the result.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMemberDef function_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(core_remote, vectorcall), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(core_remote, weakrefs), READONLY, NULL},
    {"__name__", T_OBJECT, offsetof(core_remote, to.name), READONLY, "The function's qualified name."},
    {"__qualname__", T_OBJECT, offsetof(core_remote, to.name), READONLY, "The function's qualified name."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot function_slots[] = {
    {Py_tp_doc, "A function of another process: call and await it.\n\n"
                "Only the call is possible. It runs in the process of its owner, like a call of a\n"
                "method. Sent back to its owner it is the function itself. The owner keeps the\n"
                "function until the last holder has dropped it, has called release(), or has ended."},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, function_repr},
    {Py_tp_methods, function_methods},
    {Py_tp_getset, function_attributes},
    {Py_tp_members, function_members},
    {Py_tp_traverse, core_remote_traverse},
    {Py_tp_clear, core_remote_clear},
    {Py_tp_dealloc, core_remote_dealloc},
    {0, NULL},
};
static PyType_Spec function_spec = {
    .name = "pyisolate.RemoteFunction",
    .basicsize = sizeof(core_remote),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = function_slots,
};

int core_function_init(PyObject *module, core_state *state) {
    state->function_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &function_spec, NULL);
    return state->function_type ? PyModule_AddType(module, state->function_type) : -1;
}
