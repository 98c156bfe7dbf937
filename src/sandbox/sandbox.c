/* sandbox.c - a prepared sandbox, in the host: what it holds, and how it is sent to the process that forks. */
#include "sandbox/sandbox.h"

#include <string.h>

#include "os/os.h"
#include "sandbox/blob.h"

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
