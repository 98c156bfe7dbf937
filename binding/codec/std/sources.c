/* sources.c - puts lines of remote source into linecache, where traceback printers find them (exceptions.h).
 *
 *     exception -> traceback -> frame -> globals -> Sources -> (SourceFile, line)...
 *                                                                  ^
 *     files: name -> SourceFile <- linecache.cache, while it has lines with text
 *
 * A line lives as long as an exception that it was sent with: Sources in the globals of the frames refers to it.
 * Several exceptions may have the same line of a file. Where its text differs, the later one's file gets a number, so
 * that a peer cannot change what another peer's traceback shows. */
#include "exceptions.h"

#define FILE_MARK      "<remote "
#define MAX_VARIANTS   9
#define SHOWN_VARIANTS 8 /* with more, a file is shown without its source */

/* The list of lines that linecache holds: as long as the highest known line. */
typedef struct source_file {
    PyObject_HEAD PyObject *name;
    PyObject *lines; /* dict: line -> [text, number of references] */
    Py_ssize_t highest;
    Py_ssize_t with_text;
} source_file;

typedef struct sources {
    PyObject_HEAD PyObject *files; /* dict shared by all: name -> source_file */
    PyObject *used;                /* list: (source_file, line) */
} sources;

/* ---- linecache ---- */

/* cache_of: returns linecache.cache, a new reference; NULL without an exception if it is missing. */
static PyObject *cache_of(void) {
    PyObject *linecache = PyImport_ImportModule("linecache");
    PyObject *cache = linecache ? PyObject_GetAttrString(linecache, "cache") : NULL;
    Py_XDECREF(linecache);
    if (cache && !PyDict_Check(cache))
        Py_CLEAR(cache);
    PyErr_Clear(); /* the interpreter is shutting down: no line is needed any more */
    return cache;
}

/* entry_of: returns the kind of linecache's entry for this name: 1: ours, 0: none, -1: another. */
static int entry_of(PyObject *cache, source_file *file) {
    PyObject *entry = PyDict_GetItemWithError(cache, file->name);
    if (!entry)
        return PyErr_Occurred() ? -1 : 0;
    return PyTuple_Check(entry) && PyTuple_GET_SIZE(entry) == 4 && PyTuple_GET_ITEM(entry, 2) == (PyObject *)file ? 1
                                                                                                                  : -1;
}

/* show: adds an entry to linecache. One without a time is never read from disk. Returns 0 or -1. */
static int show(source_file *file) {
    PyObject *cache = cache_of(), *entry = NULL;
    int there = cache ? entry_of(cache, file) : -1;
    if (there == 0 && (entry = Py_BuildValue("(iOOO)", 1, Py_None, file, file->name)))
        there = PyDict_SetItem(cache, file->name, entry);
    Py_XDECREF(entry);
    Py_XDECREF(cache);
    return PyErr_Occurred() ? -1 : there < 0 ? 0 : there;
}

static void hide(source_file *file) {
    PyObject *cache = cache_of();
    if (cache && entry_of(cache, file) > 0 && PyDict_DelItem(cache, file->name) < 0)
        PyErr_Clear(); /* linecache.clearcache() has removed it */
    Py_XDECREF(cache);
}

/* ---- a file ---- */

/* known: returns the entry of a line, borrowed. */
static PyObject *known(source_file *file, PyObject *line) {
    return PyDict_GetItemWithError(file->lines, line);
}

static long uses_of(PyObject *entry) {
    return PyLong_AsLong(PyList_GET_ITEM(entry, 1));
}

static int set_uses(PyObject *entry, long uses) {
    PyObject *number = PyLong_FromLong(uses);
    return number ? PyList_SetItem(entry, 1, number) : -1;
}

/* add_line: adds a reference to a line. Returns 1; 0 if others have another text for it; -1. */
static int add_line(source_file *file, PyObject *line, PyObject *text) {
    PyObject *entry = known(file, line);
    if (!entry && PyErr_Occurred())
        return -1;
    if (entry && PyUnicode_Compare(PyList_GET_ITEM(entry, 0), text) != 0)
        return PyErr_Occurred() ? -1 : 0;
    if (entry)
        return set_uses(entry, uses_of(entry) + 1) < 0 ? -1 : 1;
    entry = Py_BuildValue("[Oi]", text, 1);
    int r = entry && PyDict_SetItem(file->lines, line, entry) == 0 ? 1 : -1;
    Py_XDECREF(entry);
    if (r > 0 && PyLong_AsSsize_t(line) > file->highest)
        file->highest = PyLong_AsSsize_t(line);
    if (r > 0 && PyUnicode_GET_LENGTH(text))
        file->with_text++;
    return r;
}

/* drop_line: drops a reference to a line. */
static void drop_line(source_file *file, PyObject *files, PyObject *line) {
    PyObject *entry = known(file, line);
    if (!entry)
        return;
    long uses = uses_of(entry) - 1;
    if (uses > 0) {
        set_uses(entry, uses);
        return;
    }
    if (PyUnicode_GET_LENGTH(PyList_GET_ITEM(entry, 0)) && --file->with_text == 0)
        hide(file);
    PyDict_DelItem(file->lines, line);
    if (PyDict_GET_SIZE(file->lines) == 0)
        PyDict_DelItem(files, file->name);
}

static Py_ssize_t file_length(PyObject *self) {
    return ((source_file *)self)->highest;
}

static PyObject *file_item(PyObject *self, Py_ssize_t index) {
    source_file *file = (source_file *)self;
    if (index < 0 || index >= file->highest) {
        PyErr_SetString(PyExc_IndexError, "the file has no such line");
        return NULL;
    }
    PyObject *line = PyLong_FromSsize_t(index + 1), *entry = line ? known(file, line) : NULL;
    Py_XDECREF(line);
    if (entry)
        return PyUnicode_FromFormat("%U\n", PyList_GET_ITEM(entry, 0));
    return PyErr_Occurred() ? NULL : PyUnicode_FromString("\n");
}

