/* decode.c - MessagePack to Python objects (convert.h). What comes here was written by the peer: every item is
 * checked, nothing is allocated for a count that the bytes cannot hold, no name is imported. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collisions.h"
#include "convert_internal.h"
#include "lease.h"

#define COPY_WITHOUT_GIL (256u << 10)
#define HUGE_BYTES       (32u << 20) /* glibc never takes a block of more than this from its heap */
/* Guards the C stack. More than the encoder's limit, because a record takes two levels here (itself and the map of
 * its fields), and because the causes of an exception nest too. */
#define MAX_LEVELS (2 * PISO_MAX_DEPTH + 64)

void *core_malformed(core_decoder *d, const char *what) {
    if (!PyErr_Occurred())
        PyErr_Format(d->codec->state->protocol_error, "the other side sent a malformed message: %s", what);
    return NULL;
}

void *core_refused(core_decoder *d) {
    if (!PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_TypeError) &&
        !PyErr_ExceptionMatches(PyExc_ArithmeticError))
        return NULL;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_Format(d->codec->state->protocol_error, "the other side sent a malformed message: %S", value ? value : type);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return NULL;
}

int core_read(core_decoder *d, piso_reader *r, piso_kind kind, piso_item *ret_item) {
    if (piso_read(r, ret_item) == 1 && ret_item->kind == kind)
        return 0;
    core_malformed(d, "an item of another kind was expected");
    return -1;
}

int core_read_array(core_decoder *d, const piso_item *ext, size_t count, piso_reader *ret_reader) {
    *ret_reader = (piso_reader){ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    piso_item item;
    if (core_read(d, ret_reader, PISO_ARRAY, &item) < 0)
        return -1;
    if (item.as.count == count)
        return 0;
    core_malformed(d, "a record has the wrong number of fields");
    return -1;
}

/* ---- bytes ---- */

const void *core_take_span(core_decoder *d, const piso_item *ext, piso_span *ret_span) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    piso_item index;
    if (core_read(d, &r, PISO_INT, &index) < 0)
        return NULL;
    int64_t i = index.as.integer;
    const void *data = NULL;
    if (d->event && i >= 0 && i < d->event->nspans)
        data = piso_event_take_span(d->event, (uint32_t)i, ret_span);
    return data ? data : core_malformed(d, "a buffer that is not in the message, or was used twice");
}

/* prefer_huge_pages: for a block that was just allocated and is about to be filled: its first touch then costs one
 * fault for 2 MiB instead of one for 4 KiB. Only for blocks that are mappings of their own: the hint ends with them. */
static void prefer_huge_pages(void *data, size_t size) {
    if (size <= HUGE_BYTES)
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = ((uintptr_t)data + page - 1) & ~(page - 1), end = ((uintptr_t)data + size) & ~(page - 1);
    madvise((void *)start, end - start, MADV_HUGEPAGE);
}

/* copy_span: a span's bytes to private memory that is new; the span is given back. */
static void copy_span(core_decoder *d, void *to, const void *data, const piso_span *span) {
    prefer_huge_pages(to, (size_t)span->length);
    if (span->length >= COPY_WITHOUT_GIL) {
        Py_BEGIN_ALLOW_THREADS memcpy(to, data, span->length);
        Py_END_ALLOW_THREADS
    } else {
        memcpy(to, data, span->length);
    }
    piso_session_release(d->codec->session, span);
}

/* bytes_from_span: a bytes or bytearray object with a copy. */
static PyObject *bytes_from_span(core_decoder *d, const piso_item *ext, bool writable) {
    piso_span span;
    const void *data = core_take_span(d, ext, &span);
    if (!data)
        return NULL;
    PyObject *bytes = writable ? PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)span.length)
                               : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)span.length);
    if (bytes)
        copy_span(d, writable ? PyByteArray_AS_STRING(bytes) : PyBytes_AS_STRING(bytes), data, &span);
    else
        piso_session_release(d->codec->session, &span);
    return bytes;
}

PyObject *core_decode_data(core_decoder *d, piso_reader *r, size_t *ret_size) {
    piso_item item;
    if (piso_read(r, &item) != 1)
        return core_malformed(d, "bytes are missing");
    if (item.kind == PISO_BIN) {
        *ret_size = item.as.bytes.size;
        return PyByteArray_FromStringAndSize((const char *)item.as.bytes.data, (Py_ssize_t)item.as.bytes.size);
    }
    if (item.kind != PISO_EXT || item.ext_type != PISO_EXT_BUFFER)
        return core_malformed(d, "bytes were expected");
    piso_span span;
    const void *data = core_take_span(d, &item, &span);
    if (!data)
        return NULL;
    *ret_size = (size_t)span.length;
    return core_lease_new(d->codec->state, d->codec->session, &span, (void *)data);
}

