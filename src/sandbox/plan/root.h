/* root.h - plans the contents of a child's root. */
#ifndef PISO_SANDBOX_PLAN_ROOT_H
#define PISO_SANDBOX_PLAN_ROOT_H

#include "sandbox/plan/plan.h"

/* piso__plan_root: plans the child's root. */
int piso__plan_root(piso__plan *p);

#endif
