/* values.c - PyTorch's values other than tensors: sizes, dtypes and other constants, devices, and the named results of
 * functions such as torch.max. A name from the peer is looked up in tables of this process's torch. */
#include <string.h>

#include "codec/decode.h"
#include "tensors.h"

/* Values in the table of types. */
enum { OTHER = 0, SIZE, DEVICE, CONSTANT, RESULT };

static const char *const constant_types[] = {"dtype", "layout", "memory_format", "qscheme"};
static const char not_seen[] =
    "the peer sent torch.device('%U:%zd'), which is GPU-%s in its process, and which this process "
    "does not see; add it to CUDA_VISIBLE_DEVICES, for an extension in its 'env'";

/* ---- the tables ---- */

static int note_type(core_torch_values *v, PyObject *type, int kind) {
    PyObject *number = type ? PyLong_FromLong(kind) : NULL;
    int r = number ? PyDict_SetItem(v->types, type, number) : -1;
    Py_XDECREF(number);
    return r;
}

static int kind_of(const core_torch_values *v, PyTypeObject *type) {
    PyObject *number = core_get_by_class(v->types, type);
    return number ? (int)PyLong_AsLong(number) : OTHER;
}

/* note_constant: records an attribute of torch, if it is a constant under its own name, not under an alias. */
static int note_constant(core_torch_values *v, PyObject *name, PyObject *value) {
    PyObject *text = PyObject_Str(value), *own = text ? PyUnicode_FromFormat("torch.%U", name) : NULL;
    int r = own ? PyUnicode_Compare(text, own) : -1;
    Py_XDECREF(text);
    Py_XDECREF(own);
    if (PyErr_Occurred())
        return -1;
    return r ? 0 : PyDict_SetItem(v->constants, name, value) < 0 ? -1 : PyDict_SetItem(v->names, value, name);
}

static int note_constants(core_torch_values *v, PyObject *torch) {
    PyObject *name, *value;
    Py_ssize_t position = 0;
    for (size_t i = 0; i < sizeof constant_types / sizeof *constant_types; i++) {
        PyObject *type = PyObject_GetAttrString(torch, constant_types[i]);
        int r = note_type(v, type, CONSTANT);
        Py_XDECREF(type);
        if (r < 0)
            return -1;
    }
    while (PyDict_Next(PyModule_GetDict(torch), &position, &name, &value)) {
        int kind = PyUnicode_Check(name) ? kind_of(v, Py_TYPE(value)) : OTHER;
        if (kind < 0 || (kind == CONSTANT && note_constant(v, name, value) < 0))
            return -1;
    }
    return 0;
}

/* note_result: records a structure sequence, under its own name. */
static int note_result(core_torch_values *v, PyObject *type) {
    if (!PyType_Check(type) || ((PyTypeObject *)type)->tp_base != &PyTuple_Type ||
        !PyObject_HasAttrString(type, "n_sequence_fields"))
        return 0;
    PyObject *name = PyObject_GetAttrString(type, "__name__");
    int r = name && PyDict_SetItem(v->results, name, type) == 0 && PyDict_SetItem(v->names, type, name) == 0
                ? note_type(v, type, RESULT)
                : -1;
    Py_XDECREF(name);
    return r;
}

static int note_results(core_torch_values *v, PyObject *torch) {
    PyObject *module = PyObject_GetAttrString(torch, "return_types"), *name, *value;
    Py_ssize_t position = 0;
    if (!module)
        PyErr_Clear(); /* not yet imported */
    int r = 0;
    while (r == 0 && module && PyModule_Check(module) &&
           PyDict_Next(PyModule_GetDict(module), &position, &name, &value))
        r = note_result(v, value);
    Py_XDECREF(module);
    return r;
}

static void clear(core_torch_values *v) {
    for (PyObject **field = (PyObject **)v; field != (PyObject **)(v + 1); field++)
        Py_CLEAR(*field);
}

static int fill(core_torch_values *v, PyObject *torch) {
    PyObject **tables[] = {&v->types, &v->names, &v->constants, &v->results};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (!(*tables[i] = PyDict_New()))
            return -1;
    v->size = PyObject_GetAttrString(torch, "Size");
    v->device = v->size ? PyObject_GetAttrString(torch, "device") : NULL;
    return v->device && note_type(v, v->size, SIZE) == 0 && note_type(v, v->device, DEVICE) == 0 &&
                   note_constants(v, torch) == 0 && note_results(v, torch) == 0
               ? 0
               : -1;
}

