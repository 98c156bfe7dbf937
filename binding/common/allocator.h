/* allocator.h - the process's malloc, for processes that receive large values. */
#ifndef BINDING_ALLOCATOR_H
#define BINDING_ALLOCATOR_H

#include <stddef.h>

/* core_tune_allocator: keeps freed memory mapped, so that the next large value finds warm pages. For the child,
 * whose process is ours. */
void core_tune_allocator(void);
/* core_allocator_trim: gives free memory back; only where core_tune_allocator was called. */
void core_allocator_trim(void);
/* core_prefer_huge_pages: for a block that was just allocated and is about to be filled: its first touch then costs
 * one fault for 2 MiB instead of one for 4 KiB. A hint; small blocks are left alone. */
void core_prefer_huge_pages(void *data, size_t size);

/* core_allocator_fill: takes the gaps between the blocks of the heap, for good. A process that will be forked does so:
 * what its children allocate then lies together, on pages that are theirs anyway, instead of here and there on pages
 * that would be copied for it. */
void core_allocator_fill(void);

#endif