/* file_subscript: implements indexing and slicing, as for a list: printers that show several lines take slices. */
static PyObject *file_subscript(PyObject *self, PyObject *key) {
    if (!PySlice_Check(key)) {
        Py_ssize_t index = PyNumber_AsSsize_t(key, PyExc_IndexError);
        if (index == -1 && PyErr_Occurred())
            return NULL;
        return file_item(self, index < 0 ? index + file_length(self) : index);
    }
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(key, &start, &stop, &step) < 0)
        return NULL;
    Py_ssize_t count = PySlice_AdjustIndices(file_length(self), &start, &stop, step);
    PyObject *lines = PyList_New(count);
    for (Py_ssize_t i = 0; lines && i < count; i++) {
        PyObject *line = file_item(self, start + i * step);
        if (line)
            PyList_SET_ITEM(lines, i, line);
        else
            Py_CLEAR(lines);
    }
    return lines;
}

static void file_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((source_file *)self)->name);
    Py_XDECREF(((source_file *)self)->lines);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot file_slots[] = {
    {Py_tp_doc, "The known lines of another process's file. The other lines are empty."},
    {Py_sq_length, file_length},
    {Py_sq_item, file_item},
    {Py_mp_length, file_length},
    {Py_mp_subscript, file_subscript},
    {Py_tp_dealloc, file_dealloc},
    {0, NULL},
};
static PyType_Spec file_spec = {
    .name = "pyisolate._core.SourceFile",
    .basicsize = sizeof(source_file),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = file_slots,
};

/* file_named: returns the file of this name; a new one if there is none. Borrowed. */
static source_file *file_named(core_std_state *c, PyObject *name) {
    source_file *file = (source_file *)PyDict_GetItemWithError(c->source_files, name);
    if (file || PyErr_Occurred())
        return file;
    file = PyObject_New(source_file, c->source_file_type);
    if (!file)
        return NULL;
    file->name = Py_NewRef(name);
    file->highest = file->with_text = 0;
    file->lines = PyDict_New();
    int r = file->lines ? PyDict_SetItem(c->source_files, name, (PyObject *)file) : -1;
    Py_DECREF(file);
    return r < 0 ? NULL : file;
}

/* ---- the lines of one exception ---- */

static void sources_dealloc(PyObject *self) {
    sources *s = (sources *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject *error_type, *value, *traceback;
    PyErr_Fetch(&error_type, &value, &traceback);
    for (Py_ssize_t i = 0; s->used && i < PyList_GET_SIZE(s->used); i++) {
        PyObject *use = PyList_GET_ITEM(s->used, i);
        drop_line((source_file *)PyTuple_GET_ITEM(use, 0), s->files, PyTuple_GET_ITEM(use, 1));
    }
    PyErr_Clear(); /* out of memory: a line is leaked */
    PyErr_Restore(error_type, value, traceback);
    Py_XDECREF(s->used);
    Py_XDECREF(s->files);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot sources_slots[] = {
    {Py_tp_doc, "Keeps the source lines of a remote traceback."},
    {Py_tp_dealloc, sources_dealloc},
    {0, NULL},
};
static PyType_Spec sources_spec = {
    .name = "pyisolate._core.Sources",
    .basicsize = sizeof(sources),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = sources_slots,
};

PyObject *core_sources_new(core_std_state *c) {
    sources *s = PyObject_New(sources, c->sources_type);
    if (!s)
        return NULL;
    s->files = Py_NewRef(c->source_files);
    s->used = PyList_New(0);
    if (!s->used)
        Py_CLEAR(s);
    return (PyObject *)s;
}

/* marked: returns the name in angle brackets, so that the printer that is written in C, which does not use linecache,
 * does not open a local file of that name. */
static PyObject *marked(PyObject *file, int variant) {
    return variant == 1 ? PyUnicode_FromFormat(FILE_MARK "%U>", file)
                        : PyUnicode_FromFormat(FILE_MARK "%U (%d)>", file, variant);
}

/* use: records that the exception uses the line of the file. */
static int use(sources *s, source_file *file, PyObject *line) {
    PyObject *used = PyTuple_Pack(2, file, line);
    int r = used ? PyList_Append(s->used, used) : -1;
    Py_XDECREF(used);
    if (r < 0)
        drop_line(file, s->files, line);
    return r;
}

PyObject *core_sources_add(PyObject *self, PyObject *file_name, int number, PyObject *text) {
    sources *s = (sources *)self;
    core_std_state *c = core_type_state(Py_TYPE(self))->std;
    PyObject *line = PyLong_FromLong(number), *name = NULL;
    int r = line ? 0 : -1;
    for (int variant = 1; r == 0 && variant <= SHOWN_VARIANTS; variant++) {
        Py_XSETREF(name, marked(file_name, variant));
        source_file *file = name ? file_named(c, name) : NULL;
        r = file ? add_line(file, line, text) : -1;
        if (r > 0 && (use(s, file, line) < 0 || (PyUnicode_GET_LENGTH(text) && show(file) < 0)))
            r = -1;
    }
    if (r == 0)
        Py_XSETREF(name, marked(file_name, MAX_VARIANTS));
    Py_XDECREF(line);
    if (r < 0)
        Py_CLEAR(name);
    return name;
}

int core_sources_init(PyObject *module, core_state *state) {
    core_std_state *c = state->std;
    c->source_files = PyDict_New();
    c->source_file_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &file_spec, NULL);
    c->sources_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &sources_spec, NULL);
    return c->source_files && c->source_file_type && c->sources_type ? 0 : -1;
}
