/* blob.c - the block of bytes that describes what the child does: how it is written, and checked when it comes
 * from elsewhere. */
#include "sandbox/blob.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/plan.h"

#define MAGIC   UINT64_C(0x7069736f73623031)
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

piso__blob *piso__blob_new(const piso__plan *p) {
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
    b->magic = MAGIC;
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

/* are_strings: whether `count` consecutive strings end with `last` or before it, where a string ends. */
static bool are_strings(const piso__blob *b, uint32_t offset, uint32_t count, const char *last) {
    const char *path = piso__blob_at(b, offset);
    for (uint32_t i = 0; i < count; i++) {
        if (path < (const char *)b || path > last)
            return false;
        path += strlen(path) + 1;
    }
    return true;
}

bool piso__blob_is_whole(const piso__blob *b, size_t size) {
    if (size < sizeof *b || b->magic != MAGIC || b->size != size || b->nlimits > PISO__LIMITS_MAX)
        return false;
    uint64_t filter_end = b->filter + (uint64_t)b->filter_count * sizeof(struct sock_filter);
    if (b->filter % alignof(struct sock_filter) || filter_end > size || b->filter_count > BPF_MAXINSNS)
        return false;
    /* strings: the last byte of the block ends the last one */
    const char *last = (const char *)b + size - 1;
    uint64_t steps_end = b->steps + (uint64_t)b->step_count * sizeof(piso__step);
    if (b->steps % alignof(piso__step) || b->steps < sizeof *b || steps_end > size)
        return false;
    if (size > (steps_end > filter_end ? steps_end : filter_end) && *last != '\0')
        return false;
    const piso__step *steps = piso__blob_at(b, b->steps);
    for (uint32_t i = 0; i < b->step_count; i++)
        if (steps[i].path >= size || steps[i].target >= size || *last != '\0')
            return false;
    return are_strings(b, b->writable, b->writable_count, last) && are_strings(b, b->groups, b->group_count, last) &&
           b->temp < size;
}
