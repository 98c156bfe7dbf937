/* layers.c - determines layer by layer what is possible here. */
#include <sched.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "os/cgroup.h"
#include "sandbox/namespaces.h"
#include "sandbox/plan/layers.h"
#include "sandbox/plan/limits.h"
#include "sandbox/plan/report.h"

static void plan_namespaces(piso__plan *p) {
    if (piso__plan_omits(p, PISO_LAYER_NAMESPACES))
        return;
    int root = piso__root_probe(), r = root == 0 ? 0 : piso__namespaces_probe();
    if (r < 0) {
        piso__plan_note(p, PISO_LAYER_NAMESPACES, false,
                        "this system does not let the user make namespaces (%s); the filter refuses more calls instead",
                        piso_strerror(r));
        return;
    }
    p->head.namespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | (p->spec->network ? 0 : CLONE_NEWNET);
    p->head.root = root == 0 && !p->spec->local_sockets; /* local sockets may be anywhere */
    p->head.own_proc = p->head.root && piso__proc_probe() == 0;
    char why[64] = "";
    if (root < 0)
        snprintf(why, sizeof why, "; the root stays the host's (%s)", piso_strerror(root));
    piso__plan_note(p, PISO_LAYER_NAMESPACES, true, "user, mount%s, IPC%s%s",
                    p->head.root ? " with a root of its own" : "", p->spec->network ? "" : ", network", why);
}

/* without_landlock: says what the user can do about it. */
static int without_landlock(piso__plan *p, int error) {
    piso__plan_note(
        p, PISO_LAYER_FILES, false,
        error == ENOSYS
            ? "this kernel has no Landlock (%s): it needs Linux 5.13 or later, built with CONFIG_SECURITY_LANDLOCK; gVisor "
              "has none"
        : error == EOPNOTSUPP
            ? "Landlock is switched off (%s): add 'landlock' to the 'lsm=' of the kernel's command line"
            : "Landlock is forbidden (%s), as by a container's seccomp profile: it needs Docker 23 or later, or a "
              "profile with landlock_*",
        piso_strerror(-error));
    return piso__plan_fail(p, PISO_LAYER_FILES);
}

static int plan_landlock(piso__plan *p) {
    piso__landlock l = p->landlock = piso__landlock_probe();
    if (!piso__plan_omits(p, PISO_LAYER_FILES)) {
        if (!l.version)
            return without_landlock(p, l.error);
        piso__plan_note(p, PISO_LAYER_FILES, true, "Landlock %d%s", l.version,
                        p->spec->devices && p->spec->devices[0] ? ", with devices" : "");
    }
    if (!piso__plan_omits(p, PISO_LAYER_NETWORK)) {
        bool active = l.version >= PISO__LANDLOCK_NETWORK && !p->spec->network;
        piso__plan_note(p, PISO_LAYER_NETWORK, active, "%s",
                        active             ? "Landlock: no TCP"
                        : p->spec->network ? "the configuration permits the network"
                                           : "Landlock restricts TCP from Linux 6.7 on; the filter refuses sockets");
    }
    if (!piso__plan_omits(p, PISO_LAYER_SIGNALS)) {
        bool active = l.version >= PISO__LANDLOCK_SIGNALS;
        piso__plan_note(
            p, PISO_LAYER_SIGNALS, true, "%s",
            active
                ? "Landlock: no signals to processes outside"
                : "Landlock restricts signals from Linux 6.12 on; the filter permits only signals to the process itself");
    }
    return 0;
}

/* has_own_sockets: whether its root contains no socket files of others. Abstract sockets belong to the network. */
static bool has_own_sockets(const piso__plan *p) {
    return p->head.root && (!p->spec->network || (p->layers & PISO__BIT(PISO_LAYER_SIGNALS) &&
                                                  p->landlock.version >= PISO__LANDLOCK_SIGNALS));
}

/* has_private_root: whether it can name only what it may use. Changes there may then be watched, by as many
 * inotify instances as namespaces.c permits, if that limit can be written. */
static bool has_private_root(const piso__plan *p) {
    struct statvfs system;
    return p->head.root && p->layers & PISO__BIT(PISO_LAYER_NAMESPACES) && statvfs("/proc/sys/user", &system) == 0 &&
           !(system.f_flag & ST_RDONLY);
}

static int plan_filter(piso__plan *p) {
    if (piso__plan_omits(p, PISO_LAYER_SYSTEM_CALLS))
        return 0;
    bool namespaces = p->layers & PISO__BIT(PISO_LAYER_NAMESPACES);
    piso__filter_options options = {
        .network = p->spec->network,
        .local_sockets = p->spec->local_sockets,
        .own_sockets = has_own_sockets(p),
        .private_ipc = namespaces,
        .private_disk = namespaces,
        .no_holes = piso__memory_is_strict(),
        .devices = p->spec->devices && p->spec->devices[0],
        .private_root = has_private_root(p),
        .own_group = !namespaces,
        .no_truncation = !namespaces && p->landlock.version < PISO__LANDLOCK_TRUNCATION,
        .own_signals = p->layers & PISO__BIT(PISO_LAYER_SIGNALS) && p->landlock.version < PISO__LANDLOCK_SIGNALS,
    };
    int r = piso__filter_probe();
    if (r < 0) {
        piso__plan_note(
            p, PISO_LAYER_SYSTEM_CALLS, false,
            r == -EPERM
                ? "seccomp is forbidden (%s), as by a container's seccomp profile: it needs one that permits it"
                : "this kernel has no seccomp (%s), or a container forbids it: it needs Linux 3.17 or later, built "
                  "with CONFIG_SECCOMP_FILTER",
            piso_strerror(r));
        return piso__plan_fail(p, PISO_LAYER_SYSTEM_CALLS);
    }
    r = piso__filter_build(options, &p->filter);
    if (r == -ENOSYS) {
        piso__plan_note(p, PISO_LAYER_SYSTEM_CALLS, false,
                        "there is no list of system calls for this machine; there is one for x86-64 and aarch64");
        return piso__plan_fail(p, PISO_LAYER_SYSTEM_CALLS);
    }
    if (r < 0)
        return r;
    p->filter_count = r;
    piso__plan_note(p, PISO_LAYER_SYSTEM_CALLS, true, "seccomp");
    return 0;
}

int piso__plan_layers(piso__plan *p) {
    plan_namespaces(p);
    char why[sizeof p->report->layers[0].detail];
    int r = p->head.root ? 0 : piso__landlock_hides(p->spec, why, sizeof why);
    if (r < 0)
        piso__plan_note(p, PISO_LAYER_NAMESPACES, false, "%s", why);
    else
        r = plan_landlock(p);
    if (r == 0)
        r = plan_filter(p);
    if (r == 0)
        r = piso__plan_limits(p);
    if (r == 0 && !piso__plan_omits(p, PISO_LAYER_PRIVILEGES))
        piso__plan_note(p, PISO_LAYER_PRIVILEGES, true, "no_new_privs, no capabilities");
    return r;
}
