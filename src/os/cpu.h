/* cpu.h - how many processors the limits of a cgroup amount to. Pure functions over file contents, for tests. */
#ifndef PISO_OS_CPU_H
#define PISO_OS_CPU_H

/* piso__cpu_parse_max: parses cpu.max of cgroup v2 ("max 100000" or "150000 100000"). Returns processors,
 * rounded up, or 0 when there is no limit or the text is malformed. */
int piso__cpu_parse_max(const char *text);
/* piso__cpu_parse_quota: the same for cpu.cfs_quota_us and cpu.cfs_period_us of cgroup v1. */
int piso__cpu_parse_quota(const char *quota, const char *period);

#endif
