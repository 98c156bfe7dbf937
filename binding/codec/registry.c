/* registry.c - the type Registry: maps classes to names and names to classes. No name ever causes an import. */
#include "registry.h"
#include "tables.h"

#include "converter.h"

typedef struct registry_object {
    PyObject_HEAD PyObject *names; /* class -> name */
    PyObject *classes;             /* name -> class */
    PyObject *shapes;              /* class -> (kind, names of fields, encode, decode); SHAPE_... */
    PyObject *custom;              /* class -> None: those of the kinds CORE_CUSTOM and CORE_BY_REFERENCE */
    PyObject *bases;               /* class -> None: those whose subclasses are sent as they are */
    PyObject *combinations;        /* class of flags -> number of members when unused ones were last removed */
} registry_object;

enum { SHAPE_KIND, SHAPE_FIELDS, SHAPE_ENCODE, SHAPE_DECODE };

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

/* registration: the arguments of register(). */
typedef struct registration {
    PyObject *cls, *name;
    PyObject *encode, *decode; /* None: not given */
    PyObject *by_ref;          /* False, True or names of methods */
    int replace, subclasses;
    int kind;
} registration;

/* mark: adds a class to a set of classes, or removes it. Returns 0 or -1. */
static int mark(PyObject *set, PyObject *cls, bool in) {
    if (in)
        return PyDict_SetItem(set, cls, Py_None);
    int there = PyDict_Contains(set, cls);
    return there > 0 ? PyDict_DelItem(set, cls) : there;
}

/* permitted: returns the names of the methods that a reference to an instance permits, as a tuple. */
static PyObject *permitted(registry_object *r, const registration *g) {
    core_state *state = core_type_state(Py_TYPE(r));
    return g->by_ref == Py_True ? PyTuple_New(0) : state->tables->permitted(state, (PyTypeObject *)g->cls, g->by_ref);
}

