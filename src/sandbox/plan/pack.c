/* pack.c - writes the block of bytes that describes what the child does. */
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/plan/pack.h"

#define MEMBERS "/cgroup.procs"

/* put_string: appends a string to the block and returns its offset. */
static uint32_t put_string(piso__blob *b, const char *text) {
    uint32_t at = b->size;
    memcpy(piso__blob_at(b, at), text, strlen(text) + 1);
    b->size += (uint32_t)strlen(text) + 1;
    return at;
}

static const char *group_path(const piso__plan *p, int index) {
    return p->group ? piso__group_path(p->group, index) : NULL;
}

static void put_groups(piso__blob *b, const piso__plan *p) {
    b->groups = b->size;
    for (const char *path; (path = group_path(p, (int)b->group_count)); b->group_count++) {
        put_string(b, path);
        b->size--; /* removes its end */
        put_string(b, MEMBERS);
    }
}

static void put_steps(piso__blob *b, const piso__plan *p) {
    piso__step *steps = piso__blob_at(b, b->steps);
    b->step_count = (uint32_t)p->step_count;
    for (size_t i = 0; i < p->step_count; i++) {
        const piso__spot *place = &p->paths.places[p->steps[i].path];
        uint32_t cut = p->steps[i].target;
        steps[i] = p->steps[i];
        steps[i].path = put_string(b, place->path);
        if (cut) { /* a folder on the way */
            b->size = steps[i].path + cut;
            *(char *)piso__blob_at(b, b->size++) = '\0';
        }
        steps[i].target = place->target && !cut ? put_string(b, place->target) : 0;
    }
}

static size_t steps_size(const piso__plan *p) {
    size_t size = p->step_count * sizeof *p->steps;
    for (size_t i = 0; i < p->step_count; i++) {
        const piso__spot *place = &p->paths.places[p->steps[i].path];
        size += strlen(place->path) + 1 + (place->target ? strlen(place->target) + 1 : 0);
    }
    return size;
}

/* own_mount: whether a path can have its own writable mount. The root cannot be mounted over. */
static bool own_mount(const char *path) {
    return path[0] == '/' && path[1] != '\0' && access(path, F_OK) == 0;
}

piso__blob *piso__plan_pack(const piso__plan *p) {
    const piso_sandbox *spec = p->spec;
    size_t filter_size = (size_t)p->filter_count * sizeof *p->filter, size = sizeof(piso__blob) + filter_size;
    size_t first = (size + alignof(piso__step) - 1) / alignof(piso__step) * alignof(piso__step);
    size = first + steps_size(p);
    for (const char *const *path = spec->writable; path && *path; path++)
        size += strlen(*path) + 1;
    size += spec->temp ? 2 * (strlen(spec->temp) + 1) : 0;
    for (int i = 0; group_path(p, i); i++)
        size += strlen(group_path(p, i)) + sizeof MEMBERS;
    piso__blob *b = size < UINT32_MAX ? calloc(1, size) : NULL;
    if (!b)
        return NULL;
    *b = p->head;
    b->magic = PISO__BLOB_MAGIC;
    b->layers = p->layers;
    b->hides_network = !spec->network && !(b->namespaces & CLONE_NEWNET);
    b->uid = geteuid();
    b->gid = getegid();
    b->filter = sizeof *b;
    b->filter_count = (uint32_t)p->filter_count;
    if (filter_size)
        memcpy(piso__blob_at(b, b->filter), p->filter, filter_size);
    b->steps = (uint32_t)first;
    b->size = (uint32_t)(first + p->step_count * sizeof *p->steps);
    put_steps(b, p);
    b->writable = b->size;
    for (const char *const *path = spec->writable; path && *path; path++)
        if (own_mount(*path)) {
            put_string(b, *path);
            b->writable_count++;
        }
    if (spec->temp && !b->temp_size) {
        put_string(b, spec->temp);
        b->writable_count++;
    }
    if (spec->temp)
        b->temp = put_string(b, spec->temp);
    put_groups(b, p);
    return b;
}
