/* opaque.c - see opaque.h. */
#include "opaque.h"

#include <structmember.h>

#include "codec/registry.h"
#include "common/printable.h"
#include "named.h"

typedef struct opaque {
    PyObject_HEAD PyObject *name; /* as it was received */
    PyObject *value;              /* what encode returned on the side that sent it */
    PyObject *weakrefs;
    int8_t ext_type;
} opaque;

PyObject *core_opaque_new(core_state *state, int8_t ext_type, PyObject *name, PyObject *value) {
    PyTypeObject *type = state->custom->opaque_type; /* NULL: the interpreter is shutting down */
    opaque *o = type ? PyObject_GC_New(opaque, type) : NULL;
    if (!o)
        return NULL;
    o->name = Py_NewRef(name);
    o->value = Py_NewRef(value);
    o->weakrefs = NULL;
    o->ext_type = ext_type;
    PyObject_GC_Track(o);
    return (PyObject *)o;
}

static int encode(core_encoder *e, int Py_UNUSED(kind), PyObject *value, const core_path *path) {
    const opaque *o = (opaque *)value;
    return core_write_named(e, o->ext_type, o->name, o->value, path);
}

static int load(core_state *state) {
    static const core_encoder_entry entry = {.encode = encode};
    return core_add_type(state, (PyObject *)state->custom->opaque_type, &entry);
}

/* shown_name: returns the name, which the peer has chosen, as it can be printed. New reference. */
static PyObject *shown_name(PyObject *self) {
    return core_name(((opaque *)self)->name, CORE_MAX_REGISTERED_NAME, false);
}

static PyObject *opaque_repr(PyObject *self) {
    PyObject *name = shown_name(self), *text = name ? PyUnicode_FromFormat("<Opaque of type %U>", name) : NULL;
    Py_XDECREF(name);
    return text;
}

static PyObject *opaque_type_name(PyObject *self, void *Py_UNUSED(closure)) {
    return Py_NewRef(((opaque *)self)->name);
}

static PyObject *opaque_getattr(PyObject *self, PyObject *attribute) {
    PyObject *found = PyObject_GenericGetAttr(self, attribute);
    if (found || !PyErr_ExceptionMatches(PyExc_AttributeError) || PyUnicode_READ_CHAR(attribute, 0) == '_')
        return found;
    PyErr_Clear(); /* replaced by one that says why */
    PyObject *name = shown_name(self);
    if (name && ((opaque *)self)->ext_type == PISO_EXT_CONVERTED)
        PyErr_Format(PyExc_AttributeError,
                     "no attribute %R: this is an Opaque, because the package of %U is not installed in this process",
                     attribute, name);
    else if (name)
        PyErr_Format(PyExc_AttributeError,
                     "no attribute %R: this is an Opaque, because no class is registered as %R in this process; "
                     "register one with pyisolate.register_type",
                     attribute, name);
    Py_XDECREF(name);
    return NULL;
}

static PyObject *opaque_reduce(PyObject *self, PyObject *Py_UNUSED(args)) {
    return PyErr_Format(PyExc_TypeError,
                        "%R cannot be copied or pickled: its type is not known in this process; it can be sent on",
                        self);
}

static int opaque_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((opaque *)self)->value);
    return 0;
}

static void opaque_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    opaque *o = (opaque *)self;
    PyObject_GC_UnTrack(self);
    if (o->weakrefs)
        PyObject_ClearWeakRefs(self);
    Py_CLEAR(o->name);
    Py_CLEAR(o->value);
    type->tp_free(self);
    Py_DECREF(type);
}

static int opaque_clear(PyObject *self) {
    PyObject *value = ((opaque *)self)->value;
    ((opaque *)self)->value = Py_NewRef(Py_None);
    Py_XDECREF(value);
    return 0;
}

static PyMethodDef methods[] = {
    {"__reduce__", opaque_reduce, METH_NOARGS, NULL},
    {"__reduce_ex__", opaque_reduce, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef attributes[] = {
    {"type_name", opaque_type_name, NULL, "The name under which the sender has registered the type.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(opaque, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_doc, "A received value whose type is not registered in this process. It can be kept and sent on, also back: "
                "where its type is registered, it is the value again."},
    {Py_tp_repr, opaque_repr},
    {Py_tp_getattro, opaque_getattr},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_members, members},
    {Py_tp_traverse, opaque_traverse},
    {Py_tp_clear, opaque_clear},
    {Py_tp_dealloc, opaque_dealloc},
    {0, NULL},
};
static PyType_Spec spec = {
    .name = "pyisolate._core.Opaque",
    .basicsize = sizeof(opaque),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int core_opaque_init(PyObject *module, core_state *state) {
    state->custom->opaque_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    core_add_loader(state, load);
    return state->custom->opaque_type ? PyModule_AddType(module, state->custom->opaque_type) : -1;
}
