/* library.c - more of the standard library as COLLECTION: Fraction, array.array, the addresses and networks of
 * ipaddress, SimpleNamespace, ZoneInfo, timezone. Their modules are imported when the first value arrives; where there
 * is a value to send, its module has been imported. */
#include <string.h>

#include "codec/decode.h"
#include "std.h"

#define MAX_ADDRESS     256 /* characters; the scope of an IPv6 address may have any length */
#define COMPARED_SLOWLY 64  /* weight of keys whose __eq__ is written in Python */
/* Half the nanoseconds, in addition to those of any collection. */
#define COST_DIVISION 4000 /* of two integers of the greatest length */
#define COST_ADDRESS  1500

enum {
    FRACTION,
    ARRAY,
    IPV4_ADDRESS,
    IPV4_NETWORK,
    IPV4_INTERFACE,
    IPV6_ADDRESS,
    IPV6_NETWORK,
    IPV6_INTERFACE,
    NAMESPACE,
    ZONE_INFO,
    TIMEZONE,
    KINDS
};

static const struct {
    const char *module, *name;
} classes[KINDS] = {
    [FRACTION] = {"fractions", "Fraction"},
    [ARRAY] = {"array", "array"},
    [IPV4_ADDRESS] = {"ipaddress", "IPv4Address"},
    [IPV4_NETWORK] = {"ipaddress", "IPv4Network"},
    [IPV4_INTERFACE] = {"ipaddress", "IPv4Interface"},
    [IPV6_ADDRESS] = {"ipaddress", "IPv6Address"},
    [IPV6_NETWORK] = {"ipaddress", "IPv6Network"},
    [IPV6_INTERFACE] = {"ipaddress", "IPv6Interface"},
    [NAMESPACE] = {"types", "SimpleNamespace"},
    [ZONE_INFO] = {"zoneinfo", "ZoneInfo"},
    [TIMEZONE] = {"datetime", "timezone"},
};

/* ---- finding classes ---- */

/* class_of: returns the class of a kind, whose module is imported; a new reference, or NULL with an exception. */
static PyObject *class_of(int kind) {
    PyObject *module = PyImport_ImportModule(classes[kind].module);
    PyObject *cls = module ? PyObject_GetAttrString(module, classes[kind].name) : NULL;
    Py_XDECREF(module);
    return cls;
}

/* is_of: returns whether a class is that of a kind, if its module is imported. */
static bool is_of(PyTypeObject *type, int kind) {
    const char *dot = strrchr(type->tp_name, '.');
    if (strcmp(dot ? dot + 1 : type->tp_name, classes[kind].name) != 0)
        return false;
    PyObject *module = PyDict_GetItemString(PyImport_GetModuleDict(), classes[kind].module);
    PyObject *cls = module ? PyObject_GetAttrString(module, classes[kind].name) : NULL;
    Py_XDECREF(cls); /* only compared */
    PyErr_Clear();   /* the module is being imported, or is another module of that name */
    return cls == (PyObject *)type;
}

/* ---- encoding ---- */

/* write_number: writes an attribute as an exact int. */
static int write_number(core_encoder *e, PyObject *value, const char *name, const core_path *path) {
    PyObject *given = PyObject_GetAttrString(value, name), *number = given ? PyNumber_Long(given) : NULL;
    int good = number ? core_is_short(number) : -1;
    int r = good > 0 ? core_encode(e, number, path) : -1;
    if (good == 0)
        core_encode_error(path, value, "its numbers may have no more than 8192 bits");
    Py_XDECREF(given);
    Py_XDECREF(number);
    return r;
}

static int write_fraction(core_encoder *e, PyObject *value, const core_path *path) {
    return write_number(e, value, "numerator", path) < 0 ? -1 : write_number(e, value, "denominator", path);
}

/* write_array: writes the type and the items: characters as text, whose size differs between systems. */
static int write_array(core_encoder *e, PyObject *value, const core_path *path) {
    PyObject *code = PyObject_GetAttrString(value, "typecode");
    const char *type = code ? PyUnicode_AsUTF8(code) : NULL;
    int r = -1;
    Py_buffer view; /* keeps its size while the GIL may be released */
    if (type && core_encode(e, code, path) == 0 && (*type == 'u' || *type == 'w')) {
        PyObject *text = PyObject_CallMethod(value, "tounicode", NULL);
        r = text ? core_encode(e, text, path) : -1;
        Py_XDECREF(text);
    } else if (type && !PyErr_Occurred() && PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) == 0) {
        r = core_encode_data(e, view.buf, (size_t)view.len);
        PyBuffer_Release(&view);
    }
    Py_XDECREF(code);
    return r;
}

