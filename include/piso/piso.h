/* piso.h - the public C interface of PyIsolate's core.
 *
 * A session joins two processes: the host, which creates everything, and an extension, which is not
 * trusted. Each side may call the other, with any number of calls in flight. Messages travel through two
 * rings in shared memory; while both sides are awake no system call is made. Payloads over a few KiB travel
 * in an arena of shared buffers and are named by spans. Values are MessagePack (docs/wire-format.md).
 *
 * Nothing here knows of Python. Unless a comment says otherwise a function is safe to call from any
 * thread, does not block, returns 0 or a count on success and a negative code on failure (-errno, or one of
 * PISO_E...), and leaves its ret_ outputs untouched on failure. Destructors accept NULL and return NULL.
 */
#ifndef PISO_H
#define PISO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"
#include "piso/values.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- processes ---------------------------------------------------------------------------------- */

typedef struct piso_process piso_process;
typedef struct piso_session piso_session;
typedef struct piso_zygote piso_zygote;

/* piso_process_status: how a process ended. */
typedef struct piso_exit {
    bool known; /* false: somebody else reaped it */
    int code;   /* exit status, or -1 */
    int signal; /* number of the signal that killed it, or 0 */
} piso_exit;

/* piso_layer: the parts of a sandbox (docs/security-model.md). */
typedef enum piso_layer {
    PISO_LAYER_PRIVILEGES,   /* no_new_privs, no capabilities */
    PISO_LAYER_FILES,        /* Landlock: which files can be opened, run, made and removed */
    PISO_LAYER_NETWORK,      /* Landlock: no TCP */
    PISO_LAYER_SIGNALS,      /* Landlock: no signals and abstract sockets to outside; or a filter instead */
    PISO_LAYER_SYSTEM_CALLS, /* seccomp */
    PISO_LAYER_NAMESPACES,   /* user, mount, IPC and network namespaces; the rest of the file system read-only */
    PISO_LAYER_LIMITS,       /* resource limits */
    PISO_LAYERS,
} piso_layer;
/* piso_limits: what a process may use; 0: no limit. */
typedef struct piso_limits {
    uint64_t memory;      /* bytes of private memory, each process (RLIMIT_DATA); where a control group can be made also
                           * all memory of all its processes, with shared_memory and temp_size on top if given */
    uint64_t cpu_seconds; /* processor time, each process */
    uint64_t processes;   /* processes and threads, all together */
    uint64_t open_files;  /* descriptors, each process */
    uint64_t file_size;   /* bytes of one file */
    uint64_t temp_size;   /* bytes in the temporary folder, which is then a file system of its own */
    uint64_t
        shared_memory; /* bytes: of each direction's arena, rounded up to a power of two; of the child's segments */
} piso_limits;
/* piso_sandbox: what a confined process may reach. What is not listed is refused. The lists end with NULL and may be
 * NULL themselves; paths that do not exist are passed over. Programs and libraries of the system can always be read
 * and run, and so can the program that is started. */
typedef struct piso_sandbox {
    const char *const *readable;  /* files and folders with all that is below: read and run */
    const char *const *listed;    /* folders: the names of what is below, nothing else */
    const char *const *writable;  /* read, run, write, make, remove */
    const char *const *devices;   /* read, write, ioctl */
    const char *const *hidden;    /* what cannot be reached though it lies below one of these, unless a list names it,
                                  * or something in it, itself. Without namespaces, or with `local_sockets`,
                                  * that cannot hold for what is there and lies in `writable` or in what is the
                                  * system's: PISO_ESANDBOX */
    const char *const *untrusted; /* what confined processes can write to, besides `writable`: no link there is
                                   * followed, so a path that leads through one is passed over */
    const char *temp;             /* a private folder, writable; or NULL */
    bool network;
    bool local_sockets; /* Unix sockets can be connected: also those of daemons that the user may talk to */
    piso_limits limits;
    unsigned omit; /* bits (1 << PISO_LAYER_...) to leave out: for tests that ask which layer it was */
} piso_sandbox;
/* piso_sandbox_report: which layers hold, and what there is to know about them: what is missing and why. */
typedef struct piso_sandbox_report {
    struct {
        bool active;
        char detail[160];
    } layers[PISO_LAYERS];
} piso_sandbox_report;
/* piso_layer_name: "files", "system calls"; NULL when there is no such layer. */
PISO_API const char *piso_layer_name(piso_layer layer);

