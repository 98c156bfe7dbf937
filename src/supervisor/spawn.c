/* spawn.c - starts a process: executed or forked from a zygote, confined or not, and watched from then on. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "sandbox/apply.h"
#include "sandbox/plan/prepare.h"
#include "sandbox/plan/report.h"
#include "sandbox/sandbox.h"
#include "supervisor/child.h"
#include "supervisor/monitor.h"
#include "supervisor/request.h"
#include "supervisor/zygote.h"

#define ABANDON_NS 1000000000

/* with_channel: returns the environment with PISO_FD added, as one block that the caller frees. */
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

/* fork_from_zygote: forks a child with the same descriptors as a spawned one. A host without stdout shares
 * /dev/null. */
static pid_t fork_from_zygote(piso_process *p, const piso_spawn *spawn, int null_fd, int stdout_fd, int stderr_fd,
                              int channel_fd, piso__sandbox *sandbox) {
    piso__autoclose int own_stdout = stdout_fd < 0 ? piso__fd_dup_shared(STDOUT_FILENO) : -1;
    int out = stdout_fd >= 0 ? stdout_fd : own_stdout >= 0 ? own_stdout : null_fd, stdio[3] = {null_fd, out, stderr_fd};
    pid_t pid = piso__zygote_fork(spawn, stdio, channel_fd, sandbox, &p->pidfd);
    if (pid > 0)
        p->parent = piso__zygote_as_parent(piso_zygote_ref(spawn->zygote));
    return pid;
}

/* open_output: makes a pipe for one of the outputs; *ret_child_fd is the child's end. */
static int open_output(piso__output *o, int *ret_child_fd) {
    int pipe_fds[2];
    int r = piso__pipe(pipe_fds);
    if (r < 0)
        return r;
    o->fd = pipe_fds[0];
    *ret_child_fd = pipe_fds[1];
    return 0;
}

/* run: starts the program, confined by the sandbox if there is one. */
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
    piso__sandbox_report_failure(piso__sandbox_failed(sandbox), pid, report);
    return PISO_ESANDBOX;
}

/* started: returns 0 or the error. From here on the child's group is ended with the child. */
static int started(piso_process *p, piso__sandbox *sandbox) {
    if (p->pid >= 0 && sandbox)
        p->group = piso__sandbox_take_group(sandbox);
    if (p->pid >= 0 && sandbox && (p->refusals = piso__sandbox_take_refusals(sandbox)))
        piso__refusals_watch(p->refusals); /* if this fails, refusals are unknown */
    return p->pid < 0 ? p->pid : 0;
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
    piso__autoclose int child_stdout = -1, child_stderr = -1;
    r = spawn->inherit_stdout ? 0 : open_output(&p->outputs[PISO__OUT], &child_stdout);
    if (r == 0)
        r = open_output(&p->outputs[PISO__ERR], &child_stderr);
    if (r < 0)
        return r;
    piso__autoclose int null_fd = piso__open_null();
    if (null_fd < 0)
        return null_fd;
    if (spawn->zygote) {
        p->pid = fork_from_zygote(p, spawn, null_fd, child_stdout, child_stderr, channel_fd, sandbox);
        return started(p, sandbox);
    }
    piso__spawn_options options = {
        .argv = spawn->argv,
        .envp = environment,
        .cwd = spawn->cwd,
        .stdin_fd = null_fd,
        .stdout_fd = child_stdout,
        .stderr_fd = child_stderr,
        .channel_fd = channel_fd,
    };
    p->pid = run(&options, sandbox, report, &p->pidfd);
    return started(p, sandbox);
}

/* abandon: ends a process that cannot be watched. Nobody owns it afterwards, even if it could not be reaped in
 * time. */
static void abandon(piso_process *p) {
    pthread_mutex_lock(&p->lock);
    piso__kill_group(p->pidfd, p->pid, SIGKILL);
    piso__poll_in(&p->pidfd, 1, ABANDON_NS);
    piso__process_check_end(p);
    pthread_mutex_unlock(&p->lock);
}

int piso__process_spawn(const piso_spawn *spawn, int channel_fd, piso_process **ret_process) {
    piso__cleanup(piso__process_unrefp) piso_process *p = piso__process_new();
    if (!p)
        return -ENOMEM;
    if (spawn->echo_stdout)
        p->outputs[PISO__OUT].echo_fd = STDOUT_FILENO;
    if (spawn->echo_stderr)
        p->outputs[PISO__ERR].echo_fd = STDERR_FILENO;
    int r = start(p, spawn, channel_fd);
    if (r < 0)
        return r;
    r = piso__monitor_watch(p);
    if (r < 0) {
        abandon(p);
        return r;
    }
    *ret_process = piso__steal_pointer(&p);
    return 0;
}

/* ---- starting a zygote ---- */

int piso_zygote_spawn(const piso_spawn *spawn, piso_zygote **ret_zygote) {
    piso__request request;
    int r = piso__request_init(&request, spawn);
    if (r < 0 || request.spawn.zygote)
        return -EINVAL;
    int sockets[2];
    r = piso__socketpair(sockets);
    if (r < 0)
        return r;
    piso__autoclose int our_end = sockets[0], its_end = sockets[1];
    piso__cleanup(piso__process_unrefp) piso_process *p = NULL;
    r = piso__process_spawn(&request.spawn, its_end, &p);
    piso__request_report(&request);
    if (r < 0)
        return r;
    piso_zygote *z = piso__zygote_new(p, our_end);
    if (!z) {
        piso_process_kill(p, SIGKILL);
        return -ENOMEM;
    }
    piso__steal_pointer(&p);
    piso__fd_steal(&our_end);
    r = piso__monitor_watch_zygote(z);
    if (r < 0)
        piso_zygote_unref(z);
    else
        *ret_zygote = z;
    return r;
}
