/* budget.h - how much shared memory this process may have: what backs the arenas that it sends from, and the segments
 * that it has made. Counted always, limited by piso_limit_shared_memory. Thread-safe; no lock. */
#ifndef PISO_MEMORY_BUDGET_H
#define PISO_MEMORY_BUDGET_H

#include "base/base.h"

/* piso__budget_take: 0, or -EDQUOT when it would be too much. */
int piso__budget_take(uint64_t size);
void piso__budget_give(uint64_t size);
/* piso__budget_limit: bytes; UINT64_MAX: none. */
uint64_t piso__budget_limit(void);

#endif
