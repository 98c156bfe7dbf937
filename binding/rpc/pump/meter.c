/* meter.c - limits notifications: those beyond the limit are dropped before they are decoded. */
#include "meter.h"

#include <string.h>

#define METERED_BYTES 1024 /* that count as one more notification */

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
        return PyErr_Format(PyExc_ValueError, "the name of a metered method must have at most %zu bytes",
                            sizeof m->name);
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

bool core_session_meter_exceeded(core_session *s, const piso_event *event) {
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
