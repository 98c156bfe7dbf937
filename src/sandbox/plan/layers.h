/* layers.h - determines which layers are possible here. */
#ifndef PISO_SANDBOX_PLAN_LAYERS_H
#define PISO_SANDBOX_PLAN_LAYERS_H

#include "sandbox/plan/plan.h"

/* piso__plan_layers: plans layer by layer. Fails only where a required layer is impossible. */
int piso__plan_layers(piso__plan *p);

#endif
