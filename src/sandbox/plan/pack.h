/* pack.h - writes a plan as one block of bytes. */
#ifndef PISO_SANDBOX_PLAN_PACK_H
#define PISO_SANDBOX_PLAN_PACK_H

#include "sandbox/plan/plan.h"

/* piso__plan_pack: writes the plan as one block. NULL when memory is exhausted. */
piso__blob *piso__plan_pack(const piso__plan *p);

#endif
