/* structs.h - public structs that begin with their size, of hosts that were compiled with another version (piso/api.h). */
#ifndef PISO_BASE_STRUCTS_H
#define PISO_BASE_STRUCTS_H

#include "base/base.h"

/* piso__struct_is_sized: whether the caller's struct says how large it is, and is at least so large. `least` is not 0. */
bool piso__struct_is_sized(const void *given, size_t least);
/* piso__struct_in: copies what the caller gives to `to`, of `size` bytes; the fields that it lacks are 0 there. 0; -EINVAL
 * when its size is not set, or it has something that is not known here. */
int piso__struct_in(void *to, size_t size, const void *from);
/* piso__struct_out: copies `from`, of `size` bytes, to what the caller gives, as far as that goes; what it has beyond is
 * 0 then. Its size stays. 0, or -EINVAL when that is not set. */
int piso__struct_out(void *to, const void *from, size_t size);

#endif
