/* quota.h - how much shared memory this process may have: what backs the arenas that it sends from, and the segments
 * that it has made. Counted always, limited by piso_limit_shared_memory. Thread-safe; no lock. */
#ifndef PISO_MEMORY_QUOTA_H
#define PISO_MEMORY_QUOTA_H

#include "base/base.h"

/* piso__quota_charge: 0, or -EDQUOT when it would be too much. */
int piso__quota_charge(uint64_t size);
void piso__quota_uncharge(uint64_t size);
/* piso__quota_limit: bytes; UINT64_MAX: none. */
uint64_t piso__quota_limit(void);

#endif