static PyObject *decode_bytearray(core_decoder *d, const piso_item *ext) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    piso_item item;
    if (piso_read(&r, &item) != 1)
        return core_malformed(d, "bytes are missing");
    if (item.kind == PISO_BIN)
        return PyByteArray_FromStringAndSize((const char *)item.as.bytes.data, (Py_ssize_t)item.as.bytes.size);
    if (item.kind == PISO_EXT && item.ext_type == PISO_EXT_BUFFER)
        return bytes_from_span(d, &item, true);
    return core_malformed(d, "bytes were expected");
}

/* ---- containers ---- */

/* take_items: counts a container's items. Each container alone is checked by piso_read against the bytes that are
 * left; this keeps nested ones from claiming the same bytes again and again. */
static bool take_items(core_decoder *d, size_t count) {
    if (count > d->items_left)
        return core_malformed(d, "containers hold more items than the message has bytes") != NULL;
    d->items_left -= count;
    return true;
}

static PyObject *decode_list(core_decoder *d, piso_reader *r, size_t count) {
    PyObject *list = take_items(d, count) ? PyList_New((Py_ssize_t)count) : NULL;
    for (size_t i = 0; list && i < count; i++) {
        PyObject *item = core_decode(d, r);
        if (item)
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
        else
            Py_CLEAR(list);
    }
    return list;
}

#define SAME_HASH "keys that all have the same hash"

