/* prepare.c - makes a prepared sandbox. */
#include <string.h>

#include "os/os.h"
#include "sandbox/plan/layers.h"
#include "sandbox/plan/limits.h"
#include "sandbox/plan/pack.h"
#include "sandbox/plan/prepare.h"
#include "sandbox/plan/report.h"
#include "sandbox/plan/root.h"

static void fini(piso__plan *p) {
    free(p->filter);
    free(p->steps);
    piso__paths_fini(&p->paths);
    piso__group_end(p->group);
}

int piso__sandbox_prepare(const piso_sandbox *spec, const char *program, piso__sandbox **ret_sandbox,
                          piso_sandbox_report *report) {
    memset(report, 0, sizeof *report);
    if (piso__plan_limits_of(spec)->temp_size && !spec->temp)
        return -EINVAL;
    piso__cleanup(fini) piso__plan p = {.spec = spec, .report = report};
    piso__cleanup(piso__sandbox_freep) piso__sandbox *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->fd = -1;
    piso__autoclose int ruleset = -1;
    int r = piso__plan_layers(&p);
    if (r == 0)
        r = piso__paths_distrust(&p.paths, spec->writable, spec->untrusted);
    if (r == 0)
        r = piso__landlock_ruleset(spec, program, p.group, p.layers, p.landlock, &p.head, &p.paths, &ruleset);
    if (r == -EPERM || r == -ENOSYS) { /* partly forbidden */
        piso__sandbox_report_failure(PISO_LAYER_FILES, r, report);
        return PISO_ESANDBOX;
    }
    p.head.has_ruleset = ruleset >= 0;
    if (r == 0 && p.head.root)
        r = piso__plan_root(&p);
    if (r == 0 && (ruleset >= 0 || p.filter_count))
        r = piso__refusals_new(p.filter, p.filter_count, ruleset, &s->refusals, &s->fd);
    if (r < 0)
        return r;
    if (!(s->blob = piso__plan_pack(&p)))
        return -ENOMEM;
    s->group = piso__steal_pointer(&p.group);
    *ret_sandbox = piso__steal_pointer(&s);
    return 0;
}
