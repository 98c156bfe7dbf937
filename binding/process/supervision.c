/* supervision.c - methods of Session by which the package watches over an extension: its output, whether it still takes
 * what is sent, messages that nobody waits for, and what errors say besides. */
#include "rpc/session.h"

#include <string.h>

#define OUTPUT_CHUNK    16384
#define OUTPUTS_AT_ONCE 64
#define METERED_BYTES   1024 /* that count as one notification more */

/* core_session_notify: notify(object_id, name, args, limit): a call without a reply. False: not sent, because more than
 * `limit` messages wait already. */
PyObject *core_session_notify(PyObject *self, PyObject *args) {
    core_session *s = (core_session *)self;
    unsigned int object;
    const char *name;
    Py_ssize_t size;
    PyObject *arguments;
    unsigned long long limit;
    if (!PyArg_ParseTuple(args, "Is#O!K:notify", &object, &name, &size, &PyTuple_Type, &arguments, &limit))
        return NULL;
    piso_stats stats = {.size = sizeof stats};
    piso_session_stats(s->session, &stats);
    if (stats.queued > limit)
        Py_RETURN_FALSE;
    uint32_t number;
    int r = piso_session_intern(s->session, name, (size_t)size, &number);
    if (r < 0)
        return core_session_error(s, r, NULL);
    piso_writer w;
    piso_writer_init(&w);
    PyObject *const *items = &PyTuple_GET_ITEM(arguments, 0);
    int flags = core_encode_call(&s->codec, &w, items, PyTuple_GET_SIZE(arguments), NULL);
    if (flags >= 0) {
        flags |= PISO_CALL_NO_REPLY;
        r = piso_session_call(s->session, NULL, object, number, (unsigned)flags, core_request_current(s),
                              PISO_NO_DEADLINE, &w);
        if (r < 0)
            core_session_error(s, r, NULL);
    }
    if (flags < 0 || r < 0)
        core_codec_abandon(&s->codec, &w);
    piso_writer_fini(&w);
    return flags < 0 || r < 0 ? NULL : Py_NewRef(Py_True);
}

PyObject *core_session_progress(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_session *s = (core_session *)self;
    uint64_t sent, taken;
    Py_BEGIN_ALLOW_THREADS piso_session_progress(s->session, &sent, &taken);
    Py_END_ALLOW_THREADS return Py_BuildValue("(KK)", (unsigned long long)sent, (unsigned long long)taken);
}

/* core_session_explain: explain(note, hung=False). */
PyObject *core_session_explain(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"note", "hung", NULL};
    core_session *s = (core_session *)self;
    PyObject *note;
    int hung = s->hung;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|$p:explain", names, &note, &hung))
        return NULL;
    Py_XSETREF(s->end_note, Py_NewRef(note));
    s->hung = hung != 0;
    Py_RETURN_NONE;
}

/* core_session_on_error: on_error(hook). */
PyObject *core_session_on_error(PyObject *self, PyObject *hook) {
    Py_XSETREF(((core_session *)self)->error_hook, Py_NewRef(hook));
    Py_RETURN_NONE;
}

/* core_session_on_end: on_end(hook). */
PyObject *core_session_on_end(PyObject *self, PyObject *hook) {
    Py_XSETREF(((core_session *)self)->end_hook, Py_NewRef(hook));
    Py_RETURN_NONE;
}

void core_session_tell_end(core_session *s) {
    int state = piso_session_state(s->session);
    PyObject *hook = state == PISO_EDIED || state == PISO_EPROTO ? Py_XNewRef(s->end_hook) : NULL;
    if (!hook)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *done = PyObject_CallNoArgs(hook);
    if (!done)
        PyErr_WriteUnraisable(hook);
    Py_XDECREF(done);
    Py_DECREF(hook);
    PyErr_Restore(type, value, traceback);
}

/* core_session_on_copy: on_copy(hook). */
PyObject *core_session_on_copy(PyObject *self, PyObject *hook) {
    Py_XSETREF(((core_session *)self)->copy_hook, Py_NewRef(hook));
    Py_RETURN_NONE;
}

void core_session_remark(core_session *s, PyObject *exception) {
    PyObject *hook = Py_XNewRef(s->error_hook);
    PyObject *done = hook ? PyObject_CallOneArg(hook, exception) : NULL;
    PyErr_Clear(); /* the exception is sent all the same: what it lacks is a remark */
    Py_XDECREF(done);
    Py_XDECREF(hook);
}

/* ---- what a confined child was refused ---- */

#define KINDS_AT_ONCE 32

