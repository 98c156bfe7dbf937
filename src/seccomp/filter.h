/* filter.h - which system calls a confined process may make, as a program for seccomp. */
#ifndef PISO_SECCOMP_FILTER_H
#define PISO_SECCOMP_FILTER_H

#include <linux/filter.h>

#include "base/base.h"

typedef struct piso__filter_options {
    bool network;       /* the internet's families of sockets */
    bool local_sockets; /* and those of the file system */
    bool own_sockets;   /* there are none but its own: they can be connected */
    bool private_ipc;   /* an IPC namespace keeps others' objects away */
    bool private_disk;  /* what may not be written is mounted read-only, so that modes and owners are safe */
    bool private_root;  /* no file can be named but those that may be used: what changes can be watched */
    bool own_signals;   /* nothing else stops signals to other processes */
    bool own_group;     /* no namespace tells whose processes are: they stay in the process group */
    bool no_holes;      /* shared memory that is there stays there */
    bool devices;       /* requests of their drivers, which are not known */
    bool no_truncation; /* nothing else stops it: opening for reading, too, can truncate */
} piso__filter_options;
/* piso__filter_probe: 0, or why the kernel, or somebody who filters this process, takes no filter: -errno. */
int piso__filter_probe(void);
/* piso__filter_build: the program, to be freed by the caller; the number of its instructions, or -errno, -ENOSYS when
 * there is no table for this machine. */
int piso__filter_build(piso__filter_options options, struct sock_filter **ret_program);
/* piso__filter_name: of a system call, or NULL. */
const char *piso__filter_name(uint32_t number);
/* Stands in the program for the child's process id, which only the child knows. */
#define PISO__FILTER_OWN_PID 0x7e57c0deU

#endif
