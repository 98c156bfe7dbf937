/* test_value.c - the writer against the bytes of the MessagePack specification, and the reader against
 * everything that a peer may send: other forms of the same value, impossible counts, and messages that end too
 * early. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"

/* Replaces libc's functions, so that memory can run out. */
static bool out_of_memory;
void *reallocarray(void *pointer, size_t count, size_t size) {
    return out_of_memory ? NULL : realloc(pointer, count * size);
}

/* The sanitizers end the program where an allocation is too large; this test needs the NULL. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "allocator_may_return_null=1";
}

static int setup(void **state) {
    piso_writer *w = malloc(sizeof *w);
    if (!w)
        return -1;
    piso_writer_init(w);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    piso_writer_fini(*state);
    free(*state);
    return 0;
}

static void assert_written(const piso_writer *w, const void *expected, size_t size) {
    assert_int_equal(w->error, 0);
    assert_int_equal(w->size, size);
    assert_memory_equal(w->data, expected, size);
}

static piso_reader reader_of(const piso_writer *w) {
    return (piso_reader){w->data, w->data + w->size};
}

/* read_one: reads the only item of these bytes. */
static piso_item read_one(const void *bytes, size_t size) {
    piso_reader r = {bytes, (const uint8_t *)bytes + size};
    piso_item item;
    assert_int_equal(piso_read(&r, &item), 1);
    assert_ptr_equal(r.cursor, r.end);
    return item;
}

static void assert_int_item(piso_item item, int64_t value) {
    assert_int_equal(item.kind, PISO_INT);
    assert_true(item.as.integer == value);
}

/* assert_refused: checks that the bytes, in a block of exactly their size, are an error that leaves the item
 * unchanged. */
static void assert_refused(const void *bytes, size_t size) {
    uint8_t *exact = malloc(size);
    assert_non_null(exact);
    memcpy(exact, bytes, size);
    piso_reader r = {exact, exact + size};
    piso_item item, untouched;
    memset(&item, 0xEE, sizeof item);
    memset(&untouched, 0xEE, sizeof untouched);
    assert_int_equal(piso_read(&r, &item), PISO_EPROTO);
    assert_memory_equal(&item, &untouched, sizeof item);
    free(exact);
}

/* ---- scalars ---- */

static void nil_and_booleans(void **state) {
    piso_writer *w = *state;
    piso_write_nil(w);
    piso_write_bool(w, false);
    piso_write_bool(w, true);
    assert_written(w, "\xc0\xc2\xc3", 3);
    assert_int_equal(read_one("\xc0", 1).kind, PISO_NIL);
    for (int value = 0; value < 2; value++) {
        piso_item item = read_one(w->data + 1 + value, 1);
        assert_int_equal(item.kind, PISO_BOOL);
        assert_int_equal(item.as.boolean, value);
    }
}

static void integers_take_the_shortest_form(void **state) {
    static const struct {
        int64_t value;
        size_t size;
        const char *bytes;
    } cases[] = {
        {0, 1, "\x00"},
        {127, 1, "\x7f"},
        {128, 2, "\xcc\x80"},
        {255, 2, "\xcc\xff"},
        {256, 3, "\xcd\x01\x00"},
        {65535, 3, "\xcd\xff\xff"},
        {65536, 5, "\xce\x00\x01\x00\x00"},
        {UINT32_MAX, 5, "\xce\xff\xff\xff\xff"},
        {UINT32_MAX + 1LL, 9, "\xcf\0\0\0\x01\0\0\0\0"},
        {INT64_MAX, 9, "\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"},
        {-1, 1, "\xff"},
        {-32, 1, "\xe0"},
        {-33, 2, "\xd0\xdf"},
        {-128, 2, "\xd0\x80"},
        {-129, 3, "\xd1\xff\x7f"},
        {-32768, 3, "\xd1\x80\x00"},
        {-32769, 5, "\xd2\xff\xff\x7f\xff"},
        {INT32_MIN, 5, "\xd2\x80\x00\x00\x00"},
        {INT32_MIN - 1LL, 9, "\xd3\xff\xff\xff\xff\x7f\xff\xff\xff"},
        {INT64_MIN, 9, "\xd3\x80\0\0\0\0\0\0\0"},
    };
    piso_writer *w = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        piso_writer_reset(w);
        piso_write_int(w, cases[i].value);
        assert_written(w, cases[i].bytes, cases[i].size);
        assert_int_item(read_one(w->data, w->size), cases[i].value);
        if (cases[i].value < 0)
            continue;
        piso_writer_reset(w);
        piso_write_uint(w, (uint64_t)cases[i].value);
        assert_written(w, cases[i].bytes, cases[i].size);
    }
}

