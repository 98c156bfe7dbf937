/* structs.c - see structs.h. */
#include "base/structs.h"

#include <string.h>

#define LARGEST 65536 /* a larger size cannot come from any version: the caller has not set it */

/* size_of: the size that the caller has set, or 0 if the value is impossible. */
static size_t size_of(const void *given) {
    size_t size;
    memcpy(&size, given, sizeof size);
    return size >= sizeof size && size <= LARGEST ? size : 0;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

bool piso__struct_is_sized(const void *given, size_t least) {
    return size_of(given) >= least;
}

int piso__struct_in(void *to, size_t size, const void *from) {
    size_t given = size_of(from), both = smaller(given, size);
    if (!given)
        return -EINVAL;
    for (size_t i = both; i < given; i++)
        if (((const uint8_t *)from)[i])
            return -EINVAL;
    memset(to, 0, size);
    memcpy(to, from, both);
    memcpy(to, &size, sizeof size);
    return 0;
}

int piso__struct_out(void *to, const void *from, size_t size) {
    size_t given = size_of(to), both = smaller(given, size);
    if (!given)
        return -EINVAL;
    memset(to, 0, given);
    memcpy(to, from, both);
    memcpy(to, &given, sizeof given);
    return 0;
}
