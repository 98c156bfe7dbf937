/* limits.h - plans the resource limits of a child. */
#ifndef PISO_SANDBOX_PLAN_LIMITS_H
#define PISO_SANDBOX_PLAN_LIMITS_H

#include "sandbox/plan/plan.h"

/* piso__plan_limits_of: returns the limits of the spec, or none. */
const piso_limits *piso__plan_limits_of(const piso_sandbox *spec);
int piso__plan_limits(piso__plan *p);

#endif
