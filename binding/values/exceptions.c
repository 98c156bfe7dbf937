/* exceptions.c - exceptions across the boundary: type, arguments, notes, cause, context, traceback.
 *
 * The payload is a map: "type" (module:qualname), "args", "notes", "cause", "context" (true: the same as the
 * cause, as after `raise ... from` in an except clause), "suppress", "traceback"
 * ([file, line, function, source]...), "attributes". The receiver makes an instance of a builtin exception, of one
 * of asyncio's or concurrent.futures', of torch.OutOfMemoryError, or of a registered class; for any other name, of a subclass of RemoteError
 * made for that name. Nothing is imported. */
#include "exceptions.h"

#include <string.h>

#include "torch.h"

#define MAX_CHAIN          16   /* causes and contexts, one behind the other */
#define MAX_LINKED         64   /* the same in the whole message: with both, each exception has two */
#define MAX_NAME           1024 /* bytes of a class's name */
#define MAX_REMOTE_CLASSES 256
#define MAX_COLUMN         10000

/* ---- out ---- */

/* rollback: takes back what was written since a mark. */
static void rollback(core_encoder *e, size_t size, uint32_t nspans) {
    piso_writer *w = e->w;
    if (w->nspans > nspans && e->codec->session) {
        piso_writer tail = {.spans = w->spans + nspans, .nspans = w->nspans - nspans};
        piso_session_discard_spans(e->codec->session, &tail);
    }
    w->nspans = nspans;
    w->size = size;
    w->error = 0;
}

/* encode_or_text: the value, or the text of its repr where it cannot cross. */
static int encode_or_text(core_encoder *e, PyObject *value) {
    core_path at = {.kind = CORE_AT_ROOT, .root = "an argument of an exception"};
    size_t size = e->w->size;
    uint32_t nspans = e->w->nspans;
    int depth = e->depth;
    if (core_encode(e, value, &at) == 0 && e->w->error == 0)
        return 0;
    PyErr_Clear(); /* it cannot cross */
    rollback(e, size, nspans);
    e->depth = depth;
    PyObject *text = PyObject_Repr(value);
    if (!text) {
        PyErr_Clear(); /* a repr that raises */
        text = PyUnicode_FromFormat("<%s>", Py_TYPE(value)->tp_name);
    }
    int r = text && PyUnicode_CheckExact(text) ? core_encode(e, text, &at) : -1;
    Py_XDECREF(text);
    return r;
}

static void write_key(core_encoder *e, const char *key) {
    piso_write_str(e->w, key, strlen(key));
}

/* type_name: the registered name of a class, else "module:qualname". */
static PyObject *type_name(core_codec *c, PyTypeObject *type) {
    PyObject *name = core_registry_name(c->registry, type);
    if (name || PyErr_Occurred())
        return Py_XNewRef(name);
    PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
    PyObject *qualname = module ? PyObject_GetAttrString((PyObject *)type, "__qualname__") : NULL;
    name = qualname ? PyUnicode_FromFormat("%S:%S", module, qualname) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    return name;
}

static int write_type(core_encoder *e, PyObject *exception) {
    PyObject *name = type_name(e->codec, Py_TYPE(exception));
    write_key(e, "type");
    int r = name ? encode_or_text(e, name) : -1;
    Py_XDECREF(name);
    return r;
}

/* write_sequence: the items of a tuple or list. */
static int write_sequence(core_encoder *e, const char *key, PyObject *items) {
    write_key(e, key);
    PyObject *list = items ? PySequence_List(items) : PyList_New(0);
    int r = list ? 0 : -1;
    piso_write_array(e->w, list ? (size_t)PyList_GET_SIZE(list) : 0);
    for (Py_ssize_t i = 0; r == 0 && i < PyList_GET_SIZE(list); i++)
        r = encode_or_text(e, PyList_GET_ITEM(list, i));
    Py_XDECREF(list);
    return r;
}

/* attribute: one that may be missing; a new reference or NULL without an exception. */
static PyObject *attribute(PyObject *object, const char *name) {
    PyObject *value = PyObject_GetAttrString(object, name);
    if (!value)
        PyErr_Clear(); /* not there */
    return value;
}

