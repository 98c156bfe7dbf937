/* test_segment.c - shared memory by descriptor: one object for one memory, which is checked when it comes from
 * elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory/segment.h"
#include "os/os.h"
#include "skipping.h"

static void its_pages_are_there_and_zero(void **state) {
    (void)state;
    piso_segment *s;
    assert_int_equal(piso_segment_create(10000, &s), 0);
    struct stat st;
    assert_int_equal(fstat(piso_segment_fd(s), &st), 0);
    assert_int_equal(st.st_size, 10000);
    assert_int_equal(st.st_blocks, 3 * 8);
    assert_int_equal(piso_segment_size(s), 10000);
    const char *data = mmap(NULL, 10000, PROT_READ, MAP_SHARED, piso_segment_fd(s), 0);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(data[i], 0);
    munmap((void *)data, 10000);
    piso_segment_unref(s);
}

static void it_cannot_change_its_size(void **state) {
    (void)state;
    piso_segment *s;
    assert_int_equal(piso_segment_create(4096, &s), 0);
    assert_int_equal(ftruncate(piso_segment_fd(s), 100), -1);
    assert_int_equal(ftruncate(piso_segment_fd(s), 10000), -1);
    piso_segment_unref(s);
}

static void impossible_sizes_are_refused(void **state) {
    (void)state;
    piso_segment *s = NULL;
    assert_int_equal(piso_segment_create(0, &s), -EINVAL);
    assert_int_equal(piso_segment_create(UINT64_MAX, &s), -EINVAL);
    assert_true(piso_segment_create((uint64_t)1 << 60, &s) < 0);
    assert_null(s);
}

static void the_same_memory_is_the_same_object(void **state) {
    (void)state;
    piso_segment *s, *again, *other;
    assert_int_equal(piso_segment_create(100, &s), 0);
    assert_int_equal(piso_segment_create(100, &other), 0);
    *piso_segment_cell(s) = state;
    assert_int_equal(piso__segment_adopt(piso__fd_dup(piso_segment_fd(s)), 100, NULL, &again), 0);
    assert_ptr_equal(s, again);
    assert_ptr_equal(*piso_segment_cell(again), state);
    assert_ptr_not_equal(s, other);
    piso_segment_unref(s);
    assert_int_equal(piso_segment_size(again), 100); /* the second reference keeps it */
    piso_segment_unref(again);
    piso_segment_unref(other);
}

static void what_is_no_sealed_memory_is_refused(void **state) {
    (void)state;
    piso_segment *s = NULL;
    assert_int_equal(piso__segment_adopt(open("/dev/null", O_RDWR | O_CLOEXEC), 100, NULL, &s), PISO_EPROTO);
    int unsealed = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(unsealed, 100), 0);
    assert_int_equal(piso__segment_adopt(unsealed, 100, NULL, &s), PISO_EPROTO);
    assert_int_equal(fcntl(unsealed, F_GETFD), -1); /* closed */
    assert_int_equal(piso__segment_adopt(piso__memfd_create("x", 50), 100, NULL, &s), PISO_EPROTO);
    assert_null(s);
}

static void many_do_not_run_out_of_descriptors(void **state) {
    (void)state;
    enum { COUNT = 400 };
    struct rlimit before, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    if (before.rlim_max < 1024)
        skip_because("no more than %llu descriptors can be open", (unsigned long long)before.rlim_max);
    low = before;
    low.rlim_cur = 256;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    piso_segment *segments[COUNT];
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(piso_segment_create(1, &segments[i]), 0);
    for (int i = 0; i < COUNT; i++)
        piso_segment_unref(segments[i]);
    setrlimit(RLIMIT_NOFILE, &before);
}

/* At most half of the mappings are for segments: a process without free mappings could not even allocate. */
static void no_more_than_half_of_the_mappings_are_segments(void **state) {
    (void)state;
    uint32_t limit = piso__segment_limit(), count = 0;
    if (limit > 100000)
        skip_because("%u segments would take long", (unsigned)limit);
    piso_segment **segments = calloc(limit + 1, sizeof *segments);
    assert_non_null(segments);
    int r = 0;
    while (count <= limit && (r = piso_segment_create(1, &segments[count])) == 0) {
        void *data;
        segments[count]->made = false; /* as if it came from elsewhere: it is mapped, and has no descriptor */
        assert_int_equal(piso_segment_map(segments[count++], false, &data), 0);
    }
    assert_int_equal(r, -ENOBUFS);
    assert_int_equal(count, limit);
    piso_segment_unref(segments[--count]);
    assert_int_equal(piso_segment_create(1, &segments[count++]), 0);
    while (count)
        piso_segment_unref(segments[--count]);
    free(segments);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_pages_are_there_and_zero),
        cmocka_unit_test(it_cannot_change_its_size),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(the_same_memory_is_the_same_object),
        cmocka_unit_test(what_is_no_sealed_memory_is_refused),
        cmocka_unit_test(many_do_not_run_out_of_descriptors),
        cmocka_unit_test(no_more_than_half_of_the_mappings_are_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
