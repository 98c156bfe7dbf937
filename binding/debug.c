/* debug.c - _encode and _decode convert the body of a message, with everything inline. Property tests compare them with
 * another implementation of MessagePack, and fuzz the decoder. */
#include "debug.h"

#include "codec/std/exceptions.h"
#include "common/errors.h"

static PyObject *debug_encode(PyObject *module, PyObject *args) {
    core_state *state = core_module_state(module);
    core_codec codec = {.state = state};
    PyObject *value, *result = NULL;
    int is_exception = 0;
    if (!PyArg_ParseTuple(args, "OO!|p:_encode", &value, state->registry_type, &codec.registry, &is_exception))
        return NULL;
    piso_writer w;
    piso_writer_init(&w);
    int r = is_exception ? core_encode_exception(&codec, &w, value) : core_encode_value(&codec, &w, value, "value");
    if (r == 0)
        result = PyBytes_FromStringAndSize((const char *)w.data, (Py_ssize_t)w.size);
    piso_writer_fini(&w);
    return result;
}

static PyObject *debug_decode(PyObject *module, PyObject *args) {
    core_state *state = core_module_state(module);
    core_codec codec = {.state = state};
    Py_buffer data;
    long long limit = CORE_DEFAULT_LIMIT;
    int is_exception = 0;
    if (!PyArg_ParseTuple(args, "y*O!|Lp:_decode", &data, state->registry_type, &codec.registry, &limit, &is_exception))
        return NULL;
    codec.value_limit = limit;
    piso_event event = {.body = data.buf, .body_size = (size_t)data.len};
    PyObject *result = is_exception ? core_decode_exception(&codec, &event) : core_decode_value(&codec, &event);
    PyBuffer_Release(&data);
    return result;
}

static PyMethodDef debug_methods[] = {
    {"_encode", debug_encode, METH_VARARGS, "_encode(value, registry, exception=False) -> bytes\n\nFor tests."},
    {"_decode", debug_decode, METH_VARARGS,
     "_decode(data, registry, limit=1 << 30, exception=False) -> object\n\nFor tests."},
    {NULL, NULL, 0, NULL},
};

int core_debug_init(PyObject *module, core_state *Py_UNUSED(state)) {
    return PyModule_AddFunctions(module, debug_methods);
}
