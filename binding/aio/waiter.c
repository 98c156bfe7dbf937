/* waiter.c - the object that a task waits for: the part of asyncio's future protocol that a task uses.
 *
 * A future of the loop would work as well, but a Waiter schedules itself. If a signal handler raises while it is
 * scheduled, it can be scheduled again, and its second call does nothing; a future would lose its callbacks. */
#include "waiter.h"
#include "asyncio.h"

static core_async_state *async_of(PyObject *o) {
    return core_type_state(Py_TYPE(o))->async;
}

/* schedule: calls call_soon for this waiter. Returns 0 or -1. */
static int schedule(core_waiter *p) {
    core_async_state *a = async_of((PyObject *)p);
    PyObject *args[4] = {NULL, p->loop, (PyObject *)p, p->wakeup_context};
    PyObject *handle =
        PyObject_VectorcallMethod(a->call_soon, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, a->context_name);
    Py_XDECREF(handle);
    return handle ? 0 : -1;
}

PyObject *core_waiter_wake(core_waiter *p) {
    bool first = !p->woken;
    p->woken = 1;
    return first && p->wakeup ? p->wakeup_context : NULL;
}

/* waiter_call(): called by the loop. */
static PyObject *waiter_call(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    core_waiter *p = (core_waiter *)self;
    PyObject *wakeup = p->wakeup;
    core_thread_task_ran(&p->ready_on);
    if (!wakeup)
        Py_RETURN_NONE; /* it has been scheduled twice */
    p->wakeup = NULL;
    Py_CLEAR(p->wakeup_context);
    PyObject *result = PyObject_CallOneArg(wakeup, self);
    Py_DECREF(wakeup);
    return result;
}

static PyObject *waiter_add_done_callback(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"", "context", NULL};
    core_waiter *p = (core_waiter *)self;
    PyObject *callback, *context = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:add_done_callback", names, &callback, &context))
        return NULL;
    Py_XSETREF(p->wakeup, Py_NewRef(callback));
    Py_XSETREF(p->wakeup_context, Py_NewRef(context));
    if (p->woken && schedule(p) < 0) /* by another thread, before the task waited */
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *waiter_remove_done_callback(PyObject *self, PyObject *Py_UNUSED(callback)) {
    core_waiter *p = (core_waiter *)self;
    Py_CLEAR(p->wakeup);
    Py_CLEAR(p->wakeup_context);
    return PyLong_FromLong(1);
}

static PyObject *waiter_cancel(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    core_waiter *p = (core_waiter *)self;
    p->cancelled = 1;
    if (core_waiter_wake(p) && schedule(p) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

static PyObject *waiter_result(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (!((core_waiter *)self)->cancelled)
        Py_RETURN_NONE;
    PyErr_SetNone(async_of(self)->cancelled_error);
    return NULL;
}

static PyObject *waiter_get_loop(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return Py_NewRef(((core_waiter *)self)->loop);
}

static PyObject *waiter_done(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    core_waiter *p = (core_waiter *)self;
    return PyBool_FromLong(p->woken || p->cancelled);
}

static PyObject *waiter_was_cancelled(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return PyBool_FromLong(((core_waiter *)self)->cancelled);
}

static PyObject *waiter_get_blocking(PyObject *self, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(((core_waiter *)self)->blocking);
}

static int waiter_set_blocking(PyObject *self, PyObject *value, void *Py_UNUSED(closure)) {
    ((core_waiter *)self)->blocking = value && PyObject_IsTrue(value) > 0;
    return 0;
}

static int waiter_traverse(PyObject *self, visitproc visit, void *arg) {
    core_waiter *p = (core_waiter *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(p->loop);
    Py_VISIT(p->wakeup);
    Py_VISIT(p->wakeup_context);
    return 0;
}

static int waiter_clear(PyObject *self) {
    core_waiter *p = (core_waiter *)self;
    Py_CLEAR(p->loop);
    Py_CLEAR(p->wakeup);
    Py_CLEAR(p->wakeup_context);
    return 0;
}

static void waiter_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    core_thread_task_ran(&((core_waiter *)self)->ready_on);
    waiter_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef waiter_methods[] = {
    {"add_done_callback", (PyCFunction)(void (*)(void))waiter_add_done_callback, METH_VARARGS | METH_KEYWORDS, NULL},
    {"remove_done_callback", waiter_remove_done_callback, METH_O, NULL},
    {"cancel", (PyCFunction)(void (*)(void))waiter_cancel, METH_VARARGS | METH_KEYWORDS, NULL},
    {"result", waiter_result, METH_NOARGS, NULL},
    {"done", waiter_done, METH_NOARGS, NULL},
    {"cancelled", waiter_was_cancelled, METH_NOARGS, NULL},
    {"get_loop", waiter_get_loop, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef waiter_getset[] = {
    {"_asyncio_future_blocking", waiter_get_blocking, waiter_set_blocking, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot waiter_slots[] = {
    {Py_tp_doc, "The object that a task waits for when it awaits a call."},
    {Py_tp_call, waiter_call},
    {Py_tp_methods, waiter_methods},
    {Py_tp_getset, waiter_getset},
    {Py_tp_traverse, waiter_traverse},
    {Py_tp_clear, waiter_clear},
    {Py_tp_dealloc, waiter_dealloc},
    {0, NULL},
};
static PyType_Spec waiter_spec = {
    .name = "pyisolate._core.Waiter",
    .basicsize = sizeof(core_waiter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = waiter_slots,
};

core_waiter *core_waiter_new(core_state *state, PyObject *loop) {
    core_waiter *p = PyObject_GC_New(core_waiter, state->async->waiter_type);
    if (!p)
        return NULL;
    p->loop = Py_NewRef(loop);
    p->wakeup = p->wakeup_context = NULL;
    p->ready_on = NULL;
    p->blocking = 1;
    p->woken = p->cancelled = 0;
    PyObject_GC_Track(p);
    return p;
}

int core_waiter_init(PyObject *module, core_state *state) {
    state->async->waiter_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &waiter_spec, NULL);
    return state->async->waiter_type ? 0 : -1;
}
