/* convert.c - sends functions and Refs, and receives them. */
#include "codec/decode.h"
#include "codec/tables.h"
#include "common/printable.h"
#include "remote.h"
#include "rpc/exports.h"

#define SHOWN_NAME 200 /* characters of a name that are sent and shown */

/* ---- encoding ---- */

/* How a function is recognised when it is sent again. */
enum { BY_ADDRESS, BOUND_METHOD, C_FUNCTION };

static PyObject *pair(const void *a, const void *b) {
    PyObject *first = PyLong_FromVoidPtr((void *)a), *second = PyLong_FromVoidPtr((void *)b), *key = NULL;
    if (first && second)
        key = PyTuple_Pack(2, first, second);
    Py_XDECREF(first);
    Py_XDECREF(second);
    return key;
}

/* function_key: Python makes a new object each time that a method is looked up; such objects are equal. */
static PyObject *function_key(int kind, PyObject *function) {
    if (kind == BOUND_METHOD)
        return pair(PyMethod_GET_SELF(function), PyMethod_GET_FUNCTION(function));
    if (kind == C_FUNCTION && PyCFunction_GET_SELF(function))
        return pair(PyCFunction_GET_SELF(function), ((PyCFunctionObject *)function)->m_ml);
    return PyLong_FromVoidPtr(function);
}

/* function_name: returns the name for messages. It never fails, unless memory is exhausted. */
static PyObject *function_name(PyObject *function) {
    PyObject *inner = NULL, *name = PyObject_GetAttrString(function, "__qualname__");
    if (!name) {
        PyErr_Clear();                                    /* it has no name itself */
        inner = PyObject_GetAttrString(function, "func"); /* a partial */
        name = inner ? PyObject_GetAttrString(inner, "__qualname__") : NULL;
    }
    PyErr_Clear(); /* nor has what it wraps: the type is shown */
    if (!name || !PyUnicode_Check(name))
        Py_XSETREF(name, PyUnicode_FromString(Py_TYPE(inner ? inner : function)->tp_name));
    Py_XDECREF(inner);
    return name;
}

/* write_own: writes a reference to an object of this process, with a lease. `methods` NULL: a function. */
static int write_own(core_encoder *e, PyObject *key, PyObject *object, PyObject *name, PyObject *methods) {
    core_session *s = (core_session *)e->codec->owner;
    piso_reference reference = {.size = sizeof reference};
    PyObject *shown = key && name ? core_name(name, SHOWN_NAME, true) : NULL;
    PyObject *text = shown ? PyUnicode_AsEncodedString(shown, "utf-8", "replace") : NULL;
    int index = text ? core_export_lease(s, e->w, key, object, methods, &reference.object) : -1;
    if (index >= 0) {
        reference.kind = methods ? PISO_REFERENCE_OBJECT : PISO_REFERENCE_FUNCTION;
        reference.lease = (uint32_t)index;
        reference.name = PyBytes_AS_STRING(text);
        reference.name_size = (size_t)PyBytes_GET_SIZE(text);
        reference.method_count = methods ? (size_t)PyTuple_GET_SIZE(methods) : 0;
        size_t mark = piso_write_reference_begin(e->w, &reference);
        for (size_t i = 0; index >= 0 && i < reference.method_count; i++)
            index = core_encode(e, PyTuple_GET_ITEM(methods, (Py_ssize_t)i), NULL);
        piso_write_ext_end(e->w, mark);
    }
    Py_XDECREF(shown);
    Py_XDECREF(text);
    return index < 0 ? -1 : 0;
}

static int without_session(PyObject *value, const core_path *path) {
    return core_encode_error(path, value, "it can only be sent over a session");
}

static int encode_function(core_encoder *e, int kind, PyObject *function, const core_path *path) {
    if (!e->codec->owner)
        return without_session(function, path);
    PyObject *key = function_key(kind, function), *name = key ? function_name(function) : NULL;
    int r = name ? write_own(e, key, function, name, NULL) : -1;
    Py_XDECREF(key);
    Py_XDECREF(name);
    return r;
}

/* encode_own: writes an object of this process, which others call by these methods. */
static int encode_own(core_encoder *e, PyObject *object, PyObject *name, PyObject *methods) {
    PyObject *address = PyLong_FromVoidPtr(object), *key = address ? PyTuple_Pack(2, address, methods) : NULL;
    int result = key ? write_own(e, key, object, name, methods) : -1;
    Py_XDECREF(address);
    Py_XDECREF(key);
    return result;
}

