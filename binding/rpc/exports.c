/* exports.c - see exports.h.
 *
 * The id of an export is PISO_OBJECT_REFERENCED + generation << 16 + slot, so that an id whose export has ended is
 * unknown, until its slot has been used 32,767 times. */
#include "exports.h"
#include "session_error.h"

#include <errno.h>
#include <string.h>

#define REGISTERED  (sizeof((core_objects){0}.registered) / sizeof(PyObject *))
#define GENERATIONS 0x7fffu /* one less than fit: the last id is PISO_OBJECT_PREFETCH */
#define NO_SLOT     UINT32_MAX

typedef struct core_export_slot {
    core_export *export; /* NULL: free */
    uint32_t generation, next_free;
} core_export_slot;

/* ---- registered objects ---- */

PyObject *core_object_find(core_session *s, uint32_t id) {
    if (id < REGISTERED)
        return s->objects.registered[id];
    PyObject *key = s->objects.more ? PyLong_FromUnsignedLong(id) : NULL;
    PyObject *found = key ? PyDict_GetItemWithError(s->objects.more, key) : NULL;
    Py_XDECREF(key);
    PyErr_Clear(); /* an int is hashable: out of memory, and then the object is not found */
    return found;
}

PyObject *core_session_register(PyObject *self, PyObject *args) {
    core_objects *o = &((core_session *)self)->objects;
    unsigned int id;
    PyObject *object;
    if (!PyArg_ParseTuple(args, "IO:register", &id, &object))
        return NULL;
    if (id < REGISTERED) {
        Py_XSETREF(o->registered[id], Py_NewRef(object));
        Py_RETURN_NONE;
    }
    if (!o->more && !(o->more = PyDict_New()))
        return NULL;
    PyObject *key = PyLong_FromUnsignedLong(id);
    int r = key ? PyDict_SetItem(o->more, key, object) : -1;
    Py_XDECREF(key);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *core_session_unregister(PyObject *self, PyObject *id_object) {
    core_objects *o = &((core_session *)self)->objects;
    unsigned long id = PyLong_AsUnsignedLong(id_object);
    if (PyErr_Occurred())
        return NULL;
    if (id < REGISTERED)
        Py_CLEAR(o->registered[id]);
    else if (o->more && PyDict_Contains(o->more, id_object) > 0)
        PyDict_DelItem(o->more, id_object);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

/* ---- methods ---- */

/* is_method: returns whether a class attribute is a function, written in Python or C, as the class wraps it. Not a
 * property, which would be evaluated, nor a class or a callable object. */
static bool is_method(PyObject *found) {
    bool wraps = Py_IS_TYPE(found, &PyStaticMethod_Type) || Py_IS_TYPE(found, &PyClassMethod_Type);
    PyObject *function = wraps ? PyObject_GetAttrString(found, "__func__") : Py_NewRef(found);
    const char *type = function ? Py_TYPE(function)->tp_name : "";
    bool is = function && (PyType_HasFeature(Py_TYPE(function), Py_TPFLAGS_METHOD_DESCRIPTOR) ||
                           PyCFunction_Check(function) || Py_IS_TYPE(function, &PyClassMethodDescr_Type) ||
                           strcmp(type, "partialmethod") == 0 || strcmp(type, "singledispatchmethod") == 0);
    PyErr_Clear(); /* out of memory */
    Py_XDECREF(function);
    return is;
}

PyObject *core_method_of(PyTypeObject *type, PyObject *name) {
    PyObject *found = _PyType_Lookup(type, name);
    return found && is_method(found) ? found : NULL;
}

PyObject *core_method_bind(PyObject *found, PyObject *object) {
    descrgetfunc get = Py_TYPE(found)->tp_descr_get;
    return get ? get(found, object, (PyObject *)Py_TYPE(object)) : Py_NewRef(found);
}

static PyObject *defined_method(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *object, *name;
    if (!PyArg_ParseTuple(args, "OU:defined_method", &object, &name))
        return NULL;
    PyObject *found = Py_XNewRef(core_method_of(Py_TYPE(object), name));
    if (!found)
        return PyErr_Format(PyExc_AttributeError, CORE_NOT_A_METHOD, name, Py_TYPE(object)->tp_name);
    PyObject *method = core_method_bind(found, object);
    Py_DECREF(found);
    return method;
}

static PyMethodDef functions[] = {
    {"defined_method", defined_method, METH_VARARGS,
     "defined_method(object, name)\n\nReturn the function that the object's class defines under a name, bound to the "
     "object. Raise AttributeError for anything else: a property is not evaluated."},
    {NULL, NULL, 0, NULL},
};

int core_exports_init(PyObject *module, core_state *Py_UNUSED(state)) {
    return PyModule_AddFunctions(module, functions);
}

/* ---- exports ---- */

core_export *core_export_find(core_session *s, uint32_t id) {
    uint32_t slot = id & 0xffff;
    core_export *found = slot < s->objects.slot_count ? s->objects.slots[slot].export : NULL;
    return found && found->id == id && found->object ? found : NULL;
}

static int grow(core_objects *o) {
    uint32_t count = o->slot_count ? o->slot_count * 2 : 16;
    core_export_slot *slots = PyMem_Realloc(o->slots, count * sizeof *slots);
    if (!slots) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = o->slot_count; i < count; i++)
        slots[i] = (core_export_slot){.next_free = i + 1 < count ? i + 1 : NO_SLOT};
    o->free_slot = o->slot_count;
    o->slots = slots;
    o->slot_count = count;
    return 0;
}

/* find_by_key: returns the export of an object that the peer holds already, or NULL. */
static core_export *find_by_key(core_session *s, PyObject *key) {
    PyObject *id = s->objects.by_key ? PyDict_GetItemWithError(s->objects.by_key, key) : NULL;
    return id ? core_export_find(s, (uint32_t)PyLong_AsUnsignedLong(id)) : NULL;
}

/* remember: stores the id of a key. Returns 0 or -1. */
static int remember(core_objects *o, PyObject *key, uint32_t id) {
    PyObject *value = PyLong_FromUnsignedLong(id);
    int r = value && (o->by_key || (o->by_key = PyDict_New())) ? PyDict_SetItem(o->by_key, key, value) : -1;
    Py_XDECREF(value);
    return r;
}

/* end: frees an export that has no leases. */
static void end(core_export *x) {
    core_objects *o = &x->session->objects;
    core_export_slot *slot = &o->slots[x->id & 0xffff];
    slot->export = NULL;
    slot->generation = (slot->generation + 1) % GENERATIONS;
    slot->next_free = o->free_slot;
    o->free_slot = x->id & 0xffff;
    o->exports--;
    if (o->by_key && PyDict_DelItem(o->by_key, x->key) < 0)
        PyErr_Clear(); /* the collector has cleared it */
    PyObject *key = x->key, *object = x->object, *methods = x->methods;
    PyMem_Free(x);
    Py_DECREF(key);
    Py_XDECREF(methods);
    Py_XDECREF(object); /* last: it may run any code */
}

static void lease_ended(void *leased) {
    core_export *x = leased;
    if (--x->leases == 0)
        end(x);
}

/* create: returns a new export without leases. */
static core_export *create(core_session *s, PyObject *key, PyObject *object, PyObject *methods) {
    core_objects *o = &s->objects;
    if (o->exports == PISO_MAX_REFERENCES) {
        PyErr_Format(PyExc_OSError,
                     "%R holds %d functions and objects of this process already, which is the limit: release some "
                     "there (with release(), or by dropping them)",
                     s->name, PISO_MAX_REFERENCES);
        return NULL;
    }
    if ((o->slot_count == 0 || o->free_slot == NO_SLOT) && grow(o) < 0)
        return NULL;
    core_export_slot *slot = &o->slots[o->free_slot];
    uint32_t id = PISO_OBJECT_REFERENCED | slot->generation << 16 | o->free_slot;
    core_export *x = PyMem_Malloc(sizeof *x);
    if (!x)
        return (core_export *)PyErr_NoMemory();
    if (remember(o, key, id) < 0) {
        PyMem_Free(x);
        return NULL;
    }
    *x = (core_export){.leased = {lease_ended}, .session = s, .id = id};
    x->key = Py_NewRef(key);
    x->object = Py_NewRef(object);
    x->methods = Py_XNewRef(methods);
    o->free_slot = slot->next_free;
    slot->export = x;
    o->exports++;
    return x;
}

int core_export_lease(core_session *s, piso_writer *w, PyObject *key, PyObject *object, PyObject *methods,
                      uint32_t *ret_id) {
    core_export *x = find_by_key(s, key);
    if (!x && (PyErr_Occurred() || !(x = create(s, key, object, methods))))
        return -1;
    int index = piso_session_lease(s->session, w, x);
    if (index >= 0) {
        x->leases++;
        *ret_id = x->id;
        return index;
    }
    if (x->leases == 0)
        end(x);
    if (piso_session_state(s->session) < 0)
        core_session_error(s, index, NULL);
    else
        core_raise(s->state, index, "sending a function or an object by reference");
    return -1;
}

/* ---- all ---- */

int core_objects_visit(core_session *s, visitproc visit, void *arg) {
    core_objects *o = &s->objects;
    for (size_t i = 0; i < REGISTERED; i++)
        Py_VISIT(o->registered[i]);
    Py_VISIT(o->more);
    for (uint32_t i = 0; i < o->slot_count; i++)
        if (o->slots[i].export)
            Py_VISIT(o->slots[i].export->object);
    return 0;
}

void core_objects_clear(core_session *s) {
    core_objects *o = &s->objects;
    for (size_t i = 0; i < REGISTERED; i++)
        Py_CLEAR(o->registered[i]);
    Py_CLEAR(o->more);
    Py_CLEAR(o->by_key);
    for (uint32_t i = 0; i < o->slot_count; i++)
        if (o->slots[i].export)
            Py_CLEAR(o->slots[i].export->object);
}

void core_objects_fini(core_session *s) {
    core_objects *o = &s->objects;
    for (uint32_t i = 0; i < o->slot_count; i++)
        if (o->slots[i].export)
            end(o->slots[i].export);
    PyMem_Free(o->slots);
}