/* piso_spawn: what to run. All pointers are only read during piso_session_spawn; `report` is filled in it. */
typedef struct piso_spawn {
    const char *const *argv;     /* argv[0] is the path of the program */
    const char *const *envp;     /* the whole environment. PISO_FD=<n> is added: the channel's descriptor */
    const char *cwd;             /* or NULL */
    const char *name;            /* for messages and memfd names */
    size_t arena_size;           /* virtual bytes of each direction's arena; 0: the default (64 GiB) */
    uint32_t max_requests;       /* of the child that are answered at once; 0: 4096. More wait on the child's side */
    bool echo_stdout;            /* pass the child's stdout on to this process's own, as far as that takes it at once */
    bool echo_stderr;            /* the same for stderr */
    bool inherit_stdout;         /* do not capture stdout: the child's is this process's own */
    piso_zygote *zygote;         /* or NULL: forks the child instead of running argv[0]; only borrowed */
    bool execute;                /* with a zygote: the child runs argv[0] after all, with the zygote as its parent */
    const piso_sandbox *sandbox; /* NULL: the child is not confined */
    piso_sandbox_report *report; /* NULL, or what became of the sandbox, also when that is PISO_ESANDBOX */
} piso_spawn;

/* ---- sessions ----------------------------------------------------------------------------------- */

/* piso_session_spawn: creates the channel, starts the process with it, or has a zygote fork it (its own process group, no
 * other descriptor inherited, stdin from /dev/null, output captured), and returns the host's end. Does not wait
 * for the child's handshake: that happens in piso_session_handshake. With a sandbox, files and system calls
 * are confined before the program runs, or it does not run: PISO_ESANDBOX. */
PISO_API int piso_session_spawn(const piso_spawn *spawn, piso_session **ret_session);

/* piso_session_handshake: waits until the child has attached. Blocks up to timeout_ns (-1: for ever).
 * 0, -ETIMEDOUT, -EINTR (call again), PISO_EDIED, PISO_EPROTO. */
PISO_API int piso_session_handshake(piso_session *s, int64_t timeout_ns);

/* piso_session_attach: the child's end, from the descriptor in PISO_FD. Blocks until the host's handshake
 * has been read. From then on the process (and its process group) is killed when the host dies. */
PISO_API int piso_session_attach(int channel_fd, piso_session **ret_session);

/* piso_session_pair: both ends in one process, for tests and benchmarks; arena_size as in piso_spawn. */
PISO_API int piso_session_pair(size_t arena_size, piso_session **ret_host, piso_session **ret_child);

PISO_API piso_session *piso_session_ref(piso_session *s);
PISO_API piso_session *piso_session_unref(piso_session *s); /* closes with the last reference */

/* piso_session_close: no more calls, the peer is told, pending calls fail with PISO_ECLOSED at the next
 * piso_session_next. The process is left alone. */
PISO_API void piso_session_close(piso_session *s);

/* piso_session_disconnect: closes the descriptors of a session that has ended, which else happens with the last reference:
 * as soon as nobody is in piso_session_wait or piso_session_handshake, or keeps piso_session_fd. Blocks up to timeout_ns
 * for these. Buffers that were received stay. 1; 0 when the time was over first; -EBUSY while the session works. */
PISO_API int piso_session_disconnect(piso_session *s, int64_t timeout_ns);
/* piso_session_keep_fd: piso_session_fd stays open until it is not kept any more, as often as it was kept. For whoever
 * gives it to an event loop; to begin with it before. */
PISO_API void piso_session_keep_fd(piso_session *s, bool keep);

/* piso_session_state: 0 while it works, else the PISO_E code it failed with. Cheap; reads memory only. */
PISO_API int piso_session_state(const piso_session *s);

/* piso_session_fault: after PISO_EPROTO, what the peer did wrong, as text that lives as long as the session; else NULL. */
PISO_API const char *piso_session_fault(const piso_session *s);

/* piso_session_reject: for who reads bodies: one of the peer's is malformed, so the session ends with PISO_EPROTO. `fault`
 * is what piso_session_fault will return; it is copied, as far as there is room. Any thread. */
PISO_API void piso_session_reject(piso_session *s, const char *fault);

/* piso_session_arena_size: bytes of each direction's arena: what the peer can send at once. */
PISO_API uint64_t piso_session_arena_size(const piso_session *s);

