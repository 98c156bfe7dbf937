/* ref.c - Ref: an object that is sent by reference; at its receiver, the object of the peer. */
#include "common/misuse.h"
#include "remote.h"
#include "rpc/exports.h"

#include <structmember.h>

/* ---- creation ---- */

/* check_name: raises unless the class has a method of this name that the receiver can call. Returns 0 or -1. */
static int check_name(core_state *state, PyTypeObject *cls, PyObject *name) {
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "methods must be names, not %R", name);
        return -1;
    }
    if (!PyUnicode_IsIdentifier(name) || PyUnicode_READ_CHAR(name, 0) == '_')
        PyErr_Format(PyExc_ValueError, "%R cannot be a method of a Ref: names must not begin with an underscore", name);
    else if (_PyType_Lookup(state->ref_type, name))
        PyErr_Format(PyExc_ValueError,
                     "%R cannot be a method of a Ref, which has that name itself: give the method "
                     "another name",
                     name);
    else if (!core_method_of(cls, name))
        PyErr_Format(PyExc_ValueError,
                     "%R is not a method of %.200s: a Ref permits functions that the object's class defines", name,
                     cls->tp_name);
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *core_ref_permitted(core_state *state, PyTypeObject *cls, PyObject *methods) {
    if (PyUnicode_Check(methods))
        return PyErr_Format(PyExc_TypeError, "methods must be a sequence of names, such as [%R]", methods);
    PyObject *set = PySet_New(methods), *list = set ? PySequence_List(set) : NULL;
    int r = list ? 0 : -1;
    for (Py_ssize_t i = 0; r == 0 && i < PyList_GET_SIZE(list); i++)
        r = check_name(state, cls, PyList_GET_ITEM(list, i));
    if (r == 0 && PyList_GET_SIZE(list) > PISO_MAX_METHODS) {
        PyErr_Format(PyExc_ValueError, "a Ref permits at most %d methods", PISO_MAX_METHODS);
        r = -1;
    }
    PyObject *names = r == 0 && PyList_Sort(list) == 0 ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(set);
    Py_XDECREF(list);
    return names;
}

static PyObject *ref_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"", "methods", NULL};
    core_state *state = core_type_state(type);
    PyObject *object, *methods = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:Ref", keywords, &object, &methods))
        return NULL;
    if (core_remote_of(state, object))
        return PyErr_Format(PyExc_TypeError, "%R is a reference already", object);
    PyObject *names = methods ? core_ref_permitted(state, Py_TYPE(object), methods) : PyTuple_New(0);
    PyObject *name = names ? PyObject_GetAttrString((PyObject *)Py_TYPE(object), "__name__") : NULL;
    core_remote *r = name ? (core_remote *)type->tp_alloc(type, 0) : NULL;
    if (r) {
        r->to.name = Py_NewRef(name);
        r->object = Py_NewRef(object);
        r->methods = Py_NewRef(names);
    }
    Py_XDECREF(name);
    Py_XDECREF(names);
    return (PyObject *)r;
}

/* ---- methods ---- */

/* find_method: returns the index of a method, or -1. */
static Py_ssize_t find_method(const core_remote *r, PyObject *name) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(r->methods); i++)
        if (PyUnicode_Compare(PyTuple_GET_ITEM(r->methods, i), name) == 0)
            return i;
    PyErr_Clear(); /* a comparison failed for lack of memory */
    return -1;
}

static PyObject *no_method(const core_remote *r, PyObject *name) {
    if (PyTuple_GET_SIZE(r->methods) == 0)
        return PyErr_Format(PyExc_AttributeError,
                            "%R cannot be called: this reference to a %U permits no method; its owner permits some by "
                            "Ref(object, methods=[...])",
                            name, r->to.name);
    return PyErr_Format(PyExc_AttributeError, "%R is not among the methods that this reference to a %U permits: %R",
                        name, r->to.name, r->methods);
}

int core_ref_callee(core_remote *r, PyObject *method, core_callee *ret) {
    core_remote *base = core_remote_base(r);
    Py_ssize_t index = find_method(r, method);
    if (index < 0) {
        no_method(r, method);
        return -1;
    }
    *ret = r->to;
    ret->name = PyTuple_GET_ITEM(r->methods, index);
    ret->method = base->method_ids[index];
    ret->remote = (PyObject *)base;
    if (core_remote_check(r) < 0 || (ret->method == CORE_NOT_INTERNED && core_callee_intern(ret) < 0))
        return -1;
    base->method_ids[index] = ret->method;
    return 0;
}

