/* paths.c - see paths.h. */
#include "sandbox/paths.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"

#define LINKS_MAX 40
#ifndef SYS_openat2
#define SYS_openat2 437
#endif

/* how: struct open_how of newer headers. */
typedef struct how {
    uint64_t flags, mode, resolve;
} how;
#define NO_LINKS 0x04 /* RESOLVE_NO_SYMLINKS */

void piso__paths_fini(piso__paths *p) {
    for (size_t i = 0; i < p->count; i++) {
        free(p->places[i].path);
        free(p->places[i].target);
    }
    free(p->places);
    for (size_t i = 0; i < p->untrusted_count; i++)
        free(p->untrusted[i]);
    free(p->untrusted);
    free(p->folder);
    free(p->real);
    *p = (piso__paths){0};
}

static piso__spot *append(piso__paths *p, const char *path, piso__use use, const char *target) {
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 128;
        piso__spot *more = realloc(p->places, room * sizeof *more);
        if (!more)
            return NULL;
        p->places = more;
        p->room = room;
    }
    piso__spot place = {.path = strdup(path), .use = use, .target = target ? strdup(target) : NULL};
    if (!place.path || (target && !place.target)) {
        free(place.path);
        free(place.target);
        return NULL;
    }
    p->places[p->count] = place;
    return &p->places[p->count++];
}

int piso__paths_add(piso__paths *p, const char *path, piso__use use, const char *target) {
    piso__spot *place = append(p, path, use, target);
    if (!place)
        return -ENOMEM;
    place->is_folder = use != PISO__USE_LINK;
    return 0;
}

static bool is_untrusted(const piso__paths *p, const char *path) {
    for (size_t i = 0; i < p->untrusted_count; i++) {
        size_t n = strlen(p->untrusted[i]);
        if (strncmp(p->untrusted[i], path, n) == 0 && (path[n] == '\0' || path[n] == '/' || n == 1))
            return true;
    }
    return false;
}

/* walk: a path, as far as it has been followed. */
typedef struct walk {
    char real[PATH_MAX]; /* without links; "" is the root */
    size_t size;         /* size of `real` */
    char rest[PATH_MAX];
    int links;
} walk;

static void leave(walk *w) {
    while (w->size > 0 && w->real[--w->size] != '/')
        ;
    w->real[w->size] = '\0';
}

/* follow: continues at the target of a link, before the rest of the path. */
static int follow(walk *w, const char *target, const char *rest) {
    char text[PATH_MAX];
    if (++w->links > LINKS_MAX)
        return -ELOOP;
    if (snprintf(text, sizeof text, "%s%s%s", target, *rest ? "/" : "", rest) >= (int)sizeof text)
        return -ENAMETOOLONG;
    strcpy(w->rest, text);
    leave(w);
    if (target[0] == '/') {
        w->size = 0;
        w->real[0] = '\0';
    }
    return 0;
}

/* enter: follows one name below the current place; `rest` is the path behind it. */
static int enter(piso__paths *p, walk *w, const char *name, size_t length, const char *rest) {
    if (w->size + length + 2 > sizeof w->real)
        return -ENAMETOOLONG;
    w->real[w->size] = '/';
    memcpy(w->real + w->size + 1, name, length);
    w->size += length + 1;
    w->real[w->size] = '\0';
    char target[PATH_MAX];
    ssize_t n = readlink(w->real, target, sizeof target - 1);
    if (n < 0) {
        memmove(w->rest, rest, strlen(rest) + 1);
        return errno == EINVAL ? 0 : -errno; /* EINVAL: no link */
    }
    target[n] = '\0';
    if (is_untrusted(p, w->real))
        return -ELOOP;
    if (strncmp(w->real, "/proc/", 6) != 0 && !append(p, w->real, PISO__USE_LINK, target))
        return -ENOMEM;
    return follow(w, target, rest);
}

