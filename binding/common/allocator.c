/* allocator.c - see allocator.h. By default glibc gives every large block a mapping of its own, whose pages are
 * faulted in anew each time: a 50 MB bytes object then costs more in page faults than in copying. Its threshold
 * for that cannot exceed 32 MiB, so it is told not to do it at all. */
#include "allocator.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define KEEP_BYTES (128 << 20) /* of free memory at the top of the heap */
#define HUGE_BYTES (4u << 20)  /* blocks from here on are worth the system call */

#define LARGEST_GAP  (64 << 10)
#define SMALLEST_GAP 24 /* of malloc: smaller blocks take as much */
#define HEAP_MAX     ((size_t)1 << 30)

static bool tuned;

void core_tune_allocator(void) {
    tuned = mallopt(M_MMAP_MAX, 0) && mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
}

void core_allocator_trim(void) {
    if (tuned)
        malloc_trim(0);
}

void core_allocator_fill(void) {
    char *top = (char *)sbrk(0) - mallinfo2().keepcost;
    for (size_t size = LARGEST_GAP; size >= SMALLEST_GAP; size -= size < 1024 ? 16 : size / 16)
        for (;;) {
            char *block = malloc(size);
            if (!block || block >= top || block + size < top - HEAP_MAX) { /* the gaps of this size are full */
                free(block);
                break;
            }
        }
}

void core_prefer_huge_pages(void *data, size_t size) {
    if (size < HUGE_BYTES)
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = ((uintptr_t)data + page - 1) & ~(page - 1), end = ((uintptr_t)data + size) & ~(page - 1);
    madvise((void *)start, end - start, MADV_HUGEPAGE);
}
