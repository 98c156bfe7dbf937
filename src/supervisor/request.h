/* request.h - what a caller asks for when it starts a process, complete, whatever version it was compiled with. */
#ifndef PISO_SUPERVISOR_REQUEST_H
#define PISO_SUPERVISOR_REQUEST_H

#include "base/base.h"

typedef struct piso__request {
    piso_spawn spawn; /* its pointers lead to the others, where there is something */
    piso_sandbox sandbox;
    piso_limits limits;
    piso_sandbox_report report, *given_report;
} piso__request;

/* piso__request_init: a copy of what the caller gives, checked. 0 or -EINVAL. */
int piso__request_init(piso__request *request, const piso_spawn *given);
/* piso__request_report: hands the report out, if the caller wants one. */
void piso__request_report(const piso__request *request);

#endif
