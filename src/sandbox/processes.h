/* processes.h - whether the kernel limits the processes of a child. */
#ifndef PISO_SANDBOX_PROCESSES_H
#define PISO_SANDBOX_PROCESSES_H

#include "base/base.h"

/* piso__kernel_counts_processes: whether RLIMIT_NPROC applies to a child of this process. Tried once in a
 * process. */
bool piso__kernel_counts_processes(void);

#endif
