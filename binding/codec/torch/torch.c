/* torch.c - see torch.h. */
#include "torch.h"

#include <string.h>

static const core_torch_dtype dtypes[CORE_TORCH_DTYPES] = {
    {.name = "float32", .dlpack = {2, 32, 1}, .itemsize = 4},
    {.name = "float64", .dlpack = {2, 64, 1}, .itemsize = 8},
    {.name = "float16", .dlpack = {2, 16, 1}, .itemsize = 2},
    {.name = "bfloat16", .dlpack = {4, 16, 1}, .itemsize = 2},
    {.name = "uint8", .dlpack = {1, 8, 1}, .itemsize = 1},
    {.name = "int8", .dlpack = {0, 8, 1}, .itemsize = 1},
    {.name = "int16", .dlpack = {0, 16, 1}, .itemsize = 2},
    {.name = "int32", .dlpack = {0, 32, 1}, .itemsize = 4},
    {.name = "int64", .dlpack = {0, 64, 1}, .itemsize = 8},
    {.name = "bool", .dlpack = {6, 8, 1}, .itemsize = 1},
    {.name = "complex32", .dlpack = {5, 32, 1}, .itemsize = 4},
    {.name = "complex64", .dlpack = {5, 64, 1}, .itemsize = 8},
    {.name = "complex128", .dlpack = {5, 128, 1}, .itemsize = 16},
    {.name = "uint16", .dlpack = {1, 16, 1}, .itemsize = 2},
    {.name = "uint32", .dlpack = {1, 32, 1}, .itemsize = 4},
    {.name = "uint64", .dlpack = {1, 64, 1}, .itemsize = 8},
    {.name = "float8_e4m3fn", .dlpack = {10, 8, 1}, .itemsize = 1},
    {.name = "float8_e4m3fnuz", .dlpack = {11, 8, 1}, .itemsize = 1},
    {.name = "float8_e5m2", .dlpack = {12, 8, 1}, .itemsize = 1},
    {.name = "float8_e5m2fnuz", .dlpack = {13, 8, 1}, .itemsize = 1},
    {.name = "float8_e8m0fnu", .dlpack = {14, 8, 1}, .itemsize = 1},
    {.name = "float4_e2m1fn_x2", .dlpack = {0, 0, 1}, .itemsize = 1},
};

typedef struct named {
    PyObject **field;
    const char *name;
} named;

