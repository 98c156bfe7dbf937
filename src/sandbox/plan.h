/* plan.h - a sandbox in preparation: which layers are active, and what the child must do for each.
 *
 * The parts use each other in this order: report.c; limits.c and root.c; plan.c; blob.c; prepare.c, which uses
 * all others. */
#ifndef PISO_SANDBOX_PLAN_H
#define PISO_SANDBOX_PLAN_H

#include "group/group.h"
#include "sandbox/blob.h"
#include "sandbox/landlock.h"
#include "sandbox/paths.h"
#include "seccomp/filter.h"

/* piso__plan: one preparation. */
typedef struct piso__plan {
    const piso_sandbox *spec;
    piso_sandbox_report *report;
    uint32_t layers; /* to be applied */
    piso__landlock landlock;
    struct sock_filter *filter;
    int filter_count;
    piso__group *group;
    piso__group_errors group_errors;
    piso__paths paths;
    piso__step *steps;
    size_t step_count;
    piso__blob head;
} piso__plan;

/* report.c */

/* piso__plan_note: adds a note on a layer. An active one will be applied. */
__attribute__((format(printf, 4, 5))) void piso__plan_note(piso__plan *p, piso_layer layer, bool active,
                                                           const char *format, ...);
/* piso__plan_omits: whether the caller asked to leave the layer out; notes that. */
bool piso__plan_omits(piso__plan *p, piso_layer layer);
/* piso__plan_fail: notes that nothing can be started because of this layer, and removes the notes on others,
 * which would look like reasons. Returns PISO_ESANDBOX. */
int piso__plan_fail(piso__plan *p, piso_layer layer);

/* limits.c */

/* piso__plan_limits_of: returns the limits of the spec, or none. */
const piso_limits *piso__plan_limits_of(const piso_sandbox *spec);
int piso__plan_limits(piso__plan *p);

/* plan.c */

/* piso__plan_layers: plans layer by layer. Fails only where a required layer is impossible. */
int piso__plan_layers(piso__plan *p);

/* root.c */

/* piso__plan_root: plans the child's root. */
int piso__plan_root(piso__plan *p);

/* blob.c */

/* piso__blob_new: writes the plan as one block. NULL when memory is exhausted. */
piso__blob *piso__blob_new(const piso__plan *p);
/* piso__blob_is_whole: whether everything that the block refers to is in it. */
bool piso__blob_is_whole(const piso__blob *b, size_t size);

#endif
