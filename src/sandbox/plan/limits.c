/* limits.c - the resource limits of a child. */
#include <stdio.h>
#include <string.h>

#include "os/os.h"
#include "sandbox/plan/limits.h"
#include "sandbox/plan/report.h"
#include "sandbox/processes.h"

static void add_limit(piso__plan *p, int resource, uint64_t soft, uint64_t hard) {
    if (soft)
        p->head.limits[p->head.nlimits++] =
            (piso__limit){.resource = (uint32_t)resource, .soft = soft, .hard = hard ? hard : soft};
}

/* add_open_files: limits descriptors, even if no limit was requested, to fewer than this process may have.
 * Descriptors under way in sockets are counted per user, against the limit of the process that sends more. */
static void add_open_files(piso__plan *p, uint64_t asked) {
    struct rlimit limit;
    uint64_t most = piso__fd_share();
    if (!asked && getrlimit(RLIMIT_NOFILE, &limit) == 0)
        add_limit(p, RLIMIT_NOFILE, limit.rlim_cur < most ? limit.rlim_cur : most, most);
    else
        add_limit(p, RLIMIT_NOFILE, asked, 0);
}

/* add_signals: permits half of what this process may have. Pending timers and signals are counted per user in
 * the same way. */
static void add_signals(piso__plan *p) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_SIGPENDING, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        add_limit(p, RLIMIT_SIGPENDING, limit.rlim_cur / 2, 0);
}

const piso_limits *piso__plan_limits_of(const piso_sandbox *spec) {
    static const piso_limits none;
    return spec->limits ? spec->limits : &none;
}

/* group_memory: returns the limit of all memory of the child: its own, plus what other limits grant and the
 * kernel counts as memory. */
static uint64_t group_memory(const piso_limits *l) {
    uint64_t sum = l->memory;
    if (sum == 0 || __builtin_add_overflow(sum, l->shared_memory, &sum) ||
        __builtin_add_overflow(sum, l->temp_size, &sum) || sum > INT64_MAX)
        return 0;
    return sum;
}

/* plan_group: plans a control group that counts processes and memory, where one can be made. For processes the
 * kernel has another limit, except for root's. Memory also has a limit per process, so a group is not
 * essential. */
static int plan_group(piso__plan *p) {
    const piso_limits *l = piso__plan_limits_of(p->spec);
    piso__group_limits limits = {.processes = l->processes, .memory = group_memory(l)};
    if (!limits.processes && !limits.memory)
        return 0;
    piso__group_new(&limits, &p->group, &p->group_errors);
    int r = p->group_errors.processes;
    if (r == 0 || piso__kernel_counts_processes())
        return 0;
    piso__plan_note(
        p, PISO_LAYER_LIMITS, false,
        "'processes' of root are limited only by a control group, and none can be made (%s): run as another user or "
        "make /sys/fs/cgroup writable",
        r == -ENOENT ? "no pids controller" : piso_strerror(r));
    return piso__plan_fail(p, PISO_LAYER_LIMITS);
}

/* note_limits: reports the limits and what enforces them. */
static void note_limits(piso__plan *p) {
    const piso_limits *l = piso__plan_limits_of(p->spec);
    bool namespaces = p->layers & PISO__BIT(PISO_LAYER_NAMESPACES), memory = group_memory(l) != 0;
    int processes_error = p->group_errors.processes, memory_error = p->group_errors.memory;
    const char *counted = "", *alone = "";
    if (memory && !memory_error)
        counted = l->processes && !processes_error ? "memory and processes are counted by a control group"
                                                   : "memory is counted by a control group";
    else if (l->processes && !processes_error)
        counted = "processes are counted by a control group";
    if (l->processes && processes_error && !namespaces)
        alone = "processes are counted together with the others of this user";
    char private_only[96] = "";
    if (memory && memory_error)
        snprintf(private_only, sizeof private_only,
                 "of memory only what each process has for itself: no control group (%s)",
                 memory_error == -ENOENT  ? "no memory controller"
                 : memory_error == -EBUSY ? "none is delegated"
                                          : piso_strerror(memory_error));
    const char *parts[] = {counted, alone, private_only};
    char text[sizeof p->report->layers[0].detail] = "";
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text && *parts[i] ? "; " : "", parts[i]);
    piso__plan_note(p, PISO_LAYER_LIMITS, true, "%s", text);
}

int piso__plan_limits(piso__plan *p) {
    const piso_limits *l = piso__plan_limits_of(p->spec);
    if (piso__plan_omits(p, PISO_LAYER_LIMITS))
        return 0;
    if (l->temp_size && !(p->layers & PISO__BIT(PISO_LAYER_NAMESPACES))) {
        piso__plan_note(p, PISO_LAYER_LIMITS, false,
                        "temporary space can be limited only where namespaces are permitted");
        return piso__plan_fail(p, PISO_LAYER_LIMITS);
    }
    int r = plan_group(p);
    if (r < 0)
        return r;
    p->head.limits[p->head.nlimits++] =
        (piso__limit){.resource = RLIMIT_CORE, .soft = 1, .hard = 1}; /* no core file, which is a write
        to disk; with 0 the kernel starts a program for it all the same where `core_pattern` names one */
    add_limit(p, RLIMIT_DATA, l->memory, 0);
    add_limit(p, RLIMIT_CPU, l->cpu_seconds, l->cpu_seconds + 1); /* SIGXCPU first, which tells the reason */
    add_limit(p, RLIMIT_NPROC, p->group_errors.processes ? l->processes : 0, 0);
    add_open_files(p, l->open_files);
    add_limit(p, RLIMIT_FSIZE, l->file_size, 0);
    add_signals(p);
    p->head.temp_size = l->temp_size;
    p->head.shm_size = l->memory;
    note_limits(p);
    return 0;
}