/* piso_session_process: the child's process, borrowed; NULL on the child's side and for pairs. */
PISO_API piso_process *piso_session_process(piso_session *s);
PISO_API int piso_process_pid(const piso_process *p);
/* piso_process_memory_exceeded: of a process that was killed because its control group reached its limit of memory: that
 * limit, in bytes; else 0. Known once piso_process_wait has returned 1. */
PISO_API uint64_t piso_process_memory_exceeded(const piso_process *p);
/* piso_refusal: a kind of system call that a confined process was refused. */
typedef struct piso_refusal {
    const char *call;      /* its name, or NULL; lives for ever */
    uint32_t number;       /* of the call */
    uint32_t arguments[2]; /* those that say what it was for: of ioctl, fcntl, prctl, socket, setsockopt, ...; else 0 */
    int error;             /* what it got, as errno */
    uint64_t count;
} piso_refusal;
/* piso_process_refused: how many calls were refused. -EAGAIN: it is not known yet; -ENOSYS: it cannot be known, because the
 * process is not confined or something else watches this host's system calls. */
PISO_API int64_t piso_process_refused(piso_process *p);
/* piso_process_refusals: at most `count` kinds, in the order of the first of each; how many. */
PISO_API size_t piso_process_refusals(piso_process *p, piso_refusal *ret_kinds, size_t count);
/* piso_process_wait: 1 and the status when it has ended, 0 when timeout_ns (-1: for ever) went by first, -EINTR
 * (call again). */
PISO_API int piso_process_wait(piso_process *p, int64_t timeout_ns, piso_exit *ret_exit);
/* piso_process_kill: sends a signal to the process group of the child; -ESRCH when it has ended. */
PISO_API int piso_process_kill(piso_process *p, int signal);
/* piso_process_stderr: copies the last bytes of its stderr (whole lines where possible) to buffer, returns
 * how many. After piso_process_wait has returned 1 it is complete. */
PISO_API size_t piso_process_stderr(piso_process *p, char *buffer, size_t size);

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

/* ---- zygotes ------------------------------------------------------------------------------------ */

/* A zygote is a process that has loaded what its children need and forks them on request: they start in
 * milliseconds and share its memory, or execute a program (piso_spawn.execute). For its host, a forked child is like any other: piso_session_spawn with
 * the field `zygote` set. The host's side is the first block of functions, the zygote's own the second. */

/* piso_zygote_spawn: starts the zygote's program, as piso_session_spawn starts a child's; PISO_FD is the number of
 * its socket to the host. It dies with the host. Does not wait for it. */
PISO_API int piso_zygote_spawn(const piso_spawn *spawn, piso_zygote **ret_zygote);
PISO_API piso_zygote *piso_zygote_ref(piso_zygote *z);
/* piso_zygote_unref: with the last one the zygote ends, after what its children have left behind has been killed. Its
 * running children hold one each. */
PISO_API piso_zygote *piso_zygote_unref(piso_zygote *z);
/* piso_zygote_ready: waits until it can fork and returns what it reported, which is valid as long as the zygote
 * object. Blocks up to timeout_ns (-1: for ever). 0, -ETIMEDOUT, -EINTR (call again), PISO_EDIED, PISO_EPROTO. */
PISO_API int piso_zygote_ready(piso_zygote *z, int64_t timeout_ns, const void **ret_report, size_t *ret_size);
/* piso_zygote_close: kills the zygote's process. Children that it has forked live on; how they end is known only
 * where the kernel tells (Linux 6.15 and later), and what leaves their process group outlives them. */
PISO_API void piso_zygote_close(piso_zygote *z);
/* piso_zygote_process: the zygote's own process, borrowed. */
PISO_API piso_process *piso_zygote_process(piso_zygote *z);
/* piso_fork_hooks: what a runtime has to do around a fork, in this thread; each may be NULL. */
typedef struct piso_fork_hooks {
    void (*before)(void);
    void (*in_parent)(void);
    void (*in_child)(void);
} piso_fork_hooks;
/* piso_fork: what a forked child was asked to be, as in the host's piso_spawn; envp includes PISO_FD. Freed by
 * piso_fork_fini. */
