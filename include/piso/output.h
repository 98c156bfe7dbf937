/* output.h - the output of a child: what it writes to stdout and stderr. */
#ifndef PISO_OUTPUT_H
#define PISO_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The host drains a child's pipes, so the child never waits for a reader: 64 MiB of each output at once, 8 MiB
 * a second in the long run; a child that writes more is slowed down to that rate. PISO_OUTPUT_BUFFER bytes of
 * each output are kept until they are read. While the buffer is full, further output is dropped and counted. */
#define PISO_OUTPUT_BUFFER 65536
enum { PISO_STDOUT = 1, PISO_STDERR = 2 };
/* piso_output_fd: returns a descriptor for all processes, which is readable while piso_output_next has
 * something to report. The descriptor stays open for the life of this process. Borrowed. */
PISO_API int piso_output_fd(void);
/* piso_process_follow: from now on piso_output_next reports `cookie`: once now, and whenever this child has
 * written something or has ended. 0 ends that. */
PISO_API void piso_process_follow(piso_process *p, uint64_t cookie);
/* piso_output_next: returns the cookies of at most `count` processes that have new output since they were last
 * reported, and how many these are. The caller must read both outputs of each until they are empty. */
PISO_API size_t piso_output_next(uint64_t *ret_cookies, size_t count);
/* piso_process_output_fd: returns a descriptor for this process alone, which is made at the first call. It is
 * readable when the process has written something since the last piso_process_read_output, or has ended since.
 * Borrowed. */
PISO_API int piso_process_output_fd(piso_process *p);
/* piso_process_read_output: takes the next bytes that the child wrote to PISO_STDOUT or PISO_STDERR. Returns
 * how many, 0 if there are none now. *ret_dropped is how many bytes were lost between these bytes and the next
 * ones. After piso_process_wait has returned 1 no output is added. */
PISO_API size_t piso_process_read_output(piso_process *p, int stream, char *buffer, size_t size, uint64_t *ret_dropped);
/* piso_process_echo_dropped: returns how many bytes of an output were not passed on (piso_spawn.echo_stdout,
 * echo_stderr) since the last call. Dropped is what exceeds 4 MiB at once, or 256 KiB a second in the long run. */
PISO_API uint64_t piso_process_echo_dropped(piso_process *p, int stream);

#ifdef __cplusplus
}
#endif

#endif
