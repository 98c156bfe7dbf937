/* landlock.h - files, network and signals. */
#ifndef PISO_SANDBOX_LANDLOCK_H
#define PISO_SANDBOX_LANDLOCK_H

#include "group/group.h"
#include "sandbox/blob.h"
#include "sandbox/paths.h"

typedef struct piso__landlock {
    int version; /* version of the kernel's interface; 0: missing, then `error` says why */
    int error;
} piso__landlock;
/* piso__landlock_newest: higher versions are not used. Tests lower it to simulate older kernels. */
extern int piso__landlock_newest;
/* piso__landlock_probe: determines what the kernel has. */
piso__landlock piso__landlock_probe(void);
/* piso__landlock_hides: 0, or PISO_ESANDBOX and the reason: in the host's root nothing can be hidden inside a
 * folder that is permitted as a whole. */
int piso__landlock_hides(const piso_sandbox *spec, char *why, size_t size);
/* piso__landlock_ruleset: makes a ruleset for the spec, with the layers in `layers`. When there is nothing to
 * restrict it makes none and leaves *ret_fd unchanged. `group`: the child's, or NULL for this process's. Always
 * adds what the spec permits to `paths`. Stores the rights for the child's own rules in the blob. 0 or -errno. */
int piso__landlock_ruleset(const piso_sandbox *spec, const char *program, const piso__group *group, uint32_t layers,
                           piso__landlock landlock, piso__blob *blob, piso__paths *paths, int *ret_fd);

#define PISO__LANDLOCK_NETWORK    4 /* first versions with the layers */
#define PISO__LANDLOCK_TRUNCATION 3
#define PISO__LANDLOCK_SIGNALS    6

#endif
