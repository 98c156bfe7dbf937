/* hints.c - what to send instead of a value of a class that NumPy or PyTorch has beside those that cross. Each hint is Python
 * that makes something of the value that does cross; the tests run them. */
#include "remedies.h"

static const struct {
    const char *module, *name; /* of a class, if that module has been imported */
    const char *text;
} hints[] = {
    /* subclasses before their base */
    {"numpy.ma", "MaskedArray", "send (numpy.asarray(array), numpy.ma.getmaskarray(array))"},
    {"numpy", "recarray", "send array.view(numpy.dtype((numpy.void, array.dtype)), numpy.ndarray)"},
    {"numpy", "ndarray", "send numpy.asarray(array)"}, /* memmap, matrix, chararray, those of other packages */
    {"numpy", "generic", "send value.item()"},
    {"torch._subclasses.fake_tensor", "FakeTensor", "it has no data; send (tensor.shape, tensor.dtype)"},
    {"torch.nested._internal.nested_tensor", "NestedTensor", "it is nested; send tensor.unbind()"},
    {"torch.masked.maskedtensor.core", "MaskedTensor", "send (tensor.get_data(), tensor.get_mask())"},
    {"torch", "Tensor", "it would arrive as a torch.Tensor; send tensor.detach().as_subclass(torch.Tensor)"},
    {"torch", "UntypedStorage", "send torch.empty(0, dtype=torch.uint8).set_(value)"},
    {"torch.nn", "Module", "send value.state_dict()"},
};

const char *core_hint(PyObject *value) {
    PyObject *modules = PyImport_GetModuleDict();
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        PyObject *module = PyDict_GetItemString(modules, hints[i].module);
        PyObject *cls = module ? PyObject_GetAttrString(module, hints[i].name) : NULL;
        bool found = cls && PyType_Check(cls) && PyType_IsSubtype(Py_TYPE(value), (PyTypeObject *)cls);
        Py_XDECREF(cls);
        PyErr_Clear(); /* it is being imported at this moment, or is something else of that name */
        if (found)
            return hints[i].text;
    }
    return NULL;
}
