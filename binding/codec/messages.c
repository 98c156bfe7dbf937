/* messages.c - decodes the bodies of messages: one value, an exception, or the arguments of a call (codec.h). */
#include <string.h>

#include "converter.h"
#include "decode.h"

static _Thread_local bool for_other_thread;

void core_decode_for_other_thread(bool now) {
    for_other_thread = now;
}

bool core_decodes_for_other_thread(void) {
    return for_other_thread;
}

/* decode_whole: decodes the only value of a body. */
static PyObject *decode_whole(core_decoder *d) {
    piso_reader r = {d->event->body, d->event->body + d->event->body_size};
    PyObject *value = core_decode(d, &r);
    if (value && r.cursor != r.end) {
        Py_DECREF(value);
        return core_malformed(d, "bytes after the end of the value");
    }
    return value;
}

/* finish: returns the value, or NULL with an exception. A malformed body ends the session. */
static PyObject *finish(core_decoder *d, PyObject *value) {
    if (!value && d->malformed)
        core_reject(d->codec);
    return value;
}

PyObject *core_decode_value(core_codec *c, piso_event *event) {
    core_decoder d;
    core_decoder_init(&d, c, event);
    return finish(&d, decode_whole(&d));
}

PyObject *core_decode_exception(core_codec *c, piso_event *event) {
    core_decoder d;
    core_decoder_init(&d, c, event);
    d.raises = true;
    PyObject *value = decode_whole(&d);
    if (value && !PyExceptionInstance_Check(value)) {
        Py_CLEAR(value);
        core_malformed(&d, "an error that is not an exception");
    }
    return finish(&d, value);
}

void core_arguments_clear(core_arguments *a) {
    for (Py_ssize_t i = 0; i < a->total; i++)
        Py_XDECREF(a->args[i]);
    Py_CLEAR(a->kwnames);
    if (a->args != a->inline_args + 1)
        PyMem_Free(a->args - 1);
    a->args = a->inline_args + 1;
    a->total = a->nargs = 0;
}

/* grow_arguments: makes room for `count` arguments and the free slot before them. */
static int grow_arguments(core_arguments *a, size_t count) {
    if (count <= CORE_ARGUMENTS_INLINE && a->args == a->inline_args + 1)
        return 0;
    PyObject **args = PyMem_New(PyObject *, count + 1);
    if (!args) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(args + 1, a->args, (size_t)a->total * sizeof *args);
    if (a->args != a->inline_args + 1)
        PyMem_Free(a->args - 1);
    a->args = args + 1;
    a->args[-1] = NULL;
    return 0;
}

static int decode_positional(core_decoder *d, piso_reader *r, core_arguments *a) {
    piso_item array;
    if (core_read(d, r, PISO_ARRAY, &array) < 0 || !core_charge(d, CORE_COST_SLOT * (uint64_t)array.as.count) ||
        grow_arguments(a, array.as.count) < 0)
        return -1;
    for (size_t i = 0; i < array.as.count; i++) {
        PyObject *value = core_decode_next(d, r);
        if (!value)
            return -1;
        a->args[a->total++] = value;
    }
    a->nargs = a->total;
    return 0;
}

static int decode_keywords(core_decoder *d, piso_reader *r, core_arguments *a) {
    piso_item map;
    if (core_read(d, r, PISO_MAP, &map) < 0 || !core_charge(d, 2 * CORE_COST_SLOT * (uint64_t)map.as.count) ||
        grow_arguments(a, (size_t)a->nargs + map.as.count) < 0)
        return -1;
    a->kwnames = PyTuple_New((Py_ssize_t)map.as.count);
    for (size_t i = 0; a->kwnames && i < map.as.count; i++) {
        /* not interned: some versions never free interned strings, and the peer chooses the names */
        PyObject *name = core_decode_next(d, r), *value = NULL;
        if (name && PyUnicode_CheckExact(name))
            value = core_decode(d, r);
        else if (name)
            core_malformed(d, "a keyword that is not text");
        if (name)
            PyTuple_SET_ITEM(a->kwnames, (Py_ssize_t)i, name);
        if (!value)
            return -1;
        a->args[a->total++] = value;
    }
    return a->kwnames ? 0 : -1;
}

int core_decode_call(core_codec *c, piso_event *event, core_arguments *ret_arguments) {
    core_decoder d;
    core_decoder_init(&d, c, event);
    piso_reader r = {event->body, event->body + event->body_size};
    core_arguments *a = ret_arguments;
    a->args = a->inline_args + 1;
    a->inline_args[0] = NULL;
    a->nargs = a->total = 0;
    a->kwnames = NULL;
    int result = decode_positional(&d, &r, a);
    if (result == 0 && (event->flags & PISO_CALL_KWARGS))
        result = decode_keywords(&d, &r, a);
    if (result == 0 && r.cursor != r.end) {
        core_malformed(&d, "bytes after the arguments");
        result = -1;
    }
    if (result < 0) {
        core_arguments_clear(a);
        finish(&d, NULL);
    }
    return result;
}
