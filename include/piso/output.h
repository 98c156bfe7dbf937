/* output.h - what a child writes to stdout and stderr. */
#ifndef PISO_OUTPUT_H
#define PISO_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a child writes is taken from its pipes, so that it never waits for a reader: 64 MiB of each output at once, 8 MiB a
 * second in the long run; one that writes more is slowed down to that. PISO_OUTPUT_BUFFER bytes of each output wait to be
 * read; what comes while they are full is dropped and counted. */
#define PISO_OUTPUT_BUFFER 65536
enum { PISO_STDOUT = 1, PISO_STDERR = 2 };
/* piso_output_fd: one descriptor for all processes: readable while piso_output_next has something to say. It stays for the
 * life of this process; borrowed. */
PISO_API int piso_output_fd(void);
/* piso_process_follow: from now on piso_output_next names `cookie`, once now and whenever this child has written something
 * or has ended; 0: not any more. */
PISO_API void piso_process_follow(piso_process *p, uint64_t cookie);
/* piso_output_next: the cookies of at most `count` processes of which something came since they were named last: read both
 * outputs of each until nothing comes. How many. */
PISO_API size_t piso_output_next(uint64_t *ret_cookies, size_t count);
/* piso_process_output_fd: a descriptor for this process alone, made at the first call: readable when something was written
 * since the last piso_process_read_output, or the process has ended since. Borrowed. */
PISO_API int piso_process_output_fd(piso_process *p);
/* piso_process_read_output: takes the next bytes that the child wrote to PISO_STDOUT or PISO_STDERR; returns how many, 0
 * for none now. *ret_dropped: how many were lost between these and the next. After piso_process_wait has returned 1
 * nothing is added any more. */
PISO_API size_t piso_process_read_output(piso_process *p, int stream, char *buffer, size_t size, uint64_t *ret_dropped);
/* piso_process_echo_dropped: how many bytes of an output were not passed on (piso_spawn.echo_stdout, echo_stderr) since this
 * was last asked: more than 4 MiB at once, or 256 KiB a second in the long run. */
PISO_API uint64_t piso_process_echo_dropped(piso_process *p, int stream);

#ifdef __cplusplus
}
#endif

#endif
