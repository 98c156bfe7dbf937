/* storages.c - storages of PyTorch in shared memory.
 *
 * A storage moves by exchanging its memory with that of a new storage over a segment: every tensor that views it
 * follows. Versions without `_swap_data_ptr_` cannot do that from Python; there, only the tensor that is sent moves,
 * with only its own memory, and other views of the storage stay behind.
 *
 * The new storage uses the buffer of the segment's Shared, which torch does not recognise as shared memory. Therefore
 * attributes of the storage replace the methods that torch.multiprocessing calls: it then sends the segment's
 * descriptor. Otherwise it would move the storage to memory that the peers do not have. */
#include "tensors.h"

#include <time.h>

#define MOVING_NS 100000 /* between two checks whether another thread has moved a storage */
#define COPIES    3      /* attempts to copy a storage that is written meanwhile */

/* ---- methods of a storage ---- */

/* moved: returns the storage that this Shared belongs to, a new reference, if its memory is elsewhere now: torch has
 * moved it, as by share_memory_() where workers share files. NULL without an exception if it has not moved. */
static PyObject *moved(core_shared *shared) {
    PyObject *storage = core_shared_storage(shared);
    if (storage && core_torch_data(shared->state->torch, storage) == shared->data)
        Py_CLEAR(storage);
    PyErr_Clear(); /* out of memory: torch decides */
    return storage;
}

/* ask_torch: returns the result of torch's own method for such a storage, which is released. */
static PyObject *ask_torch(PyObject *storage, const char *name) {
    PyObject *method = PyObject_GetAttrString((PyObject *)Py_TYPE(storage), name);
    PyObject *answer = method ? PyObject_CallOneArg(method, storage) : NULL;
    Py_XDECREF(method);
    Py_DECREF(storage);
    return answer;
}

static PyObject *shared_is_shared(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *storage = moved((core_shared *)self);
    return storage ? ask_torch(storage, "is_shared") : Py_NewRef(Py_True);
}

/* shared_fd: the method that torch.multiprocessing calls for a storage's descriptor and size. */
static PyObject *shared_fd(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *storage = moved((core_shared *)self);
    if (storage)
        return ask_torch(storage, "_share_fd_cpu_");
    piso_segment *segment = ((core_shared *)self)->segment;
    int fd = piso_segment_fd(segment);
    if (fd >= 0)
        return Py_BuildValue("iK", fd, (unsigned long long)piso_segment_size(segment));
    PyErr_SetString(PyExc_OSError, "this tensor was received from the host, which has its descriptor: other "
                                   "processes cannot share it; send them tensor.clone()");
    return NULL;
}

/* Functions that replace a storage's methods, with its Shared as `self`: torch recognises only its own kind of shared
 * memory, and would move any other storage there. */
static PyMethodDef methods[] = {
    {"is_shared", shared_is_shared, METH_NOARGS, NULL},
    {"_share_fd_cpu_", shared_fd, METH_NOARGS, NULL},
};

/* ---- a storage and its Shared ---- */

/* attach: makes the storage, whose memory is `shared`, its owner. Returns 0 or -1. */
static int attach(core_torch_state *t, PyObject *storage, core_shared *shared) {
    int r = core_shared_set_owner(shared, storage);
    if (r == 0)
        r = PyObject_SetAttr(storage, t->shares_attribute, (PyObject *)shared);
    PyObject *const names[] = {t->is_shared, t->share_fd}; /* in the order of `methods` */
    for (size_t i = 0; r == 0 && i < sizeof methods / sizeof *methods; i++) {
        PyObject *method = PyCFunction_New(&methods[i], (PyObject *)shared);
        r = method ? PyObject_SetAttr(storage, names[i], method) : -1;
        Py_XDECREF(method);
    }
    return r;
}

/* detach: the storage has moved elsewhere, and another storage will own `shared`. Returns 0 or -1. */
static int detach(core_torch_state *t, PyObject *storage) {
    PyObject *const attributes[] = {t->shares_attribute, t->is_shared, t->share_fd};
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof attributes / sizeof *attributes; i++)
        r = PyObject_SetAttr(storage, attributes[i], NULL);
    return r;
}

/* storage_of: returns the storage over `shared`, if it is still there: torch moves a storage that it is asked to share
 * in its own way. A new reference; NULL, without an exception unless something failed. */
static PyObject *storage_of(core_torch_state *t, core_shared *shared) {
    PyObject *storage = core_shared_storage(shared);
    if (!storage || core_torch_data(t, storage) == shared->data)
        return storage;
    if (!PyErr_Occurred())
        detach(t, storage);
    Py_DECREF(storage);
    return NULL;
}