static int walk_on(piso__paths *p, walk *w) {
    int r = 0;
    while (r == 0) {
        const char *name = w->rest + strspn(w->rest, "/");
        size_t length = strcspn(name, "/");
        if (length == 0)
            break;
        const char *rest = name + length;
        if (length == 1 && name[0] == '.') {
            memmove(w->rest, rest, strlen(rest) + 1);
        } else if (length == 2 && name[0] == '.' && name[1] == '.') {
            leave(w);
            memmove(w->rest, rest, strlen(rest) + 1);
        } else {
            r = enter(p, w, name, length, rest + strspn(rest, "/"));
        }
    }
    return r;
}

/* resolve: fills `real` with a path without links. Consecutive paths are often in one folder, which is then
 * followed once. */
static int resolve(piso__paths *p, const char *path, walk *w) {
    const char *name = strrchr(path, '/');
    size_t length = name ? (size_t)(name - path) : 0;
    *w->real = '\0';
    w->size = 0;
    w->links = 0;
    if (path[0] != '/' || strlen(path) >= sizeof w->rest)
        return path[0] != '/' ? -EINVAL : -ENAMETOOLONG;
    bool known = p->folder && strlen(p->folder) == length && strncmp(p->folder, path, length) == 0;
    if (!known) {
        memcpy(w->rest, path, length);
        w->rest[length] = '\0';
        int r = walk_on(p, w);
        if (r < 0)
            return r;
        free(p->folder);
        free(p->real);
        p->folder = strndup(path, length);
        p->real = strdup(w->real);
        if (!p->folder || !p->real) {
            free(p->folder);
            p->folder = NULL;
            return -ENOMEM;
        }
    } else {
        w->size = strlen(p->real);
        memcpy(w->real, p->real, w->size + 1);
    }
    strcpy(w->rest, name + 1);
    int r = walk_on(p, w);
    if (r == 0 && w->size == 0)
        strcpy(w->real, "/");
    return r;
}

static int distrust(piso__paths *p, const char *path) {
    walk w;
    int r = resolve(p, path, &w);
    if (r < 0 || strcmp(w.real, "/") == 0) /* the root: it also has links that belong to the system */
        return r == -ENOMEM ? r : 0;
    char **more = realloc(p->untrusted, (p->untrusted_count + 1) * sizeof *more);
    if (!more)
        return -ENOMEM;
    p->untrusted = more;
    return (more[p->untrusted_count++] = strdup(w.real)) ? 0 : -ENOMEM;
}

/* Shortest first: a path inside another one is then no longer found through a link inside that one. */
int piso__paths_distrust(piso__paths *p, const char *const *first, const char *const *second) {
    const char *const *lists[] = {first, second};
    size_t longest = 0;
    for (size_t i = 0; i < 2; i++)
        for (const char *const *path = lists[i]; path && *path; path++)
            longest = strlen(*path) > longest ? strlen(*path) : longest;
    int r = 0;
    for (size_t length = 0, next; r == 0 && length <= longest; length = next) {
        next = longest + 1;
        for (size_t i = 0; r == 0 && i < 2; i++)
            for (const char *const *path = lists[i]; r == 0 && path && *path; path++) {
                size_t n = strlen(*path);
                if (n == length)
                    r = distrust(p, *path);
                else if (n > length && n < next)
                    next = n;
            }
    }
    return r;
}

/* open_walking: opens name by name, where openat2 is forbidden. */
static int open_walking(const char *path) {
    char name[NAME_MAX + 1];
    piso__autoclose int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (path += strspn(path, "/"); fd >= 0 && *path; path += strspn(path, "/")) {
        size_t length = strcspn(path, "/");
        if (length > NAME_MAX)
            return -ENAMETOOLONG;
        memcpy(name, path, length);
        name[length] = '\0';
        path += length;
        int next = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        struct stat state;
        piso__fd_close(fd);
        fd = next;
        if (fd >= 0 && fstat(fd, &state) == 0 && S_ISLNK(state.st_mode))
            return -ELOOP;
    }
    return fd < 0 ? -errno : piso__fd_steal(&fd);
}

