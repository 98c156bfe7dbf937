/* word.c - see os.h: waiting for a number in memory to change, by futex. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/os.h"

int piso__word_wait(const _Atomic uint32_t *word, uint32_t value, int64_t timeout_ns) {
    if (timeout_ns == 0)
        return atomic_load_explicit(word, memory_order_acquire) != value;
    int64_t now = piso_now_ns(), end = timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
    struct timespec until = {end / 1000000000, end % 1000000000};
    /* the timeout is an absolute time of CLOCK_MONOTONIC, so spurious wake-ups do not extend it */
    while (atomic_load_explicit(word, memory_order_acquire) == value) {
        long r = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, timeout_ns < 0 ? NULL : &until, NULL,
                         FUTEX_BITSET_MATCH_ANY);
        if (r < 0 && errno != EAGAIN)
            return errno == ETIMEDOUT ? 0 : -errno;
    }
    return 1;
}

void piso__word_wake(const _Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX);
}
