/* prepare.h - prepares a sandbox, in the host. */
#ifndef PISO_SANDBOX_PLAN_PREPARE_H
#define PISO_SANDBOX_PLAN_PREPARE_H

#include "sandbox/sandbox.h"

/* piso__sandbox_prepare: prepares the sandbox of one child that will run `program`. Fills `report`, also on
 * failure. PISO_ESANDBOX when files or system calls cannot be confined here, or a limit cannot be enforced;
 * -EINVAL; -errno. The first call in a process takes some milliseconds more, to find out what the system
 * permits. */
int piso__sandbox_prepare(const piso_sandbox *spec, const char *program, piso__sandbox **ret_sandbox,
                          piso_sandbox_report *report);

#endif