static void large_unsigned_integers_are_a_kind_of_their_own(void **state) {
    piso_writer *w = *state;
    static const uint64_t values[] = {(uint64_t)INT64_MAX + 1, UINT64_MAX};
    for (size_t i = 0; i < 2; i++) {
        piso_writer_reset(w);
        piso_write_uint(w, values[i]);
        assert_int_equal(w->size, 9);
        piso_item item = read_one(w->data, w->size);
        assert_int_equal(item.kind, PISO_UINT);
        assert_true(item.as.uinteger == values[i]);
    }
}

static void longer_forms_of_integers_are_read(void **state) {
    (void)state;
    assert_int_item(read_one("\xcc\x05", 2), 5);
    assert_int_item(read_one("\xcd\0\x05", 3), 5);
    assert_int_item(read_one("\xce\0\0\0\x05", 5), 5);
    assert_int_item(read_one("\xcf\0\0\0\0\0\0\0\x05", 9), 5);
    assert_int_item(read_one("\xd0\x05", 2), 5);
    assert_int_item(read_one("\xd1\xff\xfb", 3), -5);
    assert_int_item(read_one("\xd2\xff\xff\xff\xfb", 5), -5);
    assert_int_item(read_one("\xd3\xff\xff\xff\xff\xff\xff\xff\xfb", 9), -5);
}

static void doubles_keep_every_bit(void **state) {
    piso_writer *w = *state;
    static const uint64_t patterns[] = {
        0, 0x8000000000000000, 0x3ff8000000000000, 0x7ff0000000000000, 0x7ff8dead0000beef, 1};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        double value;
        memcpy(&value, &patterns[i], 8);
        piso_writer_reset(w);
        piso_write_double(w, value);
        assert_int_equal(w->data[0], 0xcb);
        for (int byte = 0; byte < 8; byte++)
            assert_int_equal(w->data[1 + byte], (uint8_t)(patterns[i] >> (56 - 8 * byte)));
        piso_item item = read_one(w->data, w->size);
        assert_int_equal(item.kind, PISO_DOUBLE);
        assert_memory_equal(&item.as.real, &value, 8);
    }
}

static void single_floats_are_read(void **state) {
    (void)state;
    piso_item item = read_one("\xca\xbf\xc0\x00\x00", 5);
    assert_int_equal(item.kind, PISO_DOUBLE);
    assert_true(item.as.real == -1.5);
}

/* ---- what has a length ---- */

typedef struct header {
    size_t length, size;
    const char *bytes;
} header;

/* assert_payload: checks the header, then bytes of 'x', and reads it back as a view of that payload. */
static void assert_payload(const piso_writer *w, const header *h, piso_kind kind) {
    assert_int_equal(w->error, 0);
    assert_int_equal(w->size, h->size + h->length);
    assert_memory_equal(w->data, h->bytes, h->size);
    piso_item item = read_one(w->data, w->size);
    assert_int_equal(item.kind, kind);
    assert_ptr_equal(item.as.bytes.data, w->data + h->size);
    assert_int_equal(item.as.bytes.size, h->length);
    for (size_t i = 0; i < h->length; i++)
        assert_int_equal(item.as.bytes.data[i], 'x');
}

static char *payload(size_t size) {
    char *data = malloc(size + 1);
    assert_non_null(data);
    memset(data, 'x', size + 1);
    return data;
}

