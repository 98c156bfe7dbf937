/* named.c - exts that hold a name and a value, whose meaning the name tells. */
#include "named.h"

#include "codec/registry.h"

int core_write_named(core_encoder *e, int8_t ext_type, PyObject *name, PyObject *value, const core_path *path) {
    core_path at = {.parent = path, .kind = CORE_ENCODED};
    size_t mark = piso_write_ext_begin(e->w, ext_type);
    piso_write_array(e->w, 2);
    int r = core_encode(e, name, path) < 0 ? -1 : core_encode(e, value, &at);
    piso_write_ext_end(e->w, mark);
    return r;
}

PyObject *core_read_name(core_decoder *d, const piso_item *ext, piso_reader *ret_reader) {
    piso_item item;
    if (core_read_array(d, ext, 2, ret_reader) < 0 || core_read(d, ret_reader, PISO_STR, &item) < 0)
        return NULL;
    PyObject *name = core_decode_key(d, ret_reader, &item);
    if (name && (PyUnicode_GET_LENGTH(name) == 0 || PyUnicode_GET_LENGTH(name) > CORE_MAX_REGISTERED_NAME)) {
        Py_DECREF(name);
        return core_malformed(d, "a registered name of an impossible length");
    }
    return name;
}

PyObject *core_read_named(core_decoder *d, piso_reader *r) {
    PyObject *value = core_check_payload_end(d, r, core_decode(d, r));
    d->weight = core_weight(64 + d->weight);
    return value;
}