/* add_fields: what builtin exceptions keep neither in args nor in __dict__. */
static int add_fields(PyObject *exception, PyObject *attributes) {
    static const char *const names[] = {"errno", "strerror", "filename", "filename2", "name", "path"};
    if (!PyErr_GivenExceptionMatches(exception, PyExc_OSError) &&
        !PyErr_GivenExceptionMatches(exception, PyExc_ImportError) &&
        !PyErr_GivenExceptionMatches(exception, PyExc_NameError) &&
        !PyErr_GivenExceptionMatches(exception, PyExc_AttributeError))
        return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        PyObject *value = attribute(exception, names[i]);
        int r = value && value != Py_None ? PyDict_SetItemString(attributes, names[i], value) : 0;
        Py_XDECREF(value);
        if (r < 0)
            return -1;
    }
    return 0;
}

static int write_attributes(core_encoder *e, PyObject *exception) {
    PyObject *dict = attribute(exception, "__dict__"), *copy = dict ? PyDict_Copy(dict) : PyDict_New();
    Py_XDECREF(dict);
    if (!copy || add_fields(exception, copy) < 0) {
        Py_XDECREF(copy);
        return -1;
    }
    if (PyDict_GetItemString(copy, "__notes__"))
        PyDict_DelItemString(copy, "__notes__");
    write_key(e, "attributes");
    piso_write_map(e->w, (size_t)PyDict_GET_SIZE(copy));
    Py_ssize_t position = 0;
    PyObject *name, *value;
    int r = 0;
    while (r == 0 && PyDict_Next(copy, &position, &name, &value))
        r = encode_or_text(e, name) < 0 || encode_or_text(e, value) < 0;
    Py_DECREF(copy);
    return r ? -1 : 0;
}

static int write_linked(core_encoder *e, const char *key, PyObject *exception, int chain) {
    write_key(e, key);
    int r = 0;
    if (exception && chain < MAX_CHAIN && e->linked < MAX_LINKED) {
        e->linked++;
        r = core_encode_exception_value(e, exception, chain + 1);
    } else {
        piso_write_nil(e->w);
    }
    Py_XDECREF(exception);
    return r;
}

/* write_links: cause and context. They are the same more often than not, and then written once. */
static int write_links(core_encoder *e, PyObject *exception, int chain) {
    PyObject *cause = PyException_GetCause(exception), *context = PyException_GetContext(exception);
    bool same = cause && cause == context;
    if (write_linked(e, "cause", cause, chain) < 0) {
        Py_XDECREF(context);
        return -1;
    }
    if (!same)
        return write_linked(e, "context", context, chain);
    Py_DECREF(context);
    write_key(e, "context");
    piso_write_bool(e->w, true);
    return 0;
}

int core_encode_exception_value(core_encoder *e, PyObject *exception, int chain) {
    bool exceptions = e->exceptions;
    e->exceptions = chain < MAX_CHAIN;
    size_t mark = piso_write_ext_begin(e->w, PISO_EXT_EXCEPTION);
    PyObject *args = attribute(exception, "args"), *notes = attribute(exception, "__notes__");
    PyObject *suppress = attribute(exception, "__suppress_context__");
    piso_write_map(e->w, 8);
    int r = write_type(e, exception);
    if (r == 0)
        r = write_sequence(e, "args", args);
    if (r == 0)
        r = write_sequence(e, "notes", notes && (PyList_Check(notes) || PyTuple_Check(notes)) ? notes : NULL);
    if (r == 0)
        r = write_links(e, exception, chain);
    if (r == 0) {
        write_key(e, "suppress");
        piso_write_bool(e->w, suppress == Py_True);
        write_key(e, "traceback");
        r = core_write_traceback(e, exception);
    }
    if (r == 0)
        r = write_attributes(e, exception);
    piso_write_ext_end(e->w, mark);
    Py_XDECREF(args);
    Py_XDECREF(notes);
    Py_XDECREF(suppress);
    e->exceptions = exceptions;
    return r;
}

int core_encode_exception(core_codec *c, piso_writer *w, PyObject *exception) {
    core_encoder e = {.codec = c, .w = w};
    if (core_encode_exception_value(&e, exception, 0) == 0 && w->error == 0)
        return 0;
    /* out of memory, or an exception class that misbehaves in every way: at least its name */
    PyErr_Clear(); /* the exception that is told is the first one */
    core_codec_abandon(c, w);
    size_t mark = piso_write_ext_begin(w, PISO_EXT_EXCEPTION);
    piso_write_map(w, 1);
    write_key(&e, "type");
    write_key(&e, Py_TYPE(exception)->tp_name);
    piso_write_ext_end(w, mark);
    return w->error ? -1 : 0;
}

