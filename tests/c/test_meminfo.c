/* test_meminfo.c - how much memory a control group can still take, of either version. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "os/cgroup.h"

#define MB (UINT64_C(1) << 20)

static const char *const files[] = {"memory.max", "memory.current", "memory.stat", "memory.limit_in_bytes",
                                    "memory.usage_in_bytes"};

static char folder[] = "/tmp/piso-group-XXXXXX";

static void write_file(const char *name, const char *text) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_files(void **state) {
    (void)state;
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder);
}

static void the_limit_of_version_2_counts(void **state) {
    (void)state;
    write_file("memory.max", "104857600\n");
    write_file("memory.current", "41943040\n");
    assert_true(piso__memory_room(folder) == 60 * MB); /* without statistics */
    write_file("memory.stat", "anon 5000000\nfile 10485760\ninactive_file 4194304\nactive_file 2097152\n");
    assert_true(piso__memory_room(folder) == 66 * MB);
    write_file("memory.current", "209715200\n"); /* lowered below what is used */
    assert_true(piso__memory_room(folder) == 0);
    write_file("memory.max", "max\n");
    assert_true(piso__memory_room(folder) == UINT64_MAX);
}

static void the_limit_of_version_1_counts(void **state) {
    (void)state;
    write_file("memory.limit_in_bytes", "104857600\n");
    write_file("memory.usage_in_bytes", "104857600\n");
    write_file("memory.stat",
               "inactive_file 1048576\nactive_file 1\ntotal_inactive_file 31457280\ntotal_active_file 0\n");
    assert_true(piso__memory_room(folder) == 30 * MB);
    write_file("memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(piso__memory_room(folder) == UINT64_MAX);
}

static void what_is_no_group_has_no_limit(void **state) {
    (void)state;
    assert_true(piso__memory_room(folder) == UINT64_MAX);
    assert_true(piso__memory_room("/nowhere") == UINT64_MAX);
    write_file("memory.max", "nonsense");
    assert_true(piso__memory_room(folder) == UINT64_MAX);
    write_file("memory.max", "1000");
    assert_true(piso__memory_room(folder) == UINT64_MAX); /* and no use of it is known */
}

static void some_memory_is_available(void **state) {
    (void)state;
    uint64_t available = piso__memory_available();
    assert_true(available > 0 && available < UINT64_C(1) << 60);
}

#define CASE(test) cmocka_unit_test_teardown(test, remove_files)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(the_limit_of_version_2_counts),
        CASE(the_limit_of_version_1_counts),
        CASE(what_is_no_group_has_no_limit),
        CASE(some_memory_is_available),
    };
    return cmocka_run_group_tests_name("available", tests, make_folder, remove_folder);
}