/* open_linkless: -ELOOP when there is a link on the way. */
static int open_linkless(const char *path) {
    const how h = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = NO_LINKS};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &h, sizeof h);
    return fd < 0 ? -errno : fd;
}

/* open_real: opens a path without links, even if somebody has just put one there. */
static int open_real(const char *path) {
    int fd = open_linkless(path);
    return fd == -ENOSYS || fd == -EPERM ? open_walking(path) : fd;
}

/* is_plain: whether a path without links is its own real path: no name in it is empty, "." or "..". */
static bool is_plain(const char *path) {
    if (path[0] != '/' || strlen(path) >= PATH_MAX)
        return false;
    for (const char *name = path; *name;) {
        size_t length = strcspn(++name, "/"), dots = strspn(name, ".");
        if (length == 0 || (length == dots && dots <= 2))
            return false;
        name += length;
    }
    return true;
}

/* open_plain: opens a path without links, as most are; tried first. -ELOOP: the path must be followed, or is
 * itself a link, which is opened instead of its target. */
static int open_plain(const char *path, struct stat *ret_state) {
    piso__autoclose int fd = is_plain(path) ? open_linkless(path) : -ELOOP;
    if (fd < 0)
        return fd == -ENOENT || fd == -ENOTDIR ? fd : -ELOOP;
    if (fstat(fd, ret_state) < 0)
        return -errno;
    return S_ISLNK(ret_state->st_mode) ? -ELOOP : piso__fd_steal(&fd);
}

/* open_followed: follows the path with `w` and opens the result. */
static int open_followed(piso__paths *p, const char *path, walk *w, struct stat *ret_state) {
    int r = resolve(p, path, w);
    if (r < 0)
        return r;
    piso__autoclose int fd = open_real(w->real);
    if (fd < 0)
        return fd;
    return fstat(fd, ret_state) < 0 ? -errno : piso__fd_steal(&fd);
}

int piso__paths_open(piso__paths *p, const char *path, piso__use use, struct stat *ret_state) {
    walk w;
    const char *real = path;
    piso__autoclose int fd = open_plain(path, ret_state);
    if (fd == -ELOOP) {
        fd = open_followed(p, path, &w, ret_state);
        real = w.real;
    }
    if (fd < 0)
        return fd;
    piso__spot *place = append(p, real, use, NULL);
    if (!place)
        return -ENOMEM;
    place->is_folder = S_ISDIR(ret_state->st_mode);
    place->device = ret_state->st_dev;
    place->inode = ret_state->st_ino;
    return piso__fd_steal(&fd);
}

/* ---- the root ---- */

/* compare: sorts the contents of a folder right behind it. */
static int compare(const void *one, const void *other) {
    const piso__spot *a = one, *b = other;
    const unsigned char *x = (const unsigned char *)a->path, *y = (const unsigned char *)b->path;
    while (*x && *x == *y)
        x++, y++;
    if (*x == *y)
        return (int)b->use - (int)a->use; /* the highest use of a name first */
    int v = *x == '/' ? 1 : *x == '\0' ? 0 : *x + 1, z = *y == '/' ? 1 : *y == '\0' ? 0 : *y + 1;
    return v - z;
}

static bool is_in(const char *path, const char *folder) {
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && path[n] == '/';
}

/* plan: `last`: the last name that was made outside of a mount; `top`: the last path that is mounted, or
 * covered. */
typedef struct plan {
    piso__paths *paths;
    piso__step *steps;
    size_t count, room;
    const char *last;
    size_t tops[64];
    int depth;
} plan;

static piso__step *add_step(plan *p, uint32_t kind, size_t place) {
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 256;
        piso__step *more = realloc(p->steps, room * sizeof *more);
        if (!more)
            return NULL;
        p->steps = more;
        p->room = room;
    }
    p->steps[p->count] = (piso__step){.kind = kind, .path = (uint32_t)place};
    return &p->steps[p->count++];
}