static int intern_all(core_torch_state *t) {
    const named names[] = {
        {&t->shares_attribute, "_pyisolate_shared"},
        {&t->buffer_ref_attribute, "_pyisolate_lease"},
        {&t->warned_attribute, "_pyisolate_copied"},
        {&t->moving_attribute, "_pyisolate_moving"},
        {&t->untyped_storage, "untyped_storage"},
        {&t->data_ptr, "data_ptr"},
        {&t->dtype, "dtype"},
        {&t->shape, "shape"},
        {&t->stride, "stride"},
        {&t->storage_offset, "storage_offset"},
        {&t->requires_grad, "requires_grad"},
        {&t->requires_grad_set, "requires_grad_"},
        {&t->is_conj, "is_conj"},
        {&t->is_neg, "is_neg"},
        {&t->is_cpu, "is_cpu"},
        {&t->is_cuda, "is_cuda"},
        {&t->is_leaf, "is_leaf"},
        {&t->layout, "layout"},
        {&t->detach, "detach"},
        {&t->data, "data"},
        {&t->set, "set_"},
        {&t->nbytes, "nbytes"},
        {&t->conj, "conj"},
        {&t->neg_view, "_neg_view"},
        {&t->is_shared, "is_shared"},
        {&t->share_fd, "_share_fd_cpu_"},
        {&t->is_pinned, "is_pinned"},
        {&t->resizable, "resizable"},
        {&t->is_view, "_is_view"},
        {&t->tensor_use_count, "_use_count"},
        {&t->cdata, "_cdata"},
        {&t->copy, "copy_"},
        {&t->version, "_version"},
        {&t->swap, "_swap_data_ptr_"},
        {&t->frombuffer, "frombuffer"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!*names[i].field && !(*names[i].field = PyUnicode_InternFromString(names[i].name)))
            return -1;
    return 0;
}

/* find_dtypes: looks up the dtypes of this version. */
static void find_dtypes(core_torch_state *t) {
    for (int i = 0; i < CORE_TORCH_DTYPES; i++) {
        core_torch_dtype *dtype = &t->dtypes[i];
        if (!dtype->name)
            *dtype = dtypes[i];
        if (!dtype->object && !(dtype->object = PyObject_GetAttrString(t->module, dtype->name)))
            PyErr_Clear(); /* not in this version */
    }
}

/* find_exchange: looks up the C functions that torch.Tensor offers, in versions that do. */
static void find_exchange(core_torch_state *t) {
    PyObject *capsule = PyObject_GetAttrString(t->tensor, "__dlpack_c_exchange_api__");
    const core_dlpack_exchange *exchange = capsule ? PyCapsule_GetPointer(capsule, "dlpack_exchange_api") : NULL;
    if (exchange && exchange->major == CORE_DLPACK_MAJOR && exchange->tensor_from_object)
        t->exchange = exchange; /* it belongs to the class, which lives as long as the module */
    Py_XDECREF(capsule);
    PyErr_Clear(); /* versions before 2.10 have none */
}

static int look_up(core_torch_state *t) {
    const named classes[] = {{&t->storage, "UntypedStorage"}, {&t->strided, "strided"}, {&t->tensor, "Tensor"}};
    if (intern_all(t) < 0)
        return -1;
    if (!t->blanks && !(t->blanks = PyDict_New()))
        return -1;
    find_dtypes(t);
    PyObject *nn = PyObject_GetAttrString(t->module, "nn");
    Py_XSETREF(t->parameter, nn ? PyObject_GetAttrString(nn, "Parameter") : NULL);
    Py_XDECREF(nn);
    if (!t->parameter)
        return -1;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (!*classes[i].field && !(*classes[i].field = PyObject_GetAttrString(t->module, classes[i].name)))
            return -1;
    find_exchange(t);
    PyObject *probe = PyObject_CallMethod(t->module, "empty", "i", 0);
    PyObject *storage = probe ? PyObject_CallMethodNoArgs(probe, t->untyped_storage) : NULL;
    if (!storage)
        return -1;
    t->storage_references = Py_REFCNT(storage); /* in some versions torch itself holds one */
    Py_DECREF(storage);
    Py_DECREF(probe);
    PyObject *internals = PyObject_GetAttrString(t->module, "_C");
    Py_XSETREF(t->use_count, internals ? PyObject_GetAttrString(internals, "_storage_Use_Count") : NULL);
    Py_XDECREF(internals);
    PyErr_Clear(); /* before 2.1: received tensors are always copied back */
    return 0;
}

int core_torch_load(core_state *state, bool import) {
    if (state->torch)
        return 1;
    PyObject *module =
        import ? PyImport_ImportModule("torch") : Py_XNewRef(PyDict_GetItemString(PyImport_GetModuleDict(), "torch"));
    if (!module)
        return import ? -1 : 0;
    core_torch_state *t = PyMem_Calloc(1, sizeof *t);
    if (!t) {
        Py_DECREF(module);
        PyErr_NoMemory();
        return -1;
    }
    t->module = module;
    int r = look_up(t);
    if (r == 0 && !state->torch) { /* otherwise another thread was faster */
        state->torch = t;
        return 1;
    }
    core_torch_delete(t);
    if (r == 0)
        return 1;
    if (import)
        return -1;
    PyErr_Clear(); /* torch is being imported, or is another module of that name */
    return 0;
}

int core_torch_needed(core_decoder *d) {
    if (core_torch_load(d->codec->state, true) >= 0)
        return 0;
    if (PyErr_ExceptionMatches(PyExc_ImportError)) {
        PyErr_Clear(); /* replaced by an error that says why it is needed */
        PyErr_SetString(PyExc_ImportError, "the peer sent a tensor, or another value of torch, but torch is "
                                           "not installed here; add it to the dependencies, or set share_torch");
    }
    return -1;
}

void core_torch_forget(core_torch_state *t) {
    if (!t)
        return;
    for (PyObject **field = &t->module; field != (PyObject **)(t + 1); field++)
        Py_CLEAR(*field);
    t->values_known = false;
    for (int i = 0; i < CORE_TORCH_DTYPES; i++) {
        Py_CLEAR(t->dtypes[i].object);
        Py_CLEAR(t->dtypes[i].blank);
    }
}

void core_torch_delete(core_torch_state *t) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    core_torch_forget(t);
    PyMem_Free(t);
    PyErr_Restore(type, value, traceback);
}