static PyObject *decode_dict(core_decoder *d, piso_reader *r, size_t count) {
    PyObject *dict = take_items(d, count) ? PyDict_New() : NULL;
    core_collisions collisions = {0};
    if (dict && core_collisions_init(&collisions, count) < 0)
        Py_CLEAR(dict);
    for (size_t i = 0; dict && i < count; i++) {
        PyObject *key = core_decode(d, r), *value = key ? core_decode(d, r) : NULL;
        if (value && !core_collisions_add(&collisions, key)) {
            core_malformed(d, SAME_HASH);
            Py_CLEAR(dict);
        } else if (!value || PyDict_SetItem(dict, key, value) < 0) {
            if (value)
                core_refused(d); /* a key without a hash */
            Py_CLEAR(dict);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    core_collisions_fini(&collisions);
    return dict;
}

static PyObject *decode_tuple(core_decoder *d, piso_reader *r, size_t count) {
    PyObject *tuple = take_items(d, count) ? PyTuple_New((Py_ssize_t)count) : NULL;
    for (size_t i = 0; tuple && i < count; i++) {
        PyObject *item = core_decode(d, r);
        if (item)
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
        else
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *decode_set(core_decoder *d, piso_reader *r, size_t count, bool frozen) {
    PyObject *set = frozen ? PyFrozenSet_New(NULL) : PySet_New(NULL);
    core_collisions collisions = {0};
    if (set && core_collisions_init(&collisions, count) < 0)
        Py_CLEAR(set);
    for (size_t i = 0; set && i < count; i++) {
        PyObject *item = core_decode(d, r);
        if (item && !core_collisions_add(&collisions, item)) {
            core_malformed(d, SAME_HASH);
            Py_CLEAR(set);
        } else if (!item || PySet_Add(set, item) < 0) {
            if (item)
                core_refused(d); /* no hash */
            Py_CLEAR(set);
        }
        Py_XDECREF(item);
    }
    core_collisions_fini(&collisions);
    return set;
}

/* decode_sequence: an ext whose payload is one array. */
static PyObject *decode_sequence(core_decoder *d, const piso_item *ext) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    piso_item array;
    if (core_read(d, &r, PISO_ARRAY, &array) < 0)
        return NULL;
    PyObject *value = ext->ext_type == PISO_EXT_TUPLE
                          ? decode_tuple(d, &r, array.as.count)
                          : decode_set(d, &r, array.as.count, ext->ext_type == PISO_EXT_FROZENSET);
    if (value && r.cursor != r.end) {
        Py_DECREF(value);
        return core_malformed(d, "bytes after the end of a container");
    }
    return value;
}

/* find_maker: the one that an ext's array begins with the name of, if the array is as long as it should be. */
static const core_maker *find_maker(core_decoder *d, piso_reader *r, const core_maker *makers, size_t count) {
    piso_item array, name;
    if (core_read(d, r, PISO_ARRAY, &array) < 0 || core_read(d, r, PISO_STR, &name) < 0)
        return NULL;
    for (const core_maker *m = makers; m < makers + count; m++)
        if (array.as.count == 1 + m->parts && strlen(m->name) == name.as.bytes.size &&
            memcmp(m->name, name.as.bytes.data, name.as.bytes.size) == 0)
            return m;
    return core_malformed(d, "a value of an unknown kind, or with other parts than it has");
}

PyObject *core_decode_made(core_decoder *d, const piso_item *ext, const core_maker *makers, size_t count) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    const core_maker *maker = find_maker(d, &r, makers, count);
    PyObject *parts[CORE_PARTS] = {NULL}, *value = NULL;
    bool good = maker;
    for (size_t i = 0; good && i < maker->parts; i++)
        good = (parts[i] = core_decode(d, &r)) != NULL;
    if (good && r.cursor != r.end)
        core_malformed(d, "bytes after the end of a value");
    else if (good && !(value = maker->make(d, parts)))
        core_refused(d);
    for (size_t i = 0; i < CORE_PARTS; i++)
        Py_XDECREF(parts[i]);
    return value;
}

/* ---- the rest ---- */

static PyObject *decode_big(const piso_item *ext) {
    PyObject *method = PyObject_GetAttrString((PyObject *)&PyLong_Type, "from_bytes");
    PyObject *args =
        method ? Py_BuildValue("(y#s)", (const char *)ext->as.bytes.data, (Py_ssize_t)ext->as.bytes.size, "little")
               : NULL;
    PyObject *options = args ? Py_BuildValue("{s:O}", "signed", Py_True) : NULL;
    PyObject *value = options ? PyObject_Call(method, args, options) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(options);
    return value;
}

static PyObject *decode_complex(core_decoder *d, const piso_item *ext) {
    double parts[2];
    if (ext->as.bytes.size != sizeof parts)
        return core_malformed(d, "a complex number of the wrong size");
    memcpy(parts, ext->as.bytes.data, sizeof parts);
    return PyComplex_FromDoubles(parts[0], parts[1]);
}

/* decode_leaf: what is made of plain data, which a constructor may refuse. */
static PyObject *decode_leaf(core_decoder *d, const piso_item *ext) {
    switch (ext->ext_type) {
    case PISO_EXT_BIGINT:
        return decode_big(ext);
    case PISO_EXT_COMPLEX:
        return decode_complex(d, ext);
    case PISO_EXT_BYTEARRAY:
        return decode_bytearray(d, ext);
    case PISO_EXT_MEMORYVIEW:
        return core_decode_memoryview(d, ext);
    case PISO_EXT_STR:
        return PyUnicode_Decode((const char *)ext->as.bytes.data, (Py_ssize_t)ext->as.bytes.size, "utf-8",
                                "surrogatepass");
    case PISO_EXT_BUFFER:
        return bytes_from_span(d, ext, false);
    case PISO_EXT_ARRAY:
        return core_decode_array(d, ext);
    case PISO_EXT_SCALAR:
        return core_decode_scalar(d, ext);
    case PISO_EXT_DTYPE:
        return core_decode_dtype(d, ext);
    case PISO_EXT_SHARED_ARRAY:
        return core_decode_shared_array(d, ext);
    case PISO_EXT_FOREIGN_ARRAY:
        return core_decode_framework(d, ext);
    case PISO_EXT_TENSOR:
        return core_decode_tensor(d, ext);
    case PISO_EXT_CUDA_TENSOR:
        return core_decode_cuda_tensor(d, ext);
    default:
        if (ext->ext_type >= PISO_EXT_DATETIME && ext->ext_type <= PISO_EXT_PATH)
            return core_decode_known(d, ext);
        return core_malformed(d, "an extension type that this version does not know");
    }
}

static PyObject *decode_ext(core_decoder *d, const piso_item *ext) {
    switch (ext->ext_type) {
    case PISO_EXT_TUPLE:
    case PISO_EXT_SET:
    case PISO_EXT_FROZENSET:
        return decode_sequence(d, ext);
    case PISO_EXT_COLLECTION:
        return core_decode_collection(d, ext);
    case PISO_EXT_TORCH:
        return core_decode_torch_value(d, ext);
    case PISO_EXT_ENUM:
    case PISO_EXT_RECORD:
        return core_decode_registered(d, ext);
    case PISO_EXT_EXCEPTION:
        return core_decode_exception_value(d, ext);
    default: {
        PyObject *value = decode_leaf(d, ext);
        return value ? value : core_refused(d);
    }
    }
}

/* decode_str: text; the peer's need not be UTF-8. */
static PyObject *decode_str(core_decoder *d, const piso_item *item) {
    PyObject *text = PyUnicode_DecodeUTF8((const char *)item->as.bytes.data, (Py_ssize_t)item->as.bytes.size, NULL);
    return text ? text : core_refused(d);
}

/* decode_nested: what may contain values itself. */
static PyObject *decode_nested(core_decoder *d, piso_reader *r, const piso_item *item) {
    if (d->depth >= MAX_LEVELS)
        return core_malformed(d, "values are nested too deeply");
    d->depth++;
    PyObject *value;
    if (item->kind == PISO_ARRAY)
        value = decode_list(d, r, item->as.count);
    else if (item->kind == PISO_MAP)
        value = decode_dict(d, r, item->as.count);
    else
        value = decode_ext(d, item);
    d->depth--;
    return value;
}

PyObject *core_decode_item(core_decoder *d, piso_reader *r, const piso_item *item) {
    switch (item->kind) {
    case PISO_NIL:
        Py_RETURN_NONE;
    case PISO_BOOL:
        return PyBool_FromLong(item->as.boolean);
    case PISO_INT:
        return PyLong_FromLongLong(item->as.integer);
    case PISO_UINT:
        return PyLong_FromUnsignedLongLong(item->as.uinteger);
    case PISO_DOUBLE:
        return PyFloat_FromDouble(item->as.real);
    case PISO_STR:
        return decode_str(d, item);
    case PISO_BIN:
        return PyBytes_FromStringAndSize((const char *)item->as.bytes.data, (Py_ssize_t)item->as.bytes.size);
    default:
        return decode_nested(d, r, item);
    }
}

PyObject *core_decode(core_decoder *d, piso_reader *r) {
    piso_item item;
    if (piso_read(r, &item) != 1)
        return core_malformed(d, "it ends in the middle of a value");
    return core_decode_item(d, r, &item);
}

/* ---- messages ---- */

/* decode_whole: the only value of a body. */
static PyObject *decode_whole(core_decoder *d) {
    piso_reader r = {d->event->body, d->event->body + d->event->body_size};
    PyObject *value = core_decode(d, &r);
    if (value && r.cursor != r.end) {
        Py_DECREF(value);
        return core_malformed(d, "bytes after the end of the value");
    }
    return value;
}

PyObject *core_decode_value(core_codec *c, piso_event *event) {
    core_decoder d = {.codec = c, .event = event, .items_left = event->body_size};
    return decode_whole(&d);
}

PyObject *core_decode_exception(core_codec *c, piso_event *event) {
    core_decoder d = {.codec = c, .event = event, .items_left = event->body_size};
    PyObject *value = decode_whole(&d);
    if (value && !PyExceptionInstance_Check(value)) {
        Py_DECREF(value);
        return core_malformed(&d, "an error that is not an exception");
    }
    return value;
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

/* grow_arguments: room for `count` arguments and the free slot in front. */
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
    if (core_read(d, r, PISO_ARRAY, &array) < 0 || grow_arguments(a, array.as.count) < 0)
        return -1;
    for (size_t i = 0; i < array.as.count; i++) {
        PyObject *value = core_decode(d, r);
        if (!value)
            return -1;
        a->args[a->total++] = value;
    }
    a->nargs = a->total;
    return 0;
}

static int decode_keywords(core_decoder *d, piso_reader *r, core_arguments *a) {
    piso_item map;
    if (core_read(d, r, PISO_MAP, &map) < 0 || grow_arguments(a, (size_t)a->nargs + map.as.count) < 0)
        return -1;
    a->kwnames = PyTuple_New((Py_ssize_t)map.as.count);
    for (size_t i = 0; a->kwnames && i < map.as.count; i++) {
        /* not interned: on some versions interned text is never freed, and the peer could make it up */
        PyObject *name = core_decode(d, r), *value = NULL;
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
    core_decoder d = {.codec = c, .event = event, .items_left = event->body_size};
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
    if (result < 0)
        core_arguments_clear(a);
    return result;
}