typedef struct piso_fork {
    const char *name;
    const char *const *argv, *const *envp;
    void *block; /* private, like the rest */
    size_t block_size, sandbox_size;
    const void *sandbox;
    bool execute; /* never in what piso_zygote_serve returns */
} piso_fork;
PISO_API void piso_fork_fini(piso_fork *fork);
/* piso_zygote_guard: in the zygote, before it loads anything: from now on it is killed when the host dies. */
PISO_API int piso_zygote_guard(int socket_fd);
/* piso_zygote_report: the zygote is ready to fork; `report`, at most 64 KiB, goes to the host. The process must
 * have a single thread now, else -EBUSY. */
PISO_API int piso_zygote_report(int socket_fd, const void *report, size_t size);
/* piso_zygote_serve: forks children as the host asks for them. Returns 1 in each child, which leads a process group
 * of its own, has the descriptors 0 to 2 and PISO_FD and no others, the host's current working directory (or the
 * one asked for), and no blocked signals; 0 in the zygote when the host has closed it or died, or when it has asked for
 * nothing for idle_ns (-1: for ever) and there is no child; -EINTR (call again) and other errors in the zygote. A zygote
 * that has more than one thread refuses to fork, which the host sees as -EBUSY of piso_session_spawn. */
PISO_API int piso_zygote_serve(int socket_fd, const piso_fork_hooks *hooks, int64_t idle_ns, piso_fork *ret_fork);
/* piso_zygote_share: in the zygote, when everything is loaded: lets its children give back what they touched but did not
 * change, with piso_fork_settle. Moves all private memory of the process. 0, or -errno: nothing was moved, and children
 * will need more memory; -EINVAL also where pages are not of 4 KiB. Where a move fails half-way the process is killed
 * (SIGKILL), since its memory is no longer whole: start another zygote, which does not call this. */
PISO_API int piso_zygote_share(void);
/* piso_fork_settle: in a child, once, when it has become idle: gives back to the zygote the pages that hold what they
 * held before the fork. Takes a millisecond or two. Does nothing if there are threads besides the caller and the one
 * that piso_session_attach starts. Returns how many pages, of 4 KiB. */
PISO_API int piso_fork_settle(void);
/* piso_process_title: what tools that list processes show for this one. As far as there is room. */
PISO_API void piso_process_title(const char *title);

/* ---- names -------------------------------------------------------------------------------------- */

/* piso_session_intern: the number for a method name towards this peer. The first use sends the name; the
 * number is then good for the life of the session. At most 65,536 names of at most 255 bytes. */
PISO_API int piso_session_intern(piso_session *s, const char *name, size_t size, uint32_t *ret_number);
/* piso_session_name: the name behind a number that the peer defined, or NULL. Valid until the session is freed. The peer
 * counts its numbers from 0 and does not change what they mean: callers may keep what they make of a name. */
PISO_API const char *piso_session_name(piso_session *s, uint32_t number, size_t *ret_size);

/* ---- calls -------------------------------------------------------------------------------------- */

/* piso_call: one outgoing call, embedded in the caller's own object. The session keeps a pointer to it from
 * piso_session_call until the event that ends it (PISO_EVENT_REPLY, _ERROR or _FAILED) or until
 * piso_session_forget. Fields are private. */
typedef struct piso_call {
    uint64_t id;         /* 0: not pending */
    int64_t deadline_ns; /* CLOCK_MONOTONIC, INT64_MAX: none */
    void *waiting;       /* while the peer answers others first */
    int error;           /* why it is over, until that is told */
} piso_call;

#define PISO_NO_DEADLINE INT64_MAX

/* piso_session_call: sends a call. Body: the positional arguments as an array and, with
 * PISO_CALL_KWARGS, then a map. `parent`: the peer's request (piso_event.id) in whose handler the call is made, or 0: the
 * peer runs it where that request's caller waits. Takes the writer's spans, leaves its memory. Never blocks: while the ring
 * is full, or the peer answers as many calls as it answers at once, the message waits in private memory. On failure
 * nothing was sent and the spans are still the writer's. */
PISO_API int piso_session_call(piso_session *s, piso_call *call, uint32_t object, uint32_t method, unsigned flags,
                               uint64_t parent, int64_t deadline_ns, piso_writer *w);
enum { PISO_CALL_KWARGS = 1, PISO_CALL_NO_REPLY = 2 /* call may be NULL */ };

/* piso_session_reply: answers a request; is_error: the body is an exception. A request is answered once. */
PISO_API int piso_session_reply(piso_session *s, uint64_t request, bool is_error, piso_writer *w);

/* piso_session_forget: no event will come for this call any more. cancel: the peer is asked to cancel its
 * handler. Harmless when the call is not pending. */
