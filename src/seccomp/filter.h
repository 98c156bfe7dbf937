/* filter.h - the system calls that a confined process may make, as a program for seccomp. */
#ifndef PISO_SECCOMP_FILTER_H
#define PISO_SECCOMP_FILTER_H

#include <linux/filter.h>

#include "base/base.h"

typedef struct piso__filter_options {
    bool network;       /* permit sockets of the internet's families */
    bool local_sockets; /* and those of the file system */
    bool own_sockets;   /* all file-system sockets that exist are its own: connecting is permitted */
    bool private_ipc;   /* an IPC namespace hides others' objects */
    bool private_disk;  /* what must not be written is mounted read-only, so modes and owners are safe */
    bool private_root;  /* only permitted files can be named, so changes may be watched */
    bool own_signals;   /* nothing else stops signals to other processes */
    bool own_group;     /* no namespace identifies whose processes these are: they must stay in the process group */
    bool no_holes;      /* existing shared memory must not get holes */
    bool devices;       /* permit requests of device drivers, which are not known */
    bool no_truncation; /* nothing else stops truncation: even opening for reading can truncate */
} piso__filter_options;
/* piso__filter_probe: returns 0, or -errno: why the kernel, or a filter on this process, does not accept
 * filters. */
int piso__filter_probe(void);
/* piso__filter_build: builds the program, which the caller frees. Returns the number of its instructions, or
 * -errno; -ENOSYS when there is no table for this machine. */
int piso__filter_build(piso__filter_options options, struct sock_filter **ret_program);
/* piso__filter_name: returns the name of a system call, or NULL. */
const char *piso__filter_name(uint32_t number);
/* A placeholder in the program for the child's process id, which only the child knows. */
#define PISO__FILTER_OWN_PID 0x7e57c0deU

#endif
