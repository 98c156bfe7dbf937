/* cuda.h - shared by the files for tensors on GPUs. Other folders use codec/gpu.h. */
#ifndef BINDING_CUDA_H
#define BINDING_CUDA_H

#include "codec/torch/tensors.h"

struct core_cuda_state {
    /* functions of pyisolate/_rpc/gpus.py, or NULL: they map the id of a GPU to its UUID, map that to its device, are
     * called for the first send of a storage, and for memory that cannot be opened here */
    PyObject *uuid, *device, *lend, *refuse;
    PyObject *storages; /* dict: address -> weak reference to the storage there */
};

int core_cuda_init(PyObject *module, core_state *state);
int core_cuda_visit(core_state *state, visitproc visit, void *arg);
void core_cuda_clear_state(core_state *state);
void core_cuda_free(core_state *state);

/* ---- both directions (cuda.c) ---- */

/* core_cuda_raise: raises the exception for a code of piso_cuda_...; `what`: the operation that failed. */
void core_cuda_raise(core_state *state, int error, const char *what);
/* core_cuda_remember: records a storage on a GPU that others may send back, so that its address finds it as long as it
 * lives. Returns 0 or -1. */
int core_cuda_remember(core_state *state, PyObject *storage, const void *data);
/* core_cuda_recall: returns the storage at this address, of this many bytes. New reference, or NULL, without an
 * exception when there is none. */
PyObject *core_cuda_recall(core_state *state, const void *data, uint64_t size);

/* ---- encoding (cuda_encode.c) ---- */

/* The functions of core_gpu. */
int core_cuda_encode(core_encoder *e, PyObject *tensor, core_tensor_layout *l, int flags);
void core_cuda_session_ended(core_codec *c);
void core_cuda_clear(core_codec *c);
void core_cuda_synchronize(core_codec *c);
/* core_cuda_refused: the peer cannot open memory of GPUs, for the given reason: it gets copies from now on. Returns 0,
 * or -1 when warnings are errors. */
int core_cuda_refused(core_codec *c, const char *why);

/* ---- decoding (cuda_decode.c) ---- */

PyObject *core_cuda_decode(core_decoder *d, const piso_item *ext);

#endif
