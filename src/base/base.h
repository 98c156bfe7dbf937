/* base.h - small tools for every layer: cleanup attributes, alignment, checks, a pause instruction.
 *
 * Nothing here makes a system call or allocates. */
#ifndef PISO_BASE_BASE_H
#define PISO_BASE_BASE_H

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "piso/piso.h"

#define PISO__LIKELY(x)   __builtin_expect(!!(x), 1)
#define PISO__UNLIKELY(x) __builtin_expect(!!(x), 0)
/* The processes agree on this layout. On a machine with lines of 128 bytes two slots share one, which only costs
 * time. */
#define PISO__CACHE_LINE 64
#define PISO__PAGE_MAX   65536 /* no supported Linux machine has larger pages */

#define piso__container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define piso__align_up(value, to)                 (((value) + (to)-1) & ~((to)-1)) /* `to` is a power of two */

/* piso__cleanup(f): calls f(&variable) when the variable leaves its scope. */
#define piso__cleanup(f) __attribute__((cleanup(f)))

/* piso__steal_pointer: returns the value and leaves NULL behind; moves ownership past a cleanup. */
#define piso__steal_pointer(p)                                                                                         \
    ({                                                                                                                 \
        __typeof__(*(p)) *p_ = (p);                                                                                    \
        __typeof__(*(p)) v_ = *p_;                                                                                     \
        *p_ = NULL;                                                                                                    \
        v_;                                                                                                            \
    })

static inline void piso__free_pointer(void *p) {
    free(*(void **)p);
}
#define piso__autofree piso__cleanup(piso__free_pointer)

/* PISO__IN_CHILD: for functions that run in a new child, which may share this process's memory (os/spawn.c).
 * Sanitizers must not instrument them: they would mark the frames in the shadow of a stack that the parent uses
 * again after the exec. */
#define PISO__IN_CHILD __attribute__((no_sanitize_address, no_sanitize_thread))

/* piso__relax: hints to the CPU that this is a spin loop. */
static inline void piso__relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
