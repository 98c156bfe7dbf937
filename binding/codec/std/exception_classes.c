/* exception_classes.c - the class of a received exception: a built-in one, one of the standard library's that callers
 * often catch, torch's, this package's, a registered one; otherwise a subclass of RemoteError created for the name. No
 * name causes an import. */
#include <string.h>

#include "codec/quota.h"
#include "codec/registry.h"
#include "common/printable.h"
#include "exceptions.h"

#define MAX_NAME           1024 /* bytes of a class's name */
#define MAX_REMOTE_CLASSES 256

static const struct {
    const char *module, *name;
    const core_field *fields;
} standard[] = {
    {"asyncio.exceptions", "CancelledError", NULL},
    {"asyncio.exceptions", "TimeoutError", NULL},
    {"asyncio.exceptions", "InvalidStateError", NULL},
    {"asyncio.exceptions", "QueueFull", NULL},
    {"concurrent.futures._base", "CancelledError", NULL},
    {"concurrent.futures._base", "TimeoutError", NULL},
    {"json.decoder", "JSONDecodeError", core_json_fields},
    {"subprocess", "CalledProcessError", core_called_process_fields},
    {"subprocess", "TimeoutExpired", core_timeout_expired_fields},
};
#define STANDARD (sizeof standard / sizeof *standard)

/* take: stores the class, if it is an exception class. */
static void take(core_exception_kind *k, PyObject *cls, core_origin origin, const core_field *fields) {
    if (!cls || !PyExceptionClass_Check(cls))
        return;
    k->cls = Py_NewRef(cls);
    k->origin = origin;
    k->fields = fields;
}

/* find_own: finds one of this package's errors, as when an extension reports that its own extension died. */
static void find_own(core_state *s, const char *name, core_exception_kind *k) {
    PyObject *classes[] = {s->error,          s->extension_died, s->extension_stopped,
                           s->protocol_error, s->forked_error,   s->call_timeout};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strcmp(_PyType_Name((PyTypeObject *)classes[i]), name) == 0)
            take(k, classes[i], CORE_STANDARD, classes[i] == s->extension_died ? core_died_fields : NULL);
}

static void find_builtin(const char *name, core_exception_kind *k) {
    PyObject *cls = PyDict_GetItemString(PyEval_GetBuiltins(), name);
    PyObject *module = cls ? core_attribute(cls, "__module__") : NULL;
    bool is_builtin = module && PyUnicode_Check(module) && PyUnicode_CompareWithASCIIString(module, "builtins") == 0;
    take(k, is_builtin ? cls : NULL, CORE_BUILTIN, NULL);
    Py_XDECREF(module);
}

static void find_standard(core_state *state, const char *text, core_exception_kind *k) {
    if (strncmp(text, "builtins:", 9) == 0) {
        find_builtin(text + 9, k);
    } else if (strncmp(text, "pyisolate:", 10) == 0) {
        find_own(state, text + 10, k);
    } else if (strncmp(text, "torch", 5) == 0 && state->tables->error_class) {
        PyObject *cls = state->tables->error_class(state, text);
        take(k, cls, CORE_STANDARD, NULL);
        Py_XDECREF(cls);
    }
    for (size_t i = 0; !k->cls && i < STANDARD; i++) {
        size_t length = strlen(standard[i].module);
        if (strncmp(text, standard[i].module, length) != 0 || text[length] != ':' ||
            strcmp(text + length + 1, standard[i].name) != 0)
            continue;
        /* a fixed list, so the peer's name can select only these modules */
        PyObject *module = PyImport_ImportModule(standard[i].module);
        PyObject *cls = module ? core_attribute(module, standard[i].name) : NULL;
        take(k, cls, CORE_STANDARD, standard[i].fields);
        Py_XDECREF(module);
        Py_XDECREF(cls);
    }
}

/* ---- RemoteError ---- */

/* new_remote_class: `name` must be printable. */
static PyObject *new_remote_class(core_state *state, PyObject *name) {
    PyObject *cls = NULL;
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
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    Py_XDECREF(dotted);
    Py_XDECREF(space);
    return cls;
}

PyObject *core_remote_class(core_state *state, PyObject *name) {
    PyObject *classes = state->std->remote_classes, *shown = core_name(name, MAX_NAME, false);
    PyObject *cls = shown ? Py_XNewRef(PyDict_GetItemWithError(classes, shown)) : NULL;
    if (shown && !cls && !PyErr_Occurred()) {
        cls = new_remote_class(state, shown);
        if (cls && PyDict_GET_SIZE(classes) >= MAX_REMOTE_CLASSES)
            PyDict_Clear(classes); /* bounds the memory that a peer's invented names use */
        if (cls && PyDict_SetItem(classes, shown, cls) < 0)
            Py_CLEAR(cls);
    }
    Py_XDECREF(shown);
    return cls;
}

PyObject *core_remote_class_charged(core_decoder *d, PyObject *name) {
    return core_charge(d, CORE_COST_REMOTE_CLASS) ? core_remote_class(d->codec->state, name) : NULL;
}