/* encode_instance: writes an instance of a class that is registered with by_ref, as a Ref to it. */
static int encode_instance(core_encoder *e, PyObject *object, PyObject *methods, const core_path *path) {
    if (!e->codec->owner)
        return without_session(object, path);
    Py_INCREF(methods); /* looking up the name may run code that registers the class again */
    PyObject *name = PyObject_GetAttrString((PyObject *)Py_TYPE(object), "__name__");
    int result = name ? encode_own(e, object, name, methods) : -1;
    Py_XDECREF(name);
    Py_DECREF(methods);
    return result;
}

/* encode_home: writes the id of an object of the receiver, which this process must hold until the message is sent. */
static int encode_home(core_encoder *e, core_remote *r) {
    if (e->remotes && !*e->remotes && !(*e->remotes = PyList_New(0)))
        return -1;
    if (e->remotes && PyList_Append(*e->remotes, (PyObject *)r) < 0)
        return -1;
    piso_reference home = {.size = sizeof home, .kind = PISO_REFERENCE_HOME, .object = r->to.object};
    piso_write_ext_end(e->w, piso_write_reference_begin(e->w, &home));
    return 0;
}

static int encode_remote(core_encoder *e, int Py_UNUSED(kind), PyObject *value, const core_path *path) {
    core_remote *r = core_remote_base((core_remote *)value);
    if (!e->codec->owner)
        return without_session(value, path);
    if (core_remote_check(r) < 0)
        return -1;
    if (!r->to.session)
        return encode_own(e, r->object, r->to.name, r->methods);
    if ((PyObject *)r->to.session == e->codec->owner)
        return encode_home(e, r);
    PyObject *key = PyLong_FromVoidPtr(r); /* another process's: this one passes calls on */
    int result = key ? write_own(e, key, (PyObject *)r, r->to.name, r->methods) : -1;
    Py_XDECREF(key);
    return result;
}

/* encode_stand_in: writes what an object stands for, a function or a Ref: its attribute `_sent`. */
static int encode_stand_in(core_encoder *e, int kind, PyObject *value, const core_path *path) {
    core_state *state = e->codec->state;
    PyObject *sent = PyObject_GetAttrString(value, "_sent");
    int r = !sent                         ? -1
            : core_remote_of(state, sent) ? encode_remote(e, kind, sent, path)
                                          : encode_function(e, BY_ADDRESS, sent, path);
    Py_XDECREF(sent);
    return r;
}

/* ---- decoding ---- */

static PyObject *decode_home(core_decoder *d, uint32_t id) {
    core_session *s = (core_session *)d->codec->owner;
    core_export *found = s ? core_export_find(s, id) : NULL;
    d->registered = true; /* as a key it is hashed and compared by code of its own */
    return found ? Py_NewRef(found->object)
                 : core_cannot_decode(d, PyExc_LookupError,
                                      "the peer has sent back a function or an object that it no longer held");
}

static PyObject *decode_name(const piso_reference *reference) {
    PyObject *text = PyUnicode_DecodeUTF8(reference->name, (Py_ssize_t)reference->name_size, "replace");
    PyObject *name = text ? core_name(text, SHOWN_NAME, true) : NULL;
    Py_XDECREF(text);
    return name;
}

/* decode_methods: returns the names as a tuple. */
static PyObject *decode_methods(core_decoder *d, piso_reference *reference) {
    Py_ssize_t count = (Py_ssize_t)reference->method_count;
    PyObject *names =
        core_charge(d, (uint64_t)count * (CORE_COST_TEXT + 2 * CORE_COST_SLOT)) ? PyTuple_New(count) : NULL;
    for (Py_ssize_t i = 0; names && i < count; i++) {
        piso_item item;
        piso_read(&reference->methods, &item); /* piso_read_reference has checked it */
        PyObject *name = PyUnicode_DecodeUTF8((const char *)item.as.bytes.data, (Py_ssize_t)item.as.bytes.size, NULL);
        if (name && (!PyUnicode_IsIdentifier(name) || PyUnicode_READ_CHAR(name, 0) == '_'))
            core_malformed(d, "a reference with methods that cannot be called");
        if (name)
            PyTuple_SET_ITEM(names, i, name);
        if (PyErr_Occurred())
            Py_CLEAR(names);
    }
    return names;
}

