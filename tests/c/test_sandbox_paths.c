/* test_sandbox_paths.c - the places that paths name, the links that are followed, and the root that is made of
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/os.h"
#include "sandbox/paths.h"
#include "sandbox/sandbox.h"

static char folder[PATH_MAX];

static const char *at(const char *name) {
    static char paths[8][PATH_MAX + 64];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int open_at(piso__paths *p, const char *name, piso__use use) {
    struct stat state;
    int fd = piso__paths_open(p, at(name), use, &state);
    piso__fd_close(fd);
    return fd < 0 ? fd : 0;
}

/* has: whether there is a place of this name. */
static const piso__spot *has(const piso__paths *p, const char *name) {
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->places[i].path, at(name)) == 0)
            return &p->places[i];
    return NULL;
}

static void links_are_followed_and_noted(void **state) {
    (void)state;
    piso__cleanup(piso__paths_fini) piso__paths p = {0};
    assert_int_equal(open_at(&p, "absolute/file", PISO__USE_READ), 0);
    assert_string_equal(has(&p, "absolute")->target, at("link/below"));
    assert_string_equal(has(&p, "link")->target, "real");
    const piso__spot *file = has(&p, "real/below/file");
    assert_non_null(file);
    struct stat found;
    assert_int_equal(stat(at("real/below/file"), &found), 0);
    assert_true(file->inode == found.st_ino && file->device == found.st_dev && !file->is_folder);
    assert_int_equal(open_at(&p, "real/./below/../below//file", PISO__USE_READ), 0);
    assert_int_equal(open_at(&p, "real/none", PISO__USE_READ), -ENOENT);
    assert_int_equal(open_at(&p, "round/file", PISO__USE_READ), -ELOOP);
    assert_int_equal(open_at(&p, "real/below/file/more", PISO__USE_READ), -ENOTDIR);
    struct stat state_of;
    assert_int_equal(piso__paths_open(&p, "relative", PISO__USE_READ, &state_of), -EINVAL);
}

static void links_of_others_are_not_followed(void **state) {
    (void)state;
    const char *const writable[] = {at("real/below"), "/does/not/exist", NULL};
    const char *const others[] = {at("link/other"), NULL};
    piso__cleanup(piso__paths_fini) piso__paths p = {0};
    assert_int_equal(piso__paths_distrust(&p, writable, others), 0);
    assert_int_equal(open_at(&p, "link/below/file", PISO__USE_READ), 0); /* the link is elsewhere */
    assert_int_equal(open_at(&p, "real/below/away", PISO__USE_READ), -ELOOP);
    assert_int_equal(open_at(&p, "real/below/away/file", PISO__USE_READ), -ELOOP);
    assert_int_equal(open_at(&p, "real/other/away", PISO__USE_READ), -ELOOP);
    /* a distrusted path is not found through such a link either */
    const char *const nested[] = {at("real/below/away"), NULL};
    assert_int_equal(piso__paths_distrust(&p, nested, NULL), 0);
    assert_int_equal(open_at(&p, "link", PISO__USE_READ), 0);
    /* the root contains the links that belong to the system */
    const char *const root[] = {"/", NULL};
    assert_int_equal(piso__paths_distrust(&p, root, NULL), 0);
    assert_int_equal(open_at(&p, "absolute/file", PISO__USE_READ), 0);
}

/* steps: returns the steps of a plan, one letter each, with the part of the path behind the test's folder. */
static void steps(piso__paths *p, char *text, size_t size) {
    static const char letters[] = "?dlsmptc"; /* by piso__step_kind */
    piso__step *found = NULL;
    size_t count, prefix = strlen(folder);
    assert_int_equal(piso__paths_plan(p, &found, &count), 0);
    *text = '\0';
    for (size_t i = 0; i < count; i++) {
        const piso__spot *spot = &p->places[found[i].path];
        size_t length = found[i].target ? found[i].target : strlen(spot->path);
        if (length <= prefix)
            continue;
        snprintf(text + strlen(text), size - strlen(text), "%c%.*s%s%s%s ", letters[found[i].kind],
                 (int)(length - prefix), spot->path + prefix, found[i].flags & PISO__STEP_WRITABLE ? "+" : "",
                 found[i].flags & PISO__STEP_INSIDE ? "*" : "", found[i].flags & PISO__STEP_PROTECTED ? "-" : "");
    }
    free(found);
}

static void a_root_has_what_is_permitted(void **state) {
    (void)state;
    char text[1024];
    piso__cleanup(piso__paths_fini) piso__paths p = {0};
    assert_int_equal(open_at(&p, "real/below/file", PISO__USE_READ), 0);
    assert_int_equal(open_at(&p, "real/below.more", PISO__USE_READ), 0);
    assert_int_equal(open_at(&p, "link/other", PISO__USE_READ), 0);
    assert_int_equal(open_at(&p, "real/other/file", PISO__USE_READ), 0); /* is inside the one above */
    assert_int_equal(open_at(&p, "real", PISO__USE_LIST), 0);
    steps(&p, text, sizeof text);
    assert_string_equal(text, "s/link l/real d/real/below m/real/below/file m/real/below.more m/real/other ");
}

static void what_is_more_exact_wins(void **state) {
    (void)state;
    char text[1024];
    piso__cleanup(piso__paths_fini) piso__paths p = {0};
    assert_int_equal(open_at(&p, "real", PISO__USE_READ), 0);
    assert_int_equal(open_at(&p, "real", PISO__USE_WRITE), 0);
    assert_int_equal(open_at(&p, "real/below", PISO__USE_HIDE), 0);
    assert_int_equal(open_at(&p, "real/below/inner/file", PISO__USE_READ), 0);
    assert_int_equal(open_at(&p, "real/other/file", PISO__USE_HIDE), 0);
    assert_int_equal(open_at(&p, "aside", PISO__USE_READ), 0);
    assert_int_equal(open_at(&p, "aside/inner", PISO__USE_WRITE), 0);
    assert_int_equal(open_at(&p, "hidden", PISO__USE_HIDE), 0); /* does not exist anyway */
    steps(&p, text, sizeof text);
    assert_string_equal(text, "m/aside m/aside/inner+* m/real+ c/real/below*- d/real/below/inner "
                              "m/real/below/inner/file- c/real/other/file*- ");
}

static void layers_have_names(void **state) {
    (void)state;
    assert_string_equal(piso_layer_name(PISO_LAYER_FILES), "files");
    assert_null(piso_layer_name(PISO_LAYERS));
}

static int make_files(void **state) {
    (void)state;
    static const char *const folders[] = {"real",        "real/below", "real/below/inner", "real/other", "aside",
                                          "aside/inner", "hidden"};
    static const char *const files[] = {"real/below/file", "real/below/inner/file", "real/below.more",
                                        "real/other/file"};
    char name[] = "/tmp/piso-test-XXXXXX";
    if (!mkdtemp(name) || !realpath(name, folder))
        return -1;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (mkdir(at(folders[i]), 0700) < 0)
            return -1;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        piso__autoclose int fd = open(at(files[i]), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            return -1;
    }
    return symlink("real", at("link")) | symlink(at("link/below"), at("absolute")) | symlink("round", at("round")) |
           symlink("/etc", at("real/below/away")) | symlink("/etc", at("real/other/away"));
}

static int remove_files(void **state) {
    (void)state;
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_are_followed_and_noted),
        cmocka_unit_test(links_of_others_are_not_followed),
        cmocka_unit_test(a_root_has_what_is_permitted),
        cmocka_unit_test(what_is_more_exact_wins),
        cmocka_unit_test(layers_have_names),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
