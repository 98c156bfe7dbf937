/* quota.h - the limit of this process's shared memory: the backed pages of the arenas that it sends from, and
 * the segments that it made. The memory is always counted; piso_limit_shared_memory sets the limit.
 * Thread-safe, without a lock. */
#ifndef PISO_MEMORY_QUOTA_H
#define PISO_MEMORY_QUOTA_H

#include "base/base.h"

/* piso__quota_charge: counts `size` more bytes. 0, or -EDQUOT when that would exceed the limit. */
int piso__quota_charge(uint64_t size);
void piso__quota_uncharge(uint64_t size);
/* piso__quota_limit: returns the limit in bytes, UINT64_MAX if there is none. */
uint64_t piso__quota_limit(void);

#endif
