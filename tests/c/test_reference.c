/* test_reference.c - references: written and read, whatever a peer sends; and a function that is called by the side
 * that was given it. */
#include "session_tools.h"

static int cookie; /* its address */

/* write: writes the payload of a reference as the array of these integers, then `name` and methods unless NULL. */
typedef struct payload {
    int64_t numbers[4];
    size_t count, length; /* numbers written; length that the array claims */
    const char *name;
    int methods; /* -1: no array */
} payload;

static piso_item encode(piso_writer *w, const payload *p) {
    piso_writer_init(w);
    size_t mark = piso_write_ext_begin(w, PISO_EXT_REFERENCE);
    piso_write_array(w, p->length);
    for (size_t i = 0; i < p->count; i++)
        piso_write_int(w, p->numbers[i]);
    if (p->name)
        piso_write_str(w, p->name, strlen(p->name));
    if (p->methods >= 0)
        piso_write_array(w, (size_t)p->methods);
    for (int i = 0; i < p->methods; i++)
        piso_write_str(w, "m", 1);
    piso_write_ext_end(w, mark);
    piso_reader r = {w->data, w->data + w->size};
    piso_item item;
    assert_int_equal(piso_read(&r, &item), 1);
    return item;
}

static int read_payload(const payload *p, piso_reference *ret) {
    piso_writer w;
    piso_item item = encode(&w, p);
    int r = piso_read_reference(&item, ret);
    piso_writer_fini(&w);
    return r;
}

static void what_was_written_is_read(void **state) {
    (void)state;
    static const struct {
        piso_reference reference;
        const char *methods[2];
    } given[] = {
        {{.kind = PISO_REFERENCE_HOME, .object = 0x80000000u}, {NULL}},
        {{.kind = PISO_REFERENCE_FUNCTION, .object = 0xfffffffeu, .lease = 65535, .name = "f", .name_size = 1}, {NULL}},
        {{.kind = PISO_REFERENCE_OBJECT, .object = 0x80000001u, .name = "Type", .name_size = 4, .method_count = 2},
         {"first", "second"}},
        {{.kind = PISO_REFERENCE_OBJECT, .object = 0x80000001u, .name = "", .name_size = 0}, {NULL}},
    };
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        piso_reference expected = given[i].reference, got = {.size = sizeof got};
        expected.size = sizeof expected;
        piso_writer w;
        piso_writer_init(&w);
        size_t mark = piso_write_reference_begin(&w, &expected);
        for (size_t m = 0; m < expected.method_count; m++)
            piso_write_str(&w, given[i].methods[m], strlen(given[i].methods[m]));
        piso_write_ext_end(&w, mark);
        assert_int_equal(w.error, 0);
        piso_reader r = {w.data, w.data + w.size};
        piso_item item;
        assert_int_equal(piso_read(&r, &item), 1);
        assert_int_equal(piso_read_reference(&item, &got), 0);
        assert_int_equal(got.kind, expected.kind);
        assert_int_equal(got.object, expected.object);
        assert_int_equal(got.lease, expected.lease);
        assert_int_equal(got.name_size, expected.name_size);
        assert_int_equal(got.method_count, expected.method_count);
        for (size_t m = 0; m < got.method_count; m++) {
            assert_int_equal(piso_read(&got.methods, &item), 1);
            assert_memory_equal(item.as.bytes.data, given[i].methods[m], item.as.bytes.size);
        }
        piso_writer_fini(&w);
    }
}

