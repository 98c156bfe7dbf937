/* output.h - the output of a child, kept until it is read. */
#ifndef PISO_SUPERVISOR_OUTPUT_H
#define PISO_SUPERVISOR_OUTPUT_H

#include "supervisor/process.h"

/* The part of a quota (output.c) that an output has left. Only the monitor's thread uses it. */
typedef struct piso__allowance {
    int64_t left, refilled_ns; /* bytes; negative after a read that got more than was requested */
    int64_t exceeded;          /* the last second in which it wanted more */
} piso__allowance;

/* One of the two outputs of a child. Bytes wait in a ring until they are read. After bytes were dropped nothing
 * is kept until the reader has emptied the ring and has learned how many: so there is only one gap. */
typedef struct piso__output {
    int fd;      /* the pipe's reading end; -1 once at its end */
    int echo_fd; /* where the output is passed on to, or -1 */
    uint32_t start, size;
    uint64_t dropped, echo_dropped;
    piso__allowance drained, echoed;
    char waiting[PISO_OUTPUT_BUFFER];
} piso__output;

#define PISO__OUT 0
#define PISO__ERR 1

/* piso__output_drain: takes what is in the pipe, about `limit` bytes at most, and keeps it for readers; stderr
 * also as last words. At the pipe's end the caller closes it. LATER: nothing was taken, because the child has
 * used up its quota; never returned for the last read. For the monitor's thread only. */
typedef enum piso__drained { PISO__DRAINED_END, PISO__DRAINED_SOME, PISO__DRAINED_LATER } piso__drained;
piso__drained piso__output_drain(piso_process *p, int index, size_t limit, bool last);
/* piso__output_notify: reports new output, or the end. */
void piso__output_notify(piso_process *p);
/* piso__output_forget: removes the follower of a process that is about to be freed. */
void piso__output_forget(piso_process *p);

#endif
