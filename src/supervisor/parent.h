/* parent.h - the process that has forked a child for this host, as the child's object sees it. A zygote is such
 * a parent (zygote.c). */
#ifndef PISO_SUPERVISOR_PARENT_H
#define PISO_SUPERVISOR_PARENT_H

#include <sys/types.h>

/* piso__parent: the parent of a child that is not this process's. It is the first member of a zygote. */
typedef struct piso__parent {
    /* Asks how a child has ended, which is then reaped. 0: the monitor will get the answer; otherwise none will
     * come. */
    int (*ask_reap)(struct piso__parent *parent, pid_t pid);
    void (*unref)(struct piso__parent *parent);
} piso__parent;

#endif