static void strings_have_four_headers(void **state) {
    static const header cases[] = {
        {0, 1, "\xa0"},
        {1, 1, "\xa1"},
        {31, 1, "\xbf"},
        {32, 2, "\xd9\x20"},
        {255, 2, "\xd9\xff"},
        {256, 3, "\xda\x01\x00"},
        {65535, 3, "\xda\xff\xff"},
        {65536, 5, "\xdb\x00\x01\x00\x00"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *data = payload(cases[i].length);
        piso_writer_reset(*state);
        piso_write_str(*state, data, cases[i].length);
        assert_payload(*state, &cases[i], PISO_STR);
        free(data);
    }
}

static void bytes_have_three_headers(void **state) {
    static const header cases[] = {
        {0, 2, "\xc4\x00"},
        {255, 2, "\xc4\xff"},
        {256, 3, "\xc5\x01\x00"},
        {65535, 3, "\xc5\xff\xff"},
        {65536, 5, "\xc6\x00\x01\x00\x00"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *data = payload(cases[i].length);
        piso_writer_reset(*state);
        piso_write_bin(*state, data, cases[i].length);
        assert_payload(*state, &cases[i], PISO_BIN);
        free(data);
    }
}

static void extensions_have_eight_headers(void **state) {
    static const header cases[] = {
        {0, 3, "\xc7\x00\xfb"},
        {1, 2, "\xd4\xfb"},
        {2, 2, "\xd5\xfb"},
        {3, 3, "\xc7\x03\xfb"},
        {4, 2, "\xd6\xfb"},
        {8, 2, "\xd7\xfb"},
        {16, 2, "\xd8\xfb"},
        {17, 3, "\xc7\x11\xfb"},
        {32, 3, "\xc7\x20\xfb"},
        {255, 3, "\xc7\xff\xfb"},
        {256, 4, "\xc8\x01\x00\xfb"},
        {65535, 4, "\xc8\xff\xff\xfb"},
        {65536, 6, "\xc9\x00\x01\x00\x00\xfb"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *data = payload(cases[i].length);
        piso_writer *w = *state;
        piso_writer_reset(w);
        piso_write_ext(w, -5, data, cases[i].length);
        assert_payload(w, &cases[i], PISO_EXT);
        assert_int_equal(read_one(w->data, w->size).ext_type, -5);
        free(data);
    }
}

/* assert_count: checks the header of a container, and reads it back followed by as many nils as it announces. */
static void assert_count(piso_writer *w, const header *h, piso_kind kind) {
    assert_written(w, h->bytes, h->size);
    for (size_t i = 0; i < h->length * (kind == PISO_MAP ? 2 : 1); i++)
        piso_write_nil(w);
    piso_reader r = reader_of(w);
    piso_item item;
    assert_int_equal(piso_read(&r, &item), 1);
    assert_int_equal(item.kind, kind);
    assert_int_equal(item.as.count, h->length);
    assert_ptr_equal(r.cursor, w->data + h->size); /* not entered */
    if (h->length)                                 /* one byte less than the items need */
        assert_refused(w->data, w->size - 1);
}

static void arrays_have_three_headers(void **state) {
    static const header cases[] = {
        {0, 1, "\x90"},
        {15, 1, "\x9f"},
        {16, 3, "\xdc\x00\x10"},
        {65535, 3, "\xdc\xff\xff"},
        {65536, 5, "\xdd\x00\x01\x00\x00"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        piso_writer_reset(*state);
        piso_write_array(*state, cases[i].length);
        assert_count(*state, &cases[i], PISO_ARRAY);
    }
}

static void maps_have_three_headers(void **state) {
    static const header cases[] = {
        {0, 1, "\x80"},
        {15, 1, "\x8f"},
        {16, 3, "\xde\x00\x10"},
        {65535, 3, "\xde\xff\xff"},
        {65536, 5, "\xdf\x00\x01\x00\x00"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        piso_writer_reset(*state);
        piso_write_map(*state, cases[i].length);
        assert_count(*state, &cases[i], PISO_MAP);
    }
}

static void open_extensions_nest(void **state) {
    piso_writer *w = *state;
    size_t outer = piso_write_ext_begin(w, PISO_EXT_TUPLE);
    piso_write_array(w, 1);
    size_t inner = piso_write_ext_begin(w, -1);
    piso_write_raw(w, "ab", 2);
    piso_write_ext_end(w, inner);
    piso_write_ext_end(w, outer);
    size_t empty = piso_write_ext_begin(w, 3);
    piso_write_ext_end(w, empty);
    static const char expected[] = "\xc9\0\0\0\x09\x02\x91\xc9\0\0\0\x02\xff"
                                   "ab"
                                   "\xc9\0\0\0\0\x03";
    assert_written(w, expected, sizeof expected - 1);
}

static void open_extension_survives_growth(void **state) {
    piso_writer *w = *state;
    size_t mark = piso_write_ext_begin(w, 7);
    for (int i = 0; i < 5000; i++)
        piso_write_raw(w, &(uint8_t){(uint8_t)i}, 1);
    piso_write_ext_end(w, mark);
    piso_item item = read_one(w->data, w->size);
    assert_int_equal(item.as.bytes.size, 5000);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(item.as.bytes.data[i], (uint8_t)i);
}

/* ---- the writer's memory ---- */

static void reset_keeps_memory_up_to_a_limit(void **state) {
    piso_writer *w = *state;
    char *data = payload(3 << 20);
    piso_write_bin(w, data, 1000);
    const uint8_t *kept = w->data;
    assert_ptr_not_equal(kept, w->inline_data);
    piso_writer_reset(w);
    assert_ptr_equal(w->data, kept);
    assert_int_equal(w->size, 0);
    piso_write_bin(w, data, 3 << 20);
    assert_int_equal(w->size, (3 << 20) + 5);
    piso_writer_reset(w);
    assert_ptr_equal(w->data, w->inline_data);
    piso_write_nil(w);
    assert_written(w, "\xc0", 1);
    free(data);
}

static void fini_may_be_repeated_and_leaves_a_usable_writer(void **state) {
    piso_writer *w = *state;
    char *data = payload(1000);
    piso_write_bin(w, data, 1000);
    free(data);
    piso_writer_reset(w);
    piso_writer_fini(w);
    piso_writer_fini(w);
    piso_write_nil(w);
    assert_written(w, "\xc0", 1);
}

/* assert_stuck: checks that after an error nothing is written, and the first error stays. */
static void assert_stuck(piso_writer *w, int error) {
    size_t size = w->size;
    assert_int_equal(w->error, error);
    piso_write_nil(w);
    piso_write_int(w, 1000);
    piso_write_str(w, "text", 4);
    piso_write_map(w, (size_t)UINT32_MAX + 1);
    piso_write_raw(w, NULL, SIZE_MAX / 8);
    piso_write_ext_end(w, piso_write_ext_begin(w, 1));
    piso_span span = {0};
    assert_int_equal(piso_writer_add_span(w, &span), error);
    assert_int_equal(w->size, size);
    assert_int_equal(w->nspans, 0);
    assert_int_equal(w->error, error);
    piso_writer_reset(w);
    piso_write_nil(w);
    assert_written(w, "\xc0", 1);
}

static void lengths_have_32_bits(void **state) {
    piso_writer *w = *state;
    const size_t too_long = (size_t)UINT32_MAX + 1;
    piso_write_str(w, NULL, too_long);
    assert_stuck(w, -EMSGSIZE);
    piso_write_bin(w, NULL, too_long);
    assert_stuck(w, -EMSGSIZE);
    piso_write_ext(w, 1, NULL, too_long);
    assert_stuck(w, -EMSGSIZE);
    piso_write_array(w, too_long);
    assert_stuck(w, -EMSGSIZE);
    piso_write_map(w, too_long);
    assert_stuck(w, -EMSGSIZE);
    piso_writer_reset(w);
    piso_write_array(w, UINT32_MAX);
    assert_written(w, "\xdd\xff\xff\xff\xff", 5);
}

static void memory_that_runs_out_is_an_error(void **state) {
    piso_writer *w = *state;
    piso_write_raw(w, NULL, SIZE_MAX / 8);
    assert_stuck(w, -ENOMEM);
    piso_write_raw(w, NULL, SIZE_MAX);
    assert_stuck(w, -EMSGSIZE);
}

static void spans_have_a_limit(void **state) {
    piso_writer *w = *state;
    piso_span span = {.offset = 64, .length = 1};
    for (int i = 0; i < PISO_MAX_SPANS; i++) {
        span.generation = (uint32_t)i;
        assert_int_equal(piso_writer_add_span(w, &span), i);
    }
    assert_int_equal(piso_writer_add_span(w, &span), -EMSGSIZE);
    assert_int_equal(w->error, -EMSGSIZE);
    assert_int_equal(w->nspans, PISO_MAX_SPANS);
    for (uint32_t i = 0; i < PISO_MAX_SPANS; i++)
        assert_int_equal(w->spans[i].generation, i);
    piso_writer_reset(w);
    assert_int_equal(piso_writer_add_span(w, &span), 0);
}

static void spans_without_memory_are_an_error(void **state) {
    piso_writer *w = *state;
    piso_span span = {.length = 1};
    out_of_memory = true;
    int r = piso_writer_add_span(w, &span);
    out_of_memory = false;
    assert_int_equal(r, -ENOMEM);
    assert_stuck(w, -ENOMEM);
}

/* ---- bytes of the peer's ---- */

/* kind_of: the specification's table, for a first byte. */
static piso_kind kind_of(int tag) {
    static const piso_kind middle[] = {
        /* 0xc0..0xdf */
        PISO_NIL, 0,        PISO_BOOL,   PISO_BOOL,   PISO_BIN,   PISO_BIN,   PISO_BIN, PISO_EXT,
        PISO_EXT, PISO_EXT, PISO_DOUBLE, PISO_DOUBLE, PISO_INT,   PISO_INT,   PISO_INT, PISO_INT,
        PISO_INT, PISO_INT, PISO_INT,    PISO_INT,    PISO_EXT,   PISO_EXT,   PISO_EXT, PISO_EXT,
        PISO_EXT, PISO_STR, PISO_STR,    PISO_STR,    PISO_ARRAY, PISO_ARRAY, PISO_MAP, PISO_MAP,
    };
    if (tag >= 0xc0 && tag < 0xe0)
        return middle[tag - 0xc0];
    return tag < 0x80 || tag >= 0xe0 ? PISO_INT : tag < 0x90 ? PISO_MAP : tag < 0xa0 ? PISO_ARRAY : PISO_STR;
}

static void every_first_byte_has_its_kind(void **state) {
    (void)state;
    for (int tag = 0; tag <= UINT8_MAX; tag++) {
        uint8_t bytes[64] = {(uint8_t)tag};
        piso_reader r = {bytes, bytes + sizeof bytes};
        piso_item item = {0};
        piso_kind kind = kind_of(tag);
        assert_int_equal(piso_read(&r, &item), kind ? 1 : PISO_EPROTO);
        assert_int_equal(item.kind, kind);
    }
}

static void reserved_byte_is_refused(void **state) {
    (void)state;
    assert_refused("\xc1", 1);
    assert_refused("\xc1\xc0\xc0", 3);
}

static void truncated_items_are_refused(void **state) {
    (void)state;
    static const struct {
        size_t size;
        const char *bytes;
    } items[] = {
        {2, "\xcc\x01"},
        {3, "\xcd\0\x01"},
        {5, "\xce\0\0\0\x01"},
        {9, "\xcf\0\0\0\0\0\0\0\x01"},
        {2, "\xd0\x01"},
        {3, "\xd1\0\x01"},
        {5, "\xd2\0\0\0\x01"},
        {9, "\xd3\0\0\0\0\0\0\0\x01"},
        {5, "\xca\0\0\0\0"},
        {9, "\xcb\0\0\0\0\0\0\0\0"},
        {3, "\xa2xx"},
        {4, "\xd9\x02xx"},
        {5, "\xda\0\x02xx"},
        {7, "\xdb\0\0\0\x02xx"},
        {4, "\xc4\x02xx"},
        {5, "\xc5\0\x02xx"},
        {7, "\xc6\0\0\0\x02xx"},
        {3, "\xd4\x05x"},
        {4, "\xd5\x05xx"},
        {6, "\xd6\x05xxxx"},
        {10, "\xd7\x05xxxxxxxx"},
        {18, "\xd8\x05xxxxxxxxxxxxxxxx"},
        {5, "\xc7\x02\x05xx"},
        {6, "\xc8\0\x02\x05xx"},
        {8, "\xc9\0\0\0\x02\x05xx"},
        {3, "\x92\x01\x02"},
        {5, "\xdc\0\x02\x01\x02"},
        {7, "\xdd\0\0\0\x02\x01\x02"},
        {5, "\x82\x01\x02\x03\x04"},
        {7, "\xde\0\x02\x01\x02\x03\x04"},
        {9, "\xdf\0\0\0\x02\x01\x02\x03\x04"},
    };
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        piso_reader r = {(const uint8_t *)items[i].bytes, (const uint8_t *)items[i].bytes + items[i].size};
        piso_item item;
        assert_int_equal(piso_read(&r, &item), 1);
        for (size_t size = 1; size < items[i].size; size++)
            assert_refused(items[i].bytes, size);
    }
}

static void huge_lengths_are_refused(void **state) {
    (void)state;
    static const uint8_t tags[] = {0xc6, 0xc9, 0xdb, 0xdd, 0xdf};
    for (size_t i = 0; i < sizeof tags; i++) {
        uint8_t bytes[16] = {tags[i], 0xff, 0xff, 0xff, 0xff};
        assert_refused(bytes, sizeof bytes);
        bytes[1] = 0x80; /* doubled, it would be 0 in 32 bits */
        bytes[2] = bytes[3] = bytes[4] = 0;
        assert_refused(bytes, sizeof bytes);
    }
}

static void a_sequence_ends_cleanly(void **state) {
    (void)state;
    static const uint8_t bytes[] = {0x01, 0x91, 0xc0};
    piso_reader r = {bytes, bytes + sizeof bytes};
    piso_item item;
    assert_int_equal(piso_read(&r, &item), 1);
    assert_int_item(item, 1);
    assert_int_equal(piso_read(&r, &item), 1);
    assert_int_equal(item.kind, PISO_ARRAY);
    assert_int_equal(piso_read(&r, &item), 1);
    assert_int_equal(item.kind, PISO_NIL);
    assert_int_equal(piso_read(&r, &item), 0);
    assert_int_equal(piso_read(&r, &item), 0);
    assert_int_equal(item.kind, PISO_NIL); /* untouched */
    piso_reader nothing = {NULL, NULL};
    assert_int_equal(piso_read(&nothing, &item), 0);
}

#define test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(nil_and_booleans),
        test(integers_take_the_shortest_form),
        test(large_unsigned_integers_are_a_kind_of_their_own),
        test(longer_forms_of_integers_are_read),
        test(doubles_keep_every_bit),
        test(single_floats_are_read),
        test(strings_have_four_headers),
        test(bytes_have_three_headers),
        test(extensions_have_eight_headers),
        test(arrays_have_three_headers),
        test(maps_have_three_headers),
        test(open_extensions_nest),
        test(open_extension_survives_growth),
        test(reset_keeps_memory_up_to_a_limit),
        test(fini_may_be_repeated_and_leaves_a_usable_writer),
        test(lengths_have_32_bits),
        test(memory_that_runs_out_is_an_error),
        test(spans_have_a_limit),
        test(spans_without_memory_are_an_error),
        test(every_first_byte_has_its_kind),
        test(reserved_byte_is_refused),
        test(truncated_items_are_refused),
        test(huge_lengths_are_refused),
        test(a_sequence_ends_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