static int write_address(core_encoder *e, PyObject *value, const core_path *path) {
    PyObject *text = PyObject_Str(value);
    int r = text ? 0 : -1;
    if (text && PyUnicode_GET_LENGTH(text) > MAX_ADDRESS)
        r = core_encode_error(path, value, "it may have no more than 256 characters");
    if (r == 0)
        r = core_encode(e, text, path);
    Py_XDECREF(text);
    return r;
}

static int write_zone_info(core_encoder *e, PyObject *value, const core_path *path) {
    PyObject *key = PyObject_GetAttrString(value, "key");
    int r = -1;
    if (key && PyUnicode_CheckExact(key))
        r = core_encode(e, key, path);
    else if (key)
        core_encode_error(path, value, "it has no key; make it with zoneinfo.ZoneInfo(key)");
    Py_XDECREF(key);
    return r;
}

static int write_timezone(core_encoder *e, PyObject *value, const core_path *Py_UNUSED(path)) {
    return core_encode_timezone(e, value);
}

/* ---- decoding ---- */

/* call: calls the class of a kind with one or two arguments. */
static PyObject *call(int kind, PyObject *first, PyObject *second) {
    PyObject *cls = class_of(kind);
    PyObject *value = cls ? PyObject_CallFunctionObjArgs(cls, first, second, NULL) : NULL;
    Py_XDECREF(cls);
    return value;
}

static PyObject *make_fraction(core_decoder *d, PyObject **parts) {
    for (int i = 0; i < 2; i++) {
        int good = PyLong_CheckExact(parts[i]) ? core_is_short(parts[i]) : 0;
        if (good <= 0)
            return good < 0 ? NULL : core_malformed(d, "a Fraction whose parts are not integers, or are too long");
    }
    int overflow[2];
    PyLong_AsLongLongAndOverflow(parts[0], &overflow[0]);
    PyLong_AsLongLongAndOverflow(parts[1], &overflow[1]);
    if ((overflow[0] || overflow[1]) && !core_charge(d, COST_DIVISION))
        return NULL;
    d->weight = core_weight(d->weight + COMPARED_SLOWLY);
    return call(FRACTION, parts[0], parts[1]);
}

/* has_type: returns whether this version of Python has arrays of a type. */
static bool has_type(const char *type) {
    static const char everywhere[] = "bBuhHiIlLqQfd";
    return strchr(everywhere, *type) || (*type == 'w' && PY_VERSION_HEX >= 0x030d0000);
}

static PyObject *make_array(core_decoder *d, PyObject **parts) {
    const char *type = PyUnicode_CheckExact(parts[0]) ? PyUnicode_AsUTF8(parts[0]) : NULL;
    if (!type || !*type || type[1] || !strchr("bBuwhHiIlLqQfd", *type))
        return core_malformed(d, "an array of an unknown type");
    bool is_text = *type == 'u' || *type == 'w';
    if (is_text ? !PyUnicode_CheckExact(parts[1]) : !PyBytes_CheckExact(parts[1]))
        return core_malformed(d, "an array without items");
    if (!has_type(type))
        return core_cannot_decode(d, PyExc_TypeError, "the peer sent an array of type '%s', which Python has from 3.13",
                                  type);
    if (!core_charge(d, is_text ? 4 * (uint64_t)PyUnicode_GET_LENGTH(parts[1]) : (uint64_t)PyBytes_GET_SIZE(parts[1])))
        return NULL;
    return call(ARRAY, parts[0], parts[1]);
}

static PyObject *make_address(core_decoder *d, int kind, PyObject *text) {
    if (!PyUnicode_CheckExact(text) || PyUnicode_GET_LENGTH(text) > MAX_ADDRESS)
        return core_malformed(d, "an address that is not text, or is too long");
    d->weight = core_weight(d->weight + COMPARED_SLOWLY);
    return core_charge(d, COST_ADDRESS) ? call(kind, text, NULL) : NULL;
}

