/* tracebacks.c - remote tracebacks as real ones (exceptions.h).
 *
 * A traceback needs frames and a frame needs code: empty code objects carry file name, function and line, as
 * compilers of other languages to Python do it. */
#include "exceptions.h"

#include <frameobject.h>

#define MAX_FRAMES 64
#define MAX_LINE   100000
/* Of all peers together, in linecache; the lists are as long as the highest line, so lines are what costs. */
#define MAX_CACHED_FILES 256
#define MAX_CACHED_LINES 200000
#define MAX_SOURCE       300 /* characters of a line */
/* In angle brackets, so that the printer that is written in C, which knows nothing of linecache, does not look for
 * a file of that name and show a line of one of ours. */
#define FILE_MARK     "<remote "
#define FILE_MARK_END ">"

/* ---- out ---- */

/* frames_of: the traceback objects, outermost first. */
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

/* source_line: the text of a line, by linecache, stripped; an empty string where there is none. */
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

/* ---- in ---- */

/* A frame of the peer's, checked; text is borrowed from the list. */
typedef struct remote_frame {
    PyObject *file, *function, *source;
    int line;
} remote_frame;

static bool read_frame(PyObject *item, remote_frame *ret_frame) {
    if (!PyList_CheckExact(item) || PyList_GET_SIZE(item) != 4)
        return false;
    PyObject *line = PyList_GET_ITEM(item, 1);
    remote_frame f = {PyList_GET_ITEM(item, 0), PyList_GET_ITEM(item, 2), PyList_GET_ITEM(item, 3), 0};
    if (!PyUnicode_CheckExact(f.file) || !PyUnicode_CheckExact(f.function) || !PyUnicode_CheckExact(f.source) ||
        !PyLong_CheckExact(line) || PyUnicode_FindChar(f.file, 0, 0, PY_SSIZE_T_MAX, 1) >= 0)
        return false; /* a NUL would cut off the mark at the end */
    int overflow;
    long number = PyLong_AsLongAndOverflow(line, &overflow);
    f.line = !overflow && number > 0 && number < MAX_LINE ? (int)number : 1;
    *ret_frame = f;
    return true;
}

/* forget_sources: takes our entries out of linecache. */
static void forget_sources(core_convert_state *c, PyObject *cache) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(c->remote_files); i++)
        if (PyDict_DelItem(cache, PyList_GET_ITEM(c->remote_files, i)) < 0)
            PyErr_Clear(); /* linecache.clearcache was faster */
    PyList_SetSlice(c->remote_files, 0, PyList_GET_SIZE(c->remote_files), NULL);
    c->remote_lines = 0;
}

/* lines_of: the list of known lines of a file in linecache, as long as needed; a new reference. */
static PyObject *lines_of(core_convert_state *c, PyObject *cache, PyObject *file, int length) {
    PyObject *entry = PyDict_GetItemWithError(cache, file), *lines = NULL;
    if (entry && PyTuple_Check(entry) && PyTuple_GET_SIZE(entry) == 4 && PyList_Check(PyTuple_GET_ITEM(entry, 2)))
        lines = Py_NewRef(PyTuple_GET_ITEM(entry, 2));
    else if (!PyErr_Occurred() && PyList_Append(c->remote_files, file) == 0)
        lines = PyList_New(0);
    PyObject *blank = lines ? PyUnicode_FromString("\n") : NULL;
    for (; blank && PyList_GET_SIZE(lines) < length; c->remote_lines++)
        if (PyList_Append(lines, blank) < 0)
            Py_CLEAR(blank);
    if (!blank)
        Py_CLEAR(lines);
    Py_XDECREF(blank);
    return lines;
}

