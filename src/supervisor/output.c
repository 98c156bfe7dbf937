/* output.c - the output of a child: from its pipes to readers.
 *
 * The monitor empties the pipes, whatever happens to the bytes, so a child never waits for a reader. Up to
 * PISO_OUTPUT_BUFFER bytes of each output wait here for a reader; bytes that do not fit are dropped and
 * counted.
 *
 * The cost to the host does not depend on the child. A child that writes faster than DRAIN for long is slowed
 * down by its pipe. Output that is passed on has a separate limit, ECHO. All outputs that exceed a limit share
 * `together`; each second they are counted anew. */
#include <string.h>

#include "os/os.h"
#include "supervisor/child.h"

#define MIB    ((int64_t)1 << 20)
#define SECOND ((int64_t)1000000000)

/* Only the monitor's thread uses these. */
typedef struct quota {
    int64_t burst, per_second, together; /* bytes */
    int64_t second;                      /* the current one */
    int64_t now, before;                 /* outputs that exceeded it in this second, and in the last */
} quota;

static quota drain_quota = {.burst = 64 * MIB, .per_second = 8 * MIB, .together = 32 * MIB};
static quota echo_quota = {.burst = 4 * MIB, .per_second = MIB / 4, .together = MIB};

/* rate: returns the bytes per second that one output may have. */
static int64_t rate(quota *q, int64_t now_ns) {
    int64_t second = now_ns / SECOND;
    if (second != q->second) {
        q->before = second == q->second + 1 ? q->now : 0;
        q->now = 0;
        q->second = second;
    }
    int64_t many = q->now > q->before ? q->now : q->before;
    return many * q->per_second > q->together ? q->together / many : q->per_second;
}

/* grant: returns how many of so many bytes an output may have now. */
static size_t grant(quota *q, piso__allowance *a, size_t wanted) {
    int64_t now_ns = piso_now_ns(), passed = now_ns - a->refilled_ns, per_second = rate(q, now_ns);
    /* after so long the allowance is full in any case; the product below would overflow */
    int64_t more = passed > 3600 * SECOND ? q->burst : passed / 1000 * per_second / 1000000;
    if (more > 0) {
        a->left = more > q->burst - a->left ? q->burst : a->left + more;
        a->refilled_ns = now_ns;
    }
    if (a->left >= (int64_t)wanted)
        return wanted;
    if (a->exceeded != q->second)
        q->now++;
    a->exceeded = q->second;
    return a->left > 0 ? (size_t)a->left : 0;
}

