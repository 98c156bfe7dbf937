/* prepare.c - the host's part: what is possible here, what was asked for, and the block of bytes that says so. */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "os/cgroup.h"
#include "os/os.h"
#include "sandbox/internal.h"

#define MAGIC   UINT64_C(0x7069736f73623031)
#define MEMBERS "/cgroup.procs"

/* job: one preparation. */
typedef struct job {
    const piso_sandbox *spec;
    piso_sandbox_report *report;
    uint32_t layers; /* that will be applied */
    piso__landlock landlock;
    struct sock_filter *filter;
    int filter_count;
    piso__group *group;
    piso__group_errors group_errors;
    piso__paths paths;
    piso__step *steps;
    size_t step_count;
    piso__blob head;
} job;

__attribute__((format(printf, 4, 5))) static void say(job *j, piso_layer layer, bool active, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(j->report->layers[layer].detail, sizeof j->report->layers[layer].detail, format, arguments);
    va_end(arguments);
    j->report->layers[layer].active = active;
    if (active)
        j->layers |= PISO__BIT(layer);
}

static bool omitted(job *j, piso_layer layer) {
    if (j->spec->omit & PISO__BIT(layer))
        say(j, layer, false, "left out on request");
    return j->spec->omit & PISO__BIT(layer);
}

/* blame: the layer for which nothing can be started; what was said of others would look like reasons. */
static int blame(job *j, piso_layer layer) {
    piso__report_only(layer, j->report);
    return PISO_ESANDBOX;
}

/* ---- layer by layer; each fails only where it has to be there and cannot ---- */

static void plan_namespaces(job *j) {
    if (omitted(j, PISO_LAYER_NAMESPACES))
        return;
    int root = piso__root_probe(), r = root == 0 ? 0 : piso__namespaces_probe();
    if (r < 0) {
        say(j, PISO_LAYER_NAMESPACES, false,
            "this system does not let the user make namespaces (%s); the filter refuses more calls instead",
            piso_strerror(r));
        return;
    }
    j->head.namespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | (j->spec->network ? 0 : CLONE_NEWNET);
    j->head.root = root == 0 && !j->spec->local_sockets; /* which may be anywhere */
    j->head.own_proc = j->head.root && piso__proc_probe() == 0;
    char why[64] = "";
    if (root < 0)
        snprintf(why, sizeof why, "; the root stays the host's (%s)", piso_strerror(root));
    say(j, PISO_LAYER_NAMESPACES, true, "user, mount%s, IPC%s%s", j->head.root ? " with a root of its own" : "",
        j->spec->network ? "" : ", network", why);
}

/* without_landlock: says what there is to be done about it. */
static int without_landlock(job *j, int error) {
    say(j, PISO_LAYER_FILES, false,
        error == ENOSYS
            ? "this kernel has no Landlock (%s): it needs Linux 5.13 or later, built with CONFIG_SECURITY_LANDLOCK; gVisor "
              "has none"
        : error == EOPNOTSUPP
            ? "Landlock is switched off (%s): add 'landlock' to the 'lsm=' of the kernel's command line"
            : "Landlock is forbidden (%s), as by a container's seccomp profile: it needs Docker 23 or later, or a "
              "profile with landlock_*",
        piso_strerror(-error));
    return blame(j, PISO_LAYER_FILES);
}

static int plan_landlock(job *j) {
    piso__landlock l = j->landlock = piso__landlock_probe();
    if (!omitted(j, PISO_LAYER_FILES)) {
        if (!l.version)
            return without_landlock(j, l.error);
        say(j, PISO_LAYER_FILES, true, "Landlock %d%s", l.version,
            j->spec->devices && j->spec->devices[0] ? ", with devices" : "");
    }
    if (!omitted(j, PISO_LAYER_NETWORK)) {
        bool active = l.version >= PISO__LANDLOCK_NETWORK && !j->spec->network;
        say(j, PISO_LAYER_NETWORK, active, "%s",
            active             ? "Landlock: no TCP"
            : j->spec->network ? "the configuration permits the network"
                               : "Landlock rules on TCP since Linux 6.7; the filter refuses sockets");
    }
    if (!omitted(j, PISO_LAYER_SIGNALS)) {
        bool active = l.version >= PISO__LANDLOCK_SIGNALS;
        say(j, PISO_LAYER_SIGNALS, true, "%s",
            active ? "Landlock: none to processes outside"
                   : "Landlock rules on signals since Linux 6.12; the filter permits the process's own only");
    }
    return 0;
}