PISO_API void piso_session_forget(piso_session *s, piso_call *call, bool cancel);

/* ---- shared buffers ----------------------------------------------------------------------------- */

/* piso_session_alloc: a buffer of `size` bytes in this side's arena, 64-byte aligned, its pages there (no SIGBUS
 * later), contents undefined. -ENOMEM when arena or system memory is exhausted, -EDQUOT when a limit is. While a large
 * one is filled the peer may poll longer than otherwise: fill and send it at once. */
PISO_API int piso_session_alloc(piso_session *s, size_t size, piso_span *ret_span, void **ret_data);
/* piso_session_discard_spans: gives back the spans of a writer that was not sent. */
PISO_API void piso_session_discard_spans(piso_session *s, piso_writer *w);
/* piso_session_return_span: adds a span that was taken from an event of this session to a message, instead of
 * releasing it: its buffer goes to the peer as it is, without a copy; `length` of its bytes matter. Returns the
 * span's index or a negative code. The caller no longer owns the span, and must make sure that nobody here looks at
 * the buffer any more. piso_session_discard_spans releases it. */
PISO_API int piso_session_return_span(piso_session *s, piso_writer *w, const piso_span *span, size_t length);
/* piso_session_release: the receiver of a span has finished with it; batched, sent with the next message or
 * by piso_session_flush. */
PISO_API void piso_session_release(piso_session *s, const piso_span *span);
PISO_API void piso_session_flush(piso_session *s);
/* piso_session_trim: gives free arena memory above keep_bytes back to the system. */
PISO_API void piso_session_trim(piso_session *s, size_t keep_bytes);

/* ---- shared segments ------------------------------------------------------------------------------ */

/* A segment is memory that lives as long as any process uses it, whoever made it, and that can be sent on to any
 * number of peers without a copy. It is a sealed memfd: the descriptor crosses once for each session, in front of
 * the first message that uses it; after that a span of it is 24 bytes. Each side maps it as it likes.
 *
 * Who made the number known (the sender of the descriptor) takes it back with piso_session_retire when nobody on its
 * side uses the segment any more. The peer hears of it by PISO_EVENT_RETIRED, lets go of what it keeps for the next
 * time, and keeps what its own users hold; the number is free again once it has answered. Where the descriptor has been
 * closed (piso_segment_map) it answers when piso_session_retire says that its own users hold nothing. It never answers
 * before the events that name the segment have ended. A cell that is not NULL tells that it is used. */

/* piso_segment_create: `size` bytes of zeros, backed by memory now (no SIGBUS later). -ENOMEM, -EDQUOT; -EMFILE; -ENOBUFS:
 * this process has as many segments as it may. One reference. */
PISO_API int piso_segment_create(uint64_t size, piso_segment **ret_segment);
PISO_API piso_segment *piso_segment_ref(piso_segment *segment);
PISO_API piso_segment *piso_segment_unref(piso_segment *segment);
/* piso_segment_map: where it is mapped, for reading and writing; the mapping is the segment's, one for all. Without
 * `keep_fd` the descriptor of a segment that came from a peer is closed: it can then be sent to that peer, and to no other.
 * -ENOMEM. piso_segment_unmap: it is not used now; does nothing if there is no descriptor to map it again, the mapping then
 * goes with the segment. The lock that guards the cell guards both. */
PISO_API int piso_segment_map(piso_segment *segment, bool keep_fd, void **ret_data);
PISO_API void piso_segment_unmap(piso_segment *segment);
/* piso_segment_fd: its descriptor, borrowed, to be mapped or duplicated, or -1; piso_segment_size: in bytes. */
PISO_API int piso_segment_fd(const piso_segment *segment);
PISO_API uint64_t piso_segment_size(const piso_segment *segment);
/* piso_segment_cell: a pointer kept for the caller, NULL at first; the caller's own lock guards it. A process has
 * one piso_segment for one memory, by whatever way it came. */
PISO_API void **piso_segment_cell(piso_segment *segment);

/* piso_session_share: whether this side takes descriptors from its peer; at first it does not, and one that comes is
 * PISO_EPROTO. Sending is always possible. */
PISO_API void piso_session_share(piso_session *s, bool allowed);
PISO_API void piso_limit_shared_memory(uint64_t bytes); /* of arenas and segments of this process: -EDQUOT */
/* piso_segment_limit: how many segments a process may have; of one peer it takes half as many. What is more, or finds no
 * descriptor, is refused: its sender may send it again. */
