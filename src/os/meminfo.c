/* meminfo.c - how much memory can be used before anything is killed. The kernel does not refuse memory that it
 * cannot provide: it starts to provide it, and kills when memory runs out, both in the system and in a group
 * with a limit (a container). */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "os/cgroup.h"
#include "os/os.h"

/* number_after: returns the number behind a word at the start of a line, 0 when the word is missing. */
static uint64_t number_after(const char *text, const char *word) {
    size_t size = strlen(word);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, word, size) == 0 && line[size] == ' ')
            return strtoull(line + size, NULL, 10);
    }
    return 0;
}

/* system_available: returns the kernel's own estimate, or where /proc is missing the free memory. */
static uint64_t system_available(void) {
    char text[512];
    uint64_t kilobytes = piso__read_text("/proc/meminfo", text, sizeof text) ? number_after(text, "MemAvailable:") : 0;
    if (kilobytes)
        return kilobytes << 10;
    struct sysinfo info;
    return sysinfo(&info) < 0 ? UINT64_MAX : (info.freeram + info.bufferram) * (uint64_t)info.mem_unit;
}

/* The names of the same files and fields in both versions. */
static const struct version {
    const char *limit, *usage, *inactive, *active;
} versions[] = {
    {"memory.max", "memory.current", "inactive_file", "active_file"},
    {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"},
};

static bool read_file(const char *directory, const char *name, char *buffer, size_t size) {
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return piso__read_text(path, buffer, size);
}

/* read_number: false when there is no number ("max"). */
static bool read_number(const char *directory, const char *name, uint64_t *ret_value) {
    char text[64], *end;
    if (!read_file(directory, name, text, sizeof text))
        return false;
    uint64_t value = strtoull(text, &end, 10);
    if (end == text)
        return false;
    *ret_value = value;
    return true;
}

uint64_t piso__memory_room(const char *directory) {
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        const struct version *v = &versions[i];
        uint64_t limit, usage;
        char stat[8192];
        if (!read_number(directory, v->limit, &limit) || limit >= INT64_MAX / 2 ||
            !read_number(directory, v->usage, &usage))
            continue;
        uint64_t cache = 0;
        if (read_file(directory, "memory.stat", stat, sizeof stat))
            cache = number_after(stat, v->inactive) + number_after(stat, v->active);
        uint64_t used = usage > cache ? usage - cache : 0;
        return limit > used ? limit - used : 0;
    }
    return UINT64_MAX;
}

_Atomic int piso__strict_memory = -1;

bool piso__memory_is_strict(void) {
    int strict = atomic_load_explicit(&piso__strict_memory, memory_order_relaxed);
    if (strict < 0) {
        char text[8];
        strict = piso__read_text("/proc/sys/vm/overcommit_memory", text, sizeof text) && text[0] == '2';
        atomic_store_explicit(&piso__strict_memory, strict, memory_order_relaxed);
    }
    return strict;
}

static void lower_available(const char *directory, void *argument) {
    uint64_t *available = argument, room = piso__memory_room(directory);
    if (room < *available)
        *available = room;
}

uint64_t piso__memory_available(void) {
    uint64_t available = system_available();
    piso__cgroup_walk("memory", lower_available, &available);
    return available;
}
