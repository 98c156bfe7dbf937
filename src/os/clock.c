/* clock.c - the monotonic clock. */
#include <time.h>

#include "os/os.h"

static int64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t piso_now_ns(void) {
    return now(CLOCK_MONOTONIC);
}

int64_t piso_now_coarse_ns(void) {
    return now(CLOCK_MONOTONIC_COARSE);
}