/* has_own_sockets: in its root there are no others' sockets in files; abstract ones belong to the network. */
static bool has_own_sockets(const job *j) {
    return j->head.root && (!j->spec->network || (j->layers & PISO__BIT(PISO_LAYER_SIGNALS) &&
                                                  j->landlock.version >= PISO__LANDLOCK_SIGNALS));
}

/* has_private_root: nothing can be named but what may be used. Then what changes there can be watched, by as many
 * instances of inotify as namespaces.c permits, if that can be written. */
static bool has_private_root(const job *j) {
    struct statvfs system;
    return j->head.root && j->layers & PISO__BIT(PISO_LAYER_NAMESPACES) && statvfs("/proc/sys/user", &system) == 0 &&
           !(system.f_flag & ST_RDONLY);
}

static int plan_filter(job *j) {
    if (omitted(j, PISO_LAYER_SYSTEM_CALLS))
        return 0;
    bool namespaces = j->layers & PISO__BIT(PISO_LAYER_NAMESPACES);
    piso__filter_options options = {
        .network = j->spec->network,
        .local_sockets = j->spec->local_sockets,
        .own_sockets = has_own_sockets(j),
        .private_ipc = namespaces,
        .private_disk = namespaces,
        .no_holes = piso__memory_is_strict(),
        .devices = j->spec->devices && j->spec->devices[0],
        .private_root = has_private_root(j),
        .own_group = !namespaces,
        .no_truncation = !namespaces && j->landlock.version < PISO__LANDLOCK_TRUNCATION,
        .own_signals = j->layers & PISO__BIT(PISO_LAYER_SIGNALS) && j->landlock.version < PISO__LANDLOCK_SIGNALS,
    };
    int r = piso__filter_probe();
    if (r < 0) {
        say(j, PISO_LAYER_SYSTEM_CALLS, false,
            r == -EPERM
                ? "seccomp is forbidden (%s), as by a container's seccomp profile: it needs one that permits it"
                : "this kernel has no seccomp (%s), or a container forbids it: it needs Linux 3.17 or later, built "
                  "with CONFIG_SECCOMP_FILTER",
            piso_strerror(r));
        return blame(j, PISO_LAYER_SYSTEM_CALLS);
    }
    r = piso__filter_build(options, &j->filter);
    if (r == -ENOSYS) {
        say(j, PISO_LAYER_SYSTEM_CALLS, false,
            "there is no list of system calls for this machine; there is one for x86-64 and aarch64");
        return blame(j, PISO_LAYER_SYSTEM_CALLS);
    }
    if (r < 0)
        return r;
    j->filter_count = r;
    say(j, PISO_LAYER_SYSTEM_CALLS, true, "seccomp");
    return 0;
}

static void add_limit(job *j, int resource, uint64_t soft, uint64_t hard) {
    if (soft)
        j->head.limits[j->head.nlimits++] =
            (piso__limit){.resource = (uint32_t)resource, .soft = soft, .hard = hard ? hard : soft};
}

/* add_open_files: not as many as this process may have, also where nothing was asked for: descriptors that are under way
 * in sockets are counted for the user, against the limit of who sends more. */
static void add_open_files(job *j, uint64_t asked) {
    struct rlimit limit;
    uint64_t most = piso__fd_share();
    if (!asked && getrlimit(RLIMIT_NOFILE, &limit) == 0)
        add_limit(j, RLIMIT_NOFILE, limit.rlim_cur < most ? limit.rlim_cur : most, most);
    else
        add_limit(j, RLIMIT_NOFILE, asked, 0);
}

/* add_signals: half of what this process may have: timers and signals that wait are counted for the user in the same way. */
static void add_signals(job *j) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_SIGPENDING, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        add_limit(j, RLIMIT_SIGPENDING, limit.rlim_cur / 2, 0);
}

