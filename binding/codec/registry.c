/* registry.c - the type Registry: maps classes to names and names to classes. No name ever causes an import. */
#include "registry.h"

typedef struct registry_object {
    PyObject_HEAD PyObject *names; /* class -> name */
    PyObject *classes;             /* name -> class */
    PyObject *shapes;              /* class -> (kind, names of fields) */
    PyObject *combinations;        /* class of flags -> number of members when unused ones were last removed */
} registry_object;

/* is_subclass_of: tests against a class of a module, if this process has imported it; without it there are no
 * subclasses. */
static int is_subclass_of(PyObject *cls, const char *module_name, const char *class_name) {
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *module = PyDict_GetItemString(modules, module_name);
    if (!module)
        return 0;
    PyObject *base = PyObject_GetAttrString(module, class_name);
    int r = base ? PyObject_IsSubclass(cls, base) : -1;
    Py_XDECREF(base);
    return r;
}

/* is_named_tuple: tests for a subclass of tuple that names its items. */
static bool is_named_tuple(PyObject *cls) {
    if (!PyType_IsSubtype((PyTypeObject *)cls, &PyTuple_Type))
        return false;
    PyObject *fields = PyObject_GetAttrString(cls, "_fields");
    bool good = fields && PyTuple_CheckExact(fields);
    for (Py_ssize_t i = 0; good && i < PyTuple_GET_SIZE(fields); i++)
        good = PyUnicode_CheckExact(PyTuple_GET_ITEM(fields, i));
    Py_XDECREF(fields);
    PyErr_Clear(); /* a plain tuple */
    return good;
}

int core_class_kind_of(PyObject *cls) {
    if (!PyType_Check(cls))
        return 0;
    if (PyExceptionClass_Check(cls))
        return CORE_EXCEPTION_CLASS;
    int r = is_subclass_of(cls, "enum", "Enum");
    if (r != 0)
        return r < 0 ? -1 : CORE_ENUM;
    if (PyObject_HasAttrString(cls, "__dataclass_fields__"))
        return CORE_DATACLASS;
    return is_named_tuple(cls) ? CORE_NAMED_TUPLE : 0;
}

/* field_names: returns the declared fields of a dataclass, in order, without class variables; the item names of a named
 * tuple. */
static PyObject *field_names(PyObject *cls, int kind) {
    if (kind == CORE_NAMED_TUPLE)
        return PyObject_GetAttrString(cls, "_fields");
    if (kind != CORE_DATACLASS)
        return Py_NewRef(Py_None);
    PyObject *module = PyImport_ImportModule("dataclasses");
    PyObject *fields = module ? PyObject_CallMethod(module, "fields", "O", cls) : NULL;
    PyObject *names = fields ? PyTuple_New(PyTuple_GET_SIZE(fields)) : NULL;
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(fields); i++) {
        PyObject *name = PyObject_GetAttrString(PyTuple_GET_ITEM(fields, i), "name");
        if (name)
            PyTuple_SET_ITEM(names, i, name);
        else
            Py_CLEAR(names);
    }
    Py_XDECREF(module);
    Py_XDECREF(fields);
    return names;
}

/* remember: stores the name and the shape of a class. Returns 0 or -1. */
static int remember(registry_object *r, PyObject *cls, PyObject *name, int kind) {
    PyObject *fields = field_names(cls, kind), *shape = fields ? Py_BuildValue("(iO)", kind, fields) : NULL;
    int done = shape && PyDict_SetItem(r->shapes, cls, shape) == 0 && PyDict_SetItem(r->classes, name, cls) == 0 &&
               PyDict_SetItem(r->names, cls, name) == 0;
    Py_XDECREF(fields);
    Py_XDECREF(shape);
    return done ? 0 : -1;
}

static PyObject *default_name(PyObject *cls) {
    PyObject *module = PyObject_GetAttrString(cls, "__module__");
    PyObject *qualname = module ? PyObject_GetAttrString(cls, "__qualname__") : NULL;
    PyObject *name = qualname ? PyUnicode_FromFormat("%S:%S", module, qualname) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    return name;
}

