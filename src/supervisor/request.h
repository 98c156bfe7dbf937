/* request.h - a caller's request to start a process, with all fields, whatever version the caller was compiled
 * with. */
#ifndef PISO_SUPERVISOR_REQUEST_H
#define PISO_SUPERVISOR_REQUEST_H

#include "base/base.h"

typedef struct piso__request {
    piso_spawn spawn; /* its pointers refer to the other fields, for what was given */
    piso_sandbox sandbox;
    piso_limits limits;
    piso_sandbox_report report, *given_report;
} piso__request;

/* piso__request_init: makes a checked copy of the caller's request. 0 or -EINVAL. */
int piso__request_init(piso__request *request, const piso_spawn *given);
/* piso__request_report: copies the report to the caller, if the caller wants one. */
void piso__request_report(const piso__request *request);

#endif