/* remember_source: puts the line where printers look for it. An entry without a time is never read from disk. */
static void remember_source(core_convert_state *c, PyObject *file, const remote_frame *f) {
    PyObject *linecache = PyImport_ImportModule("linecache");
    PyObject *cache = linecache ? PyObject_GetAttrString(linecache, "cache") : NULL;
    if (cache && PyDict_Check(cache)) {
        if (PyList_GET_SIZE(c->remote_files) >= MAX_CACHED_FILES || c->remote_lines + f->line > MAX_CACHED_LINES)
            forget_sources(c, cache);
        PyObject *lines = lines_of(c, cache, file, f->line);
        PyObject *text = lines ? PyUnicode_FromFormat("%." Py_STRINGIFY(MAX_SOURCE) "U\n", f->source) : NULL;
        PyObject *entry = NULL;
        if (text && PyList_SetItem(lines, f->line - 1, Py_NewRef(text)) == 0)
            entry = Py_BuildValue("(iOOO)", 1, Py_None, lines, file);
        if (entry)
            PyDict_SetItem(cache, file, entry);
        Py_XDECREF(lines);
        Py_XDECREF(text);
        Py_XDECREF(entry);
    }
    Py_XDECREF(linecache);
    Py_XDECREF(cache);
    PyErr_Clear(); /* the traceback is shown without its source */
}

/* marked_file: the file as it is shown; one that came here by way of another process is marked already. */
static PyObject *marked_file(PyObject *file) {
    PyObject *mark = PyUnicode_FromString(FILE_MARK), *end = PyUnicode_FromString(FILE_MARK_END), *marked = NULL;
    Py_ssize_t starts = mark ? PyUnicode_Tailmatch(file, mark, 0, PY_SSIZE_T_MAX, -1) : -1;
    Py_ssize_t ends = end ? PyUnicode_Tailmatch(file, end, 0, PY_SSIZE_T_MAX, 1) : -1;
    if (starts > 0 && ends > 0)
        marked = Py_NewRef(file);
    else if (starts >= 0 && ends >= 0)
        marked = PyUnicode_FromFormat(FILE_MARK "%U" FILE_MARK_END, file);
    Py_XDECREF(mark);
    Py_XDECREF(end);
    return marked;
}

/* add_frame: one entry on top of the traceback of the current exception. */
static void add_frame(core_convert_state *c, const remote_frame *f, PyObject *globals) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *file = marked_file(f->file);
    const char *file_text = file ? PyUnicode_AsUTF8(file) : NULL, *function = PyUnicode_AsUTF8(f->function);
    PyCodeObject *code = file_text && function ? PyCode_NewEmpty(file_text, function, f->line) : NULL;
    PyFrameObject *frame = code ? PyFrame_New(PyThreadState_Get(), code, globals, NULL) : NULL;
    if (frame && PyUnicode_GET_LENGTH(f->source) > 0) /* tools that parse the "file" stumble over an empty one */
        remember_source(c, file, f);
    PyErr_Clear(); /* text that is not Unicode: the frame is left out */
    PyErr_Restore(type, value, traceback);
#if PY_VERSION_HEX < 0x030b0000
    if (frame)
        frame->f_lineno = f->line;
#endif
    if (frame)
        PyTraceBack_Here(frame);
    Py_XDECREF(file);
    Py_XDECREF(code);
    Py_XDECREF(frame);
}

void core_set_traceback(core_codec *c, PyObject *exception, PyObject *frames) {
    PyObject *globals = frames && PyList_CheckExact(frames) ? PyDict_New() : NULL;
    if (!globals) {
        PyErr_Clear(); /* none sent, or out of memory */
        return;
    }
    Py_ssize_t count = PyList_GET_SIZE(frames) < MAX_FRAMES ? PyList_GET_SIZE(frames) : MAX_FRAMES;
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), Py_NewRef(exception), NULL);
    for (Py_ssize_t i = count - 1; i >= 0; i--) { /* each goes in front of those that it called */
        remote_frame f;
        if (read_frame(PyList_GET_ITEM(frames, i), &f))
            add_frame(c->state->convert, &f, globals);
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (traceback)
        PyException_SetTraceback(exception, traceback);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    Py_DECREF(globals);
}
