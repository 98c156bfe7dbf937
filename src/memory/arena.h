/* arena.h - a direction's shared buffers: a sender-only buddy allocator over one large sparse memfd.
 *
 * The sender allocates and frees; its metadata is private memory, so the receiver, who is not trusted, can
 * damage contents only. Blocks are powers of two from 4 KiB, or a page; the lowest free address is taken first, which
 * keeps recycled pages warm. Pages are committed when a block is first used (an error then, not a SIGBUS
 * later) and stay committed while the arena is in use, until trim.
 *
 * A block is one allocation = one span. Freeing is by (offset, generation): the generation of a block moves
 * on with every allocation, so a stale or repeated release is refused. What has been sent is lent: only such a
 * block can the receiver release, or send back with contents. Not thread-safe: the owner's lock. */
#ifndef PISO_MEMORY_ARENA_H
#define PISO_MEMORY_ARENA_H

#include "base/base.h"

#define PISO__ARENA_DEFAULT_SIZE ((uint64_t)64 << 30)
#define PISO__ARENA_MIN_SIZE     ((uint64_t)1 << 20)
#define PISO__ARENA_BLOCK        4096u /* the smallest; where pages are larger, a page */

typedef struct piso__arena piso__arena;

/* piso__arena_new: over `size` bytes of the memfd `fd` (borrowed, see piso__arena_freeze), which begin at `offset` of it
 * and are mapped writable at `base`. The size is a power of two, at least a block, and `offset` a multiple of that, else
 * -EINVAL. Metadata grows with use, not with size. */
int piso__arena_new(int fd, uint64_t offset, void *base, uint64_t size, piso__arena **ret_arena);
/* piso__arena_new_paged: the same for pages of that size, whatever this machine's are. */
int piso__arena_new_paged(int fd, uint64_t offset, void *base, uint64_t size, uint64_t page, piso__arena **ret_arena);
piso__arena *piso__arena_free(piso__arena *a);
/* piso__arena_freeze: before its memfd is closed: from now on it takes no memory and gives none back. */
void piso__arena_freeze(piso__arena *a);

/* piso__arena_alloc: a buffer of `size` bytes (0 counts as 1), its pages committed. -ENOMEM, -EDQUOT. */
int piso__arena_alloc(piso__arena *a, uint64_t size, piso_span *ret_span, void **ret_data);
/* piso__arena_release: frees the block of this span: offset and generation must match a live one, else
 * -ESTALE and nothing changes (any input is safe; length and segment are not looked at). */
int piso__arena_release(piso__arena *a, uint64_t offset, uint32_t generation);
/* piso__arena_lend: the receiver has this block from now on. 0, or -ESTALE when it is not live or lent already. */
int piso__arena_lend(piso__arena *a, uint64_t offset, uint32_t generation);
/* piso__arena_take_back: the receiver says that it has no more use for a block, of which `size` bytes matter: it is
 * the sender's again, still allocated. -ESTALE and no change unless the block is live, lent and that large (any
 * input is safe). */
int piso__arena_take_back(piso__arena *a, uint64_t offset, uint32_t generation, uint64_t size);
/* piso__arena_at: the bytes of a block that is known to be live. */
void *piso__arena_at(const piso__arena *a, uint64_t offset);
/* piso__arena_trim: gives free committed memory above keep_bytes back to the system, highest first. */
void piso__arena_trim(piso__arena *a, uint64_t keep_bytes);
uint64_t piso__arena_live(const piso__arena *a);      /* bytes in live blocks */
uint64_t piso__arena_committed(const piso__arena *a); /* bytes backed by memory */

/* piso__arena_view: the receiver's side of the peer's arena. */
typedef struct piso__arena_view {
    uint8_t *base;
    uint64_t size;
} piso__arena_view;

/* piso__arena_check: whether a span that came from the peer lies inside: segment 0, offset a multiple of 64,
 * length >= 1, no overflow. The caller has copied the span to private memory. */
bool piso__arena_check(const piso__arena_view *view, const piso_span *span);

#endif
