/* report.c - which layers are active, in words, and what is said of a layer because of which nothing can be
 * started. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "sandbox/plan/report.h"

/* needs: what a system lacks that refuses the layer's calls; NULL where that is not one thing. */
static const struct {
    const char *name, *needs;
} layers[PISO_LAYERS] = {
    [PISO_LAYER_PRIVILEGES] = {"privileges", "it needs a container that permits prctl and capset"},
    [PISO_LAYER_FILES] = {"files", "Landlock needs Linux 5.13 or later, and a container that permits landlock_*"},
    [PISO_LAYER_NETWORK] = {"network", NULL},
    [PISO_LAYER_SIGNALS] = {"signals", NULL},
    [PISO_LAYER_SYSTEM_CALLS] = {"system calls", "seccomp needs Linux 3.17 or later, built with CONFIG_SECCOMP_FILTER, "
                                                 "and a container that permits it"},
    [PISO_LAYER_NAMESPACES] = {"namespaces", NULL},
    [PISO_LAYER_LIMITS] = {"limits", NULL},
};

const char *piso_layer_name(piso_layer layer) {
    return (unsigned)layer < PISO_LAYERS ? layers[layer].name : NULL;
}

void piso__plan_note(piso__plan *p, piso_layer layer, bool active, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->report->layers[layer].detail, sizeof p->report->layers[layer].detail, format, arguments);
    va_end(arguments);
    p->report->layers[layer].active = active;
    if (active)
        p->layers |= PISO__BIT(layer);
}

bool piso__plan_omits(piso__plan *p, piso_layer layer) {
    if (p->spec->omit & PISO__BIT(layer))
        piso__plan_note(p, layer, false, "left out on request");
    return p->spec->omit & PISO__BIT(layer);
}

int piso__plan_fail(piso__plan *p, piso_layer layer) {
    for (int other = 0; other < PISO_LAYERS; other++) {
        p->report->layers[other].active = false;
        if (other != (int)layer)
            p->report->layers[other].detail[0] = '\0';
    }
    return PISO_ESANDBOX;
}

static bool is_refusal(int error) {
    return error == -ENOSYS || error == -EPERM || error == -EINVAL || error == -EOPNOTSUPP;
}

void piso__sandbox_report_failure(int failed, int error, piso_sandbox_report *report) {
    const char *needs = is_refusal(error) ? layers[failed].needs : NULL;
    piso__plan_fail(&(piso__plan){.report = report}, (piso_layer)failed);
    snprintf(report->layers[failed].detail, sizeof report->layers[0].detail, "could not be applied (%s)%s%s",
             piso_strerror(error), needs ? ": " : "", needs ? needs : "");
}