static const piso_limits *limits_of(const piso_sandbox *spec) {
    static const piso_limits none;
    return spec->limits ? spec->limits : &none;
}

/* group_memory: what all memory of the child's may come to: besides its own also what other limits give it and the kernel
 * counts as memory. */
static uint64_t group_memory(const piso_limits *l) {
    uint64_t sum = l->memory;
    if (sum == 0 || __builtin_add_overflow(sum, l->shared_memory, &sum) ||
        __builtin_add_overflow(sum, l->temp_size, &sum) || sum > INT64_MAX)
        return 0;
    return sum;
}

/* plan_group: processes and memory are counted by a control group where one can be made. Of processes the kernel has
 * another limit, except for root's; memory has one for each process, so that a group is not essential. */
static int plan_group(job *j) {
    const piso_limits *l = limits_of(j->spec);
    piso__group_limits limits = {.processes = l->processes, .memory = group_memory(l)};
    if (!limits.processes && !limits.memory)
        return 0;
    piso__group_new(&limits, &j->group, &j->group_errors);
    int r = j->group_errors.processes;
    if (r == 0 || piso__kernel_counts_processes())
        return 0;
    say(j, PISO_LAYER_LIMITS, false,
        "'processes' of root are limited only by a control group, and none can be made (%s): run as another user or "
        "make /sys/fs/cgroup writable",
        r == -ENOENT ? "no pids controller" : piso_strerror(r));
    return blame(j, PISO_LAYER_LIMITS);
}

/* say_limits: by what they hold. */
static void say_limits(job *j) {
    const piso_limits *l = limits_of(j->spec);
    bool namespaces = j->layers & PISO__BIT(PISO_LAYER_NAMESPACES), memory = group_memory(l) != 0;
    int processes_error = j->group_errors.processes, memory_error = j->group_errors.memory;
    const char *counted = "", *alone = "";
    if (memory && !memory_error)
        counted = l->processes && !processes_error ? "memory and processes are counted by a control group"
                                                   : "memory is counted by a control group";
    else if (l->processes && !processes_error)
        counted = "processes are counted by a control group";
    if (l->processes && processes_error && !namespaces)
        alone = "processes are counted together with the others of this user";
    char private_only[96] = "";
    if (memory && memory_error)
        snprintf(private_only, sizeof private_only,
                 "of memory only what each process has for itself: no control group (%s)",
                 memory_error == -ENOENT  ? "no memory controller"
                 : memory_error == -EBUSY ? "none is delegated"
                                          : piso_strerror(memory_error));
    const char *parts[] = {counted, alone, private_only};
    char text[sizeof j->report->layers[0].detail] = "";
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text && *parts[i] ? "; " : "", parts[i]);
    say(j, PISO_LAYER_LIMITS, true, "%s", text);
}

static int plan_limits(job *j) {
    const piso_limits *l = limits_of(j->spec);
    if (omitted(j, PISO_LAYER_LIMITS))
        return 0;
    if (l->temp_size && !(j->layers & PISO__BIT(PISO_LAYER_NAMESPACES))) {
        say(j, PISO_LAYER_LIMITS, false, "temporary space can be limited only where namespaces are permitted");
        return blame(j, PISO_LAYER_LIMITS);
    }
    int r = plan_group(j);
    if (r < 0)
        return r;
    j->head.limits[j->head.nlimits++] =
        (piso__limit){.resource = RLIMIT_CORE, .soft = 1, .hard = 1}; /* no core file, which is a write
        to disk; with 0 the kernel starts a program for it all the same where `core_pattern` names one */
    add_limit(j, RLIMIT_DATA, l->memory, 0);
    add_limit(j, RLIMIT_CPU, l->cpu_seconds, l->cpu_seconds + 1); /* SIGXCPU first, which tells why */
    add_limit(j, RLIMIT_NPROC, j->group_errors.processes ? l->processes : 0, 0);
    add_open_files(j, l->open_files);
    add_limit(j, RLIMIT_FSIZE, l->file_size, 0);
    add_signals(j);
    j->head.temp_size = l->temp_size;
    j->head.shm_size = l->memory;
    say_limits(j);
    return 0;
}

