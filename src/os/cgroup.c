/* cgroup.c - see cgroup.h. /proc/self/cgroup names the groups within their hierarchies. /proc/self/mountinfo
 * tells where the hierarchies are mounted, and from which group downwards. */
#include "os/cgroup.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"

#define GROUPS_SIZE 8192 /* of /proc/self/cgroup; a longer text is cut */

static bool lists(const char *list, const char *controller) {
    size_t length = strlen(controller);
    for (; list; list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL)
        if (strncmp(list, controller, length) == 0 && (list[length] == ',' || list[length] == '\0'))
            return true;
    return false;
}

/* ---- where hierarchies are mounted ---- */

/* mounted: a line of mountinfo about a hierarchy. `top` is the group that is visible at `place`. */
typedef struct mounted {
    struct mounted *next;
    bool unified;
    const char *controllers, *top, *place; /* in text; controllers are among other options */
    char text[];
} mounted;

/* All hierarchies, as last read. A list never changes. It is never freed either, since other threads may be
 * reading it: a replaced list is kept in `before`. Lists are replaced only when a system is mounted anew. */
typedef struct mounts {
    struct mounts *before;
    mounted *first;
} mounts;

static _Atomic(mounts *) kept;
static _Atomic(const char *) proc = "/proc/self";
_Atomic uint32_t piso__cgroup_mounts_read;

/* unescape: turns "\040" into a blank. */
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; to++) {
        unsigned code;
        if (*from == '\\' && strspn(from + 1, "01234567") >= 3 && sscanf(from + 1, "%3o", &code) == 1) {
            *to = (char)code;
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* parse: parses a line such as "36 35 98:0 /top /place rw,noatime master:1 - cgroup name rw,memory". NULL if it
 * is about something else. */
static mounted *parse(const char *line) {
    size_t size = strlen(line) + 1;
    piso__autofree mounted *m = malloc(sizeof *m + size);
    if (!m)
        return NULL;
    memcpy(m->text, line, size);
    m->text[strcspn(m->text, "\n")] = '\0';
    char *rest = m->text, *second = strstr(m->text, " - "), *fields[5], *type;
    if (!second)
        return NULL;
    *second = '\0';
    second += 3;
    for (int i = 0; i < 5; i++)
        if (!(fields[i] = strsep(&rest, " ")))
            return NULL;
    type = strsep(&second, " ");
    strsep(&second, " ");
    if (!second || (strcmp(type, "cgroup") != 0 && strcmp(type, "cgroup2") != 0))
        return NULL;
    unescape(fields[3]);
    unescape(fields[4]);
    m->unified = type[6] == '2';
    m->top = strcmp(fields[3], "/") == 0 ? "" : fields[3];
    m->place = fields[4];
    m->controllers = second;
    m->next = NULL;
    return piso__steal_pointer(&m);
}

static void free_list(mounted *m) {
    while (m) {
        mounted *next = m->next;
        free(m);
        m = next;
    }
}

static bool same(const mounted *a, const mounted *b) {
    while (a && b && a->unified == b->unified && strcmp(a->controllers, b->controllers) == 0 &&
           strcmp(a->top, b->top) == 0 && strcmp(a->place, b->place) == 0) {
        a = a->next;
        b = b->next;
    }
    return !a && !b;
}

/* read_mounts: returns the mounts in their order; NULL also when there are none. */
static mounted *read_mounts(void) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/mountinfo", proc);
    atomic_fetch_add_explicit(&piso__cgroup_mounts_read, 1, memory_order_relaxed);
    FILE *file = fopen(path, "re");
    mounted *first = NULL, **last = &first;
    piso__autofree char *line = NULL;
    size_t size = 0;
    while (file && getline(&line, &size, file) >= 0)
        if ((*last = parse(line)))
            last = &(*last)->next;
    if (file)
        fclose(file);
    return first;
}

/* refresh: returns the current list and stores it in place of `old`, which may be NULL. */
static const mounts *refresh(mounts *old) {
    mounted *first = read_mounts();
    mounts *now = old && same(first, old->first) ? NULL : malloc(sizeof *now);
    if (now) {
        *now = (mounts){.before = old, .first = first};
        if (atomic_compare_exchange_strong(&kept, &old, now))
            return now;
        free(now); /* another thread was faster */
    }
    free_list(first);
    return old;
}

void piso__cgroup_read_below(const char *folder) {
    proc = folder;
    refresh(atomic_load(&kept));
}

/* ---- the group of this process ---- */

/* own_group: returns this process's group within its hierarchy, NULL when it is in none. Cuts `groups` into
 * strings. */
static const char *own_group(char *groups, const char *controller, bool *ret_unified) {
    const char *unified = NULL;
    char *state;
    for (char *line = strtok_r(groups, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group || group[1] != '/')
            continue;
        *group++ = '\0';
        controllers++;
        if (*controllers == '\0')
            unified = group;
        *ret_unified = !lists(controllers, controller);
        if (!*ret_unified)
            return group;
    }
    *ret_unified = true;
    return unified;
}

/* below: returns the part of a group's name below the top of a mount. NULL if the group is not below it: then
 * it belongs to another container. */
static const char *below(const char *group, const char *top) {
    size_t length = strlen(top);
    if (strncmp(group, top, length) != 0 || (group[length] != '/' && group[length] != '\0') || strstr(group, "/.."))
        return NULL;
    return strcmp(group + length, "/") == 0 ? "" : group + length;
}

/* search: finds the group itself, or with `own` false the topmost visible one; it must exist. *ret_lost: the
 * group should exist and does not. */
static bool search(const mounts *list, const char *group, const char *controller, piso__cgroup *g, bool *ret_lost) {
    for (const mounted *m = list ? list->first : NULL; m; m = m->next) {
        const char *rest = g->own ? below(group, m->top) : "";
        if (m->unified != g->unified || (!m->unified && !lists(m->controllers, controller)) || !rest)
            continue;
        int length = snprintf(g->folder, sizeof g->folder, "%s%s", m->place, rest);
        g->top = strlen(m->place);
        if (length > 0 && (size_t)length < sizeof g->folder && access(g->folder, F_OK) == 0)
            return true;
        *ret_lost = true;
    }
    return false;
}

bool piso__cgroup_find(const char *controller, piso__cgroup *ret_group) {
    char path[PATH_MAX], groups[GROUPS_SIZE];
    snprintf(path, sizeof path, "%s/cgroup", proc);
    piso__cgroup g = {.own = true};
    const char *group = piso__read_text(path, groups, sizeof groups) ? own_group(groups, controller, &g.unified) : NULL;
    if (!group)
        return false;
    mounts *list = atomic_load(&kept);
    const mounts *now = list ? list : refresh(NULL);
    bool lost = false, found = search(now, group, controller, &g, &lost);
    if (!found && lost && list)
        found = search(now = refresh(list), group, controller, &g, &lost);
    if (!found) {
        g.own = false;
        found = search(now, group, controller, &g, &lost);
    }
    if (found)
        *ret_group = g;
    return found;
}

void piso__cgroup_walk(const char *controller, piso__cgroup_visit *visit, void *argument) {
    piso__cgroup g;
    if (!piso__cgroup_find(controller, &g))
        return;
    for (size_t length = strlen(g.folder); length >= g.top;) {
        g.folder[length] = '\0';
        visit(g.folder, argument);
        while (length > 0 && g.folder[--length] != '/') {
        }
    }
}
