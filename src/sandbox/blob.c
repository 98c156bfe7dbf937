/* blob.c - checks the block of bytes that describes what the child does, when it comes from elsewhere. */
#include "sandbox/blob.h"

#include <string.h>

#include "seccomp/filter.h"

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
    if (size < sizeof *b || b->magic != PISO__BLOB_MAGIC || b->size != size || b->nlimits > PISO__LIMITS_MAX)
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