static int plan(job *j) {
    plan_namespaces(j);
    char why[sizeof j->report->layers[0].detail];
    int r = j->head.root ? 0 : piso__landlock_hides(j->spec, why, sizeof why);
    if (r < 0)
        say(j, PISO_LAYER_NAMESPACES, false, "%s", why);
    else
        r = plan_landlock(j);
    if (r == 0)
        r = plan_filter(j);
    if (r == 0)
        r = plan_limits(j);
    if (r == 0 && !omitted(j, PISO_LAYER_PRIVILEGES))
        say(j, PISO_LAYER_PRIVILEGES, true, "no_new_privs, no capabilities");
    return r;
}

/* ---- the block ---- */

/* put_string: appended to the block; its offset. */
static uint32_t put_string(piso__blob *b, const char *text) {
    uint32_t at = b->size;
    memcpy(piso__blob_at(b, at), text, strlen(text) + 1);
    b->size += (uint32_t)strlen(text) + 1;
    return at;
}

static const char *group_path(const job *j, int index) {
    return j->group ? piso__group_path(j->group, index) : NULL;
}

static void put_groups(piso__blob *b, const job *j) {
    b->groups = b->size;
    for (const char *path; (path = group_path(j, (int)b->group_count)); b->group_count++) {
        put_string(b, path);
        b->size--; /* over its end */
        put_string(b, MEMBERS);
    }
}

static void closedirp(DIR **folder) {
    if (*folder)
        closedir(*folder);
}

/* add_spot: without a rule. */
static int add_spot(job *j, const char *path, piso__use use) {
    struct stat state;
    piso__autoclose int fd = piso__paths_open(&j->paths, path, use, &state);
    return fd == -ENOMEM ? fd : 0;
}

/* add_terminals: where there shall be a device that opens them; it works only beside these. */
static int add_terminals(piso__paths *p) {
    for (size_t i = 0; i < p->count; i++) {
        piso__spot *spot = &p->places[i];
        if (spot->use != PISO__USE_DEVICE || strcmp(spot->path, "/dev/ptmx") != 0)
            continue;
        *spot = (piso__spot){.path = spot->path, .use = PISO__USE_LINK, .target = strdup("pts/ptmx")};
        return spot->target ? piso__paths_add(p, "/dev/pts", PISO__USE_TERMINALS, NULL) : -ENOMEM;
    }
    return 0;
}

/* add_proc: without what is no process and not permitted by a name of its own. */
static int add_proc(piso__paths *p) {
    piso__cleanup(closedirp) DIR *folder = opendir("/proc");
    if (!folder)
        return -errno;
    size_t permitted = p->count;
    int r = piso__paths_add(p, "/proc", PISO__USE_PROC, NULL);
    for (struct dirent *entry; r == 0 && (entry = readdir(folder));) {
        char path[sizeof entry->d_name + sizeof "/proc/"];
        bool is_permitted = entry->d_type == DT_LNK || entry->d_name[0] == '.' || isdigit(entry->d_name[0]);
        snprintf(path, sizeof path, "/proc/%s", entry->d_name);
        for (size_t i = 0; !is_permitted && i < permitted; i++)
            is_permitted = strcmp(p->places[i].path, path) == 0;
        if (!is_permitted && (r = piso__paths_add(p, path, PISO__USE_HIDE, NULL)) == 0)
            p->places[p->count - 1].is_folder = entry->d_type == DT_DIR;
    }
    return r;
}

/* plan_root: what the child makes its root of. */
static int plan_root(job *j) {
    static const struct {
        const char *path, *target; /* no target: a folder */
    } made[] = {
        {"/tmp", NULL},
        {"/dev/shm", NULL},
        {"/dev/fd", "/proc/self/fd"},
        {"/dev/stdin", "/proc/self/fd/0"},
        {"/dev/stdout", "/proc/self/fd/1"},
        {"/dev/stderr", "/proc/self/fd/2"},
    };
    char folder[PATH_MAX];
    int r = j->head.own_proc ? add_proc(&j->paths) : add_spot(j, "/proc", PISO__USE_READ);
    for (size_t i = 0; r == 0 && i < sizeof made / sizeof *made; i++)
        r = piso__paths_add(&j->paths, made[i].path, made[i].target ? PISO__USE_LINK : PISO__USE_FOLDER,
                            made[i].target);
    if (r == 0)
        r = add_terminals(&j->paths);
    if (r == 0 && getcwd(folder, sizeof folder) && folder[0] == '/')
        r = piso__paths_add(&j->paths, folder, PISO__USE_FOLDER, NULL);
    return r == 0 ? piso__paths_plan(&j->paths, &j->steps, &j->step_count) : r;
}

