/* collections.c - OrderedDict, defaultdict, Counter, deque, range, slice and Ellipsis: [name, part...]. Their parts
 * are ordinary values, so keys are checked as a dict's are. Subclasses cannot be sent: they would arrive as another
 * type. */
#include <string.h>

#include "codec/decode.h"
#include "std.h"

/* Size of the numbers of a range or a Fraction: the constructor divides them, which for longer ones takes the square of
 * their length. */
#define MAX_BITS 8192

enum { ORDERED_DICT, DEFAULTDICT, COUNTER, DEQUE, RANGE, SLICE, ELLIPSIS, COLLECTIONS }; /* kinds of entries */

/* ---- checks ---- */

static PyTypeObject *const factories[] = {
    &PyBool_Type, &PyBytes_Type, &PyDict_Type,    &PyFloat_Type, &PyLong_Type,
    &PyList_Type, &PySet_Type,   &PyUnicode_Type, &PyTuple_Type,
};
#define FACTORIES (sizeof factories / sizeof *factories)

/* is_attribute: returns whether an instance's attribute may have that name: text, and not a name of its class, which it
 * would hide. */
static bool is_attribute(PyObject *cls, PyObject *name) {
    return PyUnicode_CheckExact(name) && PyUnicode_GET_LENGTH(name) <= CORE_MAX_ATTRIBUTE &&
           !PyObject_HasAttr(cls, name);
}

int core_is_short(PyObject *number) {
    int overflow;
    PyLong_AsLongLongAndOverflow(number, &overflow);
    if (!overflow)
        return 1;
    PyObject *bits = PyObject_CallMethod(number, "bit_length", NULL);
    Py_ssize_t count = bits ? PyLong_AsSsize_t(bits) : -1;
    Py_XDECREF(bits);
    return count < 0 ? -1 : count <= MAX_BITS;
}

/* ---- encoding ---- */

/* write_items: writes a map in the mapping's order; `at` describes its keys. The list is a copy, so the mapping may
 * change meanwhile. */
static int write_items(core_encoder *e, PyObject *mapping, core_path at) {
    PyObject *items = PyMapping_Items(mapping);
    int r = items ? 0 : -1;
    piso_write_map(e->w, items ? (size_t)PyList_GET_SIZE(items) : 0);
    for (Py_ssize_t i = 0; r == 0 && i < PyList_GET_SIZE(items); i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        at.key = PyTuple_GET_ITEM(item, 0);
        r = core_encode(e, at.key, &at) < 0 ? -1 : core_encode(e, PyTuple_GET_ITEM(item, 1), &at);
    }
    Py_XDECREF(items);
    return r;
}

/* Such as the _metadata of torch's state_dict. */
int core_write_attributes(core_encoder *e, PyObject *value, const core_path *path) {
    PyObject *attributes = PyObject_GetAttrString(value, "__dict__"), *name, *ignored;
    Py_ssize_t position = 0;
    int r = attributes ? 0 : -1;
    while (r == 0 && PyDict_Next(attributes, &position, &name, &ignored))
        if (!is_attribute((PyObject *)Py_TYPE(value), name))
            r = core_encode_error(
                path, value, "one of its attributes hides one of its class, or its name is not text or is too long");
    if (r == 0)
        r = write_items(e, attributes, (core_path){.parent = path, .kind = CORE_AT_FIELD});
    Py_XDECREF(attributes);
    return r;
}

static int write_mapping(core_encoder *e, PyObject *value, const core_path *path) {
    return write_items(e, value, (core_path){.parent = path, .kind = CORE_AT_KEY}) < 0
               ? -1
               : core_write_attributes(e, value, path);
}

static int write_defaultdict(core_encoder *e, PyObject *value, const core_path *path) {
    PyObject *factory = PyObject_GetAttrString(value, "default_factory");
    Py_XDECREF(factory); /* the value holds it, and it is only compared */
    size_t i = 0;
    while (factory && factory != Py_None && i < FACTORIES && factory != (PyObject *)factories[i])
        i++;
    if (!factory)
        return -1;
    if (i == FACTORIES)
        return core_encode_error(path, value,
                                 "its default_factory must be None, bool, bytes, dict, float, int, list, set, str or "
                                 "tuple; send dict(value)");
    if (factory == Py_None)
        piso_write_nil(e->w);
    else
        piso_write_str(e->w, factories[i]->tp_name, strlen(factories[i]->tp_name));
    return write_items(e, value, (core_path){.parent = path, .kind = CORE_AT_KEY});
}

/* write_part: writes an attribute of the value. */
static int write_part(core_encoder *e, PyObject *value, const char *name, const core_path *path) {
    PyObject *key = PyUnicode_FromString(name), *part = key ? PyObject_GetAttr(value, key) : NULL;
    core_path at = {.parent = path, .kind = CORE_AT_FIELD, .key = key};
    int r = part ? core_encode(e, part, &at) : -1;
    Py_XDECREF(key);
    Py_XDECREF(part);
    return r;
}

