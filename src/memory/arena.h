/* arena.h - the shared buffers of one direction: a buddy allocator, run by the sender alone, over one large
 * sparse memfd.
 *
 * The sender allocates and frees. Its metadata is private memory, so the receiver, which is not trusted, can
 * only damage contents. Block sizes are powers of two from 4 KiB, or one page where pages are larger. The
 * lowest free address is taken first, so that recently used pages are used again. Pages are committed when a
 * block is first used, so that a shortage is an error then and no SIGBUS later. They stay committed while the
 * arena is in use, until trim.
 *
 * A block is one allocation and one span. A block is freed by (offset, generation). Its generation changes with
 * every allocation, so a stale or repeated release is refused. A block that was sent is lent: the receiver can
 * release only lent blocks, or return them with contents. Not thread-safe: the owner's lock guards an arena. */
#ifndef PISO_MEMORY_ARENA_H
#define PISO_MEMORY_ARENA_H

#include "base/base.h"

#define PISO__ARENA_DEFAULT_SIZE ((uint64_t)64 << 30)
#define PISO__ARENA_MIN_SIZE     ((uint64_t)1 << 20)
#define PISO__ARENA_BLOCK        4096u /* the smallest block; one page where pages are larger */

typedef struct piso__arena piso__arena;

/* piso__arena_new: makes an arena over `size` bytes of the memfd `fd`, from `offset` on, which are mapped writable at
 * `base`. `fd` is borrowed (see piso__arena_freeze). -EINVAL unless the size is a power of two and at least one
 * block, and `offset` a multiple of a block. Metadata grows with use, not with size. */
int piso__arena_new(int fd, uint64_t offset, void *base, uint64_t size, piso__arena **ret_arena);
/* piso__arena_new_paged: the same for pages of the given size, whatever the size is on this machine. */
int piso__arena_new_paged(int fd, uint64_t offset, void *base, uint64_t size, uint64_t page, piso__arena **ret_arena);
piso__arena *piso__arena_free(piso__arena *a);
/* piso__arena_freeze: must be called before the memfd is closed. The arena then commits no more memory and
 * gives none back. */
void piso__arena_freeze(piso__arena *a);

/* piso__arena_alloc: allocates a buffer of `size` bytes (0 counts as 1) and commits its pages. -ENOMEM,
 * -EDQUOT. */
int piso__arena_alloc(piso__arena *a, uint64_t size, piso_span *ret_span, void **ret_data);
/* piso__arena_release: frees the block of this span. -ESTALE, without a change, unless offset and generation
 * match a live block. Any input is safe; length and segment are ignored. */
int piso__arena_release(piso__arena *a, uint64_t offset, uint32_t generation);
/* piso__arena_lend: marks a block as lent to the receiver. 0, or -ESTALE when it is not live or is lent
 * already. */
int piso__arena_lend(piso__arena *a, uint64_t offset, uint32_t generation);
/* piso__arena_take_back: the receiver returns a block with `size` bytes of contents. The block belongs to the
 * sender again and stays allocated. -ESTALE, without a change, unless the block is live, lent and that large.
 * Any input is safe. */
int piso__arena_take_back(piso__arena *a, uint64_t offset, uint32_t generation, uint64_t size);
/* piso__arena_at: returns the address of a block, which must be live. */
void *piso__arena_at(const piso__arena *a, uint64_t offset);
/* piso__arena_trim: gives free committed memory above keep_bytes back to the system, highest addresses first. */
void piso__arena_trim(piso__arena *a, uint64_t keep_bytes);
uint64_t piso__arena_live(const piso__arena *a);      /* bytes in live blocks */
uint64_t piso__arena_committed(const piso__arena *a); /* bytes backed by memory */

/* piso__arena_view: the peer's arena, as its receiver sees it. */
typedef struct piso__arena_view {
    uint8_t *base;
    uint64_t size;
} piso__arena_view;

/* piso__arena_check: whether a span from the peer is inside the arena: segment 0, offset a multiple of 64,
 * length >= 1, no overflow. The caller must have copied the span to private memory. */
bool piso__arena_check(const piso__arena_view *view, const piso_span *span);

#endif