core_torch_dtype *core_torch_dtype_of(core_torch_state *t, PyObject *tensor) {
    PyObject *object = PyObject_GetAttr(tensor, t->dtype);
    if (!object)
        return NULL;
    Py_DECREF(object); /* torch's are immortal */
    for (int i = 0; i < CORE_TORCH_DTYPES; i++)
        if (t->dtypes[i].object == object)
            return &t->dtypes[i];
    return NULL;
}

core_torch_dtype *core_torch_dtype_named(core_torch_state *t, const char *name, size_t size) {
    for (int i = 0; i < CORE_TORCH_DTYPES; i++)
        if (strlen(t->dtypes[i].name) == size && memcmp(t->dtypes[i].name, name, size) == 0)
            return t->dtypes[i].object ? &t->dtypes[i] : NULL;
    return NULL;
}

/* new_blank: returns an empty tensor; a normal one even inside torch.inference_mode, because it outlives that. */
static PyObject *new_blank(core_torch_state *t, const core_torch_dtype *dtype) {
    PyObject *mode = PyObject_CallMethod(t->module, "inference_mode", "O", Py_False);
    PyObject *entered = mode ? PyObject_CallMethod(mode, "__enter__", NULL) : NULL, *blank = NULL;
    if (entered) {
        PyObject *empty = PyObject_GetAttrString(t->module, "empty");
        PyObject *args = empty ? Py_BuildValue("(i)", 0) : NULL;
        PyObject *options = args ? Py_BuildValue("{s:O,s:s}", "dtype", dtype->object, "device", "cpu") : NULL;
        blank = options ? PyObject_Call(empty, args, options) : NULL;
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        Py_XDECREF(PyObject_CallMethod(mode, "__exit__", "OOO", Py_None, Py_None, Py_None));
        PyErr_Restore(type, value, traceback);
        Py_XDECREF(empty);
        Py_XDECREF(args);
        Py_XDECREF(options);
    }
    Py_XDECREF(mode);
    Py_XDECREF(entered);
    return blank;
}

PyObject *core_torch_fresh(core_torch_state *t, PyObject *blank) {
    return PyObject_GetAttr(blank, t->data);
}

