/* structs.h - public structs that begin with their size, from hosts that were compiled against another version
 * (piso/api.h). */
#ifndef PISO_BASE_STRUCTS_H
#define PISO_BASE_STRUCTS_H

#include "base/base.h"

/* piso__struct_is_sized: whether the caller has set the struct's size, to at least `least`, which is not 0. */
bool piso__struct_is_sized(const void *given, size_t least);
/* piso__struct_in: copies the caller's struct to `to`, of `size` bytes. Fields that the caller's lacks become
 * 0. Returns 0, or -EINVAL when its size is not set or it sets a field that this version does not know. */
int piso__struct_in(void *to, size_t size, const void *from);
/* piso__struct_out: copies `from`, of `size` bytes, to the caller's struct, as much as fits. Fields that only
 * the caller's has become 0; its size stays. Returns 0, or -EINVAL when its size is not set. */
int piso__struct_out(void *to, const void *from, size_t size);

#endif
