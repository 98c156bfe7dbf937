/* decode.c - converts MessagePack to Python objects (codec.h). The peer wrote these bytes: every item is checked,
 * nothing is allocated for a count that exceeds the bytes, no name is imported. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "buffer_ref.h"
#include "collisions.h"
#include "common/key_cache.h"
#include "decode.h"
#include "tables.h"

#define COPY_WITHOUT_GIL (256u << 10)
#define HUGE_BYTES       (32u << 20) /* glibc always maps blocks larger than this */
/* Guards the C stack. More than the encoder's limit, because a record takes two levels here (itself and the map of its
 * fields), and because the causes of an exception nest too. */
#define MAX_LEVELS (2 * PISO_MAX_DEPTH + 64)

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

PyObject *core_check_payload_end(core_decoder *d, const piso_reader *r, PyObject *value) {
    if (!value || r->cursor == r->end)
        return value;
    Py_DECREF(value);
    return core_malformed(d, "bytes after the end of a value");
}

/* ---- bytes ---- */

const void *core_take_span(core_decoder *d, const piso_item *ext, piso_span *ret_span) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    piso_item index;
    if (core_read(d, &r, PISO_INT, &index) < 0)
        return NULL;
    if (r.cursor != r.end)
        return core_malformed(d, "bytes after the end of a value");
    int64_t i = index.as.integer;
    const void *data = NULL;
    if (d->event && i >= 0 && i < d->event->nspans)
        data = piso_event_take_span(d->event, (uint32_t)i, ret_span);
    return data ? data : core_malformed(d, "a buffer that is not in the message, or is used twice");
}

/* prefer_huge_pages: called for a block that was just allocated and is about to be filled: its first access then costs
 * one fault for 2 MiB instead of one for 4 KiB. Only for blocks that are separate mappings: the advice ends with the
 * mapping. */
static void prefer_huge_pages(void *data, size_t size) {
    if (size <= HUGE_BYTES)
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = ((uintptr_t)data + page - 1) & ~(page - 1), end = ((uintptr_t)data + size) & ~(page - 1);
    madvise((void *)start, end - start, MADV_HUGEPAGE);
}

/* copy_span: copies a span's bytes to new private memory and releases the span. */
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

/* bytes_from_span: returns a bytes or bytearray object with a copy of the span. */
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
    return core_buffer_ref_new(d->codec->state, d->codec->session, &span, (void *)data);
}

static PyObject *decode_bytearray(core_decoder *d, const piso_item *ext) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    piso_item item;
    if (piso_read(&r, &item) != 1)
        return core_malformed(d, "bytes are missing");
    if (r.cursor != r.end)
        return core_malformed(d, "bytes after the end of a value");
    if (item.kind == PISO_BIN)
        return PyByteArray_FromStringAndSize((const char *)item.as.bytes.data, (Py_ssize_t)item.as.bytes.size);
    if (item.kind == PISO_EXT && item.ext_type == PISO_EXT_BUFFER)
        return bytes_from_span(d, &item, true);
    return core_malformed(d, "bytes were expected");
}

/* ---- containers ---- */

/* take_items: counts a container's items and charges for them. piso_read checks each container against the bytes that
 * are left; this count prevents nested containers from claiming the same bytes repeatedly. */
static bool take_items(core_decoder *d, size_t count, uint64_t cost) {
    if (count > d->items_left)
        return core_malformed(d, "containers hold more items than the message has bytes") != NULL;
    d->items_left -= count;
    return core_charge(d, cost);
}

static CORE_NESTED PyObject *decode_list(core_decoder *d, piso_reader *r, size_t count) {
    PyObject *list = NULL;
    uint64_t weight = 1;
    if (take_items(d, count, CORE_COST_LIST + CORE_COST_SLOT * (uint64_t)count))
        list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list && i < count; i++) {
        PyObject *item = core_decode_next(d, r);
        weight += d->weight;
        if (item)
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
        else
            Py_CLEAR(list);
    }
    d->weight = core_weight(weight);
    return list;
}