/* remember: stores what is known of a class. Returns 0 or -1. */
static int remember(registry_object *r, const registration *g, PyObject *name) {
    bool custom = g->kind == CORE_CUSTOM || g->kind == CORE_BY_REFERENCE;
    PyObject *fields = g->kind == CORE_BY_REFERENCE ? permitted(r, g) : field_names(g->cls, g->kind);
    PyObject *shape = fields ? Py_BuildValue("(iOOO)", g->kind, fields, g->encode, g->decode) : NULL;
    int done = shape && PyDict_SetItem(r->shapes, g->cls, shape) == 0 && mark(r->custom, g->cls, custom) == 0 &&
               mark(r->bases, g->cls, g->subclasses) == 0 && PyDict_SetItem(r->classes, name, g->cls) == 0 &&
               PyDict_SetItem(r->names, g->cls, name) == 0;
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

/* is_plain: returns whether values of the class are sent without a look at the registry (encode.c). */
static bool is_plain(PyObject *cls) {
    static PyTypeObject *const types[] = {
        &PyLong_Type,  &PyFloat_Type, &PyComplex_Type,   &PyBool_Type,       &PyUnicode_Type,
        &PyBytes_Type, &PyDict_Type,  &PyByteArray_Type, &PyMemoryView_Type, &PyList_Type,
        &PyTuple_Type, &PySet_Type,   &PyType_Type,      &PyFrozenSet_Type,  &PyBaseObject_Type,
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (cls == (PyObject *)types[i])
            return true;
    return cls == (PyObject *)Py_TYPE(Py_None);
}

/* is_printable: returns whether text has no control characters and no lone surrogates. */
static bool is_printable(PyObject *text) {
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(text); i++)
        if (!Py_UNICODE_ISPRINTABLE(PyUnicode_READ_CHAR(text, i)))
            return false;
    return true;
}

/* find_kind: sets the kind of a registration. Returns 0, or -1 with an exception. */
static int find_kind(registration *g) {
    bool encode = g->encode != Py_None, decode = g->decode != Py_None;
    if (!PyType_Check(g->cls))
        PyErr_Format(PyExc_TypeError, "register_type takes a class, not %R", g->cls);
    else if (is_plain(g->cls))
        PyErr_Format(PyExc_TypeError, "%R cannot be registered; register a class of your own", g->cls);
    else if (g->by_ref != Py_False && (encode || decode))
        PyErr_SetString(PyExc_TypeError, "by_ref sends the object by reference, without encode and decode");
    else if (encode != decode)
        PyErr_Format(PyExc_TypeError, "%R is registered with %s but without %s; give both", g->cls,
                     encode ? "encode" : "decode", encode ? "decode" : "encode");
    else if (encode && !PyCallable_Check(g->encode))
        PyErr_Format(PyExc_TypeError, "encode must be a function, not %R", g->encode);
    else if (decode && !PyCallable_Check(g->decode))
        PyErr_Format(PyExc_TypeError, "decode must be a function, not %R", g->decode);
    if (PyErr_Occurred())
        return -1;
    g->kind = g->by_ref != Py_False ? CORE_BY_REFERENCE : encode ? CORE_CUSTOM : core_class_kind_of(g->cls);
    if (g->kind == 0)
        PyErr_Format(PyExc_TypeError,
                     "%R cannot be registered: it must be an Enum, a dataclass, a named tuple or an exception class; "
                     "for another class give encode=, which returns a value that can be sent, and decode=, which "
                     "makes an object of it again",
                     g->cls);
    else if (g->kind == CORE_ENUM && g->subclasses)
        PyErr_Format(PyExc_TypeError, "%R is an Enum, whose members are of no subclass; omit subclasses=True", g->cls);
    return PyErr_Occurred() ? -1 : 0;
}

/* check_name: returns 0, or -1 with an exception. */
static int check_name(registry_object *r, const registration *g, PyObject *name) {
    if (g->kind == CORE_CUSTOM && (PyUnicode_GET_LENGTH(name) == 0 || !is_printable(name) ||
                                   PyUnicode_GET_LENGTH(name) > CORE_MAX_REGISTERED_NAME)) {
        PyErr_Format(PyExc_ValueError, "the name of a class must be 1 to %d printable characters, not %R",
                     CORE_MAX_REGISTERED_NAME, name);
        return -1;
    }
    PyObject *there = PyDict_GetItemWithError(r->classes, name);
    if (there && there != g->cls && !g->replace)
        PyErr_Format(PyExc_ValueError, "the name %R is already registered for %R", name, there);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *registry_register(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"", "", "", "encode", "decode", "subclasses", "by_ref", NULL};
    registry_object *r = (registry_object *)self;
    registration g = {.name = Py_None, .encode = Py_None, .decode = Py_None, .by_ref = Py_False};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|Op$OOpO:register", names, &g.cls, &g.name, &g.replace, &g.encode,
                                     &g.decode, &g.subclasses, &g.by_ref))
        return NULL;
    if (g.name != Py_None && !PyUnicode_CheckExact(g.name))
        return PyErr_Format(PyExc_TypeError, "the name of a class must be text, not %R", g.name);
    if (find_kind(&g) < 0)
        return NULL;
    PyObject *name = g.name == Py_None ? default_name(g.cls) : Py_NewRef(g.name);
    if (name && (check_name(r, &g, name) < 0 || remember(r, &g, name) < 0))
        Py_CLEAR(name);
    return name;
}

/* registry_permitted: what encoding an instance looks up. */
static PyObject *registry_permitted(PyObject *self, PyObject *cls) {
    core_class_kind kind;
    PyObject *methods;
    if (!PyType_Check(cls))
        return PyErr_Format(PyExc_TypeError, "permitted() takes a class, not %R", cls);
    PyTypeObject *known = (PyTypeObject *)cls;
    if (!core_registry_name(self, known))
        known = core_registry_base(self, known);
    PyErr_Clear(); /* a metaclass's __hash__ may raise: such a class cannot be registered */
    if (!known)
        Py_RETURN_NONE;
    if (core_registry_shape(self, (PyObject *)known, &kind, &methods) < 0)
        return NULL;
    return Py_NewRef(kind == CORE_BY_REFERENCE ? methods : Py_None);
}

