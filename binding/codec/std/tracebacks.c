/* tracebacks.c - real traceback objects for remote tracebacks (exceptions.h).
 *
 * A traceback needs frames and a frame needs code. Empty code objects hold file name, function and line, as compilers
 * of other languages to Python create them. */
#include "codec/decode.h"
#include "exceptions.h"

#include <string.h>

#include <frameobject.h>

#include "common/printable.h"

#define MAX_FRAMES 64
#define MAX_LINE   100000
/* In characters. */
#define MAX_FILE     400
#define MAX_FUNCTION 200
#define MAX_SOURCE   300
#define KEPT_AS      "__pyisolate_sources__" /* key in the globals of the frames */

/* ---- encoding ---- */

/* frames_of: returns the traceback objects, outermost first. */
static PyObject *frames_of(PyObject *exception) {
    PyObject *list = PyList_New(0), *at = PyException_GetTraceback(exception);
    while (list && at && at != Py_None) {
        if (PyList_Append(list, at) < 0)
            Py_CLEAR(list);
        Py_SETREF(at, PyObject_GetAttrString(at, "tb_next"));
    }
    Py_XDECREF(at);
    return list;
}

/* source_line: returns the text of a line from linecache, stripped; an empty string where there is none. */
static PyObject *source_line(PyObject *file, PyObject *line) {
    PyObject *linecache = PyImport_ImportModule("linecache");
    PyObject *text = linecache ? PyObject_CallMethod(linecache, "getline", "OO", file, line) : NULL;
    PyObject *stripped = text ? PyObject_CallMethod(text, "strip", NULL) : NULL;
    Py_XDECREF(linecache);
    Py_XDECREF(text);
    if (!stripped) {
        PyErr_Clear(); /* a file that cannot be read, or is not text */
        stripped = PyUnicode_FromString("");
    }
    return stripped;
}

static int write_frame(core_encoder *e, PyObject *traceback) {
    PyObject *frame = PyObject_GetAttrString(traceback, "tb_frame");
    PyObject *line = frame ? PyObject_GetAttrString(traceback, "tb_lineno") : NULL;
    PyCodeObject *code = line ? PyFrame_GetCode((PyFrameObject *)frame) : NULL;
    PyObject *source = code ? source_line(code->co_filename, line) : NULL;
    core_path at = {.kind = CORE_AT_ROOT, .root = "a traceback"};
    piso_write_array(e->w, 4);
    int r = source && PyLong_CheckExact(line) && core_encode(e, code->co_filename, &at) == 0 &&
                    core_encode(e, line, &at) == 0 && core_encode(e, code->co_name, &at) == 0 &&
                    core_encode(e, source, &at) == 0
                ? 0
                : -1;
    Py_XDECREF(frame);
    Py_XDECREF(line);
    Py_XDECREF(code);
    Py_XDECREF(source);
    return r;
}

int core_write_traceback(core_encoder *e, PyObject *exception) {
    PyObject *frames = frames_of(exception);
    if (!frames)
        return -1;
    Py_ssize_t count = PyList_GET_SIZE(frames), first = count > MAX_FRAMES ? count - MAX_FRAMES : 0;
    piso_write_array(e->w, (size_t)(count - first));
    int r = 0;
    for (Py_ssize_t i = first; r == 0 && i < count; i++)
        r = write_frame(e, PyList_GET_ITEM(frames, i));
    Py_DECREF(frames);
    return r;
}

int core_write_no_traceback(core_encoder *e) {
    static const char *const texts[] = {"the host", NULL, "<not shown>", ""};
    piso_write_array(e->w, 1);
    piso_write_array(e->w, 4);
    for (int i = 0; i < 4; i++)
        if (texts[i])
            piso_write_str(e->w, texts[i], strlen(texts[i]));
        else
            piso_write_int(e->w, 1);
    return 0;
}

/* ---- decoding ---- */

/* Only the part of a frame that is shown becomes a Python object: the peer's names may be as long as a message. */

static bool is_text(const piso_item *item) {
    return item->kind == PISO_STR || (item->kind == PISO_EXT && item->ext_type == PISO_EXT_STR);
}

/* whole: moves a position in UTF-8 to the beginning of a character. */
static const uint8_t *whole(const uint8_t *at, const uint8_t *from, const uint8_t *end) {
    while (at > from && at < end && (*at & 0xc0) == 0x80)
        at--;
    return at;
}

/* shown: returns the text of an item, printable, in one line and truncated. */
static PyObject *shown(core_decoder *d, const uint8_t *from, const uint8_t *end, Py_ssize_t limit, bool keep_end) {
    const Py_ssize_t most = 4 * (limit + 1); /* bytes of more characters than the limit */
    if (end - from > most && keep_end)
        from = whole(end - most, from, end);
    else if (end - from > most)
        end = whole(from + most, from, end);
    PyObject *text = PyUnicode_DecodeUTF8((const char *)from, end - from, "surrogatepass");
    PyObject *name = text ? core_name(text, limit, keep_end) : core_constructor_failed(d);
    Py_XDECREF(text);
    return name;
}

/* shown_file: returns the file name as its process has it; one that was forwarded by another process is marked
 * already. */
static PyObject *shown_file(core_decoder *d, const piso_item *item) {
    static const char mark[] = "<remote ";
    const size_t length = sizeof mark - 1, size = item->as.bytes.size;
    const uint8_t *from = item->as.bytes.data, *end = from + size;
    if (size > length && memcmp(from, mark, length) == 0 && end[-1] == '>')
        return shown(d, from + length, end - 1, MAX_FILE, true);
    return shown(d, from, end, MAX_FILE, true);
}

