/* errors.c - the exception classes of the package, and the exception for each code of piso.h. See errors.h. */
#include "errors.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "printable.h"

#define SHOWN  4096 /* characters of stderr in a message */
#define BEFORE 512  /* of these, at most so many from before a crash */

/* make_class: creates a class of the package and adds it to the module. Steals `bases`. */
static int make_class(PyObject *module, const char *name, const char *doc, PyObject *bases, PyObject **field) {
    if (!bases)
        return -1;
    char qualified[64];
    PyOS_snprintf(qualified, sizeof qualified, "pyisolate.%s", name);
    *field = PyErr_NewExceptionWithDoc(qualified, doc, bases, NULL);
    Py_DECREF(bases);
    return *field ? PyModule_AddObjectRef(module, name, *field) : -1;
}

/* timeout_bases: up to Python 3.10 asyncio has its own TimeoutError, which callers may catch. */
static PyObject *timeout_bases(core_state *state) {
#if PY_VERSION_HEX < 0x030b0000
    PyObject *asyncio = PyImport_ImportModule("asyncio.exceptions");
    PyObject *theirs = asyncio ? PyObject_GetAttrString(asyncio, "TimeoutError") : NULL;
    PyObject *bases = theirs ? PyTuple_Pack(3, state->error, theirs, PyExc_TimeoutError) : NULL;
    Py_XDECREF(asyncio);
    Py_XDECREF(theirs);
    return bases;
#else
    return PyTuple_Pack(2, state->error, PyExc_TimeoutError);
#endif
}

int core_errors_init(PyObject *module, core_state *s) {
    if (make_class(module, "PyIsolateError", "Base class of the errors of this package.",
                   PyTuple_Pack(1, PyExc_Exception), &s->error) < 0)
        return -1;
    if (make_class(module, "RemoteError",
                   "An exception whose class is not registered in this process was raised in the peer's process.\n\n"
                   "It is an instance of a subclass that has that class's name; type_name is its module "
                   "and qualified name.",
                   PyTuple_Pack(1, s->error), &s->remote_error) < 0)
        return -1;
    if (make_class(module, "ExtensionDied",
                   "The peer's process has ended.\n\nAttributes: name, pid, returncode (minus the signal's "
                   "number; None: unknown), signal (its name or None), stderr (the last lines).",
                   PyTuple_Pack(2, s->error, PyExc_ConnectionError), &s->extension_died) < 0)
        return -1;
    if (make_class(module, "ExtensionHung", "The process did not answer its watchdog in time and was ended.",
                   PyTuple_Pack(1, s->extension_died), &s->extension_hung) < 0)
        return -1;
    if (make_class(module, "ExtensionStopped", "The extension was stopped by this process.", PyTuple_Pack(1, s->error),
                   &s->extension_stopped) < 0)
        return -1;
    if (make_class(module, "ProtocolError", "The peer sent a malformed message.", PyTuple_Pack(1, s->error),
                   &s->protocol_error) < 0)
        return -1;
    if (make_class(module, "ForkedProcessError", "A session was used in a process that was forked from its owner.",
                   PyTuple_Pack(2, s->error, PyExc_RuntimeError), &s->forked_error) < 0)
        return -1;
    if (make_class(module, "SandboxError",
                   "An extension cannot be confined here as its configuration asks; the message says what is missing.",
                   PyTuple_Pack(1, s->error), &s->sandbox_error) < 0)
        return -1;
    return make_class(module, "CallTimeout", "A call did not finish within its timeout.", timeout_bases(s),
                      &s->call_timeout);
}

int core_errors_visit(core_state *s, visitproc visit, void *arg) {
    Py_VISIT(s->error);
    Py_VISIT(s->remote_error);
    Py_VISIT(s->extension_died);
    Py_VISIT(s->extension_hung);
    Py_VISIT(s->extension_stopped);
    Py_VISIT(s->protocol_error);
    Py_VISIT(s->forked_error);
    Py_VISIT(s->sandbox_error);
    Py_VISIT(s->call_timeout);
    return 0;
}

void core_errors_clear(core_state *s) {
    Py_CLEAR(s->error);
    Py_CLEAR(s->remote_error);
    Py_CLEAR(s->extension_died);
    Py_CLEAR(s->extension_hung);
    Py_CLEAR(s->extension_stopped);
    Py_CLEAR(s->protocol_error);
    Py_CLEAR(s->forked_error);
    Py_CLEAR(s->sandbox_error);
    Py_CLEAR(s->call_timeout);
}