/* load: fills the tables, once torch is imported. Other threads may do the same at the same time, so complete tables
 * replace the previous ones at once. Returns 0 or -1. */
static int load(core_torch_state *t) {
    core_torch_values fresh = {0};
    if (t->values_known)
        return 0;
    int r = fill(&fresh, t->module);
    if (r == 0 && !t->values_known) {
        core_torch_values before = t->values;
        t->values = fresh;
        t->values_known = PyDict_GET_SIZE(fresh.results) > 0; /* otherwise torch is still being imported */
        fresh = before;
    }
    clear(&fresh);
    return r;
}

/* ---- encoding ---- */

static void write_name(core_encoder *e, size_t parts, const char *name) {
    piso_write_array(e->w, 1 + parts);
    piso_write_str(e->w, name, strlen(name));
}

/* write_items: writes the items of a tuple, as an array. */
static int write_items(core_encoder *e, PyObject *tuple, const core_path *path) {
    core_path at = {.parent = path, .kind = CORE_AT_INDEX};
    int r = 0;
    piso_write_array(e->w, (size_t)PyTuple_GET_SIZE(tuple));
    for (; r == 0 && at.index < PyTuple_GET_SIZE(tuple); at.index++)
        r = core_encode(e, PyTuple_GET_ITEM(tuple, at.index), &at);
    return r;
}

/* write_device: writes type and index, and the UUID of a GPU that the driver lists here: it may have another id in the
 * peer's process. */
static int write_device(core_encoder *e, PyObject *device, const core_path *path) {
    PyObject *type = PyObject_GetAttrString(device, "type");
    PyObject *index = type ? PyObject_GetAttrString(device, "index") : NULL;
    int r = index ? core_encode(e, type, path) < 0 ? -1 : core_encode(e, index, path) : -1;
    uint8_t uuid[CORE_UUID_SIZE];
    const core_gpu *gpu = e->codec->state->gpu;
    if (r == 0 && gpu && PyLong_Check(index) && PyUnicode_CompareWithASCIIString(type, "cuda") == 0 &&
        gpu->uuid((int)PyLong_AsLong(index), uuid) == 0)
        piso_write_bin(e->w, uuid, sizeof uuid);
    else if (r == 0)
        piso_write_nil(e->w);
    Py_XDECREF(type);
    Py_XDECREF(index);
    return r;
}

/* write_own_name: writes the name of a constant, or of a result's class. */
static int write_own_name(core_encoder *e, PyObject *named, PyObject *value, const core_path *path) {
    PyObject *name = PyDict_GetItemWithError(e->codec->state->torch->values.names, named);
    if (name)
        return core_encode(e, name, path);
    return PyErr_Occurred()
               ? -1
               : core_encode_error(path, value, "torch does not have it under its own name; send str(value)");
}

static int write_value(core_encoder *e, int kind, PyObject *value, const core_path *path) {
    switch (kind) {
    case SIZE:
        write_name(e, 1, "size");
        return write_items(e, value, path);
    case DEVICE:
        write_name(e, 3, "device");
        return write_device(e, value, path);
    case CONSTANT:
        write_name(e, 1, "constant");
        return write_own_name(e, value, value, path);
    default:
        write_name(e, 2, "result");
        return write_own_name(e, (PyObject *)Py_TYPE(value), value, path) < 0 ? -1 : write_items(e, value, path);
    }
}

static int encode_fallback(core_encoder *e, PyObject *value, const core_path *path) {
    int r = core_torch_load(e->codec->state, false);
    if (r <= 0)
        return r;
    core_torch_state *t = e->codec->state->torch;
    int kind = load(t) < 0 ? -1 : kind_of(&t->values, Py_TYPE(value));
    if (kind <= 0)
        return kind;
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_TORCH);
    r = write_value(e, kind, value, path);
    piso_write_ext_end(e->w, mark);
    return r < 0 ? -1 : 1;
}

/* ---- decoding ---- */

/* find: returns this process's object of torch with this name. Borrowed. */
static PyObject *find(core_decoder *d, PyObject *table, PyObject *name) {
    if (!PyUnicode_CheckExact(name))
        return core_malformed(d, "a name of torch that is not text");
    PyObject *found = PyDict_GetItemWithError(table, name);
    if (!found)
        core_cannot_decode(d, PyExc_TypeError,
                           "the peer sent %.200R of torch, which this process's version does not have", name);
    return found;
}

