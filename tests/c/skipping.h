/* skipping.h - skips a test that cannot run on this machine, with the reason; `make test` lists the reasons. */
#ifndef PISO_TESTS_SKIPPING_H
#define PISO_TESTS_SKIPPING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* skip_because: skips the test; the arguments are printf's. */
#define skip_because(...)                                                                                              \
    do {                                                                                                               \
        print_message("skipped: " __VA_ARGS__);                                                                        \
        print_message("\n");                                                                                           \
        skip();                                                                                                        \
    } while (0)

#endif
