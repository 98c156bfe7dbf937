/* cgroup.c - the control groups that this process is in, of either version. */
#include "os/cgroup.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"

bool piso__read_text(const char *path, char *buffer, size_t size) {
    piso__autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0 && length < size - 1) { /* files of /proc come in pieces */
        n = piso__read(fd, buffer + length, size - 1 - length);
        length += n > 0 ? (size_t)n : 0;
    }
    if (n < 0)
        return false;
    buffer[length] = '\0';
    return true;
}

bool piso__cgroup_lists(const char *list, size_t size, const char *controller) {
    size_t length = strlen(controller);
    for (const char *end = list + size; list < end;) {
        const char *comma = memchr(list, ',', (size_t)(end - list)), *stop = comma ? comma : end;
        if ((size_t)(stop - list) == length && memcmp(list, controller, length) == 0)
            return true;
        list = stop + 1;
    }
    return false;
}

/* walk_up: a group and all above it. In a container the mount may begin further down than the group's name says: what
 * does not exist has no files. */
static void walk_up(const char *mount, const char *group, piso__cgroup_look *look, void *argument) {
    char directory[PATH_MAX];
    int length = snprintf(directory, sizeof directory, "%s%s", mount, group);
    if (length < 0 || (size_t)length >= sizeof directory)
        return;
    for (;;) {
        look(directory, argument);
        char *slash = strrchr(directory, '/');
        if (!slash || (size_t)(slash - directory) < strlen(mount))
            return;
        *slash = '\0';
    }
}

void piso__cgroup_walk(const char *controller, piso__cgroup_look *look, void *argument) {
    char groups[8192], mount[64], *state;
    if (!piso__read_text("/proc/self/cgroup", groups, sizeof groups))
        return;
    snprintf(mount, sizeof mount, "/sys/fs/cgroup/%s", controller);
    for (char *line = strtok_r(groups, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        controllers++;
        if (*controllers == '\0')
            walk_up("/sys/fs/cgroup", group, look, argument);
        else if (piso__cgroup_lists(controllers, strlen(controllers), controller))
            walk_up(mount, group, look, argument);
    }
}