static void put_steps(piso__blob *b, const job *j) {
    piso__step *steps = piso__blob_at(b, b->steps);
    b->step_count = (uint32_t)j->step_count;
    for (size_t i = 0; i < j->step_count; i++) {
        const piso__spot *place = &j->paths.places[j->steps[i].path];
        uint32_t cut = j->steps[i].target;
        steps[i] = j->steps[i];
        steps[i].path = put_string(b, place->path);
        if (cut) { /* a folder on the way */
            b->size = steps[i].path + cut;
            *(char *)piso__blob_at(b, b->size++) = '\0';
        }
        steps[i].target = place->target && !cut ? put_string(b, place->target) : 0;
    }
}

static size_t steps_size(const job *j) {
    size_t size = j->step_count * sizeof *j->steps;
    for (size_t i = 0; i < j->step_count; i++) {
        const piso__spot *place = &j->paths.places[j->steps[i].path];
        size += strlen(place->path) + 1 + (place->target ? strlen(place->target) + 1 : 0);
    }
    return size;
}

/* own_mount: paths that stay writable by a mount of their own. The root cannot be mounted over. */
static bool own_mount(const char *path) {
    return path[0] == '/' && path[1] != '\0' && access(path, F_OK) == 0;
}

static piso__blob *assemble(job *j) {
    const piso_sandbox *spec = j->spec;
    size_t filter_size = (size_t)j->filter_count * sizeof *j->filter, size = sizeof(piso__blob) + filter_size;
    size_t first = (size + alignof(piso__step) - 1) / alignof(piso__step) * alignof(piso__step);
    size = first + steps_size(j);
    for (const char *const *path = spec->writable; path && *path; path++)
        size += strlen(*path) + 1;
    size += spec->temp ? 2 * (strlen(spec->temp) + 1) : 0;
    for (int i = 0; group_path(j, i); i++)
        size += strlen(group_path(j, i)) + sizeof MEMBERS;
    piso__blob *b = size < UINT32_MAX ? calloc(1, size) : NULL;
    if (!b)
        return NULL;
    *b = j->head;
    b->magic = MAGIC;
    b->layers = j->layers;
    b->hides_network = !spec->network && !(b->namespaces & CLONE_NEWNET);
    b->uid = geteuid();
    b->gid = getegid();
    b->filter = sizeof *b;
    b->filter_count = (uint32_t)j->filter_count;
    if (filter_size)
        memcpy(piso__blob_at(b, b->filter), j->filter, filter_size);
    b->steps = (uint32_t)first;
    b->size = (uint32_t)(first + j->step_count * sizeof *j->steps);
    put_steps(b, j);
    b->writable = b->size;
    for (const char *const *path = spec->writable; path && *path; path++)
        if (own_mount(*path)) {
            put_string(b, *path);
            b->writable_count++;
        }
    if (spec->temp && !b->temp_size) {
        put_string(b, spec->temp);
        b->writable_count++;
    }
    if (spec->temp)
        b->temp = put_string(b, spec->temp);
    put_groups(b, j);
    return b;
}

static void fini(job *j) {
    free(j->filter);
    free(j->steps);
    piso__paths_fini(&j->paths);
    piso__group_end(j->group);
}