PISO_API uint32_t piso_segment_limit(void);
/* piso_session_retire: nobody here uses it any more: the peer is told, if it got the segment from here, or if it has taken
 * back a segment without a descriptor: that keeps its number as long as it is used here. */
PISO_API void piso_session_retire(piso_session *s, piso_segment *segment);
/* piso_session_has_segment: whether the peer gave the segment and has not taken it back. When it does, PISO_EVENT_RETIRED
 * comes after this was last true: in another thread perhaps, and before a message that names the segment is looked at. */
PISO_API bool piso_session_has_segment(piso_session *s, const piso_segment *segment);

/* ---- leases --------------------------------------------------------------------------------------- */

/* A lease is a promise: its giver keeps something (memory of a GPU, an object) until the peer has ended the lease, or
 * the session has ended. It goes to the peer as one of the spans of a message, so it ends by itself when the message is
 * not sent, or not looked at. */

/* piso_session_lease: adds a new lease to a message; the span's index, or a negative code. `cookie` (not NULL) is the
 * caller's name for what it keeps, and comes back once, by PISO_EVENT_RELEASED; piso_session_unref of the last
 * reference reports nothing, so whoever needs all cookies takes events until the end first. */
PISO_API int piso_session_lease(piso_session *s, piso_writer *w, void *cookie);
/* piso_event_take_lease: the id of the peer's lease that is span `index`, to be ended by the caller; 0 if it is no such
 * span, out of range, or taken. Others are ended by piso_event_fini. */
PISO_API uint64_t piso_event_take_lease(piso_event *event, uint32_t index);
/* piso_session_end_lease: what the lease stands for is no longer needed here. Once for each id; batched like releases:
 * piso_session_flush sends it at once. */
PISO_API void piso_session_end_lease(piso_session *s, uint64_t id);

/* ---- memory of GPUs ------------------------------------------------------------------------------- */

/* Memory of CUDA, shared between processes by the driver's IPC handles. The driver, libcuda.so.1, is loaded when one of
 * these is first called; without it they return -ENODEV. Any thread; the current context of the thread stays what it
 * is. `device` is the driver's number here, which depends on CUDA_VISIBLE_DEVICES; between processes a device goes by its
 * UUID. -ENOMEM: its memory; -ENOTRECOVERABLE: a fault on it, this process has lost it; -EBUSY: another process has it
 * for itself; -EAGAIN: not while a stream is captured into a graph; -EIO: others. */
#define PISO_CUDA_UUID   16
#define PISO_CUDA_HANDLE 64
typedef struct piso_cuda_memory { /* where a pointer lies */
    int device;
    uint8_t handle[PISO_CUDA_HANDLE]; /* of the whole allocation */
    uint64_t offset, size;            /* of the pointer in the allocation; of that */
} piso_cuda_memory;

/* piso_cuda_count: how many devices this process has, at most 64, without a context; piso_cuda_find: that with a UUID,
 * or -ENOENT. */
PISO_API int piso_cuda_count(void);
PISO_API int piso_cuda_uuid(int device, uint8_t ret_uuid[PISO_CUDA_UUID]);
PISO_API int piso_cuda_find(const uint8_t uuid[PISO_CUDA_UUID]);
/* piso_cuda_export: a handle for the allocation that `data` lies in; -ENOTSUP: it has none (virtual memory). */
PISO_API int piso_cuda_export(int device, const void *data, piso_cuda_memory *ret_memory);
/* piso_cuda_open: maps the allocation behind a handle, or finds it mapped: its first byte, its size (2^62: not known). 1:
 * it is this process's own; 0: piso_cuda_close is to be called once, after piso_cuda_synchronize. `keeper` (any
 * address, or NULL): for whom it stays mapped without users, until piso_cuda_release (handle NULL: all of it). */
PISO_API int piso_cuda_open(int device, const uint8_t handle[PISO_CUDA_HANDLE], const void *keeper, void **ret_base,
                            uint64_t *ret_size);
PISO_API void piso_cuda_close(int device, const void *base);
PISO_API void piso_cuda_release(const void *keeper, const uint8_t *handle);
/* Wait for what this process has given the device, or one stream (NULL: the default one). They end a capture into a
 * graph; piso_cuda_captured tells whether a stream is in one. */