/* ---- in: the class ---- */

/* Exceptions of the standard library that are not builtins and that callers are likely to catch. */
static const struct {
    const char *module, *name;
} standard[] = {
    {"asyncio.exceptions", "CancelledError"},
    {"asyncio.exceptions", "TimeoutError"},
    {"asyncio.exceptions", "InvalidStateError"},
    {"asyncio.exceptions", "QueueFull"},
    {"concurrent.futures._base", "CancelledError"},
    {"concurrent.futures._base", "TimeoutError"},
    {"json.decoder", "JSONDecodeError"},
    {"subprocess", "CalledProcessError"},
    {"subprocess", "TimeoutExpired"},
};

/* attribute_class: module.name, if it is an exception class. */
static PyObject *attribute_class(PyObject *module, const char *name) {
    PyObject *cls = module ? attribute(module, name) : NULL;
    if (cls && !PyExceptionClass_Check(cls))
        Py_CLEAR(cls);
    return cls;
}

/* own_class: one of this package's errors, as when an extension tells that its own extension died. */
static PyObject *own_class(core_state *s, const char *name) {
    PyObject *classes[] = {s->error,          s->extension_died, s->extension_stopped,
                           s->protocol_error, s->forked_error,   s->call_timeout};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strcmp(_PyType_Name((PyTypeObject *)classes[i]), name) == 0)
            return Py_NewRef(classes[i]);
    return NULL;
}

static PyObject *standard_class(core_state *state, const char *text) {
    if (strncmp(text, "builtins:", 9) == 0) {
        PyObject *builtins = PyEval_GetBuiltins(), *cls = PyDict_GetItemString(builtins, text + 9);
        return cls && PyExceptionClass_Check(cls) ? Py_NewRef(cls) : NULL;
    }
    if (strncmp(text, "pyisolate:", 10) == 0)
        return own_class(state, text + 10);
    if (strncmp(text, "torch", 5) == 0 && core_torch_load(state, false) > 0)
        return core_torch_error(state->torch, text);
    for (size_t i = 0; i < sizeof standard / sizeof *standard; i++) {
        size_t length = strlen(standard[i].module);
        if (strncmp(text, standard[i].module, length) == 0 && text[length] == ':' &&
            strcmp(text + length + 1, standard[i].name) == 0) {
            /* a fixed list, so the peer's name chooses among these modules only */
            PyObject *module = PyImport_ImportModule(standard[i].module);
            PyObject *cls = attribute_class(module, standard[i].name);
            Py_XDECREF(module);
            return cls;
        }
    }
    return NULL;
}

/* remote_class: the subclass of RemoteError for a name. */
static PyObject *remote_class(core_state *state, PyObject *name) {
    PyObject *classes = state->convert->remote_classes;
    PyObject *cls = PyDict_GetItemWithError(classes, name);
    if (cls || PyErr_Occurred())
        return Py_XNewRef(cls);
    Py_ssize_t colon = PyUnicode_FindChar(name, ':', 0, PyUnicode_GET_LENGTH(name), 1);
    PyObject *module = PyUnicode_Substring(name, 0, colon > 0 ? colon : 0);
    PyObject *qualname = module ? PyUnicode_Substring(name, colon < 0 ? 0 : colon + 1, PY_SSIZE_T_MAX) : NULL;
    PyObject *dotted = qualname && PyUnicode_GET_LENGTH(module) ? PyUnicode_FromFormat("%U.%U", module, qualname)
                                                                : Py_XNewRef(qualname);
    PyObject *space =
        dotted ? Py_BuildValue("{s:O,s:O,s:O}", "__module__", module, "__qualname__", qualname, "type_name", dotted)
               : NULL;
    if (space)
        cls = PyObject_CallFunction((PyObject *)&PyType_Type, "O(O)O", qualname, state->remote_error, space);
    if (cls && PyDict_GET_SIZE(classes) >= MAX_REMOTE_CLASSES)
        PyDict_Clear(classes); /* a peer that makes up names does not fill our memory */
    if (cls && PyDict_SetItem(classes, name, cls) < 0)
        Py_CLEAR(cls);
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    Py_XDECREF(dotted);
    Py_XDECREF(space);
    return cls;
}

