/* cpu.h - how many processors a cgroup's limits amount to. Pure functions over file contents, for tests. */
#ifndef PISO_OS_CPU_H
#define PISO_OS_CPU_H

/* piso__cpu_parse_max: cgroup v2 cpu.max ("max 100000" or "150000 100000"): processors rounded up, or 0 for no
 * limit or nonsense. */
int piso__cpu_parse_max(const char *text);
/* piso__cpu_parse_quota: cgroup v1 cpu.cfs_quota_us and cpu.cfs_period_us; the same. */
int piso__cpu_parse_quota(const char *quota, const char *period);

#endif
