/* iteration.h - the loop's turn. */
#ifndef BINDING_ITERATION_H
#define BINDING_ITERATION_H

#include "link.h"

/* core_link_run: the loop's turn: handle what is there, poll a little, sleep. */
void core_link_run(core_link *link);

#endif
