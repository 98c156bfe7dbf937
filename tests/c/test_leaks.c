/* test_leaks.c - whether the tests detect leaks on this machine: leaks.c. */
#include "skipping.h"

int __lsan_is_turned_off(void);

static void leaks_are_looked_for(void **state) {
    (void)state;
    if (__lsan_is_turned_off())
        skip_because("no test looks for leaks, because this system refuses ptrace");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(leaks_are_looked_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
