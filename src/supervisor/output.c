/* output.c - what a child writes to stdout and stderr, from its pipes to whoever wants to read it.
 *
 * The monitor empties the pipes at once, whatever happens to the bytes: a child never waits for a reader. Up to
 * PISO_OUTPUT_BUFFER bytes of each output wait here to be read; what comes while they do not fit is counted. */
#include <string.h>

#include "os/os.h"
#include "supervisor/internal.h"

static void keep_tail(piso_process *p, const char *data, size_t size) {
    for (size_t i = 0; i < size; i++)
        p->tail[p->tail_written++ % PISO__STDERR_TAIL] = data[i];
}

static void keep(piso__output *o, const char *data, size_t size) {
    size_t room = o->dropped ? 0 : PISO_OUTPUT_BUFFER - o->size, n = size < room ? size : room;
    o->dropped += size - n;
    size_t at = (o->start + o->size) % PISO_OUTPUT_BUFFER;
    size_t first = n < PISO_OUTPUT_BUFFER - at ? n : PISO_OUTPUT_BUFFER - at;
    memcpy(o->waiting + at, data, first);
    memcpy(o->waiting, data + first, n - first);
    o->size += (uint32_t)n;
}

bool piso__output_drain(piso_process *p, int index, size_t limit) {
    piso__output *o = &p->outputs[index];
    char buffer[4096];
    ssize_t n = -EAGAIN;
    size_t taken = 0;
    while (taken < limit && (n = piso__read(o->fd, buffer, sizeof buffer)) > 0) {
        if (index == PISO__ERR)
            keep_tail(p, buffer, (size_t)n);
        if (o->echo_fd >= 0)
            piso__write_if_ready(o->echo_fd, buffer, (size_t)n);
        keep(o, buffer, (size_t)n);
        taken += (size_t)n;
    }
    if (taken)
        piso__event_signal(p->output_fd);
    return n > 0 || n == -EAGAIN;
}

int piso_process_output_fd(const piso_process *p) {
    return p->fork_generation != piso__fork_generation() ? PISO_EFORKED : p->output_fd;
}

size_t piso_process_read_output(piso_process *p, int stream, char *buffer, size_t size, uint64_t *ret_dropped) {
    if (p->fork_generation != piso__fork_generation() || (stream != PISO_STDOUT && stream != PISO_STDERR))
        return 0;
    piso__output *o = &p->outputs[stream == PISO_STDERR];
    pthread_mutex_lock(&p->lock);
    piso__event_clear(p->output_fd); /* what comes after this look signals again */
    size_t n = size < o->size ? size : o->size;
    size_t first = n < PISO_OUTPUT_BUFFER - o->start ? n : PISO_OUTPUT_BUFFER - o->start;
    memcpy(buffer, o->waiting + o->start, first);
    memcpy(buffer + first, o->waiting, n - first);
    o->start = (uint32_t)((o->start + n) % PISO_OUTPUT_BUFFER);
    o->size -= (uint32_t)n;
    *ret_dropped = o->size ? 0 : o->dropped;
    if (o->size == 0)
        o->dropped = 0;
    pthread_mutex_unlock(&p->lock);
    return n;
}

size_t piso_process_stderr(piso_process *p, char *buffer, size_t size) {
    if (p->fork_generation != piso__fork_generation())
        return 0;
    pthread_mutex_lock(&p->lock);
    size_t n = p->tail_written < PISO__STDERR_TAIL ? (size_t)p->tail_written : PISO__STDERR_TAIL;
    bool cut = p->tail_written > n || n > size;
    if (n > size)
        n = size;
    for (size_t i = 0; i < n; i++)
        buffer[i] = p->tail[(p->tail_written - n + i) % PISO__STDERR_TAIL];
    pthread_mutex_unlock(&p->lock);
    /* begin with a whole line where there is one */
    char *newline = cut ? memchr(buffer, '\n', n) : NULL;
    if (newline && newline + 1 < buffer + n) {
        n -= (size_t)(newline + 1 - buffer);
        memmove(buffer, newline + 1, n);
    }
    return n;
}
