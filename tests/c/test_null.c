/* test_null.c - destructors take NULL, and return NULL where they return something. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "piso/piso.h"

static void every_destructor_takes_null(void **state) {
    (void)state;
    piso_writer_fini(NULL);
    piso_event_fini(NULL);
    piso_fork_fini(NULL);
    piso_session_close(NULL);
    piso_zygote_close(NULL);
    assert_null(piso_session_unref(NULL));
    assert_null(piso_zygote_unref(NULL));
    assert_null(piso_segment_unref(NULL));
}

static void what_was_ended_can_be_ended_again(void **state) {
    (void)state;
    piso_writer w;
    piso_writer_init(&w);
    piso_write_str(&w, "longer than what is in line", 27);
    for (int i = 0; i < 100; i++)
        piso_write_int(&w, INT64_MAX);
    piso_writer_fini(&w);
    piso_writer_fini(&w);
    piso_event event = {0};
    piso_event_fini(&event);
    piso_event_fini(&event);
    piso_fork fork = {0};
    piso_fork_fini(&fork);
    piso_fork_fini(&fork);
    piso_session *host, *child;
    assert_int_equal(piso_session_pair((size_t)1 << 20, &host, &child), 0);
    piso_session_close(host);
    piso_session_close(host);
    assert_null(piso_session_unref(host));
    assert_null(piso_session_unref(child));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_destructor_takes_null),
        cmocka_unit_test(what_was_ended_can_be_ended_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