/* insert: inserts a decoded pair; `weight` is the key's. */
static int insert(core_decoder *d, core_keys *keys, PyObject *dict, PyObject *key, uint64_t weight, PyObject *value) {
    if (core_keys_add(keys, d, key, weight) == 0 && PyDict_SetItem(dict, key, value) == 0)
        return 0;
    if (!d->registered)
        core_constructor_failed(d); /* an unhashable key */
    return -1;
}

PyObject *core_decode_key(core_decoder *d, piso_reader *r, const piso_item *item) {
    size_t size = item->as.bytes.size;
    if (item->kind != PISO_STR || size == 0 || size > CORE_CACHED_KEY_SIZE)
        return core_decode_item(d, r, item);
    PyObject *key = core_key_cache_get(d->codec->state, item->as.bytes.data, size);
    if (key) {
        d->left -= CORE_COST_TEXT;
        d->weight = 1;
    } else if ((key = core_decode_item(d, r, item))) {
        core_key_cache_add(d->codec->state, item->as.bytes.data, size, key);
    }
    return key;
}

static PyObject *decode_next_key(core_decoder *d, piso_reader *r) {
    piso_item item;
    if (d->left < 0 && !core_charge_more(d))
        return NULL;
    if (piso_read(r, &item) != 1)
        return core_malformed(d, "the message ends in the middle of a value");
    return core_decode_key(d, r, &item);
}

