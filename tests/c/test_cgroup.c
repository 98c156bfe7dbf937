/* test_cgroup.c - the control groups of a process are found in every way in which systems mount them. The files
 * are those of such systems, in a temporary folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/cgroup.h"
#include "os/os.h"

#define MB (UINT64_C(1) << 20)

static char root[32]; /* stands for the root of the system */
static char proc[64]; /* in place of /proc/self */

static void make_folders(const char *path) {
    char all[PATH_MAX];
    snprintf(all, sizeof all, "%s%s", root, path);
    for (char *slash = all + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(all, 0755);
        *slash = '/';
    }
    mkdir(all, 0755);
}

static void write_file(const char *folder, const char *name, const char *text) {
    char path[PATH_MAX];
    make_folders(folder);
    snprintf(path, sizeof path, "%s%s/%s", root, folder, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* write_mounts: writes `mounts` with the test's root in place of @. */
static void write_mounts(const char *mounts) {
    char text[8192];
    size_t size = 0;
    for (; *mounts; mounts++)
        size += (size_t)snprintf(text + size, sizeof text - size, "%.*s", *mounts == '@' ? 32 : 1,
                                 *mounts == '@' ? root : mounts);
    write_file("/proc/self", "mountinfo", text);
}

static void mount_anew(const char *mounts) {
    write_mounts(mounts);
    piso__cgroup_read_below(proc);
}

static void become(const char *groups, const char *mounts) {
    write_file("/proc/self", "cgroup", groups);
    mount_anew(mounts);
}

static int make_root(void **state) {
    (void)state;
    strcpy(root, "/tmp/piso-cgroup-XXXXXX");
    char *made = mkdtemp(root);
    snprintf(proc, sizeof proc, "%s/proc/self", root);
    return made ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *at) {
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

static int remove_root(void **state) {
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char v1_groups[] = "9:name=systemd:/\n"
                                "8:pids:/\n"
                                "5:cpu,cpuacct:/c\n"
                                "4:memory:/m/n\n"
                                "0::/\n";
static const char v1_mounts[] = "20 1 0:20 / @/sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
                                "21 20 0:21 / @/sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n"
                                "22 20 0:22 / @/sys/fs/cgroup/pids rw shared:4 master:5 - cgroup cgroup rw,pids\n"
                                "23 20 0:23 / @/sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
                                "24 20 0:24 / @/sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
static const char v2_groups[] = "0::/user.slice/app.scope\n";
static const char v2_mounts[] = "30 1 0:30 / @/sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

/* expect: checks where the group is: `folder` below the root, `top` the topmost visible group. */
static void expect(const char *controller, bool unified, const char *folder, const char *top) {
    piso__cgroup g = {.top = 0};
    char path[PATH_MAX];
    assert_true(piso__cgroup_find(controller, &g));
    snprintf(path, sizeof path, "%s%s", root, folder);
    assert_string_equal(g.folder, path);
    assert_int_equal(g.unified, unified);
    assert_true(g.own);
    snprintf(path, sizeof path, "%s%s", root, top);
    assert_int_equal(g.top, strlen(path));
}

static void expect_none(const char *controller) {
    piso__cgroup g;
    assert_false(piso__cgroup_find(controller, &g));
}

static void note(const char *directory, void *argument) {
    char *all = argument;
    strcat(strcat(all, directory + strlen(root)), " ");
}

static void expect_walk(const char *controller, const char *expected) {
    char all[PATH_MAX] = "";
    piso__cgroup_walk(controller, note, all);
    assert_string_equal(all, expected);
}

static void version_1_has_a_hierarchy_for_each(void **state) {
    (void)state;
    make_folders("/sys/fs/cgroup/memory/m/n");
    make_folders("/sys/fs/cgroup/pids");
    make_folders("/sys/fs/cgroup/cpu,cpuacct/c");
    become(v1_groups, v1_mounts);
    expect("memory", false, "/sys/fs/cgroup/memory/m/n", "/sys/fs/cgroup/memory");
    expect("pids", false, "/sys/fs/cgroup/pids", "/sys/fs/cgroup/pids");
    expect("cpu", false, "/sys/fs/cgroup/cpu,cpuacct/c", "/sys/fs/cgroup/cpu,cpuacct");
    expect_walk("memory", "/sys/fs/cgroup/memory/m/n /sys/fs/cgroup/memory/m /sys/fs/cgroup/memory ");
    expect_walk("pids", "/sys/fs/cgroup/pids ");
}

static void version_2_has_one(void **state) {
    (void)state;
    make_folders("/sys/fs/cgroup/user.slice/app.scope");
    become(v2_groups, v2_mounts);
    expect("memory", true, "/sys/fs/cgroup/user.slice/app.scope", "/sys/fs/cgroup");
    expect("pids", true, "/sys/fs/cgroup/user.slice/app.scope", "/sys/fs/cgroup");
    expect_walk("cpu", "/sys/fs/cgroup/user.slice/app.scope /sys/fs/cgroup/user.slice /sys/fs/cgroup ");
}

static void both_versions_share_the_controllers(void **state) {
    (void)state;
    make_folders("/sys/fs/cgroup/memory/m");
    make_folders("/sys/fs/cgroup/unified/u");
    become("4:memory:/m\n0::/u\n", v1_mounts);
    expect("memory", false, "/sys/fs/cgroup/memory/m", "/sys/fs/cgroup/memory");
    expect("pids", true, "/sys/fs/cgroup/unified/u", "/sys/fs/cgroup/unified"); /* version 1 has none */
    become("4:cpu:/\n0::/u\n", v2_mounts);
    expect_none("cpu"); /* its hierarchy is mounted nowhere */
}

static void a_container_sees_its_part_by_the_names_of_the_whole(void **state) {
    (void)state;
    static const char mounts[] = "1 1 0:1 /docker/1f @/g rw - cgroup none rw,memory\n"
                                 "2 1 0:2 /docker/1f @/other rw - cgroup none rw,pids";
    make_folders("/g/x");
    become("2:memory:/docker/1f/x\n", mounts);
    expect("memory", false, "/g/x", "/g");
    become("2:memory:/docker/1f\n", mounts);
    expect("memory", false, "/g", "/g");
    expect_walk("memory", "/g ");
    expect_none("pids");
}

/* expect_topmost: the group that limits the container is visible, the process's own group is not. */
static void expect_topmost(const char *groups, const char *mounts) {
    piso__cgroup g = {.own = true};
    become(groups, mounts);
    assert_true(piso__cgroup_find("memory", &g));
    assert_false(g.own);
    expect_walk("memory", "/g ");
}

static void a_group_elsewhere_is_not_taken_for_another(void **state) {
    (void)state;
    make_folders("/g/2");
    expect_topmost("2:memory:/docker/1f2\n", "1 1 0:1 /docker/1f @/g rw - cgroup none rw,memory\n");
    expect_topmost("0::/../other\n", "1 1 0:1 / @/g rw - cgroup2 none rw\n"); /* outside of its namespace */
    expect_topmost("0::/removed (deleted)\n", "1 1 0:1 / @/g rw - cgroup2 none rw\n");
}

static void names_are_read_as_they_are_written(void **state) {
    (void)state;
    make_folders("/my groups/a b/c:d");
    become("3:cpu,memory:/a b/c:d\n", "1 1 0:1 / @/my\\040groups rw - cgroup cgroup rw,cpu,memory\n");
    expect("memory", false, "/my groups/a b/c:d", "/my groups");
    become("3:memory:/a b/c:d\n", "1 1 0:1 /a\\040b @/my\\040groups/a\\040b rw - cgroup  rw,memory\n");
    expect("memory", false, "/my groups/a b/c:d", "/my groups/a b");
}

static void what_is_mounted_over_is_not_taken(void **state) {
    (void)state;
    make_folders("/seen/m");
    become("3:memory:/m\n", "1 1 0:1 / @/hidden rw - cgroup cgroup rw,memory\n"
                            "1 1 0:1 / @/seen rw - cgroup cgroup rw,memory\n");
    expect("memory", false, "/seen/m", "/seen");
}

static void nonsense_is_no_group(void **state) {
    (void)state;
    make_folders("/sys/fs/cgroup/memory");
    become("2:mymemory,memoryx:/\n", v1_mounts);
    expect_none("memory");
    become("", v1_mounts);
    expect_none("memory");
    become("nonsense\n8:memory\n8\n:\n::\n", v1_mounts);
    expect_none("memory");
    become("4:memory:/\n", "22 20\n - cgroup\n22 20 0:22 / @/g rw -\n\n - \n22 20 0:22 / @ rw - cgroup\n");
    expect_none("memory");
    become("4:memory:/\n", "");
    expect_none("memory");
    expect_walk("memory", "");
    piso__cgroup_read_below("/nowhere");
    expect_none("memory");
}

static void mounts_are_read_once_and_again_when_they_have_moved(void **state) {
    (void)state;
    char from[PATH_MAX], to[PATH_MAX];
    make_folders("/sys/fs/cgroup/memory/m/n");
    become(v1_groups, v1_mounts);
    uint32_t before = piso__cgroup_mounts_read;
    for (int i = 0; i < 100; i++)
        expect("memory", false, "/sys/fs/cgroup/memory/m/n", "/sys/fs/cgroup/memory");
    assert_int_equal(piso__cgroup_mounts_read, before);
    snprintf(from, sizeof from, "%s/sys/fs/cgroup/memory", root);
    snprintf(to, sizeof to, "%s/moved", root);
    assert_int_equal(rename(from, to), 0);
    write_mounts("1 1 0:1 / @/moved rw - cgroup cgroup rw,memory\n");
    for (int i = 0; i < 100; i++)
        expect("memory", false, "/moved/m/n", "/moved");
    assert_int_equal(piso__cgroup_mounts_read, before + 1);
    write_file("/proc/self", "cgroup", "4:memory:/m\n"); /* the process is moved to another group */
    expect("memory", false, "/moved/m", "/moved");
    assert_int_equal(piso__cgroup_mounts_read, before + 1);
}

static void *look_often(void *argument) {
    piso__cgroup g;
    bool *found = argument;
    for (int i = 0; i < 500; i++)
        *found = *found && piso__cgroup_find("memory", &g) && g.own;
    return NULL;
}

static void threads_look_while_mounts_change(void **state) {
    (void)state;
    char more[1024];
    snprintf(more, sizeof more, "%s1 1 0:1 / @/elsewhere rw - cgroup cgroup rw,memory\n", v1_mounts);
    make_folders("/sys/fs/cgroup/memory/m/n");
    become(v1_groups, v1_mounts);
    pthread_t threads[3];
    bool found[3] = {true, true, true};
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_often, &found[i]), 0);
    for (int i = 0; i < 10; i++)
        mount_anew(i % 2 ? v1_mounts : more);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_true(found[i]);
    }
}

static void the_smallest_room_of_all_groups_counts(void **state) {
    (void)state;
    write_file("/sys/fs/cgroup/memory/m/n", "memory.limit_in_bytes", "9223372036854771712\n");
    write_file("/sys/fs/cgroup/memory/m/n", "memory.usage_in_bytes", "1048576\n");
    write_file("/sys/fs/cgroup/memory/m", "memory.limit_in_bytes", "4194304\n");
    write_file("/sys/fs/cgroup/memory/m", "memory.usage_in_bytes", "1048576\n");
    become(v1_groups, v1_mounts);
    assert_true(piso__memory_available() == 3 * MB);
    write_file("/sys/fs/cgroup/user.slice/app.scope", "memory.max", "3145728\n");
    write_file("/sys/fs/cgroup/user.slice/app.scope", "memory.current", "1048576\n");
    become(v2_groups, v2_mounts);
    assert_true(piso__memory_available() == 2 * MB);
}

static void a_quota_above_counts(void **state) {
    (void)state;
    make_folders("/sys/fs/cgroup/user.slice/app.scope");
    write_file("/sys/fs/cgroup/user.slice", "cpu.max", "50000 100000\n");
    become(v2_groups, v2_mounts);
    assert_int_equal(piso__cpu_count(), 1);
    write_file("/sys/fs/cgroup/cpu,cpuacct/c", "cpu.cfs_quota_us", "50000\n");
    write_file("/sys/fs/cgroup/cpu,cpuacct/c", "cpu.cfs_period_us", "100000\n");
    become(v1_groups, v1_mounts);
    assert_int_equal(piso__cpu_count(), 1);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(version_1_has_a_hierarchy_for_each),
        CASE(version_2_has_one),
        CASE(both_versions_share_the_controllers),
        CASE(a_container_sees_its_part_by_the_names_of_the_whole),
        CASE(a_group_elsewhere_is_not_taken_for_another),
        CASE(names_are_read_as_they_are_written),
        CASE(what_is_mounted_over_is_not_taken),
        CASE(nonsense_is_no_group),
        CASE(mounts_are_read_once_and_again_when_they_have_moved),
        CASE(threads_look_while_mounts_change),
        CASE(the_smallest_room_of_all_groups_counts),
        CASE(a_quota_above_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
