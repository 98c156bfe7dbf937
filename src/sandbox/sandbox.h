/* sandbox.h - confinement of a child process, prepared in the host and applied in the child.
 *
 * Rules:
 *  1. Everything that allocates, reads files or can be refused with an error happens in the host, in
 *     piso__sandbox_prepare. Only a list of system calls is left for the child.
 *  2. A prepared sandbox is a block of bytes without pointers and one descriptor, so that it can be sent to the
 *     process that forks the child (piso__sandbox_export, piso__sandbox_import). It is for one child only.
 *  3. piso__sandbox_apply runs in the child, which may share this process's memory (os/spawn.c): it makes bare
 *     system calls and writes to nothing but the prepared sandbox. It is all or nothing: a child in which it
 *     failed must end.
 *  4. Confinement is permanent: the child cannot undo any of it. */
#ifndef PISO_SANDBOX_SANDBOX_H
#define PISO_SANDBOX_SANDBOX_H

#include "base/base.h"
#include "group/group.h"
#include "seccomp/refusals.h"

typedef struct piso__sandbox piso__sandbox;

piso__sandbox *piso__sandbox_free(piso__sandbox *s);
static inline void piso__sandbox_freep(piso__sandbox **s) {
    *s = piso__sandbox_free(*s);
}

/* piso__sandbox_fd: returns the descriptor of a prepared sandbox (borrowed), -1: none. */
int piso__sandbox_fd(const piso__sandbox *s);
/* piso__sandbox_failed: returns the layer that failed, after a failed apply. */
int piso__sandbox_failed(const piso__sandbox *s);

/* piso__sandbox_take_group: returns the control group that was made for the child, or NULL. The caller ends it
 * when the child has ended. */
piso__group *piso__sandbox_take_group(piso__sandbox *s);
/* piso__sandbox_take_refusals: returns the refusals of the child's filter, which the caller must watch, or
 * NULL. */
piso__refusals *piso__sandbox_take_refusals(piso__sandbox *s);

/* piso__sandbox_export: returns the bytes of a prepared sandbox (borrowed). Its descriptor must be sent with
 * them. */
const void *piso__sandbox_export(const piso__sandbox *s, size_t *ret_size);
/* piso__sandbox_import: restores a prepared sandbox in the process that will fork. Takes the descriptor on
 * success. -EPROTO when the bytes are not valid. */
int piso__sandbox_import(const void *data, size_t size, int fd, piso__sandbox **ret_sandbox);

#endif