/* is_cancelled_error: asyncio's, which means that the task in which it is raised was cancelled. */
static bool is_cancelled_error(PyObject *cls) {
    return strcmp(_PyType_Name((PyTypeObject *)cls), "CancelledError") == 0 &&
           !PyObject_IsSubclass(cls, PyExc_Exception);
}

/* would_end: a class that ends a program, a generator or a task when it is raised: no extension may do that to its
 * host. A call that the host cancels itself does not wait for what the extension says to it. */
static bool would_end(core_decoder *d, PyObject *cls) {
    if (!d->codec->session || !piso_session_process(d->codec->session))
        return false;
    if (is_cancelled_error(cls))
        return true;
    PyObject *const classes[] = {PyExc_SystemExit, PyExc_KeyboardInterrupt, PyExc_GeneratorExit, PyExc_BaseException};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (cls == classes[i])
            return true;
    return false;
}

/* find_class: ret_tamed: whether it is a RemoteError in the place of a class that would_end. */
static PyObject *find_class(core_decoder *d, PyObject *name, bool *ret_tamed) {
    core_class_kind kind = 0;
    PyObject *fields, *cls = core_registry_class(d->codec->registry, name);
    if (cls && core_registry_shape(d->codec->registry, cls, &kind, &fields) == 0 && kind == CORE_EXCEPTION_CLASS)
        return Py_NewRef(cls);
    if (PyErr_Occurred())
        return NULL;
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(name, &size);
    if (!text)
        return core_refused(d);
    if (size > MAX_NAME || strlen(text) != (size_t)size)
        return core_malformed(d, "an exception whose class has an impossible name");
    cls = standard_class(d->codec->state, text);
    if (cls && would_end(d, cls)) {
        Py_CLEAR(cls);
        *ret_tamed = true;
    }
    return cls || PyErr_Occurred() ? cls : remote_class(d->codec->state, name);
}

/* ---- in: the instance ---- */

/* instantiate: builtins are made as usual, for their fields; any other class without its __init__, whose
 * signature need not be that of args. */
static PyObject *instantiate(PyObject *cls, PyObject *args) {
    PyObject *module = PyObject_GetAttrString(cls, "__module__");
    bool is_builtin = module && PyUnicode_Check(module) && PyUnicode_CompareWithASCIIString(module, "builtins") == 0;
    Py_XDECREF(module);
    PyObject *error = is_builtin ? PyObject_Call(cls, args, NULL) : NULL;
    if (!error) {
        PyErr_Clear(); /* arguments that its __init__ does not take */
        error = ((PyTypeObject *)cls)->tp_new((PyTypeObject *)cls, args, NULL);
    }
    if (error && !PyExceptionInstance_Check(error))
        Py_CLEAR(error);
    if (error && !is_builtin && PyObject_SetAttrString(error, "args", args) < 0)
        Py_CLEAR(error);
    return error;
}

/* not_stop: StopIteration cannot be raised out of an await; as from a coroutine, it becomes a RuntimeError. */
static PyObject *not_stop(PyObject *error) {
    if (!PyErr_GivenExceptionMatches(error, PyExc_StopIteration) &&
        !PyErr_GivenExceptionMatches(error, PyExc_StopAsyncIteration))
        return error;
    PyErr_Format(PyExc_RuntimeError, "the call raised %s", _PyType_Name(Py_TYPE(error)));
    PyObject *outer = core_fetch_exception();
    PyException_SetCause(outer, error);
    return outer;
}

static PyObject *item(PyObject *map, const char *key) {
    return PyDict_GetItemString(map, key);
}

/* is_settable: not what would replace a method of the class; nor what makes Python 3.12 and later import the module
 * that an ImportError names, when it is printed, to look for names like the one that is missing. */
static bool is_settable(PyObject *error, PyObject *name) {
    PyObject *there = _PyType_Lookup(Py_TYPE(error), name);
    return PyUnicode_READ_CHAR(name, 0) != '_' && !(there && PyCallable_Check(there)) &&
           PyUnicode_CompareWithASCIIString(name, "name_from") != 0;
}