PyObject *core_storage_open(core_state *state, piso_segment *segment, bool keep_fd) {
    core_shared *shared = core_shared_map(state, segment, keep_fd);
    PyObject *storage = shared ? storage_of(state->torch, shared) : NULL;
    if (shared && !storage && !PyErr_Occurred()) {
        storage = core_torch_buffer(state->torch, (PyObject *)shared, NULL);
        if (storage && attach(state->torch, storage, shared) < 0)
            Py_CLEAR(storage);
    }
    Py_XDECREF(shared);
    return storage;
}

PyObject *core_storage_new(core_state *state, size_t size) {
    piso_segment *segment = core_shared_segment(state, size);
    PyObject *storage = segment ? core_storage_open(state, segment, true) : NULL;
    piso_segment_unref(segment);
    return storage;
}

/* follow: sets the tensor to use `storage`, from its beginning; its other views stay where they are. */
static int follow(core_torch_state *t, PyObject *tensor, PyObject *storage, core_tensor_layout *l) {
    int bits = core_tensor_bits(t, tensor, l->dtype); /* not in memory, and setting `data` replaces them too */
    if (bits < 0)
        return -1;
    l->offset = 0;
    PyObject *view = core_tensor_finish(t, core_tensor_over(t, storage, l), bits);
    int r = view ? PyObject_SetAttrString(tensor, "data", view) : -1;
    Py_XDECREF(view);
    return r;
}

core_shared *core_storage_shared(core_state *state, PyObject *storage) {
    PyObject *found;
    core_optional(storage, state->torch->shares_attribute, &found); /* unset: it has not been sent yet */
    if (found && Py_TYPE(found) != state->shared_type)
        Py_CLEAR(found);
    return (core_shared *)found;
}

/* shared_of: the same, unless the storage has moved since, because it was resized. */
static core_shared *shared_of(core_state *state, PyObject *storage) {
    core_shared *shared = core_storage_shared(state, storage);
    if (shared && core_torch_data(state->torch, storage) != shared->data)
        Py_CLEAR(shared);
    return shared;
}

/* copy: copies the storage's bytes, or those that the tensor spans, into a new one. Returns a new reference to any
 * object. */
static PyObject *copy(core_torch_state *t, PyObject *storage, PyObject *fresh, const core_tensor_layout *span) {
    PyObject *from = Py_NewRef(storage), *copied = NULL;
    if (span) {
        Py_ssize_t start = span->offset * span->dtype->itemsize;
        Py_SETREF(from, PySequence_GetSlice(storage, start, start + (Py_ssize_t)span->extent * span->dtype->itemsize));
    }
    if (from)
        copied = PyObject_CallMethodOneArg(fresh, t->copy, from);
    Py_XDECREF(from);
    return copied;
}

/* version_of: returns a number that each write to a tensor, or to one of its views, changes; 0 where writes are not
 * counted. */
static unsigned long version_of(core_torch_state *t, PyObject *tensor) {
    PyObject *number = PyObject_GetAttr(tensor, t->version);
    unsigned long version = number ? PyLong_AsUnsignedLongMask(number) : 0;
    Py_XDECREF(number);
    PyErr_Clear(); /* a tensor of torch.inference_mode */
    return version;
}

/* copy_unchanged: repeats the copy if another thread has written meanwhile, a limited number of times. */
static PyObject *copy_unchanged(core_torch_state *t, PyObject *tensor, PyObject *storage, PyObject *fresh,
                                const core_tensor_layout *span) {
    PyObject *copied = NULL;
    unsigned long version = 0;
    for (int i = 0; i < COPIES && (i == 0 || (copied && version_of(t, tensor) != version)); i++) {
        version = version_of(t, tensor);
        Py_XSETREF(copied, copy(t, storage, fresh, span));
    }
    return copied;
}

/* swap: exchanges the memory of the storage, and so of all its tensors, with that of a new one. Returns 0 or -1. */
static int swap(core_torch_state *t, PyObject *storage, PyObject *fresh) {
    PyObject *swapped = PyObject_CallMethodOneArg(storage, t->swap, fresh);
    Py_XDECREF(swapped);
    return swapped ? 0 : -1;
}

/* may_move: returns whether nothing prevents the move. If another thread has moved it already, `ret_shared` is its
 * Shared. No other thread runs between the last check and what the caller does next. */
