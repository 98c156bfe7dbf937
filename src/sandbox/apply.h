/* apply.h - applies a prepared sandbox, in the child. */
#ifndef PISO_SANDBOX_APPLY_H
#define PISO_SANDBOX_APPLY_H

#include "base/base.h"

/* piso__sandbox_apply: confines the calling thread, which must be the only one of its process, by a prepared
 * sandbox. The sandbox's descriptor has the number fd in this process, which must close it before the program
 * runs. 0 or -errno. */
int piso__sandbox_apply(void *sandbox, int fd);

#endif