static CORE_NESTED PyObject *decode_dict(core_decoder *d, piso_reader *r, size_t count) {
    uint64_t sum = 1, cost = CORE_COST_DICT + (count ? CORE_COST_KEYS : 0) + CORE_COST_ENTRY * (uint64_t)count;
    PyObject *dict = take_items(d, count, cost) ? PyDict_New() : NULL;
    core_keys keys;
    core_keys_init(&keys, count, false);
    for (size_t i = 0; dict && i < count; i++) {
        PyObject *key = decode_next_key(d, r);
        uint64_t weight = d->weight;
        PyObject *value = key ? core_decode(d, r) : NULL;
        sum += weight + d->weight;
        if (!value || insert(d, &keys, dict, key, weight, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    d->weight = core_keys_weight(&keys, sum);
    core_keys_fini(&keys);
    return dict;
}

static CORE_NESTED PyObject *decode_tuple(core_decoder *d, piso_reader *r, size_t count) {
    PyObject *tuple = NULL;
    uint64_t weight = 1;
    if (take_items(d, count, CORE_COST_LIST + CORE_COST_SLOT * (uint64_t)count))
        tuple = PyTuple_New((Py_ssize_t)count);
    for (size_t i = 0; tuple && i < count; i++) {
        PyObject *item = core_decode_next(d, r);
        weight += d->weight;
        if (item)
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
        else
            Py_CLEAR(tuple);
    }
    d->weight = core_weight(weight);
    return tuple;
}

static CORE_NESTED PyObject *decode_set(core_decoder *d, piso_reader *r, size_t count, bool frozen) {
    uint64_t sum = 1, cost = CORE_COST_SET + CORE_COST_ELEMENT * (uint64_t)count;
    PyObject *set = take_items(d, count, cost) ? (frozen ? PyFrozenSet_New(NULL) : PySet_New(NULL)) : NULL;
    core_keys keys;
    core_keys_init(&keys, count, true);
    for (size_t i = 0; set && i < count; i++) {
        PyObject *item = core_decode_next(d, r);
        sum += d->weight;
        if (!item || core_keys_add(&keys, d, item, d->weight) < 0 || PySet_Add(set, item) < 0) {
            if (item && !d->registered)
                core_constructor_failed(d); /* unhashable */
            Py_CLEAR(set);
        }
        Py_XDECREF(item);
    }
    d->weight = core_keys_weight(&keys, sum);
    core_keys_fini(&keys);
    return set;
}

/* decode_sequence: decodes an ext whose payload is one array. */
static PyObject *decode_sequence(core_decoder *d, const piso_item *ext) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    piso_item array;
    if (core_read(d, &r, PISO_ARRAY, &array) < 0)
        return NULL;
    PyObject *value = ext->ext_type == PISO_EXT_TUPLE
                          ? decode_tuple(d, &r, array.as.count)
                          : decode_set(d, &r, array.as.count, ext->ext_type == PISO_EXT_FROZENSET);
    return core_check_payload_end(d, &r, value);
}

/* find_constructor: returns the constructor whose name begins the ext's array, if the array has the right length. */
static const core_constructor *find_constructor(core_decoder *d, piso_reader *r, const core_constructor *const *lists) {
    piso_item array, name;
    if (core_read(d, r, PISO_ARRAY, &array) < 0 || core_read(d, r, PISO_STR, &name) < 0)
        return NULL;
    for (; *lists; lists++)
        for (const core_constructor *m = *lists; m->name; m++)
            if (array.as.count == 1 + m->parts && strlen(m->name) == name.as.bytes.size &&
                memcmp(m->name, name.as.bytes.data, name.as.bytes.size) == 0)
                return m;
    return core_malformed(d, "a value of an unknown kind, or with the wrong number of parts");
}

PyObject *core_decode_constructed(core_decoder *d, const piso_item *ext, const core_constructor *const *lists) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    const core_constructor *constructor = find_constructor(d, &r, lists);
    PyObject *parts[CORE_PARTS] = {NULL}, *value = NULL;
    bool good = constructor;
    uint64_t weight = ext->as.bytes.size;
    for (size_t i = 0; good && i < constructor->parts; i++) {
        good = (parts[i] = core_decode(d, &r)) != NULL;
        weight += d->weight;
    }
    d->weight = core_weight(weight);
    if (good && r.cursor != r.end)
        core_malformed(d, "bytes after the end of a value");
    else if (good && !(value = constructor->make(d, parts)))
        core_constructor_failed(d);
    for (size_t i = 0; i < CORE_PARTS; i++)
        Py_XDECREF(parts[i]);
    return value;
}

/* ---- the rest ---- */

/* decode_text: the peer's text need not be UTF-8. One character beyond ASCII can make all others wider than they were
 * sent. */
static PyObject *decode_text(core_decoder *d, const piso_item *item, const char *errors) {
    Py_ssize_t size = (Py_ssize_t)item->as.bytes.size;
    PyObject *text = PyUnicode_DecodeUTF8((const char *)item->as.bytes.data, size, errors);
    if (!text)
        return core_constructor_failed(d);
    d->left -= CORE_COST_TEXT;
    Py_ssize_t wider = PyUnicode_GET_LENGTH(text) * PyUnicode_KIND(text) - size;
    if (wider > 0)
        d->left -= wider;
    d->weight = 1 + (uint64_t)size / 64;
    return text;
}

/* Bytes of an integer that str() always accepts, and that it accepts at most; the program sets the limit in between. */
#define ALWAYS_SHOWN 265
#define EVER_SHOWN   1785

static PyObject *big_from_bytes(const piso_item *ext) {
#if PY_VERSION_HEX >= 0x030d0000
    return PyLong_FromNativeBytes(ext->as.bytes.data, ext->as.bytes.size, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    return _PyLong_FromByteArray(ext->as.bytes.data, ext->as.bytes.size, 1, 1);
#endif
}

/* decode_big: in an exception, an integer that str() refuses is replaced by a description, because the exception could
 * not be printed. */
static PyObject *decode_big(core_decoder *d, const piso_item *ext) {
    size_t size = ext->as.bytes.size;
    PyObject *value = d->exceptions && size > EVER_SHOWN ? NULL : big_from_bytes(ext);
    if (!d->exceptions || size <= ALWAYS_SHOWN || PyErr_Occurred())
        return value;
    PyObject *text = value ? PyObject_Str(value) : NULL;
    PyErr_Clear(); /* ValueError: too many digits */
    if (!text)
        Py_XSETREF(value, PyUnicode_FromFormat("<an integer of %zu bytes>", size));
    Py_XDECREF(text);
    return value;
}

static PyObject *decode_complex(core_decoder *d, const piso_item *ext) {
    double parts[2];
    if (ext->as.bytes.size != sizeof parts)
        return core_malformed(d, "a complex number of the wrong size");
    memcpy(parts, ext->as.bytes.data, sizeof parts);
    return PyComplex_FromDoubles(parts[0], parts[1]);
}

static PyObject *decode_surrogates(core_decoder *d, const piso_item *ext) {
    return decode_text(d, ext, "surrogatepass");
}

static PyObject *decode_buffer(core_decoder *d, const piso_item *ext) {
    return bytes_from_span(d, ext, false);
}

static CORE_NESTED PyObject *decode_leaf(core_decoder *d, const core_decoder_entry *entry, const piso_item *ext) {
    PyObject *value = entry->decode(d, ext);
    d->weight = core_weight(ext->ext_type == PISO_EXT_BIGINT ? 1 + ext->as.bytes.size / 16 : 32 + ext->as.bytes.size);
    return value ? value : core_constructor_failed(d);
}

static CORE_NESTED PyObject *decode_ext(core_decoder *d, const piso_item *ext) {
    size_t type = (uint8_t)ext->ext_type;
    const core_decoder_entry *entry = type < CORE_EXT_TYPES ? &d->codec->state->tables->decoders[type] : NULL;
    if (!entry || !entry->decode)
        return core_malformed(d, "an extension type that this version does not know");
    if (!core_charge(d, entry->cost))
        return NULL;
    d->special |= entry->special;
    d->registered |= entry->registered;
    return entry->holds ? entry->decode(d, ext) : decode_leaf(d, entry, ext);
}

/* decode_nested: decodes values that may contain values. */
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

static inline bool is_small(int64_t number) {
    return number >= -5 && number <= 256; /* CPython interns these */
}

PyObject *core_decode_item(core_decoder *d, piso_reader *r, const piso_item *item) {
    d->weight = 1;
    switch (item->kind) {
    case PISO_NIL:
        Py_RETURN_NONE;
    case PISO_BOOL:
        return PyBool_FromLong(item->as.boolean);
    case PISO_INT:
        d->left -= is_small(item->as.integer) ? 0 : CORE_COST_NUMBER;
        return PyLong_FromLongLong(item->as.integer);
    case PISO_UINT:
        d->left -= CORE_COST_NUMBER;
        return PyLong_FromUnsignedLongLong(item->as.uinteger);
    case PISO_DOUBLE:
        d->left -= CORE_COST_NUMBER;
        return PyFloat_FromDouble(item->as.real);
    case PISO_STR:
        return decode_text(d, item, NULL);
    case PISO_BIN:
        d->left -= CORE_COST_BYTES;
        d->weight = 1 + item->as.bytes.size / 64;
        return PyBytes_FromStringAndSize((const char *)item->as.bytes.data, (Py_ssize_t)item->as.bytes.size);
    default:
        return decode_nested(d, r, item);
    }
}

PyObject *core_decode(core_decoder *d, piso_reader *r) {
    piso_item item;
    if (piso_read(r, &item) != 1)
        return core_malformed(d, "the message ends in the middle of a value");
    return core_decode_item(d, r, &item);
}

int core_decode_init(PyObject *Py_UNUSED(module), core_state *state) {
    core_add_decoder(state, PISO_EXT_TUPLE, (core_decoder_entry){.decode = decode_sequence, .holds = true});
    core_add_decoder(state, PISO_EXT_SET, (core_decoder_entry){.decode = decode_sequence, .holds = true});
    core_add_decoder(state, PISO_EXT_FROZENSET, (core_decoder_entry){.decode = decode_sequence, .holds = true});
    core_add_decoder(state, PISO_EXT_BIGINT, (core_decoder_entry){.decode = decode_big, .cost = 48});
    core_add_decoder(state, PISO_EXT_COMPLEX, (core_decoder_entry){.decode = decode_complex, .cost = 32});
    core_add_decoder(state, PISO_EXT_BYTEARRAY, (core_decoder_entry){.decode = decode_bytearray, .cost = 80});
    core_add_decoder(state, PISO_EXT_STR, (core_decoder_entry){.decode = decode_surrogates});
    core_add_decoder(state, PISO_EXT_BUFFER, (core_decoder_entry){.decode = decode_buffer, .cost = 48});
    return 0;
}