static void other_forms_are_malformed(void **state) {
    (void)state;
    static char long_name[PISO_MAX_REFERENCE_NAME + 2];
    memset(long_name, 'x', sizeof long_name - 1);
    const payload bad[] = {
        {{0, 0x80000000}, 2, 3, NULL, -1},                     /* shorter than it claims */
        {{0, 0x80000000, 0}, 3, 2, NULL, -1},                  /* longer */
        {{0, 0x80000000, 0}, 3, 3, NULL, -1},                  /* parts of another kind */
        {{1, 0x80000000, 0}, 3, 3, NULL, -1},                  /* no name */
        {{2, 0x80000000, 0}, 3, 4, "x", -1},                   /* no methods */
        {{3, 0x80000000, 0}, 3, 4, "x", -1},                   /* unknown kinds */
        {{-1, 0x80000000}, 2, 2, NULL, -1},                    /* */
        {{0, 0x7fffffff}, 2, 2, NULL, -1},                     /* ids that no reference has */
        {{0, 0xffffffff}, 2, 2, NULL, -1},                     /* */
        {{0, 0x180000000}, 2, 2, NULL, -1},                    /* */
        {{0, -1}, 2, 2, NULL, -1},                             /* */
        {{1, 0x80000000, -1}, 3, 4, "x", -1},                  /* spans that no message has */
        {{1, 0x80000000, PISO_MAX_SPANS}, 3, 4, "x", -1},      /* */
        {{1, 0x80000000, 0}, 3, 4, long_name, -1},             /* too long */
        {{2, 0x80000000, 0}, 3, 5, "x", PISO_MAX_METHODS + 1}, /* too many */
        {{1, 0x80000000, 0}, 3, 4, "x", 0},                    /* a function with methods */
        {{0}, 0, 0, NULL, -1},                                 /* nothing */
    };
    piso_reference got = {.size = sizeof got};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(read_payload(&bad[i], &got), PISO_EPROTO);
    piso_item other = {.kind = PISO_INT};
    assert_int_equal(piso_read_reference(&other, &got), PISO_EPROTO);
    piso_reference unsized = {0};
    const payload good = {{0, 0x80000000}, 2, 2, NULL, -1};
    assert_int_equal(read_payload(&good, &unsized), -EINVAL);
    piso_writer w;
    piso_writer_init(&w);
    piso_write_reference_begin(&w, &unsized);
    assert_int_equal(w.error, -EINVAL);
    piso_writer_fini(&w);
}

/* give: sends a function as the argument of a call. */
static void give(piso_session *s, piso_call *call, uint32_t object) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_array(&w, 1);
    int lease = piso_session_lease(s, &w, &cookie);
    assert_true(lease >= 0);
    piso_reference reference = {.size = sizeof reference, .kind = PISO_REFERENCE_FUNCTION, .object = object};
    reference.lease = (uint32_t)lease;
    reference.name = "callback";
    reference.name_size = 8;
    piso_write_ext_end(&w, piso_write_reference_begin(&w, &reference));
    assert_int_equal(piso_session_call(s, call, 1, 0, 0, 0, PISO_NO_DEADLINE, &w), 0);
    piso_writer_fini(&w);
}

/* take_reference: takes the reference that is the only argument of the next call. Returns its lease. */
static uint64_t take_reference(piso_session *s, piso_reference *ret, uint64_t *ret_request) {
    piso_event event = {.size = sizeof event};
    take(s, PISO_EVENT_REQUEST, &event);
    piso_reader r = {event.body, event.body + event.body_size};
    piso_item item;
    assert_int_equal(piso_read(&r, &item), 1);
    assert_int_equal(item.kind, PISO_ARRAY);
    assert_int_equal(piso_read(&r, &item), 1);
    assert_int_equal(piso_read_reference(&item, ret), 0);
    uint64_t lease = piso_event_take_lease(&event, ret->lease);
    assert_true(lease);
    *ret_request = event.id;
    piso_event_fini(&event);
    return lease;
}

static void a_side_calls_the_function_that_it_was_given(void **state) {
    (void)state;
    ends e = open_pair();
    piso_call outer, inner;
    give(e.child, &outer, PISO_OBJECT_REFERENCED + 7);
    piso_reference reference = {.size = sizeof reference};
    uint64_t request, lease = take_reference(e.host, &reference, &request);
    assert_int_equal(reference.kind, PISO_REFERENCE_FUNCTION);
    uint32_t method;
    assert_int_equal(piso_session_intern(e.host, PISO_METHOD_CALL, strlen(PISO_METHOD_CALL), &method), 0);
    piso_writer w;
    piso_writer_init(&w);
    piso_write_array(&w, 1);
    piso_write_int(&w, 41);
    assert_int_equal(piso_session_call(e.host, &inner, reference.object, method, 0, request, PISO_NO_DEADLINE, &w), 0);
    piso_writer_fini(&w);
    piso_event event = {.size = sizeof event};
    take(e.child, PISO_EVENT_REQUEST, &event);
    assert_int_equal(event.object, PISO_OBJECT_REFERENCED + 7);
    assert_ptr_equal(event.parent, &outer);
    piso_event_fini(&event);
    piso_session_end_lease(e.host, lease);
    piso_session_flush(e.host);
    take(e.child, PISO_EVENT_RELEASED, &event);
    assert_ptr_equal(event.cookie, &cookie);
    piso_event_fini(&event);
    close_pair(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(other_forms_are_malformed),
        cmocka_unit_test(a_side_calls_the_function_that_it_was_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