/* add_parents: adds the folders on the way that were not made for the previous name. */
static int add_parents(plan *p, size_t place, size_t below) {
    const char *path = p->paths->places[place].path;
    for (size_t end = below + 1; path[end]; end++) {
        if (path[end] != '/')
            continue;
        if (p->last && strncmp(p->last, path, end) == 0 && (p->last[end] == '/' || p->last[end] == '\0'))
            continue;
        piso__step *step = add_step(p, PISO__STEP_FOLDER, place);
        if (!step)
            return -ENOMEM;
        step->target = (uint32_t)end;
    }
    p->last = path;
    return 0;
}

static uint32_t kind_of(piso__use use) {
    return use == PISO__USE_FOLDER      ? PISO__STEP_FOLDER
           : use == PISO__USE_TERMINALS ? PISO__STEP_TERMINALS
           : use == PISO__USE_LINK      ? PISO__STEP_LINK
           : use == PISO__USE_PROC      ? PISO__STEP_PROC
           : use == PISO__USE_LIST      ? PISO__STEP_LIST
           : use == PISO__USE_HIDE      ? PISO__STEP_COVER
                                        : PISO__STEP_MOUNT;
}

static int add_place(plan *p, size_t index) {
    const piso__spot *place = &p->paths->places[index];
    while (p->depth > 0 && !is_in(place->path, p->paths->places[p->tops[p->depth - 1]].path))
        p->depth--;
    const piso__spot *top = p->depth > 0 ? &p->paths->places[p->tops[p->depth - 1]] : NULL;
    bool is_inside = top && top->use != PISO__USE_HIDE;
    if (is_inside ? place->use != PISO__USE_HIDE && (place->use != PISO__USE_WRITE || top->use == PISO__USE_WRITE)
                  : place->use == PISO__USE_HIDE)
        return 0; /* it is there as it is, or missing anyway */
    if (!is_inside && add_parents(p, index, top ? strlen(top->path) : 0) < 0)
        return -ENOMEM;
    piso__step *step = add_step(p, kind_of(place->use), index);
    if (!step)
        return -ENOMEM;
    step->flags = (place->is_folder ? PISO__STEP_IS_FOLDER : 0) | (is_inside ? PISO__STEP_INSIDE : 0) |
                  (place->use == PISO__USE_WRITE ? PISO__STEP_WRITABLE : 0);
    for (int i = 0; i < p->depth; i++)
        if (p->paths->places[p->tops[i]].use == PISO__USE_WRITE && place->use != PISO__USE_WRITE)
            step->flags |= step->kind == PISO__STEP_MOUNT || step->kind == PISO__STEP_COVER ? PISO__STEP_PROTECTED : 0;
    step->device = place->device;
    step->inode = place->inode;
    if (place->is_folder &&
        (step->kind == PISO__STEP_MOUNT || step->kind == PISO__STEP_PROC || step->kind == PISO__STEP_COVER)) {
        if (p->depth == (int)(sizeof p->tops / sizeof *p->tops))
            return -ELOOP;
        p->tops[p->depth++] = index;
        if (step->kind == PISO__STEP_COVER)
            p->last = place->path;
    }
    return 0;
}

int piso__paths_plan(piso__paths *paths, piso__step **ret_steps, size_t *ret_count) {
    plan p = {.paths = paths};
    if (paths->count)
        qsort(paths->places, paths->count, sizeof *paths->places, compare);
    for (size_t i = 0; i < paths->count; i++) {
        if (i > 0 && strcmp(paths->places[i].path, paths->places[i - 1].path) == 0)
            continue;
        int r = strcmp(paths->places[i].path, "/") == 0 ? 0 : add_place(&p, i);
        if (r < 0) {
            free(p.steps);
            return r;
        }
    }
    *ret_steps = p.steps;
    *ret_count = p.count;
    return 0;
}