PISO_API int piso_cuda_synchronize(int device);
PISO_API int piso_cuda_drain(int device, void *stream);
PISO_API int piso_cuda_captured(int device, void *stream);
/* piso_cuda_record: what others have to wait for before they use what the stream writes. 0: nothing; 1: an event;
 * -EINPROGRESS: it is busy, and `events` forbids one, or all are in use: see piso_cuda_drain. piso_cuda_wait: has the
 * stream wait for another process's event. */
PISO_API int piso_cuda_record(int device, void *stream, bool events, uint8_t ret_event[PISO_CUDA_HANDLE]);
PISO_API int piso_cuda_wait(int device, void *stream, const uint8_t event[PISO_CUDA_HANDLE]);
/* piso_cuda_failure: which call of the driver failed last in this thread, and how. */
PISO_API const char *piso_cuda_failure(void);

typedef struct piso_stats {
    uint64_t calls_sent, calls_received, replies_sent, replies_received;
    uint64_t doorbells_rung;              /* system calls made to wake the peer */
    uint64_t yields;                      /* of the processor, while waiting */
    uint64_t arena_live, arena_committed; /* bytes of this side's arena in use; backed by memory */
    uint64_t spans_held;                  /* received and not yet released */
    uint64_t queued;                      /* messages waiting because the ring is full */
    uint64_t segments;                    /* that this session knows, from either side */
    uint64_t leases_given, leases_held;   /* of this side, not yet ended; of the peer, likewise */
} piso_stats;
PISO_API void piso_session_stats(piso_session *s, piso_stats *ret_stats);

/* piso_session_progress: slots of the ring that this side has filled since the start, and how many of them the peer says
 * that it has taken: it says so late, but always before it sleeps. A peer that takes nothing of what is there is stuck.
 * No event is taken and nothing is sent. */
PISO_API void piso_session_progress(piso_session *s, uint64_t *ret_sent, uint64_t *ret_taken);

/* ---- events ------------------------------------------------------------------------------------- */

typedef enum piso_event_type {
    PISO_EVENT_REQUEST = 1, /* the peer calls: object, method, flags, body, spans; answer with `id` */
    PISO_EVENT_CANCEL,      /* the peer no longer waits for request `id` */
    PISO_EVENT_REPLY,       /* `call` has its result in body */
    PISO_EVENT_ERROR,       /* `call` has an exception in body */
    PISO_EVENT_FAILED,      /* `call` ends with `error`: -ETIMEDOUT, PISO_EDIED, PISO_ECLOSED, PISO_EPROTO; of one that
                             * had to wait also what piso_session_call returns */
    PISO_EVENT_RETIRED,     /* the peer has taken back its number for `segment` (borrowed until the event's end) */
    PISO_EVENT_RELEASED,    /* the lease with this `cookie` has ended: by the peer, unsent, or with the session */
} piso_event_type;

#define PISO_EVENT_INLINE 512

/* piso_event: one thing that happened. The body is a private copy. Spans that were not taken by
 * piso_event_take_span are released by piso_event_fini. */
struct piso_event {
    piso_event_type type;
    int error;
    uint64_t id;
    piso_call *call;
    uint32_t object, method;
    unsigned flags;
    piso_call *parent; /* of a request: the call of this side in whose handler the peer made it; NULL: none, or ended */
    int64_t deadline_ns; /* of a request, PISO_NO_DEADLINE if none */
    const uint8_t *body;
    size_t body_size;
    uint32_t nspans;
    piso_span *spans;        /* checked against the peer's arena, or the size of their segment */
    piso_segment **segments; /* of each span, NULL where it lies in the arena; NULL if there are no spans */
    piso_segment *segment;   /* PISO_EVENT_RETIRED */
    void *cookie;            /* PISO_EVENT_RELEASED */
    piso_session *session;   /* borrowed */
    void *heap;              /* private */
    uint8_t inline_body[PISO_EVENT_INLINE];
};

/* piso_session_next: takes the next event. 1; 0 when there is none now; a negative code once the session has
 * failed and every pending call has been reported. Frees nothing of an earlier event. */
PISO_API int piso_session_next(piso_session *s, piso_event *ret_event);
PISO_API void piso_event_fini(piso_event *event);
/* piso_event_take_span: the bytes of span `index`, which the caller now owns and releases with piso_session_release.
 * The peer can still write there: read each byte once. NULL if index is out of range or taken. */