static PyObject *make_constant(core_decoder *d, PyObject **parts) {
    return Py_XNewRef(find(d, d->codec->state->torch->values.constants, parts[0]));
}

static PyObject *make_result(core_decoder *d, PyObject **parts) {
    PyObject *cls = find(d, d->codec->state->torch->values.results, parts[0]);
    if (cls && !PyList_CheckExact(parts[1]))
        return core_malformed(d, "a result of torch without its items");
    return cls ? PyObject_CallOneArg(cls, parts[1]) : NULL; /* the class checks the count */
}

static PyObject *make_size(core_decoder *d, PyObject **parts) {
    bool good = PyList_CheckExact(parts[0]);
    for (Py_ssize_t i = 0; good && i < PyList_GET_SIZE(parts[0]); i++) {
        PyObject *number = PyList_GET_ITEM(parts[0], i);
        int overflow = 1;
        if (PyLong_CheckExact(number))
            PyLong_AsLongLongAndOverflow(number, &overflow);
        good = !overflow;
    }
    return good ? PyObject_CallOneArg(d->codec->state->torch->values.size, parts[0])
                : core_malformed(d, "a torch.Size of values that are not 64-bit integers");
}

/* index_here: returns the id of the device in this process; -1 with an exception. Without a GPU it is the id that was
 * sent: the device cannot be used here, but it may be sent back. */
static Py_ssize_t index_here(const core_gpu *gpu, PyObject *type, Py_ssize_t index, PyObject *uuid) {
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(uuid);
    int found = gpu ? gpu->find(bytes) : -1;
    if (found >= 0 || !gpu || gpu->count() <= 0)
        return found >= 0 ? found : index;
    char text[2 * CORE_UUID_SIZE + 5], *to = text;
    for (int i = 0; i < CORE_UUID_SIZE; i++)
        to += sprintf(to, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", bytes[i]);
    PyErr_Format(PyExc_RuntimeError, not_seen, type, index, text);
    return -1;
}

/* is_device_type: torch also accepts "cuda:1" as a type. */
static bool is_device_type(PyObject *type) {
    return PyUnicode_CheckExact(type) && PyUnicode_FindChar(type, ':', 0, PY_SSIZE_T_MAX, 1) == -1;
}

static PyObject *make_device(core_decoder *d, PyObject **parts) {
    PyObject *type = parts[0], *uuid = parts[2], *cls = d->codec->state->torch->values.device;
    Py_ssize_t index = PyLong_CheckExact(parts[1]) ? PyLong_AsSsize_t(parts[1]) : -1;
    if (PyErr_Occurred())
        return NULL;
    bool is_gpu = PyBytes_CheckExact(uuid) && PyBytes_GET_SIZE(uuid) == CORE_UUID_SIZE && index >= 0 &&
                  PyUnicode_CheckExact(type) && PyUnicode_CompareWithASCIIString(type, "cuda") == 0;
    /* a larger one would wrap around: torch keeps it in 8 bits */
    if (!is_device_type(type) || index > INT8_MAX || (index < 0 && parts[1] != Py_None) || !(is_gpu || uuid == Py_None))
        return core_malformed(d, "a torch.device of an unknown kind");
    if (is_gpu && (index = index_here(d->codec->state->gpu, type, index, uuid)) < 0)
        return NULL;
    PyObject *device = index < 0 ? PyObject_CallOneArg(cls, type) : PyObject_CallFunction(cls, "On", type, index);
    if (!device && PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        PyErr_Clear(); /* torch's message lists all types */
        core_cannot_decode(d, PyExc_TypeError,
                           "the peer sent a device of type %.200R, which this process's version of torch does not have",
                           type);
    }
    return device;
}

static const core_constructor constructors[] = {
    {"size", 1, make_size}, {"device", 3, make_device}, {"constant", 1, make_constant}, {"result", 2, make_result},
    {.name = NULL},
};

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    if (core_torch_needed(d) < 0 || load(d->codec->state->torch) < 0)
        return NULL;
    static const core_constructor *const lists[] = {constructors, NULL};
    return core_decode_constructed(d, ext, lists);
}

void core_torch_values_init(core_state *state) {
    core_add_fallback(state, (core_fallback){.encode = encode_fallback});
    core_add_decoder(state, PISO_EXT_TORCH,
                     (core_decoder_entry){.decode = decode, .cost = 150, .holds = true, .special = true});
}
