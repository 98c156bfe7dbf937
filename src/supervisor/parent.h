/* parent.h - what a process knows of the one that has forked it for this host. A zygote is such a parent (zygote.c). */
#ifndef PISO_SUPERVISOR_PARENT_H
#define PISO_SUPERVISOR_PARENT_H

#include <sys/types.h>

/* piso__parent: who has forked a child that is not this process's: the first member of a zygote. */
typedef struct piso__parent {
    /* asks how a child of it has ended, which is to be reaped. 0: the answer will come to the monitor; else there will be
     * none. */
    int (*ask_reap)(struct piso__parent *parent, pid_t pid);
    void (*unref)(struct piso__parent *parent);
} piso__parent;

#endif
