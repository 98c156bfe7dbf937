/* output.h - what a child writes to its outputs, kept until somebody reads it. */
#ifndef PISO_SUPERVISOR_OUTPUT_H
#define PISO_SUPERVISOR_OUTPUT_H

#include "supervisor/process.h"

/* What an output may still have of a quota (output.c). The monitor's thread alone uses it. */
typedef struct piso__allowance {
    int64_t left, refilled_ns; /* bytes; less than none after a read that got more than was asked for */
    int64_t exceeded;          /* the last second in which it wanted more */
} piso__allowance;

/* What the child writes to one of its two outputs. Bytes wait in a ring until somebody reads them. Once some had to be
 * dropped nothing is kept until the reader has emptied the ring and been told how many: so the gap has one place. */
typedef struct piso__output {
    int fd;      /* the pipe's reading end; -1 once at its end */
    int echo_fd; /* where it is passed on to, or -1 */
    uint32_t start, size;
    uint64_t dropped, echo_dropped;
    piso__allowance drained, echoed;
    char waiting[PISO_OUTPUT_BUFFER];
} piso__output;

#define PISO__OUT 0
#define PISO__ERR 1

/* piso__output_drain: takes what is in the pipe, about `limit` bytes at most, and keeps it for readers; of stderr also as
 * last words. At the pipe's end the caller closes it. LATER: nothing was taken, because the child has used up what it may
 * write; not so if this is the last time. For the monitor's thread only. */
typedef enum piso__drained { PISO__DRAINED_END, PISO__DRAINED_SOME, PISO__DRAINED_LATER } piso__drained;
piso__drained piso__output_drain(piso_process *p, int index, size_t limit, bool last);
/* piso__output_notify: there is something to read, or it has ended. */
void piso__output_notify(piso_process *p);
/* piso__output_forget: nobody follows it any more: it is about to be freed. */
void piso__output_forget(piso_process *p);

#endif
