/* instances.c - objects of classes that are registered with encode and decode: [registered name, value]. */
#include "codec/registry.h"
#include "functions.h"
#include "named.h"
#include "opaque.h"

/* encode_instance: `cls`: the class of the object, or the registered base. */
static int encode_instance(core_encoder *e, PyObject *value, PyTypeObject *cls, const core_path *path) {
    PyObject *registry = e->codec->registry, *fields;
    core_class_kind kind;
    if (core_registry_shape(registry, (PyObject *)cls, &kind, &fields) < 0)
        return -1;
    if (kind == CORE_BY_REFERENCE)
        return e->codec->state->tables->reference(e, value, fields, path);
    /* the function may register the class again */
    PyObject *name = Py_XNewRef(core_registry_name(registry, cls));
    PyObject *function = Py_XNewRef(core_registry_function(registry, (PyObject *)cls, false));
    PyObject *encoded = name && function ? core_call_encode(e, function, name, value) : NULL;
    int r = encoded ? core_write_named(e, PISO_EXT_INSTANCE, name, encoded, path) : -1;
    Py_XDECREF(name);
    Py_XDECREF(function);
    Py_XDECREF(encoded);
    return r;
}

/* function_for: returns the decode function of the class of that name, a new reference; NULL without an exception for
 * an unknown name. */
static PyObject *function_for(core_decoder *d, PyObject *name) {
    PyObject *cls = core_registry_class(d->codec->registry, name), *fields;
    core_class_kind kind;
    if (!cls || core_registry_shape(d->codec->registry, cls, &kind, &fields) < 0)
        return NULL;
    if (kind == CORE_CUSTOM)
        return Py_XNewRef(core_registry_function(d->codec->registry, cls, true));
    return core_cannot_decode(d, PyExc_TypeError,
                              "the peer sent an instance of %.200R, which it has registered with encode and decode; "
                              "register it so in this process, too",
                              cls);
}

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    PyObject *name = core_read_name(d, ext, &r), *value = name ? core_read_named(d, &r) : NULL, *result = NULL;
    PyObject *function = value ? function_for(d, name) : NULL;
    if (function)
        result = core_call_decode(d, function, name, value);
    else if (value && !PyErr_Occurred())
        result = core_opaque_new(d->codec->state, PISO_EXT_INSTANCE, name, value);
    Py_XDECREF(function);
    Py_XDECREF(name);
    Py_XDECREF(value);
    return result;
}

void core_instances_init(core_state *state) {
    state->tables->instance = encode_instance;
    core_add_decoder(
        state, PISO_EXT_INSTANCE,
        (core_decoder_entry){.decode = decode, .cost = 500, .holds = true, .special = true, .registered = true});
}
