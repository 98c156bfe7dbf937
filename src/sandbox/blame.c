/* blame.c - the names of the layers, and what is said of one for which nothing can be started. */
#include <errno.h>
#include <stdio.h>

#include "sandbox/internal.h"
#include "sandbox/sandbox.h"

/* needs: what a system that refuses the layer's calls lacks; NULL where that is not one thing. */
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

void piso__report_only(piso_layer layer, piso_sandbox_report *report) {
    for (int other = 0; other < PISO_LAYERS; other++) {
        report->layers[other].active = false;
        if (other != (int)layer)
            report->layers[other].detail[0] = '\0';
    }
}

static bool is_refusal(int error) {
    return error == -ENOSYS || error == -EPERM || error == -EINVAL || error == -EOPNOTSUPP;
}

void piso__sandbox_blame(int failed, int error, piso_sandbox_report *report) {
    const char *needs = is_refusal(error) ? layers[failed].needs : NULL;
    piso__report_only((piso_layer)failed, report);
    snprintf(report->layers[failed].detail, sizeof report->layers[0].detail, "could not be applied (%s)%s%s",
             piso_strerror(error), needs ? ": " : "", needs ? needs : "");
}
