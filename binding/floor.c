/* floor.c - _poll_echo and _poll_rounds measure one round trip between two processes that both poll the same cache line
 * and do nothing else. No call can be faster, so benchmarks show every figure as a multiple of it, measured in the same
 * run.
 *
 * The line holds one number. The asking process writes an odd one, the echo answers with the next even one. Both give
 * up after a while without an answer, so a process whose peer has died does not poll for ever.
 *
 * The stores are releases and the loads are acquires, as in a real channel, where the number announces that the data
 * written before it is complete. */
#include "floor.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_SIZE       64
#define STOP            UINT64_MAX
#define PATIENCE_NS     INT64_C(10000000000) /* covers the start of the other process */
#define POLLS_PER_CLOCK 4096 /* the clock is read this rarely, so that it does not disturb the polling */

typedef _Atomic uint64_t cache_line;

/* map_line: maps the start of the file, shared and writable; NULL with an exception. The first access to a file that is
 * too short would be a bus error. */
static cache_line *map_line(int fd) {
    struct stat status;
    if (fstat(fd, &status) < 0)
        return PyErr_SetFromErrno(PyExc_OSError), NULL;
    if (status.st_size < LINE_SIZE) {
        PyErr_SetString(PyExc_ValueError, "the file must hold at least one cache line");
        return NULL;
    }
    void *line = mmap(NULL, LINE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return line == MAP_FAILED ? (PyErr_SetFromErrno(PyExc_OSError), NULL) : line;
}

/* poll_until_not: returns the first value other than `old`, or `old` after PATIENCE_NS. */
static uint64_t poll_until_not(cache_line *line, uint64_t old) {
    int64_t end = 0;
    for (unsigned polls = 1;; polls++) {
        uint64_t value = atomic_load_explicit(line, memory_order_acquire);
        if (value != old)
            return value;
        if (polls % POLLS_PER_CLOCK)
            continue;
        int64_t now = piso_now_ns();
        if (end == 0)
            end = now + PATIENCE_NS;
        else if (now >= end)
            return old;
    }
}

static int echo(cache_line *line) {
    for (uint64_t answered = 0;;) {
        uint64_t value = poll_until_not(line, answered);
        if (value == STOP)
            return 0;
        if (value == answered)
            return -ETIMEDOUT;
        answered = value + 1;
        atomic_store_explicit(line, answered, memory_order_release);
    }
}

static int ask(cache_line *line, uint64_t round) {
    uint64_t question = 2 * round + 1;
    atomic_store_explicit(line, question, memory_order_release);
    return poll_until_not(line, question) == question + 1 ? 0 : -ETIMEDOUT;
}

/* ask_batches: sets ret_batch_ns[count] to the time of each batch; the first round, before them, waits for the echo to
 * start. */
static int ask_batches(cache_line *line, Py_ssize_t count, Py_ssize_t batch, int64_t *ret_batch_ns) {
    uint64_t round = 0;
    int r = ask(line, round++);
    int64_t start = piso_now_ns();
    for (Py_ssize_t i = 0; r == 0 && i < count; i++) {
        for (Py_ssize_t j = 0; r == 0 && j < batch; j++)
            r = ask(line, round++);
        int64_t now = piso_now_ns();
        ret_batch_ns[i] = now - start;
        start = now;
    }
    atomic_store_explicit(line, STOP, memory_order_release);
    return r;
}

static PyObject *timed_out(void) {
    PyErr_SetString(PyExc_TimeoutError, "the other process does not answer");
    return NULL;
}

static PyObject *poll_echo(PyObject *Py_UNUSED(module), PyObject *arg) {
    int fd = PyObject_AsFileDescriptor(arg), r;
    cache_line *line = fd < 0 ? NULL : map_line(fd);
    if (!line)
        return NULL;
    Py_BEGIN_ALLOW_THREADS r = echo(line);
    Py_END_ALLOW_THREADS munmap((void *)line, LINE_SIZE);
    return r < 0 ? timed_out() : Py_NewRef(Py_None);
}

static PyObject *per_round(const int64_t *batch_ns, Py_ssize_t count, Py_ssize_t batch) {
    PyObject *result = PyList_New(count);
    for (Py_ssize_t i = 0; result && i < count; i++) {
        PyObject *value = PyFloat_FromDouble((double)batch_ns[i] / (double)batch);
        if (value)
            PyList_SET_ITEM(result, i, value);
        else
            Py_CLEAR(result);
    }
    return result;
}

static PyObject *poll_rounds(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_ssize_t count, batch;
    int fd, r;
    if (!PyArg_ParseTuple(args, "inn:_poll_rounds", &fd, &count, &batch))
        return NULL;
    if (count < 1 || batch < 1)
        return PyErr_Format(PyExc_ValueError, "count and batch must be positive");
    int64_t *batch_ns = PyMem_New(int64_t, count);
    if (!batch_ns)
        return PyErr_NoMemory();
    PyObject *result = NULL;
    cache_line *line = map_line(fd);
    if (line) {
        Py_BEGIN_ALLOW_THREADS r = ask_batches(line, count, batch, batch_ns);
        Py_END_ALLOW_THREADS munmap((void *)line, LINE_SIZE);
        result = r < 0 ? timed_out() : per_round(batch_ns, count, batch);
    }
    PyMem_Free(batch_ns);
    return result;
}

static PyMethodDef floor_methods[] = {
    {"_poll_echo", poll_echo, METH_O,
     "_poll_echo(fd) -> None\n\nAnswer `_poll_rounds` of another process, on the same file, until it is done."},
    {"_poll_rounds", poll_rounds, METH_VARARGS,
     "_poll_rounds(fd, count, batch) -> list[float]\n\n"
     "Return the nanoseconds of one round trip, averaged over each of `count` batches of `batch` round trips."},
    {NULL, NULL, 0, NULL},
};

int core_floor_init(PyObject *module, core_state *Py_UNUSED(state)) {
    return PyModule_AddFunctions(module, floor_methods);
}
