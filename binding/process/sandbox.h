/* sandbox.h - converts the dictionary that describes a sandbox, and the report on its layers. */
#ifndef BINDING_SANDBOX_H
#define BINDING_SANDBOX_H

#include "common/state.h"

/* core_sandbox: the description in C, valid as long as this object. All zeros: nothing to free. */
typedef struct core_sandbox {
    piso_sandbox spec;
    piso_limits limits;
    piso_sandbox_report report;
    PyObject *keep; /* the strings */
    const char **lists[6];
} core_sandbox;

/* core_sandbox_parse: converts a dictionary with the fields of piso_sandbox; limits are a dictionary, too. Returns -1
 * with an exception. core_sandbox_fini must be called in either case. */
int core_sandbox_parse(PyObject *description, core_sandbox *ret_sandbox);
void core_sandbox_fini(core_sandbox *sandbox);
/* core_sandbox_report: appends (name, active, detail) of each layer to the list. Returns -1 with an exception. */
int core_sandbox_report(const piso_sandbox_report *report, PyObject *list);

#endif
