/* quota.c - see quota.h. */
#include "quota.h"
#include "decode.h"

#define PER_ARENA    4
#define SMALLEST     ((int64_t)64 << 20)
#define MEGABYTES(n) ((n) >> 20)

int64_t core_value_limit(const piso_session *session) {
    uint64_t arena = piso_session_arena_size(session);
    if (arena >= (uint64_t)CORE_DEFAULT_LIMIT / PER_ARENA)
        return CORE_DEFAULT_LIMIT;
    int64_t limit = (int64_t)arena * PER_ARENA;
    return limit < SMALLEST ? SMALLEST : limit;
}

bool core_charge_more(core_decoder *d) {
    int64_t limit = d->codec->value_limit, spent = d->granted - d->left;
    if (core_is_trusted(d)) { /* nothing is charged */
        d->left = d->granted = CORE_PORTION;
        return true;
    }
    if (spent > limit) {
        core_cannot_decode(
            d, PyExc_MemoryError,
            "the peer sent a value that takes more than %lld MB in this process, or as long as creating that much, "
            "which is the limit for one message; send less at once, send bytes or an array, or raise 'value_limit' in "
            "the extension's configuration",
            (long long)MEGABYTES(limit));
        return false;
    }
    d->granted = limit - spent < CORE_PORTION ? limit : spent + CORE_PORTION;
    d->left = d->granted - spent;
    Py_BEGIN_ALLOW_THREADS /* other threads have waited for some milliseconds */
        Py_END_ALLOW_THREADS return true;
}
