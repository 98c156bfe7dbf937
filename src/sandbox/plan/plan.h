/* plan.h - a sandbox in preparation: which layers are active, and what the child must do for each.
 *
 * This folder runs in the host. Its files use each other in this order: report; limits and root; layers; pack;
 * prepare, which uses all others. */
#ifndef PISO_SANDBOX_PLAN_PLAN_H
#define PISO_SANDBOX_PLAN_PLAN_H

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

#endif
