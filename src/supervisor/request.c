/* request.c - see request.h. */
#include "supervisor/request.h"

#include "base/structs.h"

/* take_sandbox: copies the sandbox and its parts, if there is one. 0 or -EINVAL. */
static int take_sandbox(piso__request *q) {
    q->given_report = q->spawn.report;
    q->report = (piso_sandbox_report){.size = sizeof q->report};
    if (q->given_report) {
        if (!piso__struct_is_sized(q->given_report, sizeof(size_t)))
            return -EINVAL;
        q->spawn.report = &q->report;
    }
    if (!q->spawn.sandbox)
        return 0;
    int r = piso__struct_in(&q->sandbox, sizeof q->sandbox, q->spawn.sandbox);
    q->spawn.sandbox = &q->sandbox;
    if (r < 0 || !q->sandbox.limits)
        return r;
    r = piso__struct_in(&q->limits, sizeof q->limits, q->sandbox.limits);
    q->sandbox.limits = &q->limits;
    return r;
}

int piso__request_init(piso__request *q, const piso_spawn *given) {
    if (!given || piso__struct_in(&q->spawn, sizeof q->spawn, given) < 0)
        return -EINVAL;
    if (!q->spawn.argv || !q->spawn.argv[0] || !q->spawn.envp || !q->spawn.name)
        return -EINVAL;
    return take_sandbox(q);
}

void piso__request_report(const piso__request *q) {
    if (q->given_report)
        piso__struct_out(q->given_report, &q->report, sizeof q->report);
}