static PyObject *registry_names(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return PyDict_Keys(((registry_object *)self)->classes);
}

PyObject *core_registry_name(PyObject *registry, PyTypeObject *cls) {
    return core_get_by_class(((registry_object *)registry)->names, cls);
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
    *ret_kind = (core_class_kind)PyLong_AsLong(PyTuple_GET_ITEM(shape, SHAPE_KIND));
    *ret_fields = PyTuple_GET_ITEM(shape, SHAPE_FIELDS);
    return 0;
}

bool core_registry_custom(PyObject *registry, PyTypeObject *cls) {
    PyObject *custom = ((registry_object *)registry)->custom;
    if (PyDict_GET_SIZE(custom) == 0)
        return false;
    return core_get_by_class(custom, cls) != NULL;
}

PyTypeObject *core_registry_base(PyObject *registry, PyTypeObject *cls) {
    PyObject *bases = ((registry_object *)registry)->bases, *mro = cls->tp_mro;
    if (PyDict_GET_SIZE(bases) == 0)
        return NULL;
    for (Py_ssize_t i = 1; mro && i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (core_get_by_class(bases, base))
            return base;
    }
    return NULL;
}

PyObject *core_registry_exception(PyObject *registry, PyTypeObject *cls) {
    PyObject *name = core_registry_name(registry, cls);
    PyTypeObject *base = name ? NULL : core_registry_base(registry, cls);
    return base && PyExceptionClass_Check((PyObject *)base) ? core_registry_name(registry, base) : name;
}

PyObject *core_registry_function(PyObject *registry, PyObject *cls, bool decode) {
    PyObject *shape = PyDict_GetItemWithError(((registry_object *)registry)->shapes, cls);
    return shape ? PyTuple_GET_ITEM(shape, decode ? SHAPE_DECODE : SHAPE_ENCODE) : NULL;
}

PyObject *core_registry_combinations(PyObject *registry) {
    return ((registry_object *)registry)->combinations;
}

static PyObject *registry_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    registry_object *r = (registry_object *)type->tp_alloc(type, 0);
    if (r && (!(r->names = PyDict_New()) || !(r->classes = PyDict_New()) || !(r->shapes = PyDict_New()) ||
              !(r->custom = PyDict_New()) || !(r->bases = PyDict_New()) || !(r->combinations = PyDict_New())))
        Py_CLEAR(r);
    return (PyObject *)r;
}

static int registry_traverse(PyObject *self, visitproc visit, void *arg) {
    registry_object *r = (registry_object *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(r->names);
    Py_VISIT(r->classes);
    Py_VISIT(r->shapes);
    Py_VISIT(r->custom);
    Py_VISIT(r->bases);
    Py_VISIT(r->combinations);
    return 0;
}

static int registry_clear(PyObject *self) {
    registry_object *r = (registry_object *)self;
    Py_CLEAR(r->names);
    Py_CLEAR(r->classes);
    Py_CLEAR(r->shapes);
    Py_CLEAR(r->custom);
    Py_CLEAR(r->bases);
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
    {"register", (PyCFunction)(void (*)(void))registry_register, METH_VARARGS | METH_KEYWORDS,
     "register(cls, name=None, replace=False, *, encode=None, decode=None, subclasses=False, by_ref=False) -> str\n\n"
     "Allow a class under a name (default: module:qualname)."},
    {"permitted", registry_permitted, METH_O,
     "permitted(cls) -> tuple[str, ...] | None\n\nReturn the methods that a reference to an instance of the class "
     "permits, or None if instances are not sent by reference."},
    {"names", registry_names, METH_NOARGS, "names() -> list[str]\n\nReturn the registered names."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot registry_slots[] = {
    {Py_tp_doc, "The classes whose instances may be created from messages: enums, dataclasses, named tuples, "
                "exceptions, and classes with encode and decode functions."},
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
