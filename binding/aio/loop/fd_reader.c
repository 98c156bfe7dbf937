/* fd_reader.c - see fd_reader.h. */
#include "fd_reader.h"
#include "aio/asyncio.h"
#include "link.h"

#include "common/interruption.h"

typedef struct reader_object {
    PyObject_HEAD PyObject *owner;
    const core_fd_owner *type;
} reader_object;

int core_fd_reader_add(core_state *state, PyObject *loop, PyObject *owner, const core_fd_owner *type) {
    core_async_state *a = state->async;
    reader_object *reader = PyObject_GC_New(reader_object, a->fd_reader_type);
    if (!reader)
        return -1;
    piso_session *session = type->session(owner);
    reader->owner = Py_NewRef(owner);
    reader->type = type;
    piso_session_keep_fd(session, true);
    PyObject_GC_Track(reader);
    PyObject *fd = PyLong_FromLong(piso_session_fd(session)), *result = NULL;
    PyObject *args[4] = {NULL, loop, fd, (PyObject *)reader};
    if (fd)
        result = PyObject_VectorcallMethod(a->add_reader, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(fd);
    Py_DECREF(reader);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

void core_fd_reader_remove(core_state *state, PyObject *loop, piso_session *session) {
    PyObject *type, *value, *traceback;
    int number = piso_session_fd(session);
    if (number < 0)
        return; /* the loop belongs to the parent process: both have the same epoll */
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *fd = PyLong_FromLong(number);
    PyObject *args[3] = {NULL, loop, fd};
    /* a closed loop has dropped its readers already */
    Py_XDECREF(fd ? core_loop_call(state, loop, state->async->remove_reader, args + 1, 2, NULL, NULL) : NULL);
    Py_XDECREF(fd);
    PyErr_Restore(type, value, traceback);
}

static PyObject *reader_call(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    reader_object *reader = (reader_object *)self;
    reader->type->ready(reader->owner);
    return core_raise_interruption(core_type_state(Py_TYPE(self))) < 0 ? NULL : Py_NewRef(Py_None);
}

static int reader_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((reader_object *)self)->owner);
    return 0;
}

static void reader_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    reader_object *reader = (reader_object *)self;
    PyObject_GC_UnTrack(self);
    reader->type->dropped(reader->owner);
    piso_session_keep_fd(reader->type->session(reader->owner), false);
    Py_DECREF(reader->owner);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, "The callback of an event loop for a session's readable file descriptor."},
    {Py_tp_call, reader_call},
    {Py_tp_traverse, reader_traverse},
    {Py_tp_dealloc, reader_dealloc},
    {0, NULL},
};
static PyType_Spec reader_spec = {
    .name = "pyisolate._core.FdReader",
    .basicsize = sizeof(reader_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = reader_slots,
};

int core_fd_reader_init(PyObject *module, core_state *state) {
    state->async->fd_reader_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &reader_spec, NULL);
    return state->async->fd_reader_type ? 0 : -1;
}