#define MAKE_ADDRESS(name, kind)                                                                                       \
    static PyObject *name(core_decoder *d, PyObject **parts) {                                                         \
        return make_address(d, kind, parts[0]);                                                                        \
    }
MAKE_ADDRESS(make_address_4, IPV4_ADDRESS)
MAKE_ADDRESS(make_network_4, IPV4_NETWORK)
MAKE_ADDRESS(make_interface_4, IPV4_INTERFACE)
MAKE_ADDRESS(make_address_6, IPV6_ADDRESS)
MAKE_ADDRESS(make_network_6, IPV6_NETWORK)
MAKE_ADDRESS(make_interface_6, IPV6_INTERFACE)

static PyObject *make_namespace(core_decoder *d, PyObject **parts) {
    PyObject *cls = class_of(NAMESPACE), *namespace = cls ? PyObject_CallNoArgs(cls) : NULL;
    if (namespace && core_set_attributes(d, namespace, parts[0]) < 0)
        Py_CLEAR(namespace);
    Py_XDECREF(cls);
    return namespace;
}

static PyObject *make_zone_info(core_decoder *d, PyObject **parts) {
    if (!PyUnicode_CheckExact(parts[0]))
        return core_malformed(d, "a time zone that is not text");
    return PyObject_CallOneArg(d->codec->state->std->zone_info, parts[0]);
}

static PyObject *make_timezone(core_decoder *d, PyObject **parts) {
    PyObject *offset = parts[0], *name = NULL;
    if (PyList_CheckExact(offset) && PyList_GET_SIZE(offset) == 2) {
        name = PyList_GET_ITEM(offset, 1);
        offset = PyList_GET_ITEM(offset, 0);
    }
    int overflow = 1;
    int64_t microseconds = PyLong_CheckExact(offset) ? PyLong_AsLongLongAndOverflow(offset, &overflow) : 0;
    return overflow ? core_malformed(d, "a timezone of an unknown kind") : core_make_timezone(d, microseconds, name);
}

/* ---- registration ---- */

const core_constructor core_library[KINDS + 1] = {
    [FRACTION] = {"Fraction", 2, make_fraction},
    [ARRAY] = {"array", 2, make_array},
    [IPV4_ADDRESS] = {"IPv4Address", 1, make_address_4},
    [IPV4_NETWORK] = {"IPv4Network", 1, make_network_4},
    [IPV4_INTERFACE] = {"IPv4Interface", 1, make_interface_4},
    [IPV6_ADDRESS] = {"IPv6Address", 1, make_address_6},
    [IPV6_NETWORK] = {"IPv6Network", 1, make_network_6},
    [IPV6_INTERFACE] = {"IPv6Interface", 1, make_interface_6},
    [NAMESPACE] = {"SimpleNamespace", 1, make_namespace},
    [ZONE_INFO] = {"ZoneInfo", 1, make_zone_info},
    [TIMEZONE] = {"timezone", 1, make_timezone},
};

static int (*const writers[KINDS])(core_encoder *e, PyObject *value, const core_path *path) = {
    [FRACTION] = write_fraction,         [ARRAY] = write_array,
    [IPV4_ADDRESS] = write_address,      [IPV4_NETWORK] = write_address,
    [IPV4_INTERFACE] = write_address,    [IPV6_ADDRESS] = write_address,
    [IPV6_NETWORK] = write_address,      [IPV6_INTERFACE] = write_address,
    [NAMESPACE] = core_write_attributes, [ZONE_INFO] = write_zone_info,
    [TIMEZONE] = write_timezone,
};

static int encode(core_encoder *e, PyObject *value, const core_path *path) {
    int kind = 0;
    while (kind < KINDS && !is_of(Py_TYPE(value), kind))
        kind++;
    if (kind == KINDS)
        return 0;
    size_t mark = core_write_constructed(e, &core_library[kind]);
    int r = writers[kind](e, value, path);
    piso_write_ext_end(e->w, mark);
    return r < 0 ? -1 : 1;
}

void core_library_init(core_state *state) {
    core_add_fallback(state, (core_fallback){.encode = encode});
}
