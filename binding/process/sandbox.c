/* sandbox.c - see sandbox.h. */
#include "sandbox.h"

#include <stddef.h>

/* c_string: returns a path as a C string that lives as long as the sandbox; NULL with an exception. */
static const char *c_string(core_sandbox *s, PyObject *path) {
    PyObject *encoded;
    if (!PyUnicode_FSConverter(path, &encoded))
        return NULL;
    int r = PyList_Append(s->keep, encoded);
    Py_DECREF(encoded);
    return r < 0 ? NULL : PyBytes_AS_STRING(encoded);
}

static int parse_paths(core_sandbox *s, PyObject *description, const char *key, size_t index,
                       const char *const **field) {
    PyObject *value = PyDict_GetItemString(description, key);
    PyObject *paths = value ? PySequence_Fast(value, "the paths of a sandbox must be lists") : NULL;
    if (!paths)
        return value ? -1 : 0;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(paths);
    const char **list = s->lists[index] = PyMem_New(const char *, (size_t)n + 1);
    int r = list ? 0 : -1;
    for (Py_ssize_t i = 0; r == 0 && i < n; i++)
        r = (list[i] = c_string(s, PySequence_Fast_GET_ITEM(paths, i))) ? 0 : -1;
    if (list)
        list[n] = NULL;
    else
        PyErr_NoMemory();
    *field = list;
    Py_DECREF(paths);
    return r;
}

static int parse_number(PyObject *description, const char *key, uint64_t *field) {
    PyObject *value = PyDict_GetItemString(description, key);
    if (!value)
        return 0;
    *field = PyLong_AsUnsignedLongLong(value);
    return PyErr_Occurred() ? -1 : 0;
}

static int parse_limits(PyObject *limits, piso_limits *l) {
    static const struct {
        const char *name;
        size_t offset;
    } fields[] = {
        {"memory", offsetof(piso_limits, memory)},
        {"cpu_seconds", offsetof(piso_limits, cpu_seconds)},
        {"processes", offsetof(piso_limits, processes)},
        {"open_files", offsetof(piso_limits, open_files)},
        {"file_size", offsetof(piso_limits, file_size)},
        {"temp_size", offsetof(piso_limits, temp_size)},
        {"shared_memory", offsetof(piso_limits, shared_memory)},
    };
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof fields / sizeof *fields; i++)
        r = parse_number(limits, fields[i].name, (uint64_t *)((char *)l + fields[i].offset));
    return r;
}

int core_sandbox_parse(PyObject *description, core_sandbox *s) {
    if (!PyDict_Check(description)) {
        PyErr_SetString(PyExc_TypeError, "sandbox must be a dictionary");
        return -1;
    }
    if (!(s->keep = PyList_New(0)))
        return -1;
    s->spec.size = sizeof s->spec;
    s->spec.limits = &s->limits;
    s->limits.size = sizeof s->limits;
    if (parse_paths(s, description, "readable", 0, &s->spec.readable) < 0 ||
        parse_paths(s, description, "listed", 1, &s->spec.listed) < 0 ||
        parse_paths(s, description, "writable", 2, &s->spec.writable) < 0 ||
        parse_paths(s, description, "devices", 3, &s->spec.devices) < 0 ||
        parse_paths(s, description, "hidden", 4, &s->spec.hidden) < 0 ||
        parse_paths(s, description, "untrusted", 5, &s->spec.untrusted) < 0)
        return -1;
    PyObject *temp = PyDict_GetItemString(description, "temp");
    if (temp && temp != Py_None && !(s->spec.temp = c_string(s, temp)))
        return -1;
    PyObject *network = PyDict_GetItemString(description, "network");
    s->spec.network = network && PyObject_IsTrue(network) > 0;
    PyObject *local_sockets = PyDict_GetItemString(description, "local_sockets");
    s->spec.local_sockets = local_sockets && PyObject_IsTrue(local_sockets) > 0;
    uint64_t omit = 0;
    if (parse_number(description, "omit", &omit) < 0)
        return -1;
    s->spec.omit = (unsigned)omit;
    PyObject *limits = PyDict_GetItemString(description, "limits");
    return limits ? parse_limits(limits, &s->limits) : 0;
}

void core_sandbox_fini(core_sandbox *s) {
    for (size_t i = 0; i < sizeof s->lists / sizeof *s->lists; i++)
        PyMem_Free(s->lists[i]);
    Py_CLEAR(s->keep);
}

int core_sandbox_report(const piso_sandbox_report *report, PyObject *list) {
    for (int layer = 0; layer < PISO_LAYERS; layer++) {
        PyObject *item = Py_BuildValue("(sOs)", piso_layer_name((piso_layer)layer),
                                       report->layers[layer].active ? Py_True : Py_False, report->layers[layer].detail);
        int r = item ? PyList_Append(list, item) : -1;
        Py_XDECREF(item);
        if (r < 0)
            return -1;
    }
    return 0;
}
