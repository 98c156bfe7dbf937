/* cpu.c - the processors that this process may really use: the affinity mask, and the quotas of its cgroup and
 * those above it. A container with a quota of one processor must not spin, even on a machine with 64 cores. */
#include "os/cpu.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "os/cgroup.h"
#include "os/os.h"

static int processors(long long quota, long long period) {
    if (quota <= 0 || period <= 0)
        return 0;
    long long n = quota / period + (quota % period != 0);
    return n > INT_MAX ? 0 : (int)n;
}

int piso__cpu_parse_max(const char *text) {
    long long quota, period;
    return sscanf(text, "%lld %lld", &quota, &period) == 2 ? processors(quota, period) : 0;
}

int piso__cpu_parse_quota(const char *quota, const char *period) {
    long long q, p;
    return sscanf(quota, "%lld", &q) == 1 && sscanf(period, "%lld", &p) == 1 ? processors(q, p) : 0;
}

static int smaller(int limit, int found) {
    return found > 0 && found < limit ? found : limit;
}

/* quota_at: returns the limit of one cgroup directory, of either version. */
static void quota_at(const char *directory, void *argument) {
    char path[PATH_MAX + 32], first[64], second[64];
    int *limit = argument;
    snprintf(path, sizeof path, "%s/cpu.max", directory);
    if (piso__read_text(path, first, sizeof first))
        *limit = smaller(*limit, piso__cpu_parse_max(first));
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", directory);
    if (piso__read_text(path, first, sizeof first)) {
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory);
        if (piso__read_text(path, second, sizeof second))
            *limit = smaller(*limit, piso__cpu_parse_quota(first, second));
    }
}

int piso__cpu_count(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    count = count > 0 ? count : 1;
    piso__cgroup_walk("cpu", quota_at, &count);
    return count > 0 ? count : 1;
}

int piso__cpu_current(void) {
    return sched_getcpu();
}

void piso__cpu_yield(void) {
    sched_yield();
}

void piso__cpu_migrate(void) {
    cpu_set_t allowed, others;
    int cpu = sched_getcpu();
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        return;
    others = allowed;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0)
        sched_setaffinity(0, sizeof allowed, &allowed);
}
