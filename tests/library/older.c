/* older.c - a host that was compiled against an older version of the headers, whose structs were shorter. It runs with this
 * version's library; what lies behind each struct must stay as it is. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <piso/piso.h>

#define BEHIND 512

/* GUARDED: a struct with bytes behind it that nobody may write to. */
#define GUARDED(type)                                                                                                  \
    struct {                                                                                                           \
        type it;                                                                                                       \
        unsigned char behind[BEHIND];                                                                                  \
    }

static int failures;

static void expect(const char *what, int is_so) {
    if (is_so)
        return;
    printf("not so: %s\n", what);
    failures++;
}

/* PREPARE: all bytes are rubbish but for the size. */
#define PREPARE(x)                                                                                                     \
    do {                                                                                                               \
        memset(&(x), 0xa5, sizeof(x));                                                                                 \
        (x).it.size = sizeof(x).it;                                                                                    \
    } while (0)
/* EMPTY: the struct is empty; rubbish is behind it, for a library that reads too far. */
#define EMPTY(x)                                                                                                       \
    do {                                                                                                               \
        PREPARE(x);                                                                                                    \
        memset(&(x).it, 0, sizeof(x).it);                                                                              \
        (x).it.size = sizeof(x).it;                                                                                    \
    } while (0)

static int is_whole(const unsigned char *behind) {
    for (int i = 0; i < BEHIND; i++)
        if (behind[i] != 0xa5)
            return 0;
    return 1;
}

static void try_session(void) {
    GUARDED(piso_stats) stats;
    GUARDED(piso_event) event;
    piso_session *host, *child;
    piso_call call;
    piso_writer w;
    char text[400] = "a";
    PREPARE(stats);
    PREPARE(event);
    expect("pair", piso_session_pair(1 << 20, &host, &child) == 0);
    piso_writer_init(&w);
    piso_write_array(&w, 1);
    piso_write_str(&w, text, sizeof text); /* more than this host's events have room for */
    expect("call", piso_session_call(host, &call, 1, 0, 0, 0, PISO_NO_DEADLINE, &w) == 0);
    piso_writer_fini(&w);
    expect("next", piso_session_next(child, &event.it) == 1);
    expect("body", event.it.body_size == sizeof text + 4 && event.it.body[4] == 'a');
    piso_event_fini(&event.it);
    expect("event", is_whole(event.behind) && event.it.size == sizeof event.it);
    expect("stats", piso_session_stats(host, &stats.it) == 0 && stats.it.calls_sent == 1);
    expect("behind stats", is_whole(stats.behind) && stats.it.size == sizeof stats.it);
    piso_writer_init(&w);
    piso_write_nil(&w);
    expect("notify", piso_session_call(host, NULL, 1, 0, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w) == 0);
    piso_writer_fini(&w);
    event.it.size = 16;
    expect("too small", piso_session_next(child, &event.it) == -EINVAL);
    event.it.size = stats.it.size = 0;
    expect("no size of an event", piso_session_next(child, &event.it) == -EINVAL);
    expect("no size of stats", piso_session_stats(host, &stats.it) == -EINVAL);
    expect("behind", is_whole(event.behind) && is_whole(stats.behind));
    piso_session_unref(host);
    piso_session_unref(child);
}

/* try_spawn: what this host cannot know is as if it were not there: it is rubbish here. */
static void try_spawn(void) {
    const char *const argv[] = {"/bin/true", NULL}, *const envp[] = {NULL};
    GUARDED(piso_limits) limits;
    GUARDED(piso_sandbox) sandbox;
    GUARDED(piso_sandbox_report) report;
    GUARDED(piso_spawn) spawn;
    piso_session *s;
    piso_exit status;
    EMPTY(limits);
    EMPTY(sandbox);
    PREPARE(report);
    EMPTY(spawn);
    limits.it.memory = 1 << 30;
    sandbox.it.limits = &limits.it;
    spawn.it.argv = argv;
    spawn.it.envp = envp;
    spawn.it.name = "older";
    spawn.it.sandbox = &sandbox.it;
#ifndef NO_REPORT
    spawn.it.report = &report.it;
#endif
    int r = piso_session_spawn(&spawn.it, &s);
    expect("spawn", r == 0 || r == PISO_ESANDBOX); /* not every machine can confine */
    if (r == 0) {
        expect("wait", piso_process_wait(piso_session_process(s), -1, &status) == 1);
        expect("status", status.code == 0);
        piso_session_unref(s);
    }
    expect("behind the report", is_whole(report.behind) && report.it.size == sizeof report.it);
    expect("behind the others", is_whole(limits.behind) && is_whole(sandbox.behind) && is_whole(spawn.behind));
    spawn.it.size = 0;
    expect("no size", piso_session_spawn(&spawn.it, &s) == -EINVAL);
    spawn.it.size = sizeof spawn; /* it claims to have fields that this library does not know */
    expect("unknown", piso_session_spawn(&spawn.it, &s) == -EINVAL);
}

static void try_zygote(void) {
    GUARDED(piso_fork) fork;
    PREPARE(fork);
    fork.it.size -= 8; /* in what is not shorter than it is now, the call would wait */
    expect("fork", piso_zygote_serve(-1, NULL, -1, &fork.it) == -EINVAL);
    expect("behind fork", is_whole(fork.behind));
}

int main(void) {
    printf("compiled %s, runs %s\n", PISO_VERSION, piso_version());
    try_session();
    try_spawn();
    try_zygote();
    return failures != 0;
}
