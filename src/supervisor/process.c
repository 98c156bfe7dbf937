/* process.c - see process.h: spawning, and what others may ask of a process. */
#include <signal.h>
#include <string.h>

#include "os/os.h"
#include "sandbox/sandbox.h"
#include "supervisor/internal.h"

static bool is_foreign(const piso_process *p) {
    return p->fork_generation != piso__fork_generation();
}

static piso_process *process_new(bool echo) {
    piso_process *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->references = 1;
    p->fork_generation = piso__fork_generation();
    p->pidfd = p->stderr_fd = p->exit_fd = -1;
    p->echo = echo;
    p->status.code = -1;
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

piso_process *piso__process_ref(piso_process *p) {
    atomic_fetch_add(&p->references, 1);
    return p;
}

piso_process *piso__process_unref(piso_process *p) {
    if (!p || atomic_fetch_sub(&p->references, 1) != 1)
        return NULL;
    /* in a forked process the numbers may stand for something else by now, and the lock may be held for ever */
    if (!is_foreign(p)) {
        piso__fd_close(p->pidfd);
        piso__fd_close(p->stderr_fd);
        piso__fd_close(p->exit_fd);
        pthread_mutex_destroy(&p->lock);
    }
    free(p);
    return NULL;
}

/* with_channel: the environment with PISO_FD added; freed by the caller, as one block. */
static const char **with_channel(const char *const *envp) {
    static const char variable[] = "PISO_FD=3";
    static_assert(PISO__SPAWN_FD == 3, "the text above says so");
    size_t n = 0, kept = 0;
    while (envp[n])
        n++;
    const char **copy = calloc(n + 2, sizeof *copy);
    if (!copy)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (strncmp(envp[i], "PISO_FD=", 8) != 0)
            copy[kept++] = envp[i];
    copy[kept] = variable;
    return copy;
}

/* run: the program, confined by the sandbox if there is one. */
static pid_t run(piso__spawn_options *options, piso__sandbox *sandbox, piso_sandbox_report *report, int *ret_pidfd) {
    bool failed = false;
    if (sandbox) {
        options->confine = piso__sandbox_apply;
        options->confine_argument = sandbox;
        options->confine_fd = piso__sandbox_fd(sandbox);
        options->ret_confine_failed = &failed;
    }
    pid_t pid = piso__spawn(options, ret_pidfd);
    if (!failed)
        return pid;
    piso__sandbox_blame(sandbox, pid, report);
    return PISO_ESANDBOX;
}

static int start(piso_process *p, const piso_spawn *spawn, int channel_fd) {
    piso__cleanup(piso__sandbox_freep) piso__sandbox *sandbox = NULL;
    piso_sandbox_report unread, *report = spawn->report ? spawn->report : &unread;
    int r = spawn->sandbox ? piso__sandbox_prepare(spawn->sandbox, spawn->argv[0], &sandbox, report) : 0;
    if (r < 0)
        return r;
    piso__autofree const char **environment = with_channel(spawn->envp);
    if (!environment)
        return -ENOMEM;
    int pipe_fds[2] = {-1, -1};
    r = piso__pipe(pipe_fds);
    if (r < 0)
        return r;
    p->stderr_fd = pipe_fds[0];
    piso__autoclose int child_stderr = pipe_fds[1];
    piso__autoclose int null_fd = piso__open_null();
    if (null_fd < 0)
        return null_fd;
    piso__spawn_options options = {
        .argv = spawn->argv,
        .envp = environment,
        .cwd = spawn->cwd,
        .stdin_fd = null_fd,
        .stderr_fd = child_stderr,
        .channel_fd = channel_fd,
    };
    p->pid = run(&options, sandbox, report, &p->pidfd);
    return p->pid < 0 ? p->pid : 0;
}

int piso__process_spawn(const piso_spawn *spawn, int channel_fd, piso_process **ret_process) {
    piso__cleanup(piso__process_unrefp) piso_process *p = process_new(spawn->echo_stderr);
    if (!p)
        return -ENOMEM;
    if ((p->exit_fd = piso__event_create()) < 0)
        return p->exit_fd;
    int r = start(p, spawn, channel_fd);
    if (r < 0)
        return r;
    r = piso__monitor_watch(p);
    if (r < 0) {
        piso__kill_group(p->pidfd, p->pid, SIGKILL);
        while (piso__reap(p->pidfd, &p->status) == 0)
            piso__poll_in(&p->pidfd, 1, -1);
        return r;
    }
    *ret_process = piso__steal_pointer(&p);
    return 0;
}

int piso__process_exit_fd(const piso_process *p) {
    return is_foreign(p) ? PISO_EFORKED : p->exit_fd;
}

bool piso__process_ended(const piso_process *p) {
    return atomic_load_explicit(&p->ended, memory_order_acquire);
}

int piso_process_pid(const piso_process *p) {
    return is_foreign(p) ? PISO_EFORKED : p->pid;
}

int piso_process_wait(piso_process *p, int64_t timeout_ns, piso_exit *ret_exit) {
    if (is_foreign(p))
        return PISO_EFORKED;
    if (!piso__process_ended(p)) {
        int r = piso__poll_in(&p->exit_fd, 1, timeout_ns);
        if (r <= 0)
            return r;
    }
    pthread_mutex_lock(&p->lock);
    *ret_exit = p->status;
    pthread_mutex_unlock(&p->lock);
    return 1;
}

int piso_process_kill(piso_process *p, int signal) {
    if (is_foreign(p))
        return PISO_EFORKED;
    pthread_mutex_lock(&p->lock);
    int r = p->pidfd < 0 ? -ESRCH : piso__kill_group(p->pidfd, p->pid, signal);
    pthread_mutex_unlock(&p->lock);
    return r;
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
    /* begin with a whole line where there is one */
    char *newline = cut ? memchr(buffer, '\n', n) : NULL;
    if (newline && newline + 1 < buffer + n) {
        n -= (size_t)(newline + 1 - buffer);
        memmove(buffer, newline + 1, n);
    }
    return n;
}
