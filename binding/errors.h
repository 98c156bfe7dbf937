/* errors.h - the one place where codes of piso.h become Python exceptions. */
#ifndef BINDING_ERRORS_H
#define BINDING_ERRORS_H

#include "state.h"

int core_errors_init(PyObject *module, core_state *state);
int core_errors_visit(core_state *state, visitproc visit, void *arg);
void core_errors_clear(core_state *state);

/* core_raise: sets the exception for a negative code and returns NULL. `what` says what was tried
 * ("calling extension 'a'"). PISO_EDIED here gives an ExtensionDied without details: callers that have a
 * process use core_raise_died. */
PyObject *core_raise(core_state *state, int error, const char *what);
/* core_raise_died: ExtensionDied with name, pid, returncode (negative: signal, as subprocess has it; None:
 * unknown), signal name and the last lines of its stderr, in the message and as attributes. */
PyObject *core_raise_died(core_state *state, const char *name, int pid, const piso_exit *status,
                          const char *stderr_tail, size_t stderr_size);

#endif
