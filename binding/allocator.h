/* allocator.h - the process's malloc, for processes that receive large values. */
#ifndef BINDING_ALLOCATOR_H
#define BINDING_ALLOCATOR_H

/* core_tune_allocator: keeps freed memory mapped, so that the next large value finds warm pages. For the child,
 * whose process is ours. */
void core_tune_allocator(void);
/* core_allocator_trim: gives free memory back; only where core_tune_allocator was called. */
void core_allocator_trim(void);

#endif