/* decode_remote: returns the object that stands for the peer's. */
static PyObject *decode_remote(core_decoder *d, piso_reference *reference) {
    core_session *s = (core_session *)d->codec->owner;
    uint64_t lease = s && d->event->spans ? piso_event_take_lease(d->event, reference->lease) : 0;
    if (!lease)
        return core_malformed(d, "a reference without a lease");
    PyObject *known = core_remote_known(s, reference->object);
    if (known) {
        piso_session_end_lease(s->session, lease); /* it holds one already */
        return known;
    }
    bool full = s->remotes && PyDict_GET_SIZE(s->remotes) >= PISO_MAX_REFERENCES,
         has_methods = reference->kind == PISO_REFERENCE_OBJECT;
    PyObject *name = full ? core_malformed(d, "more references than a side may send") : decode_name(reference);
    PyObject *methods = name && has_methods ? decode_methods(d, reference) : NULL;
    if (!name || (has_methods && !methods)) {
        Py_XDECREF(name);
        piso_session_end_lease(s->session, lease);
        return NULL;
    }
    PyObject *remote = core_remote_take(s, reference->object, lease, name, methods);
    Py_DECREF(name);
    Py_XDECREF(methods);
    return remote;
}

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    piso_reference reference = {.size = sizeof reference};
    if (piso_read_reference(ext, &reference) < 0)
        return core_malformed(d, "a malformed reference");
    return reference.kind == PISO_REFERENCE_HOME ? decode_home(d, reference.object) : decode_remote(d, &reference);
}

/* ---- registration ---- */

static int add_of(core_state *state, const char *module_name, const char *class_name, const core_encoder_entry *entry) {
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *cls = module ? PyObject_GetAttrString(module, class_name) : NULL;
    int r = core_add_type(state, cls, entry);
    Py_XDECREF(module);
    Py_XDECREF(cls);
    return r;
}

static int load(core_state *state) {
    static const core_encoder_entry by_address = {.encode = encode_function, .kind = BY_ADDRESS};
    static const core_encoder_entry bound = {.encode = encode_function, .kind = BOUND_METHOD};
    static const core_encoder_entry in_c = {.encode = encode_function, .kind = C_FUNCTION};
    static const core_encoder_entry remote = {.encode = encode_remote};
    static const core_encoder_entry method = {.encode = encode_stand_in};
    const struct {
        PyTypeObject *type;
        const core_encoder_entry *entry;
    } types[] = {
        {&PyFunction_Type, &by_address}, {&PyMethod_Type, &bound},      {&PyCFunction_Type, &in_c},
        {&PyCMethod_Type, &in_c},        {state->method_type, &method}, {state->function_type, &remote},
        {state->ref_type, &remote},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (core_add_type(state, (PyObject *)types[i].type, types[i].entry) < 0)
            return -1;
    return add_of(state, "functools", "partial", &by_address) < 0
               ? -1
               : add_of(state, "functools", "_lru_cache_wrapper", &by_address);
}

static PyObject *send_by_reference(PyObject *module, PyObject *cls) {
    static const core_encoder_entry stand_in = {.encode = encode_stand_in};
    if (core_add_type(core_module_state(module), cls, &stand_in) < 0)
        return NULL;
    return Py_NewRef(cls);
}

static PyObject *is_function(PyObject *module, PyObject *value) {
    core_state *state = core_module_state(module);
    if (core_tables_load(state) < 0)
        return NULL;
    const core_encoder_entry *entry = core_encoder_of(state, Py_TYPE(value));
    PyErr_Clear(); /* a metaclass's __hash__ may raise: then it is no function */
    return PyBool_FromLong(entry && (entry->encode == encode_function || entry->encode == encode_stand_in));
}

static PyMethodDef functions[] = {
    {"is_function", is_function, METH_O, "is_function(value) -> bool\n\nReturn whether a value is sent as a function."},
    {"send_by_reference", send_by_reference, METH_O,
     "send_by_reference(cls)\n\nSend instances of a class as what their attribute `_sent` is: a function or a Ref. "
     "Return the class."},
    {NULL, NULL, 0, NULL},
};

int core_convert_init(PyObject *module, core_state *state) {
    core_add_loader(state, load);
    state->tables->reference = encode_instance;
    state->tables->permitted = core_ref_permitted;
    core_add_decoder(state, PISO_EXT_REFERENCE, (core_decoder_entry){.decode = decode, .cost = 300});
    return PyModule_AddFunctions(module, functions);
}