static PyObject *shown_item(core_decoder *d, const piso_item *item, Py_ssize_t limit) {
    return shown(d, item->as.bytes.data, item->as.bytes.data + item->as.bytes.size, limit, false);
}

/* make_entry: returns (file, line, function, source). */
static PyObject *make_entry(core_decoder *d, const piso_item parts[4]) {
    int64_t number = parts[1].as.integer;
    PyObject *file = shown_file(d, &parts[0]),
             *line = PyLong_FromLongLong(number > 0 && number < MAX_LINE ? number : 1);
    PyObject *function = file ? shown_item(d, &parts[2], MAX_FUNCTION) : NULL;
    PyObject *source = function ? shown_item(d, &parts[3], MAX_SOURCE) : NULL;
    PyObject *entry = line && source ? PyTuple_Pack(4, file, line, function, source) : NULL;
    Py_XDECREF(file);
    Py_XDECREF(line);
    Py_XDECREF(function);
    Py_XDECREF(source);
    return entry;
}

/* read_entry: returns 1; 0 for an item that is not a frame; -1. */
static int read_entry(core_decoder *d, piso_reader *r, PyObject *entries) {
    piso_item array, parts[4];
    if (piso_read(r, &array) != 1 || array.kind != PISO_ARRAY || array.as.count != 4)
        return 0;
    for (int i = 0; i < 4; i++)
        if (piso_read(r, &parts[i]) != 1 || !(i == 1 ? parts[i].kind == PISO_INT : is_text(&parts[i])))
            return 0;
    if (PyList_GET_SIZE(entries) == MAX_FRAMES)
        return 1;
    PyObject *entry = core_charge(d, CORE_COST_FRAME) ? make_entry(d, parts) : NULL;
    int r2 = entry ? PyList_Append(entries, entry) : -1;
    Py_XDECREF(entry);
    return r2 < 0 ? -1 : 1;
}

/* skip_value: skips a value that is not used. Returns 0 or -1. */
static int skip_value(core_decoder *d, piso_reader *r) {
    PyObject *value = core_decode(d, r);
    Py_XDECREF(value);
    return value ? 0 : -1;
}

PyObject *core_read_traceback(core_decoder *d, piso_reader *r) {
    piso_reader start = *r;
    piso_item array;
    PyObject *entries = PyList_New(0);
    if (!entries)
        return NULL;
    bool is_list = piso_read(r, &array) == 1 && array.kind == PISO_ARRAY;
    int done = 0;
    if (!is_list) {
        *r = start;
        done = skip_value(d, r);
    }
    for (size_t i = 0; is_list && done == 0 && i < array.as.count; i++) {
        start = *r;
        int read = read_entry(d, r, entries);
        if (read == 0)
            *r = start;
        done = read > 0 ? 0 : read < 0 ? -1 : skip_value(d, r);
    }
    if (done < 0)
        Py_CLEAR(entries);
    return entries;
}

/* make_frame: creates a frame whose code does nothing. */
static PyFrameObject *make_frame(PyObject *entry, PyObject *sources, PyObject *globals) {
    int line = (int)PyLong_AsLong(PyTuple_GET_ITEM(entry, 1));
    PyObject *file = core_sources_add(sources, PyTuple_GET_ITEM(entry, 0), line, PyTuple_GET_ITEM(entry, 3));
    const char *file_text = file ? PyUnicode_AsUTF8(file) : NULL;
    const char *function = file_text ? PyUnicode_AsUTF8(PyTuple_GET_ITEM(entry, 2)) : NULL;
    PyCodeObject *code = function ? PyCode_NewEmpty(file_text, function, line) : NULL;
    PyFrameObject *frame = code ? PyFrame_New(PyThreadState_Get(), code, globals, NULL) : NULL;
#if PY_VERSION_HEX < 0x030b0000
    if (frame)
        frame->f_lineno = line;
#endif
    Py_XDECREF(file);
    Py_XDECREF(code);
    return frame;
}

/* add_frame: prepends one entry to the traceback of an exception. Returns 0 or -1. */
static int add_frame(PyObject *exception, PyFrameObject *frame) {
    PyObject *type, *value, *traceback;
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), Py_NewRef(exception), PyException_GetTraceback(exception));
    int r = PyTraceBack_Here(frame);
    PyErr_Fetch(&type, &value, &traceback);
    if (r == 0 && traceback)
        r = PyException_SetTraceback(exception, traceback);
    if (r < 0) {
        PyErr_Restore(type, value, traceback); /* the error, not the current exception */
        return -1;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return 0;
}

int core_set_traceback(core_state *state, PyObject *exception, PyObject *entries) {
    if (!entries || PyList_GET_SIZE(entries) == 0)
        return 0;
    PyObject *sources = core_sources_new(state->std);
    PyObject *globals = sources ? Py_BuildValue("{s:O}", KEPT_AS, sources) : NULL;
    int r = globals ? 0 : -1;
    for (Py_ssize_t i = PyList_GET_SIZE(entries) - 1; r == 0 && i >= 0;
         i--) { /* each is prepended to the frames that it called */
        PyFrameObject *frame = make_frame(PyList_GET_ITEM(entries, i), sources, globals);
        r = frame ? add_frame(exception, frame) : -1;
        Py_XDECREF(frame);
    }
    Py_XDECREF(sources);
    Py_XDECREF(globals);
    return r;
}