int piso__sandbox_prepare(const piso_sandbox *spec, const char *program, piso__sandbox **ret_sandbox,
                          piso_sandbox_report *report) {
    memset(report, 0, sizeof *report);
    if (limits_of(spec)->temp_size && !spec->temp)
        return -EINVAL;
    piso__cleanup(fini) job j = {.spec = spec, .report = report};
    piso__cleanup(piso__sandbox_freep) piso__sandbox *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->fd = -1;
    piso__autoclose int ruleset = -1;
    int r = plan(&j);
    if (r == 0)
        r = piso__paths_distrust(&j.paths, spec->writable, spec->untrusted);
    if (r == 0)
        r = piso__landlock_ruleset(spec, program, j.group, j.layers, j.landlock, &j.head, &j.paths, &ruleset);
    if (r == -EPERM || r == -ENOSYS) { /* forbidden in parts */
        piso__sandbox_blame(PISO_LAYER_FILES, r, report);
        return PISO_ESANDBOX;
    }
    j.head.has_ruleset = ruleset >= 0;
    if (r == 0 && j.head.root)
        r = plan_root(&j);
    if (r == 0 && (ruleset >= 0 || j.filter_count))
        r = piso__refusals_new(j.filter, j.filter_count, ruleset, &s->refusals, &s->fd);
    if (r < 0)
        return r;
    if (!(s->blob = assemble(&j)))
        return -ENOMEM;
    s->group = piso__steal_pointer(&j.group);
    *ret_sandbox = piso__steal_pointer(&s);
    return 0;
}

piso__sandbox *piso__sandbox_free(piso__sandbox *s) {
    if (s) {
        piso__fd_close(s->fd);
        free(s->blob);
        piso__refusals_unref(s->refusals);
        piso__group_end(s->group);
        free(s);
    }
    return NULL;
}

int piso__sandbox_failed(const piso__sandbox *s) {
    return s->failed_layer;
}

piso__group *piso__sandbox_take_group(piso__sandbox *s) {
    return piso__steal_pointer(&s->group);
}

piso__refusals *piso__sandbox_take_refusals(piso__sandbox *s) {
    return piso__steal_pointer(&s->refusals);
}

/* ---- to another process ---- */

int piso__sandbox_fd(const piso__sandbox *s) {
    return s->fd;
}

const void *piso__sandbox_export(const piso__sandbox *s, size_t *ret_size) {
    *ret_size = s->blob->size;
    return s->blob;
}

/* are_strings: whether so many, one after the other, end with `last` or before it, where there is the end of one. */
static bool are_strings(const piso__blob *b, uint32_t offset, uint32_t count, const char *last) {
    const char *path = piso__blob_at(b, offset);
    for (uint32_t i = 0; i < count; i++) {
        if (path < (const char *)b || path > last)
            return false;
        path += strlen(path) + 1;
    }
    return true;
}

/* is_whole: all that the block refers to is in it. */
static bool is_whole(const piso__blob *b, size_t size) {
    if (size < sizeof *b || b->magic != MAGIC || b->size != size || b->nlimits > PISO__LIMITS_MAX)
        return false;
    uint64_t filter_end = b->filter + (uint64_t)b->filter_count * sizeof(struct sock_filter);
    if (b->filter % alignof(struct sock_filter) || filter_end > size || b->filter_count > BPF_MAXINSNS)
        return false;
    /* strings: the last byte of all is the end of the last one */
    const char *last = (const char *)b + size - 1;
    uint64_t steps_end = b->steps + (uint64_t)b->step_count * sizeof(piso__step);
    if (b->steps % alignof(piso__step) || b->steps < sizeof *b || steps_end > size)
        return false;
    if (size > (steps_end > filter_end ? steps_end : filter_end) && *last != '\0')
        return false;
    const piso__step *steps = piso__blob_at(b, b->steps);
    for (uint32_t i = 0; i < b->step_count; i++)
        if (steps[i].path >= size || steps[i].target >= size || *last != '\0')
            return false;
    return are_strings(b, b->writable, b->writable_count, last) && are_strings(b, b->groups, b->group_count, last) &&
           b->temp < size;
}

int piso__sandbox_import(const void *data, size_t size, int fd, piso__sandbox **ret_sandbox) {
    piso__cleanup(piso__sandbox_freep) piso__sandbox *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->fd = -1;
    s->blob = malloc(size > sizeof *s->blob ? size : sizeof *s->blob);
    if (!s->blob)
        return -ENOMEM;
    memcpy(s->blob, data, size);
    if (!is_whole(s->blob, size) || s->blob->writable > size)
        return -EPROTO;
    s->fd = fd;
    *ret_sandbox = piso__steal_pointer(&s);
    return 0;
}
