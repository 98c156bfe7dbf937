/* plan.h - a sandbox in preparation: which layers hold, and what the child is to do for each.
 *
 * The parts use each other in this order: report.c; limits.c and root.c; plan.c; blob.c; prepare.c, which uses them all. */
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
    uint32_t layers; /* that will be applied */
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

/* piso__plan_say: what there is to know about a layer; one that is active will be applied. */
__attribute__((format(printf, 4, 5))) void piso__plan_say(piso__plan *p, piso_layer layer, bool active,
                                                          const char *format, ...);
/* piso__plan_omits: whether it was asked to leave the layer out; says so. */
bool piso__plan_omits(piso__plan *p, piso_layer layer);
/* piso__plan_blame: the layer for which nothing can be started; what was said of others would look like reasons. Returns
 * PISO_ESANDBOX. */
int piso__plan_blame(piso__plan *p, piso_layer layer);

/* limits.c */

/* piso__plan_limits_of: those of the spec, or none. */
const piso_limits *piso__plan_limits_of(const piso_sandbox *spec);
int piso__plan_limits(piso__plan *p);

/* plan.c */

/* piso__plan_layers: layer by layer; fails only where one has to be there and cannot. */
int piso__plan_layers(piso__plan *p);

/* root.c */

/* piso__plan_root: what the child makes its root of. */
int piso__plan_root(piso__plan *p);

/* blob.c */

/* piso__blob_new: what has been planned, as one block. NULL: no memory. */
piso__blob *piso__blob_new(const piso__plan *p);
/* piso__blob_is_whole: all that the block refers to is in it. */
bool piso__blob_is_whole(const piso__blob *b, size_t size);

#endif