/* core_session_refusals: refusals(). */
PyObject *core_session_refusals(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    piso_process *process = piso_session_process(((core_session *)self)->session);
    int64_t total = process ? piso_process_refused(process) : -ENOSYS;
    if (total == -ENOSYS)
        Py_RETURN_NONE;
    piso_refusal kinds[KINDS_AT_ONCE];
    size_t n = process ? piso_process_refusals(process, kinds, KINDS_AT_ONCE) : 0;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < n; i++) {
        const piso_refusal *k = &kinds[i];
        PyObject *item = Py_BuildValue("(zI(II)iK)", k->call, k->number, k->arguments[0], k->arguments[1], k->error,
                                       (unsigned long long)k->count);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* core_session_on_refused: on_refused(hook). */
PyObject *core_session_on_refused(PyObject *self, PyObject *hook) {
    Py_XSETREF(((core_session *)self)->refusal_hook, Py_NewRef(hook));
    Py_RETURN_NONE;
}

void core_session_remark_refused(core_session *s, PyObject *exception) {
    piso_process *process = s->refusal_hook ? piso_session_process(s->session) : NULL;
    int64_t total = process ? piso_process_refused(process) : 0;
    if (total <= s->refused)
        return;
    s->refused = total;
    PyObject *hook = Py_NewRef(s->refusal_hook), *done = PyObject_CallOneArg(hook, exception);
    PyErr_Clear(); /* it is raised all the same: what it lacks is a remark */
    Py_XDECREF(done);
    Py_DECREF(hook);
}

/* ---- notifications of which there are too many ---- */

/* core_session_meter: meter(object_id, name, burst, per_second). */
PyObject *core_session_meter(PyObject *self, PyObject *args) {
    core_meter *m = &((core_session *)self)->meter;
    unsigned int object;
    const char *name;
    Py_ssize_t size;
    double burst, per_second;
    if (!PyArg_ParseTuple(args, "Is#dd:meter", &object, &name, &size, &burst, &per_second))
        return NULL;
    if (size > (Py_ssize_t)sizeof m->name)
        return PyErr_Format(PyExc_ValueError, "the name of what is metered has at most %zu bytes", sizeof m->name);
    *m = (core_meter){.object = object, .left = burst, .burst = burst, .per_second = per_second};
    m->refilled_ns = piso_now_coarse_ns();
    memcpy(m->name, name, (size_t)size);
    m->size = (size_t)size;
    Py_RETURN_NONE;
}

PyObject *core_session_metered(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_meter *m = &((core_session *)self)->meter;
    uint64_t dropped = m->dropped;
    m->dropped = 0;
    return PyLong_FromUnsignedLongLong(dropped);
}

bool core_session_refuses(core_session *s, const piso_event *event) {
    core_meter *m = &s->meter;
    if (!m->size || event->object != m->object)
        return false;
    size_t size;
    const char *name = piso_session_name(s->session, event->method, &size);
    if (!name || size != m->size || memcmp(name, m->name, size) != 0)
        return false;
    int64_t now = piso_now_coarse_ns();
    m->left += (double)(now - m->refilled_ns) * m->per_second / 1e9;
    m->left = m->left > m->burst ? m->burst : m->left;
    m->refilled_ns = now;
    if (m->left < 1) {
        m->dropped++;
        return true;
    }
    m->left -= 1 + (double)event->body_size / METERED_BYTES;
    return false;
}

/* ---- output ---- */

/* core_session_follow_output: follow_output(cookie). */
PyObject *core_session_follow_output(PyObject *self, PyObject *cookie_object) {
    uint64_t cookie = PyLong_AsUnsignedLongLong(cookie_object);
    if (PyErr_Occurred())
        return NULL;
    piso_process *process = piso_session_process(((core_session *)self)->session);
    if (process)
        piso_process_follow(process, cookie);
    Py_RETURN_NONE;
}

PyObject *core_session_echo_dropped(PyObject *self, PyObject *stream) {
    long number = PyLong_AsLong(stream);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    piso_process *process = piso_session_process(((core_session *)self)->session);
    return PyLong_FromUnsignedLongLong(process ? piso_process_echo_dropped(process, (int)number) : 0);
}

/* core_session_read_output: read_output(stream) -> (bytes, dropped). */
PyObject *core_session_read_output(PyObject *self, PyObject *stream) {
    long number = PyLong_AsLong(stream);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    piso_process *process = piso_session_process(((core_session *)self)->session);
    char buffer[OUTPUT_CHUNK];
    uint64_t dropped = 0;
    size_t size = 0;
    if (process) {
        Py_BEGIN_ALLOW_THREADS size = piso_process_read_output(process, (int)number, buffer, sizeof buffer, &dropped);
        Py_END_ALLOW_THREADS
    }
    return Py_BuildValue("(y#K)", buffer, (Py_ssize_t)size, (unsigned long long)dropped);
}

/* ---- the output of all processes ---- */

static PyObject *output_fd(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    int fd = piso_output_fd();
    return fd < 0 ? core_raise(core_module_state(module), fd, "output of extensions") : PyLong_FromLong(fd);
}

static PyObject *output_next(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    uint64_t cookies[OUTPUTS_AT_ONCE];
    size_t count = piso_output_next(cookies, OUTPUTS_AT_ONCE);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list && i < count; i++) {
        PyObject *cookie = PyLong_FromUnsignedLongLong(cookies[i]);
        if (!cookie)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, cookie);
    }
    return list;
}

static PyMethodDef functions[] = {
    {"output_fd", output_fd, METH_NOARGS, "Readable while output_next has something to say."},
    {"output_next", output_next, METH_NOARGS, "Cookies of processes that have written something, or have ended."},
    {NULL, NULL, 0, NULL},
};

int core_supervise_init(PyObject *module) {
    return PyModule_AddFunctions(module, functions);
}
