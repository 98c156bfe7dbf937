/* leaks.c - part of every test program: tells LeakSanitizer whether it can work here.
 *
 * It stops the threads of a process by ptrace and ends the process with an error where that fails, as in containers that
 * refuse ptrace. There, leaks are not looked for; test_leaks.c is then skipped. */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int __lsan_is_turned_off(void);

/* The sanitizer asks with its lock held, which its own fork takes as well: hence the bare system calls. */
int __lsan_is_turned_off(void) {
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        syscall(SYS_exit_group, syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0) < 0);
    int status;
    return pid > 0 && waitpid((pid_t)pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status);
}