static PyObject *registry_register(PyObject *self, PyObject *args) {
    registry_object *r = (registry_object *)self;
    PyObject *cls, *name = Py_None;
    int replace = 0;
    if (!PyArg_ParseTuple(args, "O|Op:register", &cls, &name, &replace))
        return NULL;
    if (name != Py_None && !PyUnicode_Check(name))
        return PyErr_Format(PyExc_TypeError, "the name of a class must be text, not %R", name);
    int kind = core_class_kind_of(cls);
    if (kind < 0)
        return NULL;
    if (kind == 0)
        return PyErr_Format(
            PyExc_TypeError,
            "%R cannot be registered: it must be an Enum, a dataclass, a named tuple or an exception class", cls);
    name = name == Py_None ? default_name(cls) : Py_NewRef(name);
    if (!name)
        return NULL;
    PyObject *there = PyDict_GetItemWithError(r->classes, name);
    if (there && there != cls && !replace)
        PyErr_Format(PyExc_ValueError, "the name %R is already registered for %R", name, there);
    if (PyErr_Occurred() || remember(r, cls, name, kind) < 0)
        Py_CLEAR(name);
    return name;
}

static PyObject *registry_names(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return PyDict_Keys(((registry_object *)self)->classes);
}

PyObject *core_registry_name(PyObject *registry, PyTypeObject *cls) {
    return PyDict_GetItemWithError(((registry_object *)registry)->names, (PyObject *)cls);
}

PyObject *core_registry_class(PyObject *registry, PyObject *name) {
    return PyDict_GetItemWithError(((registry_object *)registry)->classes, name);
}

int core_registry_shape(PyObject *registry, PyObject *cls, core_class_kind *ret_kind, PyObject **ret_fields) {
    PyObject *shape = PyDict_GetItemWithError(((registry_object *)registry)->shapes, cls);
    if (!shape) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "the class is not registered");
        return -1;
    }
    *ret_kind = (core_class_kind)PyLong_AsLong(PyTuple_GET_ITEM(shape, 0));
    *ret_fields = PyTuple_GET_ITEM(shape, 1);
    return 0;
}

PyObject *core_registry_combinations(PyObject *registry) {
    return ((registry_object *)registry)->combinations;
}

static PyObject *registry_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    registry_object *r = (registry_object *)type->tp_alloc(type, 0);
    if (r && (!(r->names = PyDict_New()) || !(r->classes = PyDict_New()) || !(r->shapes = PyDict_New()) ||
              !(r->combinations = PyDict_New())))
        Py_CLEAR(r);
    return (PyObject *)r;
}

static int registry_traverse(PyObject *self, visitproc visit, void *arg) {
    registry_object *r = (registry_object *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(r->names);
    Py_VISIT(r->classes);
    Py_VISIT(r->shapes);
    Py_VISIT(r->combinations);
    return 0;
}

static int registry_clear(PyObject *self) {
    registry_object *r = (registry_object *)self;
    Py_CLEAR(r->names);
    Py_CLEAR(r->classes);
    Py_CLEAR(r->shapes);
    Py_CLEAR(r->combinations);
    return 0;
}

static void registry_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    registry_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef registry_methods[] = {
    {"register", registry_register, METH_VARARGS,
     "register(cls, name=None, replace=False) -> str\n\nAllow a class under a name (default: module:qualname)."},
    {"names", registry_names, METH_NOARGS, "names() -> list[str]\n\nReturn the registered names."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot registry_slots[] = {
    {Py_tp_doc, "The classes whose instances may be created from messages: enums, dataclasses, named tuples, "
                "exceptions."},
    {Py_tp_new, registry_new},
    {Py_tp_methods, registry_methods},
    {Py_tp_traverse, registry_traverse},
    {Py_tp_clear, registry_clear},
    {Py_tp_dealloc, registry_dealloc},
    {0, NULL},
};
static PyType_Spec registry_spec = {
    .name = "pyisolate._core.Registry",
    .basicsize = sizeof(registry_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = registry_slots,
};

int core_registry_init(PyObject *module, core_state *state) {
    state->registry_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &registry_spec, NULL);
    return state->registry_type ? PyModule_AddType(module, state->registry_type) : -1;
}