/* tame_syntax_error: who prints one marks columns in its line: as many as it says, and of whatever type. */
static int tame_syntax_error(PyObject *error) {
    static const char *const numbers[] = {"lineno", "offset", "end_lineno", "end_offset"};
    static const char *const texts[] = {"text", "filename"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof numbers / sizeof *numbers; i++) {
        PyObject *value = attribute(error, numbers[i]);
        int overflow = 0;
        long number = value && PyLong_CheckExact(value) ? PyLong_AsLongAndOverflow(value, &overflow) : -1;
        if (value && value != Py_None && (overflow || number < 0 || number > MAX_COLUMN))
            r = PyObject_SetAttrString(error, numbers[i], Py_None);
        Py_XDECREF(value);
    }
    for (size_t i = 0; r == 0 && i < sizeof texts / sizeof *texts; i++) {
        PyObject *value = attribute(error, texts[i]);
        if (value && value != Py_None && (!PyUnicode_CheckExact(value) || PyUnicode_GET_LENGTH(value) > MAX_COLUMN))
            r = PyObject_SetAttrString(error, texts[i], Py_None);
        Py_XDECREF(value);
    }
    return r;
}

static int set_attributes(PyObject *error, PyObject *map) {
    PyObject *attributes = item(map, "attributes"), *notes = item(map, "notes"), *name, *value;
    Py_ssize_t position = 0;
    while (attributes && PyDict_CheckExact(attributes) && PyDict_Next(attributes, &position, &name, &value))
        if (PyUnicode_CheckExact(name) && is_settable(error, name) && PyObject_GenericSetAttr(error, name, value) < 0)
            PyErr_Clear(); /* an attribute that this class does not let be set */
    if (PyErr_GivenExceptionMatches(error, PyExc_SyntaxError) && tame_syntax_error(error) < 0)
        return -1;
    if (notes && PyList_CheckExact(notes) && PyList_GET_SIZE(notes) > 0)
        return PyObject_SetAttrString(error, "__notes__", notes);
    return 0;
}

static void set_chain(PyObject *error, PyObject *map) {
    PyObject *cause = item(map, "cause"), *context = item(map, "context"), *suppress = item(map, "suppress");
    if (cause && PyExceptionInstance_Check(cause))
        PyException_SetCause(error, Py_NewRef(cause));
    if (context == Py_True)
        context = cause;
    if (context && PyExceptionInstance_Check(context))
        PyException_SetContext(error, Py_NewRef(context));
    if (suppress && PyBool_Check(suppress) && PyObject_SetAttrString(error, "__suppress_context__", suppress) < 0)
        PyErr_Clear(); /* it cannot fail on an exception */
}

/* explain_tamed: a printed traceback names the class as the extension does, which could be misread. */
static void explain_tamed(PyObject *error) {
    PyObject *done = PyObject_CallMethod(error, "add_note", "s",
                                         "this is a RemoteError: the extension raised it by itself, and it neither "
                                         "ends nor cancels anything in its host");
    if (!done)
        PyErr_Clear(); /* Python 3.10 has no notes */
    Py_XDECREF(done);
}

static PyObject *build(core_decoder *d, PyObject *map) {
    PyObject *name = item(map, "type"), *list = item(map, "args");
    if (!name || !PyUnicode_CheckExact(name) || (list && !PyList_CheckExact(list)))
        return core_malformed(d, "an exception without a type");
    bool tamed = false;
    PyObject *cls = find_class(d, name, &tamed), *args = NULL, *error = NULL;
    if (cls)
        args = list ? PyList_AsTuple(list) : PyTuple_New(0);
    if (args)
        error = instantiate(cls, args);
    if (!error && args) { /* a class that cannot be made like this: tell at least what it was */
        PyErr_Clear();    /* replaced by the RemoteError */
        Py_SETREF(cls, remote_class(d->codec->state, name));
        error = cls ? PyObject_Call(cls, args, NULL) : NULL;
    }
    if (error && set_attributes(error, map) < 0)
        Py_CLEAR(error);
    if (error) {
        if (tamed)
            explain_tamed(error);
        set_chain(error, map);
        core_set_traceback(d->codec, error, item(map, "traceback"));
        error = not_stop(error);
    }
    Py_XDECREF(cls);
    Py_XDECREF(args);
    return error;
}

PyObject *core_decode_exception_value(core_decoder *d, const piso_item *ext) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    PyObject *map = core_decode(d, &r), *error = NULL;
    if (map && PyDict_CheckExact(map))
        error = build(d, map);
    else if (map)
        core_malformed(d, "an exception that is not a map");
    Py_XDECREF(map);
    return error;
}