static PyObject *raise_errno(int number, const char *what) {
    PyObject *error = PyObject_CallFunction(PyExc_OSError, "iN", number,
                                            PyUnicode_FromFormat("%s: %s", what, piso_strerror(-number)));
    if (error)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    return NULL;
}

/* raise_limit: raises OSError for a resource of which this process has no more. */
static PyObject *raise_limit(int number, const char *what) {
    struct rlimit limit = {.rlim_cur = 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    PyObject *text;
    if (number == ENOBUFS)
        text = PyUnicode_FromFormat(
            "%s: process %d has reached its limit of shared tensors and arrays: %u, half of its "
            "mappings (vm.max_map_count), and half of these from one peer. Keep fewer, combine several "
            "into one, or send copies (without share_torch and share_numpy)",
            what, (int)getpid(), (unsigned)piso_segment_limit());
    else
        text = PyUnicode_FromFormat(
            "%s: process %d may have %llu file descriptors (ulimit -n; at most %llu), and each shared "
            "tensor or array takes one in the process that created it and in a host. Raise the limit, keep "
            "fewer, combine several into one, or send copies (without share_torch and share_numpy)",
            what, (int)getpid(), (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
    PyObject *error = text ? PyObject_CallFunction(PyExc_OSError, "iO", number, text) : NULL;
    if (error)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    Py_XDECREF(text);
    return NULL;
}

PyObject *core_raise(core_state *s, int error, const char *what) {
    switch (error) {
    case -EMFILE:
    case -ENFILE:
    case -ENOBUFS:
        return raise_limit(-error, what);
    case -EBADF:
        return PyErr_Format(PyExc_ValueError,
                            "%s: it holds a tensor or an array that the host shares with this process, which can be "
                            "sent to the host only; send a copy (tensor.clone(), array.copy())",
                            what);
    case PISO_EPROTO:
        return PyErr_Format(s->protocol_error, "%s: the peer sent a malformed message and was disconnected", what);
    case PISO_EOLDER:
        return PyErr_Format(s->protocol_error,
                            "%s: it uses an older version of the wire protocol; update PyIsolate there", what);
    case PISO_ENEWER:
        return PyErr_Format(s->protocol_error,
                            "%s: it uses a newer version of the wire protocol; update PyIsolate here", what);
    case PISO_EDIED:
        return core_raise_died(s, &(core_death){.name = what, .tail = ""});
    case PISO_ECLOSED:
        return PyErr_Format(s->extension_stopped, "%s has been stopped; load it again to use it", what);
    case PISO_EFORKED:
        return PyErr_Format(s->forked_error,
                            "%s belongs to the process that forked this one; load extensions after the fork", what);
    case PISO_ESANDBOX:
        return PyErr_Format(s->sandbox_error, "%s could not be confined", what);
    case PISO_EDEPTH:
        return PyErr_Format(PyExc_ValueError, "%s: values are nested deeper than %d levels", what, PISO_MAX_DEPTH);
    case -ENOMEM:
        return PyErr_Format(PyExc_MemoryError, "%s: out of memory or of shared memory", what);
    case -EDQUOT:
        return PyErr_Format(PyExc_MemoryError,
                            "%s: the extension has reached its limit of shared memory ('shared_memory' in its limits)",
                            what);
    case -EMSGSIZE:
        return PyErr_Format(PyExc_ValueError, "%s: too large for one message (4 GiB of text, %d buffers)", what,
                            PISO_MAX_SPANS);
    default:
        return raise_errno(-error, what);
    }
}

static PyObject *none_or(PyObject *value) {
    return value ? value : Py_NewRef(Py_None);
}

/* signal_name: returns a name like "SIGSEGV", from Python's signal module, because not every C library has names. */
static PyObject *signal_name(int number) {
    PyObject *module = PyImport_ImportModule("signal");
    PyObject *member = module ? PyObject_CallMethod(module, "Signals", "i", number) : NULL;
    PyObject *name = member ? PyObject_GetAttrString(member, "name") : NULL;
    Py_XDECREF(member);
    Py_XDECREF(module);
    PyErr_Clear(); /* a signal without a name */
    return name ? name : PyUnicode_FromFormat("signal %d", number);
}

static PyObject *describe_memory(PyObject *who, unsigned long long limit) {
    bool small = limit < 10ull << 20;
    return PyUnicode_FromFormat("%U was killed: its memory control group's limit of %llu %s (limits['memory'], "
                                "'shared_memory' and 'temp_size' together) was reached; raise limits['memory'] under "
                                "'sandbox' in its configuration if it needs more",
                                who, small ? limit : limit >> 20, small ? "bytes" : "MB");
}

/* describe: describes how the process ended. */
static PyObject *describe(const core_death *d, PyObject *signal) {
    PyObject *who = d->pid ? PyUnicode_FromFormat("extension '%s' (process %d)", d->name, d->pid)
                           : PyUnicode_FromFormat("'%s'", d->name);
    PyObject *text = NULL;
    if (!who)
        return NULL;
    if (d->hung)
        text = PyUnicode_FromFormat("%U did not answer and was ended", who);
    else if (d->memory_exceeded)
        text = describe_memory(who, (unsigned long long)d->memory_exceeded);
    else if (!d->status || !d->status->known)
        text = PyUnicode_FromFormat("%U has ended", who);
    else if (d->status->signal == SIGXCPU)
        text = PyUnicode_FromFormat("%U used up its limit of processor time (SIGXCPU)", who);
    else if (d->status->signal == SIGXFSZ)
        text = PyUnicode_FromFormat("%U reached its limit of the size of a file (SIGXFSZ)", who);
    else if (signal)
        text = PyUnicode_FromFormat("%U was killed by %U", who, signal);
    else
        text = PyUnicode_FromFormat("%U exited with status %d", who, d->status->code);
    Py_DECREF(who);
    if (text && d->note)
        Py_SETREF(text, PyUnicode_FromFormat("%U; %U", text, d->note));
    return text;
}

/* set: sets an attribute of the error; steals `value`. */
static int set(PyObject *error, const char *name, PyObject *value) {
    int r = value ? PyObject_SetAttrString(error, name, value) : -1;
    Py_XDECREF(value);
    return r;
}

/* fill: sets the attributes of the error. */
static int fill(PyObject *error, const core_death *d, PyObject *signal, PyObject *words) {
    bool known = d->status && d->status->known;
    PyObject *code =
        known ? PyLong_FromLong(d->status->signal ? -d->status->signal : d->status->code) : Py_NewRef(Py_None);
    if (set(error, "returncode", code) < 0 || set(error, "name", PyUnicode_FromString(d->name)) < 0)
        return -1;
    if (set(error, "pid", none_or(d->pid ? PyLong_FromLong(d->pid) : NULL)) < 0)
        return -1;
    if (set(error, "signal", none_or(Py_XNewRef(signal))) < 0)
        return -1;
    return set(error, "stderr", Py_NewRef(words));
}

/* excerpt: returns the part of stderr that a message shows. For a crash that faulthandler has reported: the beginning
 * of the report, which has the innermost frames, and what was written just before it; otherwise the end. */
static PyObject *excerpt(PyObject *words) {
    PyObject *crash = PyUnicode_FromString("Fatal Python error: ");
    Py_ssize_t length = PyUnicode_GET_LENGTH(words), at = -1;
    if (crash)
        at = PyUnicode_Find(words, crash, 0, length, -1);
    if (!crash || at == -2) {
        Py_XDECREF(crash);
        return NULL;
    }
    Py_DECREF(crash);
    Py_ssize_t before = at >= 0 ? at - BEFORE : length - SHOWN, start = before > 0 ? before : 0;
    Py_ssize_t newline = start > 0 ? PyUnicode_FindChar(words, '\n', start, length, 1) : -1;
    if (newline >= 0 && newline + 1 < length)
        start = newline + 1; /* begin with a whole line */
    PyObject *part = PyUnicode_Substring(words, start, start + SHOWN),
             *clean = part ? core_printable(part, true) : NULL;
    Py_XDECREF(part);
    return clean;
}

PyObject *core_raise_died(core_state *s, const core_death *d) {
    PyObject *class = d->hung ? s->extension_hung : s->extension_died;
    PyObject *signal = d->status && d->status->signal ? signal_name(d->status->signal) : NULL;
    PyObject *text = describe(d, signal);
    PyObject *words = PyUnicode_DecodeUTF8(d->tail, (Py_ssize_t)d->tail_size, "replace");
    PyObject *message = NULL, *error = NULL, *clean = words && d->tail_size ? excerpt(words) : NULL;
    if (text && clean)
        message = PyUnicode_FromFormat("%U; the last it wrote to stderr:\n%U", text, clean);
    else if (text && words && !d->tail_size)
        message = Py_NewRef(text);
    if (message)
        error = PyObject_CallOneArg(class, message);
    if (error && fill(error, d, signal, words) == 0)
        PyErr_SetObject(class, error);
    Py_XDECREF(signal);
    Py_XDECREF(text);
    Py_XDECREF(words);
    Py_XDECREF(clean);
    Py_XDECREF(message);
    Py_XDECREF(error);
    return NULL;
}

PyObject *core_fetch_exception(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}
