/* iteration.h - the work of a link in one iteration of its loop. */
#ifndef BINDING_ITERATION_H
#define BINDING_ITERATION_H

#include "link.h"

/* core_link_run: one run in an iteration of the loop: handles the available events, polls briefly, then sleeps. */
void core_link_run(core_link *link);

#endif