static void keep_tail(piso_process *p, const char *data, size_t size) {
    size_t skipped = size > PISO__STDERR_TAIL ? size - PISO__STDERR_TAIL : 0;
    p->tail_written += skipped;
    for (size_t i = skipped; i < size; i++)
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

/* echo: passes on what the quota permits. Returns how many bytes it does not permit. */
static size_t echo(piso__output *o, const char *data, size_t size) {
    size_t n = grant(&echo_quota, &o->echoed, size);
    o->echoed.left -= (int64_t)n;
    if (n)
        piso__write_if_ready(o->echo_fd, data, n);
    return size - n;
}

piso__drained piso__output_drain(piso_process *p, int index, size_t limit, bool last) {
    piso__output *o = &p->outputs[index];
    char buffer[16384];
    ssize_t n = -EAGAIN;
    size_t taken = 0, most = last ? limit : grant(&drain_quota, &o->drained, limit);
    while (taken < most && (n = piso__read(o->fd, buffer, sizeof buffer)) > 0) {
        size_t unechoed = o->echo_fd >= 0 ? echo(o, buffer, (size_t)n) : 0;
        pthread_mutex_lock(&p->lock);
        if (index == PISO__ERR)
            keep_tail(p, buffer, (size_t)n);
        o->echo_dropped += unechoed;
        keep(o, buffer, (size_t)n);
        pthread_mutex_unlock(&p->lock);
        taken += (size_t)n;
    }
    o->drained.left -= (int64_t)taken;
    if (taken)
        piso__output_notify(p);
    if (n <= 0 && n != -EAGAIN)
        return PISO__DRAINED_END;
    return taken == 0 && most == 0 ? PISO__DRAINED_LATER : PISO__DRAINED_SOME;
}

/* ---- processes with new output ---- */

/* The lock guards this, and the last fields of each process. */
static struct {
    int fd;              /* an eventfd, readable while the list is not empty; 0: nobody has requested it */
    piso_process *first; /* followed processes with new output, the latest first */
} news;

/* forget_in_child: clears what belongs to the parent. */
static void forget_in_child(void) {
    if (news.fd)
        piso__fd_close(news.fd);
    news.fd = 0;
    news.first = NULL;
}

PISO__STATIC_LOCK(news_lock, PISO__PLACE_OUTPUT, .in_child = forget_in_child);

static bool is_foreign(const piso_process *p) {
    return p->fork_generation != piso__fork_generation();
}

/* add and remove need the lock. */
static void add(piso_process *p) {
    if (p->has_news)
        return;
    p->has_news = true;
    p->next = news.first;
    p->previous = &news.first;
    if (p->next)
        p->next->previous = &p->next;
    else if (news.fd)
        piso__event_signal(news.fd);
    news.first = p;
}

static void remove_from_list(piso_process *p) {
    if (!p->has_news)
        return;
    p->has_news = false;
    *p->previous = p->next;
    if (p->next)
        p->next->previous = p->previous;
    if (!news.first && news.fd)
        piso__event_clear(news.fd);
}

void piso__output_notify(piso_process *p) {
    piso__lock_take(&news_lock);
    if (p->cookie)
        add(p);
    if (p->output_fd >= 0)
        piso__event_signal(p->output_fd);
    piso__lock_give(&news_lock);
}

void piso__output_forget(piso_process *p) {
    piso__lock_take(&news_lock);
    remove_from_list(p);
    p->output_fd = piso__fd_close(p->output_fd);
    piso__lock_give(&news_lock);
}

int piso_output_fd(void) {
    piso__lock_take(&news_lock);
    int fd = news.fd;
    if (!fd && (fd = piso__event_create()) > 0) {
        news.fd = fd;
        if (news.first)
            piso__event_signal(fd);
    }
    piso__lock_give(&news_lock);
    return fd;
}

void piso_process_follow(piso_process *p, uint64_t cookie) {
    if (is_foreign(p))
        return;
    piso__lock_take(&news_lock);
    p->cookie = cookie;
    if (cookie)
        add(p); /* there may be output already */
    else
        remove_from_list(p);
    piso__lock_give(&news_lock);
}

size_t piso_output_next(uint64_t *ret_cookies, size_t count) {
    size_t n = 0;
    piso__lock_take(&news_lock);
    while (n < count && news.first) {
        ret_cookies[n++] = news.first->cookie;
        remove_from_list(news.first);
    }
    piso__lock_give(&news_lock);
    return n;
}

int piso_process_output_fd(piso_process *p) {
    if (is_foreign(p))
        return PISO_EFORKED;
    piso__lock_take(&news_lock);
    if (p->output_fd < 0 && (p->output_fd = piso__event_create()) >= 0)
        piso__event_signal(p->output_fd); /* there may be output already */
    int fd = p->output_fd;
    piso__lock_give(&news_lock);
    return fd;
}

/* clear_own_fd: clears the descriptor, unless the other output has data, which may have come after its own last
 * check. */
static void clear_own_fd(piso_process *p, const piso__output *other) {
    piso__lock_take(&news_lock);
    if (p->output_fd >= 0)
        piso__event_clear(p->output_fd);
    if (p->output_fd >= 0 && (other->size || other->dropped))
        piso__event_signal(p->output_fd);
    piso__lock_give(&news_lock);
}

/* ---- reading ---- */

size_t piso_process_read_output(piso_process *p, int stream, char *buffer, size_t size, uint64_t *ret_dropped) {
    if (is_foreign(p) || (stream != PISO_STDOUT && stream != PISO_STDERR))
        return 0;
    piso__output *o = &p->outputs[stream == PISO_STDERR];
    pthread_mutex_lock(&p->lock);
    clear_own_fd(p, &p->outputs[stream != PISO_STDERR]); /* output that comes after this check signals again */
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

uint64_t piso_process_echo_dropped(piso_process *p, int stream) {
    if (is_foreign(p) || (stream != PISO_STDOUT && stream != PISO_STDERR))
        return 0;
    pthread_mutex_lock(&p->lock);
    piso__output *o = &p->outputs[stream == PISO_STDERR];
    uint64_t dropped = o->echo_dropped;
    o->echo_dropped = 0;
    pthread_mutex_unlock(&p->lock);
    return dropped;
}

size_t piso_process_stderr(piso_process *p, char *buffer, size_t size) {
    if (is_foreign(p))
        return 0;
    pthread_mutex_lock(&p->lock);
    size_t n = p->tail_written < PISO__STDERR_TAIL ? (size_t)p->tail_written : PISO__STDERR_TAIL;
    bool cut = p->tail_written > n || n > size;
    if (n > size)
        n = size;
    for (size_t i = 0; i < n; i++)
        buffer[i] = p->tail[(p->tail_written - n + i) % PISO__STDERR_TAIL];
    pthread_mutex_unlock(&p->lock);
    /* begin with a whole line if there is one */
    char *newline = cut ? memchr(buffer, '\n', n) : NULL;
    if (newline && newline + 1 < buffer + n) {
        n -= (size_t)(newline + 1 - buffer);
        memmove(buffer, newline + 1, n);
    }
    return n;
}