static PyObject *ref_getattr(PyObject *self, PyObject *name) {
    core_remote *r = (core_remote *)self;
    if (_PyType_Lookup(Py_TYPE(self), name) || PyUnicode_GET_LENGTH(name) == 0 || PyUnicode_READ_CHAR(name, 0) == '_')
        return PyObject_GenericGetAttr(self, name);
    if (!r->to.session)
        return PyErr_Format(PyExc_AttributeError,
                            "%R: this Ref holds an object of this process, for others to call; call the object itself",
                            name);
    core_callee to;
    return core_ref_callee(r, name, &to) < 0 ? NULL : core_method_new(&to, r->sync, r->timeout ? r->timeout : Py_None);
}

static PyObject *ref_repr(PyObject *self) {
    core_remote *r = (core_remote *)self;
    if (!r->to.session)
        return PyUnicode_FromFormat("<pyisolate.Ref to a %U of this process>", r->to.name);
    return PyUnicode_FromFormat("<pyisolate.Ref to a %U of %R>", r->to.name, r->to.session->name);
}

static PyMethodDef ref_methods[] = {
    {"with_timeout", core_remote_with_timeout, METH_O,
     "with_timeout($self, seconds, /)\n--\n\n"
     "Return a view of the object whose calls raise CallTimeout after that time; None: no limit."},
    {"release", core_remote_release, METH_NOARGS,
     "release($self, /)\n--\n\n"
     "End the reference. Its owner need not keep the object, and calls here raise ReferenceError."},
    {"__enter__", core_remote_enter, METH_NOARGS, NULL},
    {"__exit__", core_remote_exit, METH_VARARGS, NULL},
    CORE_REFUSE_COPIES(core_remote_reduce),
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "For type annotations."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef ref_attributes[] = {
    {"sync", core_remote_sync, NULL, "A view of the object whose calls block and return the result.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMemberDef ref_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(core_remote, weakrefs), READONLY, NULL},
    {"type_name", T_OBJECT, offsetof(core_remote, to.name), READONLY, "The name of the object's class."},
    {"methods", T_OBJECT, offsetof(core_remote, methods), READONLY, "The names of the methods that can be called."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot ref_slots[] = {
    {Py_tp_doc, "Ref(obj, methods=())\n--\n\n"
                "An object that is sent by reference: it stays in its process.\n\n"
                "The receiver gets a Ref on which the named methods can be called and awaited. They\n"
                "must be functions that the object's class defines. Without any it is a token. Sent\n"
                "back to its owner it is the object itself; back at any holder it is the same Ref. The\n"
                "owner keeps the object until the last holder has dropped its Ref, has called\n"
                "release(), or has ended.\n\n"
                "Raises ValueError if the object has no such method, or if a name begins with an\n"
                "underscore or is one of a Ref's own, and TypeError if `obj` is a reference already."},
    {Py_tp_new, ref_new},
    {Py_tp_getattro, ref_getattr},
    {Py_tp_repr, ref_repr},
    {Py_tp_methods, ref_methods},
    {Py_tp_getset, ref_attributes},
    {Py_tp_members, ref_members},
    {Py_tp_traverse, core_remote_traverse},
    {Py_tp_clear, core_remote_clear},
    {Py_tp_dealloc, core_remote_dealloc},
    {0, NULL},
};
static PyType_Spec ref_spec = {
    .name = "pyisolate.Ref",
    .basicsize = sizeof(core_remote),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = ref_slots,
};

static PyObject *own_object(PyObject *module, PyObject *ref) {
    if (!Py_IS_TYPE(ref, core_module_state(module)->ref_type))
        return PyErr_Format(PyExc_TypeError, "own_object() takes a Ref, not %R", ref);
    core_remote *r = (core_remote *)ref;
    return r->to.session ? Py_NewRef(Py_None) : PyTuple_Pack(1, r->object);
}

static PyMethodDef functions[] = {
    {"own_object", own_object, METH_O,
     "own_object(ref) -> tuple[object] | None\n\nReturn the object that a Ref of this process refers to; None: it is an "
     "object of another process."},
    {NULL, NULL, 0, NULL},
};

int core_ref_init(PyObject *module, core_state *state) {
    state->ref_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &ref_spec, NULL);
    if (!state->ref_type || PyModule_AddFunctions(module, functions) < 0)
        return -1;
    return PyModule_AddType(module, state->ref_type);
}