static bool may_move(core_state *state, PyObject *tensor, PyObject *storage, core_shared **ret_shared) {
    int obstacle = core_storage_obstacle(state->torch, tensor, storage);
    *ret_shared = obstacle < 0 ? NULL : shared_of(state, storage);
    if (*ret_shared || PyErr_Occurred())
        return false;
    if (obstacle)
        core_storage_warn(state->torch, storage, obstacle);
    return obstacle == 0;
}

/* move: moves the storage into a new segment; where that cannot be done with the whole storage, only the memory that
 * one tensor spans, and that tensor. Returns the Shared of the memory that the tensor views then, a new reference. */
static core_shared *move(core_state *state, PyObject *tensor, PyObject *storage, core_tensor_layout *l) {
    core_torch_state *t = state->torch;
    PyObject *number = PyObject_CallMethodNoArgs(storage, t->nbytes);
    size_t size = number ? PyLong_AsSize_t(number) : 0;
    Py_XDECREF(number);
    if (PyErr_Occurred())
        return NULL;
    bool can_swap = PyObject_HasAttr(storage, t->swap);
    if (!can_swap)
        size = (size_t)l->extent * (size_t)l->dtype->itemsize;
    piso_segment *segment = core_shared_segment(state, size);
    core_shared *moved = segment ? core_shared_map(state, segment, true) : NULL, *shared = NULL;
    PyObject *fresh = moved ? core_torch_buffer(t, (PyObject *)moved, NULL) : NULL,
             *copied = fresh ? copy_unchanged(t, tensor, storage, fresh, can_swap ? NULL : l) : NULL;
    PyObject *result = can_swap ? storage : fresh;
    /* the copy released the GIL */
    if (copied && may_move(state, tensor, storage, &shared) &&
        (can_swap ? swap(t, storage, fresh) : follow(t, tensor, fresh, l)) == 0) {
        if (core_may_be_in_use(state, tensor, storage, size))      /* even if something fails afterwards */
            moved->before = Py_NewRef(can_swap ? fresh : storage); /* movable.c explains why */
        shared = attach(t, result, moved) == 0 ? (core_shared *)Py_NewRef((PyObject *)moved) : NULL;
    }
    piso_segment_unref(segment);
    Py_XDECREF(moved);
    Py_XDECREF(copied);
    Py_XDECREF(fresh);
    return shared;
}

/* ---- one thread at a time ---- */

/* is_moving: returns whether a thread moves the storage. A thread of the parent process does not exist in a forked
 * child. */
static bool is_moving(core_torch_state *t, PyObject *storage) {
    PyObject *generation;
    core_optional(storage, t->moving_attribute, &generation); /* usually unset */
    bool moving = generation && PyLong_AsUnsignedLongMask(generation) == piso_fork_generation();
    Py_XDECREF(generation);
    PyErr_Clear(); /* another object has set it */
    return moving;
}

/* await_move: waits while another thread checks and copies the storage, because torch then holds it in C++, as another
 * library would. Returns 0, or -1 with what a signal handler raised. */
static int await_move(core_torch_state *t, PyObject *storage) {
    while (is_moving(t, storage)) {
        Py_BEGIN_ALLOW_THREADS nanosleep(&(struct timespec){.tv_nsec = MOVING_NS}, NULL);
        Py_END_ALLOW_THREADS if (PyErr_CheckSignals() < 0) return -1;
    }
    return 0;
}

/* move_alone: moves the storage, in one thread at a time, if nothing prevents it. */
static core_shared *move_alone(core_state *state, PyObject *tensor, PyObject *storage, core_tensor_layout *l) {
    PyObject *attribute = state->torch->moving_attribute, *type, *value, *traceback;
    PyObject *generation = PyLong_FromUnsignedLong(piso_fork_generation());
    int noted = generation ? PyObject_SetAttr(storage, attribute, generation) : -1;
    Py_XDECREF(generation);
    if (noted < 0)
        return NULL;
    core_shared *shared = NULL;
    if (may_move(state, tensor, storage, &shared))
        shared = move(state, tensor, storage, l);
    PyErr_Fetch(&type, &value, &traceback);
    if (PyObject_SetAttr(storage, attribute, NULL) < 0)
        PyErr_Clear(); /* something else has removed it */
    PyErr_Restore(type, value, traceback);
    return shared;
}

core_shared *core_storage_share(core_state *state, PyObject *tensor, PyObject *storage, core_tensor_layout *l) {
    core_shared *shared = shared_of(state, storage);
    if (shared || PyErr_Occurred())
        return shared;
    return await_move(state->torch, storage) == 0 ? move_alone(state, tensor, storage, l) : NULL;
}