static int write_deque(core_encoder *e, PyObject *value, const core_path *path) {
    PyObject *items = PySequence_List(value);
    int r = items ? write_part(e, value, "maxlen", path) : -1;
    core_path at = {.parent = path, .kind = CORE_AT_INDEX};
    piso_write_array(e->w, items ? (size_t)PyList_GET_SIZE(items) : 0);
    for (; r == 0 && at.index < PyList_GET_SIZE(items); at.index++)
        r = core_encode(e, PyList_GET_ITEM(items, at.index), &at);
    Py_XDECREF(items);
    return r;
}

static const char *const bounds[] = {"start", "stop", "step"};

static int write_slice(core_encoder *e, PyObject *value, const core_path *path) {
    int r = 0;
    for (int i = 0; r == 0 && i < 3; i++)
        r = write_part(e, value, bounds[i], path);
    return r;
}

/* write_range: writes its numbers as exact ints, because a range keeps a bool, or an instance of a subclass, as it was
 * given. */
static int write_range(core_encoder *e, PyObject *value, const core_path *path) {
    int r = 0;
    for (int i = 0; r == 0 && i < 3; i++) {
        PyObject *given = PyObject_GetAttrString(value, bounds[i]), *number = given ? PyNumber_Long(given) : NULL;
        int good = number ? core_is_short(number) : -1;
        if (good > 0)
            r = core_encode(e, number, path);
        else
            r = good < 0 ? -1 : core_encode_error(path, value, "its numbers may have no more than 8192 bits");
        Py_XDECREF(given);
        Py_XDECREF(number);
    }
    return r;
}

static int write_nothing(core_encoder *Py_UNUSED(e), PyObject *Py_UNUSED(value), const core_path *Py_UNUSED(path)) {
    return 0;
}

/* ---- decoding ---- */

int core_set_attributes(core_decoder *d, PyObject *value, PyObject *attributes) {
    if (!PyDict_CheckExact(attributes))
        return core_malformed(d, "a value without its attributes"), -1;
    PyObject *name, *ignored;
    Py_ssize_t position = 0;
    while (PyDict_Next(attributes, &position, &name, &ignored))
        if (!is_attribute((PyObject *)Py_TYPE(value), name))
            return core_malformed(d, "an attribute that hides one of its class, or has a long name"), -1;
    if (!PyDict_GET_SIZE(attributes))
        return 0;
    if (!core_charge(d, (uint64_t)PyDict_GET_SIZE(attributes) * CORE_COST_ENTRY))
        return -1;
    PyObject *dict = PyObject_GetAttrString(value, "__dict__"); /* not through a descriptor */
    int r = dict ? PyDict_Update(dict, attributes) : -1;
    Py_XDECREF(dict);
    return r;
}

/* make_mapping: calls cls(items) and sets its attributes. */
static PyObject *make_mapping(core_decoder *d, PyObject *cls, PyObject *items, PyObject *attributes) {
    if (!PyDict_CheckExact(items))
        return core_malformed(d, "a collection without its items");
    if (!core_charge(d, (uint64_t)PyDict_GET_SIZE(items) * CORE_COST_COPIED_ENTRY))
        return NULL;
    PyObject *mapping = PyObject_CallOneArg(cls, items);
    if (mapping && core_set_attributes(d, mapping, attributes) < 0)
        Py_CLEAR(mapping);
    return mapping;
}

static PyObject *make_ordered_dict(core_decoder *d, PyObject **parts) {
    return make_mapping(d, (PyObject *)&PyODict_Type, parts[0], parts[1]);
}

static PyObject *make_counter(core_decoder *d, PyObject **parts) {
    return make_mapping(d, d->codec->state->std->counter, parts[0], parts[1]);
}

static PyObject *make_defaultdict(core_decoder *d, PyObject **parts) {
    PyObject *factory = parts[0] == Py_None ? Py_None : NULL;
    for (size_t i = 0; !factory && PyUnicode_CheckExact(parts[0]) && i < FACTORIES; i++)
        if (PyUnicode_CompareWithASCIIString(parts[0], factories[i]->tp_name) == 0)
            factory = (PyObject *)factories[i];
    if (!factory || !PyDict_CheckExact(parts[1]))
        return core_malformed(d, "a defaultdict of an unknown kind");
    if (!core_charge(d, (uint64_t)PyDict_GET_SIZE(parts[1]) * CORE_COST_COPIED_ENTRY))
        return NULL;
    return PyObject_CallFunctionObjArgs(d->codec->state->std->defaultdict, factory, parts[1], NULL);
}

