/* prepare.c - the host's part: makes a prepared sandbox and sends it on. */
#include <string.h>

#include "os/os.h"
#include "sandbox/plan.h"

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
    if (!(s->blob = piso__blob_new(&p)))
        return -ENOMEM;
    s->group = piso__steal_pointer(&p.group);
    *ret_sandbox = piso__steal_pointer(&s);
    return 0;
}

piso__sandbox *piso__sandbox_free(piso__sandbox *s) {
    if (s) {
        piso__fd_close(s->fd);
        free(s->blob);
        piso__refusals_unref(s->refusals);
        piso__group_end(s->group);
        free(s);
    }
    return NULL;
}

int piso__sandbox_failed(const piso__sandbox *s) {
    return s->failed_layer;
}

piso__group *piso__sandbox_take_group(piso__sandbox *s) {
    return piso__steal_pointer(&s->group);
}

piso__refusals *piso__sandbox_take_refusals(piso__sandbox *s) {
    return piso__steal_pointer(&s->refusals);
}

/* ---- export and import ---- */

int piso__sandbox_fd(const piso__sandbox *s) {
    return s->fd;
}

const void *piso__sandbox_export(const piso__sandbox *s, size_t *ret_size) {
    *ret_size = s->blob->size;
    return s->blob;
}

int piso__sandbox_import(const void *data, size_t size, int fd, piso__sandbox **ret_sandbox) {
    piso__cleanup(piso__sandbox_freep) piso__sandbox *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->fd = -1;
    s->blob = malloc(size > sizeof *s->blob ? size : sizeof *s->blob);
    if (!s->blob)
        return -ENOMEM;
    memcpy(s->blob, data, size);
    if (!piso__blob_is_whole(s->blob, size) || s->blob->writable > size)
        return -EPROTO;
    s->fd = fd;
    *ret_sandbox = piso__steal_pointer(&s);
    return 0;
}
