/* child_programs.h - the children of test_process. The program runs itself again, with arguments that select
 * what it does.
 *
 * A child reports over the channel's socket (descriptor 3) or on stdout. */
#ifndef PISO_TESTS_CHILD_PROGRAMS_H
#define PISO_TESTS_CHILD_PROGRAMS_H

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/process.h"

#define CHILD_CHANNEL 3
#define REPORT_SIZE   4096

extern char **environ;

static void sleep_ms(int ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static void sleep_for_ever(void) {
    for (;;)
        pause();
}

static void wait_for_hang_up(void) {
    struct pollfd channel = {.fd = CHILD_CHANNEL};
    poll(&channel, 1, -1);
}

/* ---- report: what the child was given ---- */

static void report_fds(FILE *to) {
    bool open_fds[64] = {false};
    DIR *d = opendir("/proc/self/fd");
    for (struct dirent *e; (e = readdir(d));) {
        int fd = atoi(e->d_name);
        if (e->d_name[0] != '.' && fd != dirfd(d) && fd < 64)
            open_fds[fd] = true;
    }
    closedir(d);
    fputs("fds", to);
    for (int fd = 0; fd < 64; fd++)
        if (open_fds[fd])
            fprintf(to, " %d", fd);
}

static void report_signals(FILE *to) {
    sigset_t blocked;
    int nblocked = 0, changed = 0;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    for (int signal = 1; signal < 32; signal++) {
        struct sigaction action;
        nblocked += sigismember(&blocked, signal) == 1;
        sigaction(signal, NULL, &action);
        changed += action.sa_handler == SIG_IGN;
    }
    fprintf(to, "\nblocked %d\nignored %d\n", nblocked, changed);
}

static int report_main(void) {
    char text[REPORT_SIZE] = {0}, directory[512], in[64] = {0};
    FILE *to = fmemopen(text, sizeof text, "w");
    report_fds(to);
    report_signals(to);
    fprintf(to, "group %s\n", getpgrp() == getpid() ? "own" : "another");
    fprintf(to, "cwd %s\n", getcwd(directory, sizeof directory));
    fprintf(to, "stdin %.*s\n", (int)readlink("/proc/self/fd/0", in, sizeof in - 1), in);
    for (char **variable = environ; *variable; variable++)
        fprintf(to, "env %s\n", *variable);
    fclose(to);
    return send(CHILD_CHANNEL, text, strlen(text), 0) < 0;
}

/* ---- families: a child and a grandchild that outlives it ---- */

/* with_grandchild: the grandchild keeps the channel, stdout and stderr open. */
static void with_grandchild(void) {
    if (fork() == 0)
        sleep_for_ever();
}

static void say_ready(void) {
    if (write(STDOUT_FILENO, "r", 1) != 1)
        _exit(99);
}

/* watch: ends with the host. Closes the channel, as the end of a session does. */
static int watch_main(void) {
    with_grandchild();
    if (piso__watch_host(CHILD_CHANNEL) < 0)
        return 98;
    close(CHILD_CHANNEL);
    say_ready();
    sleep_for_ever();
    return 0;
}

/* watch-late: starts to watch a host that has gone already. */
static int watch_late_main(void) {
    say_ready();
    wait_for_hang_up();
    if (piso__watch_host(CHILD_CHANNEL) == PISO_EDIED)
        return 0;
    sleep_for_ever();
    return 0;
}

/* watch-polite: takes a moment to end in an orderly way when the session is closed. */
static int watch_polite_main(void) {
    if (piso__watch_host(CHILD_CHANNEL) < 0)
        return 98;
    wait_for_hang_up();
    sleep_ms(300);
    return 7;
}

/* watch-stubborn: does not end when the session is closed. */
static int watch_stubborn_main(void) {
    if (piso__watch_host(CHILD_CHANNEL) < 0)
        return 98;
    sleep_for_ever();
    return 0;
}

static int print_lines(int count) {
    for (int i = 0; i < count; i++)
        fprintf(stderr, "line %05d\n", i);
    return 0;
}

/* flood: writes as much as a pipe can hold, far more than the monitor reads at once, and then ends suddenly. */
static int flood_main(void) {
    static char text[1 << 20];
    memset(text, '.', sizeof text);
    memcpy(text + sizeof text - 6, "\nlast\n", 6);
    if (fcntl(STDERR_FILENO, F_SETPIPE_SZ, sizeof text) < 0)
        return 1;
    return write(STDERR_FILENO, text, sizeof text) < 0 || raise(SIGKILL);
}

/* say: writes a line to each output. */
static int say_main(void) {
    return write(STDOUT_FILENO, "to out\n", 7) < 0 || write(STDERR_FILENO, "to err\n", 7) < 0;
}

/* spill: writes so many KiB to stdout; the writes must not block although nobody reads. Then, on a request over
 * the channel, writes one more line. */
static int spill_main(int count) {
    char text[1024], byte;
    memset(text, '.', sizeof text);
    for (int i = 0; i < count; i++)
        if (write(STDOUT_FILENO, text, sizeof text) != sizeof text)
            return 1;
    if (send(CHILD_CHANNEL, "s", 1, 0) != 1 || recv(CHILD_CHANNEL, &byte, 1, 0) != 1)
        return 2;
    return write(STDOUT_FILENO, "more\n", 5) != 5;
}

/* breed: makes so many orphans, which end at once. */
static int breed_main(int count) {
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (fork() == 0)
                sleep_ms(10);
            _exit(0);
        }
        waitpid(pid, NULL, 0);
    }
    if (send(CHILD_CHANNEL, "b", 1, 0) == 1)
        sleep_for_ever();
    return 1;
}

/* child_main: runs the child program `argv[1]` with its argument, and returns its exit status. */
static int child_main(char **argv) {
    const char *name = argv[1];
    int argument = argv[2] ? atoi(argv[2]) : 0;
    if (strcmp(name, "report") == 0)
        return report_main();
    if (strcmp(name, "exit") == 0)
        return argument;
    if (strcmp(name, "raise") == 0)
        return raise(argument);
    if (strcmp(name, "print") == 0)
        return print_lines(argument);
    if (strcmp(name, "flood") == 0)
        return flood_main();
    if (strcmp(name, "say") == 0)
        return say_main();
    if (strcmp(name, "spill") == 0)
        return spill_main(argument);
    if (strcmp(name, "breed") == 0)
        return breed_main(argument);
    if (strcmp(name, "orphan") == 0)
        with_grandchild(), sleep_ms(50);
    else if (strcmp(name, "sleep") == 0)
        sleep_for_ever();
    else if (strcmp(name, "watch") == 0)
        return watch_main();
    else if (strcmp(name, "watch-late") == 0)
        return watch_late_main();
    else if (strcmp(name, "watch-polite") == 0)
        return watch_polite_main();
    else if (strcmp(name, "watch-stubborn") == 0)
        return watch_stubborn_main();
    return 0;
}

#endif
