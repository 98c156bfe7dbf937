/* report.h - which layers of a plan are active, in words. */
#ifndef PISO_SANDBOX_PLAN_REPORT_H
#define PISO_SANDBOX_PLAN_REPORT_H

#include "sandbox/plan/plan.h"

/* piso__plan_note: adds a note on a layer. An active one will be applied. */
__attribute__((format(printf, 4, 5))) void piso__plan_note(piso__plan *p, piso_layer layer, bool active,
                                                           const char *format, ...);
/* piso__plan_omits: whether the caller asked to leave the layer out; notes that. */
bool piso__plan_omits(piso__plan *p, piso_layer layer);
/* piso__plan_fail: notes that nothing can be started because of this layer, and removes the notes on others,
 * which would look like reasons. Returns PISO_ESANDBOX. */
int piso__plan_fail(piso__plan *p, piso_layer layer);
/* piso__sandbox_report_failure: notes in `report` that this layer failed, with that error, when a prepared sandbox
 * was applied. */
void piso__sandbox_report_failure(int layer, int error, piso_sandbox_report *report);

#endif
