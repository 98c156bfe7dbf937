/* test_cpu.c - how many processors this process may use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>

#include "os/cpu.h"
#include "os/os.h"

static void quotas_are_understood(void **state) {
    (void)state;
    const struct {
        const char *text;
        int processors;
    } v2[] = {{"max 100000\n", 0},
              {"100000 100000\n", 1},
              {"150000 100000\n", 2},
              {"1000 100000", 1},
              {"6400000 100000", 64},
              {"200001 100000", 3},
              {"", 0},
              {"max", 0},
              {"100000", 0},
              {"-1 100000", 0},
              {"0 100000", 0},
              {"100000 0", 0},
              {"100000 -5", 0},
              {"nonsense here", 0},
              {"9223372036854775807 2", 0},
              {"9223372036854775807 9223372036854775807", 1}};
    for (size_t i = 0; i < sizeof v2 / sizeof *v2; i++)
        assert_int_equal(piso__cpu_parse_max(v2[i].text), v2[i].processors);
    assert_int_equal(piso__cpu_parse_quota("-1\n", "100000\n"), 0);
    assert_int_equal(piso__cpu_parse_quota("50000\n", "100000\n"), 1);
    assert_int_equal(piso__cpu_parse_quota("250000\n", "100000\n"), 3);
    assert_int_equal(piso__cpu_parse_quota("", "100000\n"), 0);
    assert_int_equal(piso__cpu_parse_quota("50000\n", "0\n"), 0);
}

static void processors_follow_the_affinity_mask(void **state) {
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_in_range(piso__cpu_count(), 1, CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &before))
            CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    int count = piso__cpu_count();
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(count, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quotas_are_understood),
        cmocka_unit_test(processors_follow_the_affinity_mask),
    };
    return cmocka_run_group_tests_name("cpu", tests, NULL, NULL);
}
