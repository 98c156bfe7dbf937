/* test_structs.c - structs of hosts that were compiled against another version, and layouts that never change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/structs.h"

typedef struct older {
    size_t size;
    uint32_t a;
} older;

typedef struct current {
    size_t size;
    uint32_t a, b;
    uint64_t c;
} current;

typedef struct newer {
    size_t size;
    uint32_t a, b;
    uint64_t c, d;
} newer;

static void what_an_older_caller_lacks_is_zero(void **state) {
    (void)state;
    const struct {
        older it;
        uint8_t behind[64];
    } given = {{offsetof(older, a) + sizeof(uint32_t), 7}, {1, 2, 3}};
    current got;
    memset(&got, 0xff, sizeof got);
    assert_int_equal(piso__struct_in(&got, sizeof got, &given), 0);
    assert_int_equal(got.size, sizeof got);
    assert_int_equal(got.a, 7);
    assert_int_equal(got.b, 0);
    assert_int_equal(got.c, 0);
}

static void what_a_newer_caller_wants_is_refused(void **state) {
    (void)state;
    newer given = {.size = sizeof given, .a = 1, .b = 2, .c = 3};
    current got = {0};
    assert_int_equal(piso__struct_in(&got, sizeof got, &given), 0);
    assert_int_equal(got.c, 3);
    given.d = 1;
    got.c = 9;
    assert_int_equal(piso__struct_in(&got, sizeof got, &given), -EINVAL);
    assert_int_equal(got.c, 9);
}

static void no_byte_behind_is_written(void **state) {
    (void)state;
    const current full = {.size = sizeof full, .a = 1, .b = 2, .c = 3};
    struct {
        older it;
        uint8_t behind[64];
    } given;
    memset(&given, 0xa5, sizeof given);
    given.it.size = sizeof given.it;
    assert_int_equal(piso__struct_out(&given, &full, sizeof full), 0);
    assert_int_equal(given.it.size, sizeof given.it);
    assert_int_equal(given.it.a, 1);
    for (size_t i = 0; i < sizeof given.behind; i++)
        assert_int_equal(given.behind[i], 0xa5);
    newer more = {.size = sizeof more, .d = 5};
    assert_int_equal(piso__struct_out(&more, &full, sizeof full), 0);
    assert_int_equal(more.c, 3);
    assert_int_equal(more.d, 0);
    assert_int_equal(more.size, sizeof more);
}

static void a_size_must_be_set(void **state) {
    (void)state;
    static const size_t wrong[] = {0, 1, sizeof(size_t) - 1, 1 << 20, SIZE_MAX};
    current given = {0}, full = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        given.size = wrong[i];
        assert_int_equal(piso__struct_in(&full, sizeof full, &given), -EINVAL);
        assert_int_equal(piso__struct_out(&given, &full, sizeof full), -EINVAL);
        assert_false(piso__struct_is_sized(&given, sizeof(size_t)));
    }
    given.size = sizeof given;
    assert_true(piso__struct_is_sized(&given, sizeof given));
    assert_false(piso__struct_is_sized(&given, sizeof given + 1));
}

/* The structs without a size, as hosts of every version have them on 64 bits. */
#if UINTPTR_MAX == UINT64_MAX
static_assert(sizeof(piso_call) == 32 && offsetof(piso_call, error) == 24, "piso_call");
static_assert(sizeof(piso_span) == 24 && offsetof(piso_span, length) == 16, "piso_span");
static_assert(sizeof(piso_reader) == 16, "piso_reader");
static_assert(sizeof(piso_item) == 24 && offsetof(piso_item, as) == 8, "piso_item");
static_assert(sizeof(piso_exit) == 12 && offsetof(piso_exit, signal) == 8, "piso_exit");
static_assert(sizeof(piso_refusal) == 32 && offsetof(piso_refusal, count) == 24, "piso_refusal");
static_assert(sizeof(piso_cuda_memory) == 88 && offsetof(piso_cuda_memory, offset) == 72, "piso_cuda_memory");
static_assert(sizeof(piso_writer) == 320 && offsetof(piso_writer, inline_data) == 64, "piso_writer");
/* The first fields of the others, and what an event ends with. */
static_assert(offsetof(piso_event, type) == 8 && offsetof(piso_event, inline_body) == 136, "piso_event");
static_assert(offsetof(piso_spawn, report) == 80 && offsetof(piso_stats, leases_held) == 104, "piso_spawn, piso_stats");
static_assert(offsetof(piso_limits, shared_memory) == 56, "piso_limits");
static_assert(offsetof(piso_sandbox_report, layers) == 8 && offsetof(piso_fork, execute) == 64, "report, fork");
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_an_older_caller_lacks_is_zero),
        cmocka_unit_test(what_a_newer_caller_wants_is_refused),
        cmocka_unit_test(no_byte_behind_is_written),
        cmocka_unit_test(a_size_must_be_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
