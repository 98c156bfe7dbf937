/* torch.c - see torch.h. */
#include "torch.h"

#include <string.h>

/* Those that are plain bytes. Quantised ones carry a scale besides. */
static const struct {
    const char *name;
    core_dlpack_dtype dlpack; /* no bits: not used */
} dtypes[CORE_TORCH_DTYPES] = {
    {"float32", {2, 32, 1}},        {"float64", {2, 64, 1}},
    {"float16", {2, 16, 1}},        {"bfloat16", {4, 16, 1}},
    {"uint8", {1, 8, 1}},           {"int8", {0, 8, 1}},
    {"int16", {0, 16, 1}},          {"int32", {0, 32, 1}},
    {"int64", {0, 64, 1}},          {"bool", {6, 8, 1}},
    {"complex32", {5, 32, 1}},      {"complex64", {5, 64, 1}},
    {"complex128", {5, 128, 1}},    {"uint16", {1, 16, 1}},
    {"uint32", {1, 32, 1}},         {"uint64", {1, 64, 1}},
    {"float8_e4m3fn", {10, 8, 1}},  {"float8_e4m3fnuz", {11, 8, 1}},
    {"float8_e5m2", {12, 8, 1}},    {"float8_e5m2fnuz", {13, 8, 1}},
    {"float8_e8m0fnu", {14, 8, 1}}, {"float4_e2m1fn_x2", {0, 0, 1}},
};

typedef struct named {
    PyObject **field;
    const char *name;
} named;

static int intern_all(core_torch_state *t) {
    const named names[] = {
        {&t->shares_attribute, "_pyisolate_shared"},
        {&t->lease_attribute, "_pyisolate_lease"},
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
        {&t->set, "set_"},
        {&t->nbytes, "nbytes"},
        {&t->conj, "conj"},
        {&t->neg_view, "_neg_view"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!*names[i].field && !(*names[i].field = PyUnicode_InternFromString(names[i].name)))
            return -1;
    return 0;
}

/* add_dtype: one that this version has. */
static int add_dtype(core_torch_state *t, int index) {
    const char *name = dtypes[index].name;
    PyObject *dtype = PyObject_GetAttrString(t->module, name);
    if (!dtype) {
        PyErr_Clear(); /* not in this version */
        return 0;
    }
    piso_writer w;
    piso_writer_init(&w);
    piso_write_str(&w, name, strlen(name));
    PyObject *spec = PyBytes_FromStringAndSize((const char *)w.data, (Py_ssize_t)w.size);
    piso_writer_fini(&w);
    int r = spec ? PyDict_SetItem(t->specs, dtype, spec) : -1;
    if (r == 0)
        r = PyDict_SetItemString(t->dtypes, name, dtype);
    t->by_dlpack[index] = dtype;
    Py_XDECREF(spec);
    Py_DECREF(dtype);
    return r;
}

/* find_exchange: the functions in C that torch.Tensor offers, where it does. */
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
    PyObject **dicts[] = {&t->specs, &t->dtypes, &t->blanks};
    for (size_t i = 0; i < sizeof dicts / sizeof *dicts; i++)
        if (!*dicts[i] && !(*dicts[i] = PyDict_New()))
            return -1;
    for (int i = 0; i < CORE_TORCH_DTYPES; i++)
        if (add_dtype(t, i) < 0)
            return -1;
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
    t->storage_references = Py_REFCNT(storage); /* torch itself has one in some versions */
    Py_DECREF(storage);
    Py_DECREF(probe);
    PyObject *internals = PyObject_GetAttrString(t->module, "_C");
    Py_XSETREF(t->use_count, internals ? PyObject_GetAttrString(internals, "_storage_Use_Count") : NULL);
    Py_XDECREF(internals);
    PyErr_Clear(); /* before 2.1: received tensors are always copied back */
    return 0;
}

int core_torch_load(core_state *state, bool import) {
    if (state->torch && state->torch->tensor) /* the last thing that is looked up */
        return 1;
    PyObject *module =
        import ? PyImport_ImportModule("torch") : Py_XNewRef(PyDict_GetItemString(PyImport_GetModuleDict(), "torch"));
    if (!module)
        return import ? -1 : 0;
    if (!state->torch && !(state->torch = PyMem_Calloc(1, sizeof *state->torch))) {
        Py_DECREF(module);
        PyErr_NoMemory();
        return -1;
    }
    Py_XSETREF(state->torch->module, module);
    if (look_up(state->torch) == 0)
        return 1;
    if (import)
        return -1;
    PyErr_Clear(); /* torch is being imported at this moment, or is something else of that name */
    return 0;
}

