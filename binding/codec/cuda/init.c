/* init.c - the state of this folder, and the table through which other folders use it. */
#include "cuda.h"

_Static_assert(CORE_UUID_SIZE == PISO_CUDA_UUID, "the core's UUIDs are another size");

static const core_gpu gpu = {
    .encode = core_cuda_encode,
    .session_ended = core_cuda_session_ended,
    .clear = core_cuda_clear,
    .synchronize = core_cuda_synchronize,
    .uuid = piso_cuda_uuid,
    .find = piso_cuda_find,
    .count = piso_cuda_count,
};

int core_cuda_init(PyObject *Py_UNUSED(module), core_state *state) {
    state->cuda = PyMem_Calloc(1, sizeof *state->cuda);
    if (!state->cuda) {
        PyErr_NoMemory();
        return -1;
    }
    state->gpu = &gpu;
    core_add_decoder(state, PISO_EXT_CUDA_TENSOR,
                     (core_decoder_entry){.decode = core_cuda_decode, .cost = 3000, .special = true});
    return 0;
}

int core_cuda_visit(core_state *state, visitproc visit, void *arg) {
    core_cuda_state *c = state->cuda;
    if (!c)
        return 0;
    Py_VISIT(c->uuid);
    Py_VISIT(c->device);
    Py_VISIT(c->lend);
    Py_VISIT(c->refuse);
    Py_VISIT(c->storages);
    return 0;
}

void core_cuda_clear_state(core_state *state) {
    core_cuda_state *c = state->cuda;
    if (!c)
        return;
    Py_CLEAR(c->uuid);
    Py_CLEAR(c->device);
    Py_CLEAR(c->lend);
    Py_CLEAR(c->refuse);
    Py_CLEAR(c->storages);
}

void core_cuda_free(core_state *state) {
    PyMem_Free(state->cuda);
    state->cuda = NULL;
}