/* restore: the function with which pickle and copy rebuild a RemoteError. */
static PyObject *restore(PyObject *module, PyObject *args) {
    PyObject *name, *arguments;
    if (!PyArg_ParseTuple(args, "UO!:_restore_remote_error", &name, &PyTuple_Type, &arguments))
        return NULL;
    PyObject *cls = core_remote_class(core_module_state(module), name);
    PyObject *error = cls ? PyObject_Call(cls, arguments, NULL) : NULL;
    Py_XDECREF(cls);
    return error;
}

/* reduce: RemoteError.__reduce__. An instance's class is in no module; pickle would import the module that the peer
 * named to look for it. */
static PyObject *reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyTypeObject *type = Py_TYPE(self);
    if (!PyObject_HasAttrString((PyObject *)type, "type_name")) /* not created here */
        return PyObject_CallMethod(PyExc_BaseException, "__reduce__", "O", self);
    PyObject *module = core_attribute((PyObject *)type, "__module__");
    PyObject *qualname = module ? core_attribute((PyObject *)type, "__qualname__") : NULL;
    PyObject *name = qualname ? PyUnicode_FromFormat("%S:%S", module, qualname) : NULL;
    PyObject *core = name ? PyImport_ImportModule("pyisolate._core") : NULL;
    PyObject *function = core ? PyObject_GetAttrString(core, "_restore_remote_error") : NULL;
    PyObject *args = function ? PyObject_GetAttrString(self, "args") : NULL;
    PyObject *dict = args ? PyObject_GetAttrString(self, "__dict__") : NULL;
    PyObject *result = dict ? Py_BuildValue("O(OO)O", function, name, args, dict) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    Py_XDECREF(name);
    Py_XDECREF(core);
    Py_XDECREF(function);
    Py_XDECREF(args);
    Py_XDECREF(dict);
    return result;
}

#define TEXT "__text__" /* attribute of a RemoteError; the peer can set it as well, to anything */

int core_set_text(PyObject *error, PyObject *text) {
    return PyObject_SetAttrString(error, TEXT, text);
}

/* text: RemoteError.__str__. */
static PyObject *text(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *dict = core_attribute(self, "__dict__");
    PyObject *own = dict ? Py_XNewRef(PyDict_GetItemString(dict, TEXT)) : NULL, *shown;
    if (own && PyUnicode_CheckExact(own))
        shown = core_printable(own, true);
    else
        shown = ((PyTypeObject *)PyExc_BaseException)->tp_str(self);
    Py_XDECREF(dict);
    Py_XDECREF(own);
    return shown;
}

static PyMethodDef text_method = {"__str__", text, METH_NOARGS, NULL};
static PyMethodDef reduce_method = {"__reduce__", reduce, METH_NOARGS, NULL};
static PyMethodDef functions[] = {
    {"_restore_remote_error", restore, METH_VARARGS, "_restore_remote_error(name, args) -> RemoteError\n\nFor pickle."},
    {NULL, NULL, 0, NULL},
};

int core_exception_classes_init(PyObject *module, core_state *state) {
    PyMethodDef *const methods[] = {&text_method, &reduce_method};
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof methods / sizeof *methods; i++) {
        PyObject *method = PyDescr_NewMethod((PyTypeObject *)state->remote_error, methods[i]);
        r = method ? PyObject_SetAttrString(state->remote_error, methods[i]->ml_name, method) : -1;
        Py_XDECREF(method);
    }
    return r < 0 ? -1 : PyModule_AddFunctions(module, functions);
}

/* ---- finding the class ---- */

/* is_cancelled_error: tests for asyncio.CancelledError, which means that the task in which it is raised was
 * cancelled. */
static bool is_cancelled_error(PyObject *cls) {
    return strcmp(_PyType_Name((PyTypeObject *)cls), "CancelledError") == 0 &&
           !PyObject_IsSubclass(cls, PyExc_Exception);
}

/* would_end: returns whether raising the class would end a program, a generator or a task: an extension must not do
 * that to its host. A call that the host cancels itself does not wait for the extension's reply. */
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

/* find_registered: returns 0 or -1. */
static int find_registered(core_decoder *d, PyObject *name, core_exception_kind *k) {
    PyObject *cls = core_registry_class(d->codec->registry, name);
    if (!cls)
        return PyErr_Occurred() ? -1 : 0;
    take(k, cls, CORE_REGISTERED, NULL);
    return 0;
}

int core_exception_class(core_decoder *d, PyObject *name, core_exception_kind *ret_kind) {
    core_exception_kind k = {.cls = NULL};
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(name, &size);
    if (!text) {
        core_constructor_failed(d);
        return -1;
    }
    if (size > MAX_NAME || strlen(text) != (size_t)size) {
        core_malformed(d, "an exception whose class has an impossible name");
        return -1;
    }
    if (find_registered(d, name, &k) < 0)
        return -1;
    if (!k.cls)
        find_standard(d->codec->state, text, &k);
    if (k.cls && k.origin != CORE_REGISTERED && would_end(d, k.cls)) {
        Py_CLEAR(k.cls);
        k.downgraded = true;
    }
    if (!k.cls && !PyErr_Occurred()) {
        k.cls = core_remote_class_charged(d, name);
        k.origin = CORE_REMOTE;
        k.fields = NULL;
    }
    *ret_kind = k;
    return k.cls ? 0 : -1;
}
