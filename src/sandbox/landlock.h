/* landlock.h - files, network and signals. */
#ifndef PISO_SANDBOX_LANDLOCK_H
#define PISO_SANDBOX_LANDLOCK_H

#include "group/group.h"
#include "sandbox/blob.h"
#include "sandbox/paths.h"

typedef struct piso__landlock {
    int version; /* of the kernel's interface, 0: not there; then `error` says why */
    int error;
} piso__landlock;
/* piso__landlock_newest: versions above are not used; lowered by tests, for older kernels. */
extern int piso__landlock_newest;
/* piso__landlock_probe: what the kernel has. */
piso__landlock piso__landlock_probe(void);
/* piso__landlock_hides: 0, or PISO_ESANDBOX and why: in the host's root nothing can be hidden in a folder that is
 * permitted as a whole. */
int piso__landlock_hides(const piso_sandbox *spec, char *why, size_t size);
/* piso__landlock_ruleset: a ruleset for the spec, with the layers in `layers`; none, and *ret_fd left alone, when
 * there is nothing to rule on. `group`: the child's, or NULL for this process's. What the spec permits is added to `paths` in any case. The rights for the child's own
 * rules go to the blob. 0 or -errno. */
int piso__landlock_ruleset(const piso_sandbox *spec, const char *program, const piso__group *group, uint32_t layers,
                           piso__landlock landlock, piso__blob *blob, piso__paths *paths, int *ret_fd);

#define PISO__LANDLOCK_NETWORK    4 /* versions that have the layers */
#define PISO__LANDLOCK_TRUNCATION 3
#define PISO__LANDLOCK_SIGNALS    6

#endif
