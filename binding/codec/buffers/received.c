/* received.c - the peer's segments: taken from a message, and the objects cached over them until the peer retires
 * them. */
#include "buffers.h"

#include "shared.h"

piso_segment *core_take_segment(core_decoder *d, const piso_item *data, bool *ret_ours) {
    piso_reader r = {data->as.bytes.data, data->as.bytes.data + data->as.bytes.size};
    piso_item index;
    piso_span span;
    if (data->kind != PISO_EXT || data->ext_type != PISO_EXT_BUFFER || !d->event || piso_read(&r, &index) != 1 ||
        index.kind != PISO_INT || index.as.integer < 0 || index.as.integer >= d->event->nspans)
        return NULL;
    int refused = piso_event_refused(d->event, (uint32_t)index.as.integer);
    if (refused < 0) {
        core_raise(d->codec->state, refused, "taking shared memory");
        return NULL;
    }
    return piso_event_take_segment(d->event, (uint32_t)index.as.integer, &span, ret_ours);
}

/* forget: drops the objects cached over a segment. Keeps the current exception. */
static void forget(core_codec *c, PyObject *key) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (c->segment_cache && PyDict_Contains(c->segment_cache, key) > 0)
        PyDict_DelItem(c->segment_cache, key);
    PyErr_Clear(); /* out of memory: the cache stays until the session ends */
    PyErr_Restore(type, value, traceback);
}

void core_segment_cache_check(core_codec *c, PyObject *key, const piso_segment *segment) {
    if (!piso_session_has_segment(c->session, segment))
        forget(c, key);
}

PyObject *core_segment_cache(core_codec *c, PyObject *key) {
    if (!c->segment_cache && !(c->segment_cache = PyDict_New()))
        return NULL;
    PyObject *shapes = PyDict_GetItemWithError(c->segment_cache, key);
    if (shapes || PyErr_Occurred())
        return shapes;
    shapes = PyDict_New();
    int r = shapes ? PyDict_SetItem(c->segment_cache, key, shapes) : -1;
    Py_XDECREF(shapes); /* the dict holds it */
    return r == 0 ? shapes : NULL;
}

void core_segment_cache_drop(core_codec *c, piso_segment *segment) {
    PyObject *key = c->segment_cache ? PyLong_FromVoidPtr(segment) : NULL;
    if (key)
        forget(c, key);
    Py_XDECREF(key);
    PyErr_Clear(); /* out of memory for the key */
    if (!core_shared_find(segment))
        piso_session_retire(c->session, segment);
}