PyObject *core_torch_over(core_torch_state *t, PyObject *storage, core_torch_dtype *dtype, PyObject *offset,
                          PyObject *shape, PyObject *strides) {
    if (!dtype->blank)
        dtype->blank = new_blank(t, dtype);
    PyObject *tensor = dtype->blank ? core_torch_fresh(t, dtype->blank) : NULL;
    if (!tensor)
        return NULL;
    PyObject *args[] = {tensor, storage, offset, shape, strides};
    PyObject *result = PyObject_VectorcallMethod(t->set, args, 5 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (!result)
        Py_CLEAR(tensor);
    Py_XDECREF(result);
    return tensor;
}

PyObject *core_torch_buffer(core_torch_state *t, PyObject *owner, PyObject *device) {
    const core_torch_dtype *bytes = core_torch_dtype_named(t, "uint8", strlen("uint8"));
    PyObject *function = PyObject_GetAttr(t->module, t->frombuffer), *flat = NULL, *storage = NULL;
    PyObject *args = function ? PyTuple_Pack(1, owner) : NULL;
    PyObject *options = args ? Py_BuildValue("{s:O}", "dtype", bytes->object) : NULL;
    if (options)
        flat = PyObject_Call(function, args, options);
    if (flat && device)
        Py_SETREF(flat, PyObject_CallMethod(flat, "to", "O", device));
    if (flat)
        storage = PyObject_CallMethodNoArgs(flat, t->untyped_storage);
    Py_XDECREF(function);
    Py_XDECREF(args);
    Py_XDECREF(options);
    Py_XDECREF(flat);
    return storage;
}

void *core_torch_data(core_torch_state *t, PyObject *object) {
    PyObject *number = PyObject_CallMethodNoArgs(object, t->data_ptr);
    void *data = number ? PyLong_AsVoidPtr(number) : NULL;
    Py_XDECREF(number);
    return data;
}

core_torch_dtype *core_torch_view(core_torch_state *t, PyObject *tensor, core_dlpack_tensor *ret_view) {
    if (!t->exchange)
        return NULL;
    if (t->exchange->tensor_from_object(tensor, ret_view) != 0) {
        PyErr_Clear(); /* it has no plain memory; the slow path reports why */
        return NULL;
    }
    const core_dlpack_dtype *seen = &ret_view->dtype;
    if (ret_view->device.type != CORE_DLPACK_CPU || ret_view->byte_offset || seen->lanes != 1)
        return NULL;
    for (int i = 0; i < CORE_TORCH_DTYPES; i++) {
        core_torch_dtype *dtype = &t->dtypes[i];
        if (dtype->dlpack.code == seen->code && dtype->dlpack.bits == seen->bits)
            return dtype->object ? dtype : NULL;
    }
    return NULL;
}

PyObject *core_torch_error(core_torch_state *t, const char *name) {
    if (strcmp(name, "torch:OutOfMemoryError") != 0 && strcmp(name, "torch.cuda:OutOfMemoryError") != 0)
        return NULL;
    PyObject *cls = PyObject_GetAttrString(t->module, "OutOfMemoryError"), *cuda = NULL;
    if (!cls && (PyErr_Clear(), cuda = PyObject_GetAttrString(t->module, "cuda"))) /* its place before 2.5 */
        cls = PyObject_GetAttrString(cuda, "OutOfMemoryError");
    Py_XDECREF(cuda);
    PyErr_Clear(); /* a version without it */
    if (cls && !PyExceptionClass_Check(cls))
        Py_CLEAR(cls);
    return cls;
}

void core_torch_raise_out_of_memory(core_torch_state *t, const char *text) {
    PyObject *cls = core_torch_error(t, "torch:OutOfMemoryError");
    PyErr_SetString(cls ? cls : PyExc_RuntimeError, text);
    Py_XDECREF(cls);
}

int core_torch_stream(core_torch_state *t, int device, void **ret_stream) {
    if (t->exchange && t->exchange->current_stream &&
        t->exchange->current_stream(CORE_DLPACK_CUDA, device, ret_stream) == 0)
        return 0;
    PyErr_Clear(); /* the Python method is used instead */
    PyObject *cuda = PyObject_GetAttrString(t->module, "cuda");
    PyObject *stream = cuda ? PyObject_CallMethod(cuda, "current_stream", "i", device) : NULL;
    PyObject *number = stream ? PyObject_GetAttrString(stream, "cuda_stream") : NULL;
    if (number)
        *ret_stream = PyLong_AsVoidPtr(number);
    Py_XDECREF(cuda);
    Py_XDECREF(stream);
    Py_XDECREF(number);
    return PyErr_Occurred() ? -1 : 0;
}
