/* cpu.c - processors that this process may really use: the affinity mask, and the quota of its cgroup and those
 * above it. A container with one processor's worth of quota on a 64-core machine must not spin. */
#include "os/cpu.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

/* read_text: a small file as a string; false if it cannot be read. */
static bool read_text(const char *path, char *buffer, size_t size) {
    piso__autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buffer, size - 1);
    if (n < 0)
        return false;
    buffer[n] = '\0';
    return true;
}

static int smaller(int limit, int found) {
    return found > 0 && found < limit ? found : limit;
}

/* quota_at: the limit set on one cgroup directory, of either version. */
static int quota_at(const char *directory, int limit) {
    char path[PATH_MAX + 32], first[64], second[64];
    snprintf(path, sizeof path, "%s/cpu.max", directory);
    if (read_text(path, first, sizeof first))
        limit = smaller(limit, piso__cpu_parse_max(first));
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", directory);
    if (read_text(path, first, sizeof first)) {
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory);
        if (read_text(path, second, sizeof second))
            limit = smaller(limit, piso__cpu_parse_quota(first, second));
    }
    return limit;
}

/* quota_upwards: the smallest limit of a cgroup and all its parents. */
static int quota_upwards(const char *mount, const char *group, int limit) {
    char directory[PATH_MAX];
    int length = snprintf(directory, sizeof directory, "%s%s", mount, group);
    if (length < 0 || (size_t)length >= sizeof directory)
        return limit;
    for (;;) {
        limit = quota_at(directory, limit);
        char *slash = strrchr(directory, '/');
        if (!slash || (size_t)(slash - directory) < strlen(mount))
            return limit;
        *slash = '\0';
    }
}

static int cgroup_limit(int limit) {
    char groups[8192];
    if (!read_text("/proc/self/cgroup", groups, sizeof groups))
        return limit;
    char *state;
    for (char *line = strtok_r(groups, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        controllers++;
        if (*controllers == '\0')
            limit = quota_upwards("/sys/fs/cgroup", group, limit);
        else if (strstr(controllers, "cpu") && !strstr(controllers, "cpuset"))
            limit = quota_upwards("/sys/fs/cgroup/cpu", group, limit);
    }
    return limit;
}

int piso__cpu_count(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    count = cgroup_limit(count > 0 ? count : 1);
    return count > 0 ? count : 1;
}

int piso__cpu_current(void) {
    return sched_getcpu();
}

void piso__cpu_yield(void) {
    sched_yield();
}

void piso__cpu_leave(void) {
    cpu_set_t allowed, others;
    int cpu = sched_getcpu();
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        return;
    others = allowed;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0)
        sched_setaffinity(0, sizeof allowed, &allowed);
}
