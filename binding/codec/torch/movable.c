/* movable.c - which storages may be moved into shared memory, and what happens to their previous memory.
 *
 * When a storage moves, everything that has taken the address of its memory still uses the old one:
 *
 * - Memory that torch did not allocate (from_numpy, frombuffer, from_dlpack, from_file) belongs to another object;
 *   memory that torch has shared or pinned is used by other processes, a file or a GPU. Such storages do not move.
 * - A NumPy array over a tensor, and arrays derived from it. torch marks the storage permanently when it creates the
 *   first one: it is no longer "resizable", and neither is memory that torch does not own. Such storages do not move.
 * - Another library, through DLPack. It holds the tensor in C++, as views hold their base tensor. If there are more
 *   holders than there can be views, the storage does not move. A library that holds another tensor over the same
 *   memory, such as a view or the result of `detach`, cannot be detected: it continues to use the old memory.
 * - Another thread that computes. It uses the old address until its operation ends, and nothing reports when that is.
 *   Some operations hold their tensors in C++, and are detected like DLPack.
 *
 * Therefore the old memory stays allocated until the storage is freed. That is after all operations on it, and after
 * everything that holds a tensor of it, as NumPy and DLPack do. It is freed at once only where no other tensor uses it
 * and all other threads are idle (pyisolate/_rpc/tensor_threads.py).
 *
 * A storage that does not move is copied each time it is sent. One warning is issued for each such storage. */
#include "tensors.h"

#define LITTLE (64u << 10) /* bytes that are kept without checking */

static const char text_end[] =
    ", so it is sent as a copy: neither process sees what the other writes. Send a clone() of it, "
    "which can be moved, or create it with pyisolate.empty()";

static const char *const reasons[] = {
    "", "torch does not own its memory alone: a NumPy array, a buffer, a file or another library uses it too",
    "torch has shared its memory with other processes or a file", "its memory is pinned",
    ("something other than Python holds it: another library through DLPack, autograd for a backward pass, or an "
     "operation in another thread")};
enum { FOREIGN = 1, SHARED, PINNED, HELD, RECEIVED };

/* ask: returns the result of a method without arguments: 1, 0, -1. */
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
    PyErr_Clear(); /* out of memory, or another version of torch: unknown */
    return may_be;
}

/* obstacle_of: returns the reason why it does not move; 0; or -1. */
static int obstacle_of(core_torch_state *t, PyObject *tensor, PyObject *storage) {
    int shared = ask(storage, t->is_shared), pinned = shared == 0 ? ask(tensor, t->is_pinned) : 0;
    if (shared != 0 || pinned != 0)
        return shared < 0 || pinned < 0 ? -1 : shared ? SHARED : PINNED;
    /* no other thread runs from here on: the checks are C code, and so is the move that follows */
    int own = ask(storage, t->resizable);
    if (own <= 0)
        return own < 0 ? -1 : FOREIGN;
    int is_view = ask(tensor, t->is_view);
    long others =
        is_view ? 0 : core_storage_holders(t, storage) - 2; /* views: not this one, nor the storage's object */
    long holders = core_tensor_holders(t, tensor) - 1;      /* without its own object */
    return PyErr_Occurred() ? -1 : holders > others ? HELD : 0;
}

int core_storage_obstacle(core_torch_state *t, PyObject *tensor, PyObject *storage) {
    return PyObject_HasAttr(storage, t->buffer_ref_attribute) ? RECEIVED : obstacle_of(t, tensor, storage);
}

void core_storage_warn(core_torch_state *t, PyObject *storage, int obstacle) {
    /* once for each storage; not for one that was received as a copy */
    if (obstacle != RECEIVED && !PyObject_HasAttr(storage, t->warned_attribute) &&
        PyObject_SetAttr(storage, t->warned_attribute, Py_True) == 0)
        PyErr_WarnFormat(PyExc_UserWarning, 1, "a tensor cannot be shared: %s%s", reasons[obstacle], text_end);
}
