/* movable.c - which storages may move into shared memory, and what becomes of the memory that they leave.
 *
 * When a storage moves, whoever has asked it for the address of its memory still has the old one. Who that can be:
 *
 * - Memory that torch did not allocate (from_numpy, frombuffer, from_dlpack, from_file) is somebody else's, and memory
 *   that torch has shared or pinned is used by other processes, a file or a GPU. None of it moves.
 * - A NumPy array over a tensor, and what is made of it. torch marks the storage when it makes the first one, for good:
 *   it is no longer "resizable", as memory that is not torch's own is not. It does not move.
 * - Another library, by DLPack. It holds the tensor in C++, as views hold the tensor that they are views of. More holders
 *   than there can be views mean that it does not move. Where it got another tensor over the same memory, a view or an
 *   alias such as `detach` gives, that cannot be told: it goes on with the old memory.
 * - Another thread that computes. It has the old address until its operation has ended, and nothing says when that is.
 *   Some operations hold their tensors in C++, and are found like DLPack.
 *
 * So the old memory stays allocated until the storage has ended: that is after all operations on it, and after
 * all that holds a tensor of it, as NumPy and DLPack do. It is let go of at once only where there is no other tensor over it
 * and all other threads wait for something to do (pyisolate/_rpc/tensor_threads.py).
 *
 * What does not move is copied each time it is sent. One warning for each storage says so. */
#include "tensors.h"

#define LITTLE (64u << 10) /* bytes that are kept without asking */

static const char text_end[] =
    ", so it is sent as a copy: neither side sees what the other writes. Send a clone() of it, "
    "which can be moved, or make it with pyisolate.empty()";

static const char *const reasons[] = {
    "", "its memory is not torch's alone: it is also that of a NumPy array, a buffer, a file or another library",
    "torch has shared its memory with other processes or a file", "its memory is pinned",
    ("something besides Python holds it: another library by DLPack, autograd for a backward pass, or an operation that "
     "another thread is in")};
enum { FOREIGN = 1, SHARED, PINNED, HELD, RECEIVED };

/* ask: what a method without arguments says: 1, 0, -1. */
static int ask(PyObject *object, PyObject *method) {
    PyObject *answer = PyObject_CallMethodNoArgs(object, method);
    int r = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return r;
}

static long count(PyObject *answer) {
    long number = answer ? PyLong_AsLong(answer) : -1;
    Py_XDECREF(answer);
    return number;
}

long core_tensor_holders(core_torch_state *t, PyObject *tensor) {
    return count(PyObject_CallMethodNoArgs(tensor, t->tensor_use_count));
}

long core_storage_holders(core_torch_state *t, PyObject *storage) {
    PyObject *address = t->use_count ? PyObject_GetAttr(storage, t->cdata) : NULL;
    long holders = address ? count(PyObject_CallOneArg(t->use_count, address)) : -1;
    Py_XDECREF(address);
    return holders;
}

bool core_may_be_in_use(core_state *state, PyObject *tensor, PyObject *storage, size_t size) {
    if (size < LITTLE || !state->other_threads_idle)
        return true;
    bool alone = core_storage_holders(state->torch, storage) <= 2 && core_tensor_holders(state->torch, tensor) == 1;
    PyObject *wait = alone ? PyObject_CallNoArgs(state->other_threads_idle) : NULL;
    bool may_be = wait != Py_True;
    Py_XDECREF(wait);
    PyErr_Clear(); /* out of memory, or another version of torch: it is not known */
    return may_be;
}

/* obstacle_of: why it stays where it is; 0; or -1. */
static int obstacle_of(core_torch_state *t, PyObject *tensor, PyObject *storage) {
    int shared = ask(storage, t->is_shared), pinned = shared == 0 ? ask(tensor, t->is_pinned) : 0;
    if (shared != 0 || pinned != 0)
        return shared < 0 || pinned < 0 ? -1 : shared ? SHARED : PINNED;
    /* from here on no other thread runs: what is asked is C, and so is what then moves the storage */
    int own = ask(storage, t->resizable);
    if (own <= 0)
        return own < 0 ? -1 : FOREIGN;
    int is_view = ask(tensor, t->is_view);
    long others = is_view ? 0 : core_storage_holders(t, storage) - 2; /* views: not this, nor the storage's object */
    long holders = core_tensor_holders(t, tensor) - 1;                /* not its own object */
    return PyErr_Occurred() ? -1 : holders > others ? HELD : 0;
}

int core_storage_obstacle(core_torch_state *t, PyObject *tensor, PyObject *storage) {
    return PyObject_HasAttr(storage, t->buffer_ref_attribute) ? RECEIVED : obstacle_of(t, tensor, storage);
}

void core_storage_warn(core_torch_state *t, PyObject *storage, int obstacle) {
    /* once for a storage; not of one that came as a copy */
    if (obstacle != RECEIVED && !PyObject_HasAttr(storage, t->warned_attribute) &&
        PyObject_SetAttr(storage, t->warned_attribute, Py_True) == 0)
        PyErr_WarnFormat(PyExc_UserWarning, 1, "a tensor cannot be shared: %s%s", reasons[obstacle], text_end);
}
