/* gpu.h - the module's functions for GPUs: gpu.c, or no_gpu.c where the build omits them (option `gpu`). */
#ifndef BINDING_MODULE_GPU_H
#define BINDING_MODULE_GPU_H

#include "common/state.h"

int core_gpu_init(PyObject *module, core_state *state);
int core_gpu_visit(core_state *state, visitproc visit, void *arg);
void core_gpu_clear(core_state *state);
void core_gpu_free(core_state *state);

#endif
