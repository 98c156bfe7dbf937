/* quota.c - see quota.h. The quota serves honest extensions: one that would exceed it gets an error in its own
 * call. Without it the host, which counts the memory that it receives (session/segments.c), would drop the
 * session. */
#include "memory/quota.h"

static _Atomic uint64_t used, limit = UINT64_MAX;

void piso_limit_shared_memory(uint64_t bytes) {
    atomic_store_explicit(&limit, bytes, memory_order_relaxed);
}

uint64_t piso__quota_limit(void) {
    return atomic_load_explicit(&limit, memory_order_relaxed);
}

int piso__quota_charge(uint64_t size) {
    uint64_t before = atomic_load_explicit(&used, memory_order_relaxed);
    uint64_t most = piso__quota_limit();
    do
        if (before > most || size > most - before)
            return -EDQUOT;
    while (!atomic_compare_exchange_weak_explicit(&used, &before, before + size, memory_order_relaxed,
                                                  memory_order_relaxed));
    return 0;
}

void piso__quota_uncharge(uint64_t size) {
    atomic_fetch_sub_explicit(&used, size, memory_order_relaxed);
}
