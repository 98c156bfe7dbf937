/* errors.h - the only place where codes of piso.h become Python exceptions. */
#ifndef BINDING_ERRORS_H
#define BINDING_ERRORS_H

#include "state.h"

int core_errors_init(PyObject *module, core_state *state);
int core_errors_visit(core_state *state, visitproc visit, void *arg);
void core_errors_clear(core_state *state);

/* core_raise: sets the exception for a negative code and returns NULL. `what`: the operation that failed ("calling
 * extension 'a'"). PISO_EDIED raises an ExtensionDied without details; callers that have a process use
 * core_raise_died. */
PyObject *core_raise(core_state *state, int error, const char *what);
/* core_death: the known facts about the end of an extension's process. */
typedef struct core_death {
    const char *name;
    int pid;                 /* 0: unknown */
    const piso_exit *status; /* NULL: unknown */
    const char *tail;        /* the end of its output to stderr */
    size_t tail_size;
    PyObject *note;           /* str for the message, or NULL */
    bool hung;                /* the watchdog ended it because it did not answer */
    uint64_t memory_exceeded; /* bytes: the limit of its control group for which it was killed, or 0 */
} core_death;

/* core_raise_died: raises ExtensionDied, or ExtensionHung, with name, pid, returncode (negative: signal, as in
 * subprocess; None: unknown), signal name and the last lines of its stderr, in the message and as attributes. */
PyObject *core_raise_died(core_state *state, const core_death *death);

/* core_fetch_exception: clears the current exception and returns it as an instance with its traceback. New
 * reference. */
PyObject *core_fetch_exception(void);

#endif
