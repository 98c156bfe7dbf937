/* root.c - plans the contents of a child's root. */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "sandbox/plan/root.h"

static void closedirp(DIR **folder) {
    if (*folder)
        closedir(*folder);
}

/* add_spot: adds a place without a rule. */
static int add_spot(piso__plan *p, const char *path, piso__use use) {
    struct stat state;
    piso__autoclose int fd = piso__paths_open(&p->paths, path, use, &state);
    return fd == -ENOMEM ? fd : 0;
}

/* add_terminals: adds terminals where there is to be a device that opens them; the device works only beside
 * them. */
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

/* add_proc: adds a /proc without entries that belong to no process and are not permitted by name. */
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

int piso__plan_root(piso__plan *p) {
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
    int r = p->head.own_proc ? add_proc(&p->paths) : add_spot(p, "/proc", PISO__USE_READ);
    for (size_t i = 0; r == 0 && i < sizeof made / sizeof *made; i++)
        r = piso__paths_add(&p->paths, made[i].path, made[i].target ? PISO__USE_LINK : PISO__USE_FOLDER,
                            made[i].target);
    if (r == 0)
        r = add_terminals(&p->paths);
    if (r == 0 && getcwd(folder, sizeof folder) && folder[0] == '/')
        r = piso__paths_add(&p->paths, folder, PISO__USE_FOLDER, NULL);
    return r == 0 ? piso__paths_plan(&p->paths, &p->steps, &p->step_count) : r;
}
