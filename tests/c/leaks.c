/* leaks.c - part of every test program: tells LeakSanitizer whether it can work here.
 *
 * LeakSanitizer stops the threads of a process by ptrace, and ends the process with an error where that fails,
 * as in containers that forbid ptrace. There it is turned off, and test_leaks.c is skipped. */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int __lsan_is_turned_off(void);

/* The sanitizer calls this while it holds its lock, which its own fork also takes: hence the bare system calls. */
int __lsan_is_turned_off(void) {
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        syscall(SYS_exit_group, syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0) < 0);
    int status;
    return pid > 0 && waitpid((pid_t)pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status);
}