PISO_API void *piso_event_take_span(piso_event *event, uint32_t index, piso_span *ret_span);
/* piso_event_refused: why span `index` lies in a segment that this process could not take: -EMFILE or -ENOBUFS; else 0. */
PISO_API int piso_event_refused(const piso_event *event, uint32_t index);
/* piso_event_take_segment: the segment that span `index` lies in, a reference for the caller; *ret_ours: whether the
 * number was made known by this side. NULL if it is no such span, or out of range. A message may name one span many times:
 * it can be taken as often. */
PISO_API piso_segment *piso_event_take_segment(piso_event *event, uint32_t index, piso_span *ret_span, bool *ret_ours);

/* piso_session_expire: turns calls whose deadline has passed into PISO_EVENT_FAILED (-ETIMEDOUT; the peer is
 * told to cancel). Returns the earliest deadline that is left, or PISO_NO_DEADLINE. */
PISO_API int64_t piso_session_expire(piso_session *s);

/* ---- waiting ------------------------------------------------------------------------------------ */

/* The peer rings the doorbell (a system call) only when this side has said that it sleeps. A thread that
 * waits for events therefore does, in this order:
 *
 *     poll_begin          // while anybody polls, the peer need not ring
 *     next / spin ...     // piso_session_spin: bounded, adaptive polling
 *     poll_end            // 1: events came in meanwhile, drain them
 *     sleep_begin         // 1: events are there, do not sleep; 0: the peer will ring
 *     poll(2) on piso_session_fd, or piso_session_wait, or an event loop
 *     sleep_end
 *
 * poll_begin/poll_end bracket short stretches: end before running code of unknown length. Several threads
 * and loops may be in any of these at once. */
PISO_API bool piso_session_ready(const piso_session *s); /* is an event there? reads memory only */
PISO_API void piso_session_poll_begin(piso_session *s);
PISO_API int piso_session_poll_end(piso_session *s);
/* piso_session_look: polls for two microseconds, without yielding. piso_sessions_poll: goes on, for the sake of the
 * first session, if that has been worth it lately: 20 us, and yields the processor between two looks, and what others keep
 * it for; 100 us, without yielding, where the peer had to be woken; 500 us while the peer fills a large buffer.
 * piso_session_spin: both. 1: an event is there, of any of the sessions; 0: not within that time. */
#define PISO_SESSIONS_MAX 30 /* polled, or waited for, at once */
PISO_API int piso_session_look(piso_session *s);
PISO_API int piso_sessions_poll(piso_session *const *sessions, int count);
PISO_API int piso_session_spin(piso_session *s);
PISO_API int piso_session_sleep_begin(piso_session *s);
PISO_API void piso_session_sleep_end(piso_session *s);
/* piso_session_fd: a descriptor that is readable when the doorbell rang or the peer died; for poll, epoll,
 * event loops. Level-triggered: piso_session_sleep_end and piso_session_next reset it. */
PISO_API int piso_session_fd(piso_session *s);
/* piso_session_nudge: makes that descriptor readable, until the next piso_session_sleep_end. */
PISO_API void piso_session_nudge(piso_session *s);
/* piso_session_wait: sleep_begin, poll, sleep_end: until an event, the peer's death, extra_fd (or -1) is
 * readable, or timeout_ns (-1: none). 1 event or death, 2 extra_fd, 0 time, -EINTR. */
PISO_API int piso_session_wait(piso_session *s, int extra_fd, int64_t timeout_ns);
/* piso_session_wait_polled: returns as after piso_session_poll_begin, whatever it returns. So others that sleep are not
 * woken for what the caller takes at once. */
PISO_API int piso_session_wait_polled(piso_session *s, int extra_fd, int64_t timeout_ns);
/* piso_sessions_wait: piso_session_wait for several, at most PISO_SESSIONS_MAX. */
PISO_API int piso_sessions_wait(piso_session *const *sessions, int count, int extra_fd, int64_t timeout_ns);

/* piso_fork_generation: a number that differs in a process forked from this one, and in its children. Reads memory only. */
PISO_API uint32_t piso_fork_generation(void);
/* piso_now_ns: CLOCK_MONOTONIC. */
PISO_API int64_t piso_now_ns(void);
/* piso_now_coarse_ns: the same clock as of the last tick, a few milliseconds ago, at a fifth of the price. */
PISO_API int64_t piso_now_coarse_ns(void);

#ifdef __cplusplus
}
#endif
#endif