int core_torch_visit(core_torch_state *t, visitproc visit, void *arg) {
    if (!t)
        return 0;
    Py_VISIT(t->module);
    Py_VISIT(t->tensor);
    Py_VISIT(t->parameter);
    Py_VISIT(t->storage);
    Py_VISIT(t->specs);
    Py_VISIT(t->dtypes);
    Py_VISIT(t->blanks);
    return 0;
}

void core_torch_clear(core_torch_state *t) {
    if (!t)
        return;
    for (PyObject **field = &t->module; field != (PyObject **)(t + 1); field++)
        Py_CLEAR(*field);
}

PyObject *core_torch_dtype(core_torch_state *t, PyObject *name) {
    return PyDict_GetItemWithError(t->dtypes, name);
}

PyObject *core_torch_spec(core_torch_state *t, PyObject *dtype) {
    return PyDict_GetItemWithError(t->specs, dtype);
}

Py_ssize_t core_torch_itemsize(PyObject *dtype) {
    PyObject *size = PyObject_GetAttrString(dtype, "itemsize");
    Py_ssize_t result = size ? PyLong_AsSsize_t(size) : -1;
    Py_XDECREF(size);
    return result;
}

/* new_blank: an empty tensor; a normal one also inside of torch.inference_mode, since it outlives that. */
static PyObject *new_blank(core_torch_state *t, PyObject *dtype) {
    PyObject *mode = PyObject_CallMethod(t->module, "inference_mode", "O", Py_False);
    PyObject *entered = mode ? PyObject_CallMethod(mode, "__enter__", NULL) : NULL, *blank = NULL;
    if (entered) {
        PyObject *empty = PyObject_GetAttrString(t->module, "empty");
        PyObject *args = empty ? Py_BuildValue("(i)", 0) : NULL;
        PyObject *options = args ? Py_BuildValue("{s:O,s:s}", "dtype", dtype, "device", "cpu") : NULL;
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
    if (blank && PyDict_SetItem(t->blanks, dtype, blank) < 0)
        Py_CLEAR(blank);
    return blank;
}

PyObject *core_torch_over(core_torch_state *t, PyObject *storage, PyObject *dtype, PyObject *offset, PyObject *shape,
                          PyObject *strides) {
    PyObject *blank = Py_XNewRef(PyDict_GetItemWithError(t->blanks, dtype));
    if (!blank && !PyErr_Occurred())
        blank = new_blank(t, dtype);
    PyObject *tensor = blank ? PyObject_CallMethodNoArgs(blank, t->detach) : NULL;
    Py_XDECREF(blank);
    if (!tensor)
        return NULL;
    PyObject *args[] = {tensor, storage, offset, shape, strides};
    PyObject *result = PyObject_VectorcallMethod(t->set, args, 5 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (!result)
        Py_CLEAR(tensor);
    Py_XDECREF(result);
    return tensor;
}

void *core_torch_data(core_torch_state *t, PyObject *object) {
    PyObject *number = PyObject_CallMethodNoArgs(object, t->data_ptr);
    void *data = number ? PyLong_AsVoidPtr(number) : NULL;
    Py_XDECREF(number);
    return data;
}

bool core_torch_look(core_torch_state *t, PyObject *tensor, core_dlpack_tensor *ret_view, PyObject **ret_dtype) {
    if (!t->exchange)
        return false;
    if (t->exchange->tensor_from_object(tensor, ret_view) != 0) {
        PyErr_Clear(); /* it has no plain memory; the long way says why */
        return false;
    }
    if (ret_view->device.type != CORE_DLPACK_CPU || ret_view->byte_offset || ret_view->dtype.lanes != 1)
        return false;
    for (int i = 0; i < CORE_TORCH_DTYPES; i++)
        if (dtypes[i].dlpack.code == ret_view->dtype.code && dtypes[i].dlpack.bits == ret_view->dtype.bits) {
            *ret_dtype = t->by_dlpack[i];
            return *ret_dtype != NULL;
        }
    return false;
}

PyObject *core_torch_error(core_torch_state *t, const char *name) {
    if (strcmp(name, "torch:OutOfMemoryError") != 0 && strcmp(name, "torch.cuda:OutOfMemoryError") != 0)
        return NULL;
    PyObject *cls = PyObject_GetAttrString(t->module, "OutOfMemoryError"), *cuda = NULL;
    if (!cls && (PyErr_Clear(), cuda = PyObject_GetAttrString(t->module, "cuda"))) /* before 2.5 it was there */
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
    PyErr_Clear(); /* asked for in Python instead */
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