static PyObject *make_deque(core_decoder *d, PyObject **parts) {
    PyObject *maxlen = parts[0], *items = parts[1];
    Py_ssize_t limit = PY_SSIZE_T_MAX;
    if (PyLong_CheckExact(maxlen))
        limit = PyLong_AsSsize_t(maxlen);
    else if (maxlen != Py_None)
        return core_malformed(d, "a deque of an unknown length");
    if (PyErr_Occurred())
        return NULL;
    if (!PyList_CheckExact(items) || PyList_GET_SIZE(items) > limit)
        return core_malformed(d, "a deque with more items than its length");
    return PyObject_CallFunctionObjArgs(d->codec->state->std->deque, items, maxlen, NULL);
}

static PyObject *make_range(core_decoder *d, PyObject **parts) {
    for (int i = 0; i < 3; i++) {
        int good = PyLong_CheckExact(parts[i]) ? core_is_short(parts[i]) : 0;
        if (good <= 0)
            return good < 0 ? NULL : core_malformed(d, "a range whose parts are not integers, or are too long");
    }
    return PyObject_CallFunctionObjArgs((PyObject *)&PyRange_Type, parts[0], parts[1], parts[2], NULL);
}

static PyObject *make_slice(core_decoder *Py_UNUSED(d), PyObject **parts) {
    return PySlice_New(parts[0], parts[1], parts[2]);
}

static PyObject *make_ellipsis(core_decoder *Py_UNUSED(d), PyObject **Py_UNUSED(parts)) {
    return Py_NewRef(Py_Ellipsis);
}

/* ---- registration ---- */

static const core_constructor constructors[COLLECTIONS + 1] = {
    [ORDERED_DICT] = {"OrderedDict", 2, make_ordered_dict},
    [DEFAULTDICT] = {"defaultdict", 2, make_defaultdict},
    [COUNTER] = {"Counter", 2, make_counter},
    [DEQUE] = {"deque", 2, make_deque},
    [RANGE] = {"range", 3, make_range},
    [SLICE] = {"slice", 3, make_slice},
    [ELLIPSIS] = {"Ellipsis", 0, make_ellipsis},
};

static int (*const writers[COLLECTIONS])(core_encoder *e, PyObject *value, const core_path *path) = {
    [ORDERED_DICT] = write_mapping, [DEFAULTDICT] = write_defaultdict,
    [COUNTER] = write_mapping,      [DEQUE] = write_deque,
    [RANGE] = write_range,          [SLICE] = write_slice,
    [ELLIPSIS] = write_nothing,
};

size_t core_write_constructed(core_encoder *e, const core_constructor *constructor) {
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_COLLECTION);
    piso_write_array(e->w, 1 + constructor->parts);
    piso_write_str(e->w, constructor->name, strlen(constructor->name));
    return mark;
}

static int encode(core_encoder *e, int kind, PyObject *value, const core_path *path) {
    size_t mark = core_write_constructed(e, &constructors[kind]);
    int r = writers[kind](e, value, path);
    piso_write_ext_end(e->w, mark);
    return r;
}

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    static const core_constructor *const lists[] = {constructors, core_library, NULL};
    return core_tables_load(d->codec->state) < 0 ? NULL : core_decode_constructed(d, ext, lists);
}

static const core_encoder_entry entries[COLLECTIONS] = {
    {encode, ORDERED_DICT, false}, {encode, DEFAULTDICT, false}, {encode, COUNTER, false},  {encode, DEQUE, false},
    {encode, RANGE, false},        {encode, SLICE, false},       {encode, ELLIPSIS, false},
};

static int load(core_state *state) {
    core_std_state *s = state->std;
    PyObject *module = PyImport_ImportModule("collections");
    if (module && !s->counter)
        s->counter = PyObject_GetAttrString(module, "Counter");
    if (s->counter && !s->defaultdict)
        s->defaultdict = PyObject_GetAttrString(module, "defaultdict");
    if (s->defaultdict && !s->deque)
        s->deque = PyObject_GetAttrString(module, "deque");
    Py_XDECREF(module);
    if (!s->deque)
        return -1;
    PyObject *const classes[COLLECTIONS] = {
        (PyObject *)&PyODict_Type,
        s->defaultdict,
        s->counter,
        s->deque,
        (PyObject *)&PyRange_Type,
        (PyObject *)&PySlice_Type,
        (PyObject *)&PyEllipsis_Type,
    };
    for (int i = 0; i < COLLECTIONS; i++)
        if (core_add_type(state, classes[i], &entries[i]) < 0)
            return -1;
    return 0;
}

void core_collections_init(core_state *state) {
    core_add_loader(state, load);
    core_add_decoder(state, PISO_EXT_COLLECTION, (core_decoder_entry){.decode = decode, .cost = 760, .holds = true});
}
