/* test_frame.c - headers, spans and releases against the bytes of docs/wire-format.md, and what each type of
 * frame must not carry: every field, flag and size that a peer could set where it is not allowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/frame.h"

/* A valid frame of each type, with the body it needs. */
typedef struct sample {
    piso__frame frame;
    size_t body_size;
} sample;

static const sample samples[] = {
    {{.type = PISO__FRAME_CALL, .id = 1}, 3},
    {{.type = PISO__FRAME_REPLY, .id = 1}, 3},
    {{.type = PISO__FRAME_ERROR, .id = 1}, 3},
    {{.type = PISO__FRAME_CANCEL, .id = 1}, 0},
    {{.type = PISO__FRAME_RELEASE}, 16},
    {{.type = PISO__FRAME_DEFINE, .method = 1}, 3},
    {{.type = PISO__FRAME_GOODBYE}, 0},
    {{.type = PISO__FRAME_ATTACH, .method = 1}, 0},
    {{.type = PISO__FRAME_ATTACHED, .method = 1}, 0},
    {{.type = PISO__FRAME_RETIRE, .method = 1}, 0},
    {{.type = PISO__FRAME_RETIRED, .method = 1}, 0},
    {{.type = PISO__FRAME_END_LEASES}, 8},
    {{.type = PISO__FRAME_REFUSED, .method = 1}, 0},
};
#define SAMPLES (sizeof samples / sizeof *samples)

typedef struct split {
    int result;
    piso__frame frame;
    size_t spans_at, body_at, body_size; /* offsets in the message */
} split;

/* decode: decodes a message of this header, its spans and a body of zeros, in a block of exactly its size, so
 * that the sanitizer sees a read beyond it. Checks that a failure leaves the outputs alone. */
static split decode(const piso__frame *frame, size_t body_size) {
    size_t size = PISO__FRAME_SIZE + frame->nspans * (size_t)PISO__SPAN_SIZE + body_size;
    uint8_t *message = calloc(1, size);
    assert_non_null(message);
    piso__frame_encode(frame, message);
    const piso__frame untouched = {.type = 0xEE, .id = 0xEE};
    const uint8_t *spans = NULL, *body = NULL;
    split s = {.frame = untouched, .body_size = SIZE_MAX};
    s.result = piso__frame_decode(message, size, &s.frame, &spans, &body, &s.body_size);
    if (s.result == 0) {
        s.spans_at = (size_t)(spans - message);
        s.body_at = (size_t)(body - message);
    } else {
        assert_int_equal(s.result, PISO_EPROTO);
        assert_memory_equal(&s.frame, &untouched, sizeof untouched);
        assert_null(spans);
        assert_null(body);
        assert_true(s.body_size == SIZE_MAX);
    }
    free(message);
    return s;
}

static bool accepts(const piso__frame *frame, size_t body_size) {
    return decode(frame, body_size).result == 0;
}

static void header_is_little_endian(void **state) {
    (void)state;
    static const uint8_t expected[PISO__FRAME_SIZE] = {
        1, 2, 4, 3, 8, 7, 6, 5, 16, 15, 14, 13, 12, 11, 10, 9, 20, 19, 18, 17, 24, 23, 22, 21,
    };
    piso__frame frame = {.type = 1,
                         .flags = 2,
                         .nspans = 0x0304,
                         .timeout_ms = 0x05060708,
                         .id = 0x090a0b0c0d0e0f10,
                         .object = 0x11121314,
                         .method = 0x15161718};
    uint8_t bytes[PISO__FRAME_SIZE];
    piso__frame_encode(&frame, bytes);
    assert_memory_equal(bytes, expected, sizeof expected);
}

static void parent_follows_the_header(void **state) {
    (void)state;
    const piso__frame frame = {.type = PISO__FRAME_CALL, .id = 1, .nspans = 1, .parent = 0x0102030405060708};
    uint8_t message[PISO__HEADER_MAX + PISO__SPAN_SIZE + 3] = {0};
    assert_int_equal(piso__frame_encode(&frame, message), PISO__HEADER_MAX);
    assert_int_equal(message[1], PISO__FRAME_PARENT);
    assert_int_equal(message[PISO__FRAME_SIZE], 8);
    piso__frame found;
    const uint8_t *spans, *body;
    size_t size;
    assert_int_equal(piso__frame_decode(message, sizeof message, &found, &spans, &body, &size), 0);
    assert_true(found.parent == frame.parent);
    assert_ptr_equal(spans, message + PISO__HEADER_MAX);
    assert_ptr_equal(body, message + PISO__HEADER_MAX + PISO__SPAN_SIZE);
    assert_int_equal(size, 3);

    for (size_t cut = PISO__FRAME_SIZE; cut < PISO__HEADER_MAX + PISO__SPAN_SIZE; cut++) {
        uint8_t *exact = malloc(cut);
        memcpy(exact, message, cut);
        assert_int_equal(piso__frame_decode(exact, cut, &found, &spans, &body, &size), PISO_EPROTO);
        free(exact);
    }
    memset(message + PISO__FRAME_SIZE, 0, PISO__PARENT_SIZE); /* one is announced, and missing */
    assert_int_equal(piso__frame_decode(message, sizeof message, &found, &spans, &body, &size), PISO_EPROTO);
    message[0] = PISO__FRAME_REPLY; /* only calls have one */
    memset(message + PISO__FRAME_SIZE, 1, PISO__PARENT_SIZE);
    assert_int_equal(piso__frame_decode(message, sizeof message, &found, &spans, &body, &size), PISO_EPROTO);
}

static void span_is_little_endian_and_needs_no_alignment(void **state) {
    (void)state;
    static const uint8_t bytes[1 + PISO__SPAN_SIZE] = {
        0xFF, 4, 3, 2, 1, 8, 7, 6, 5, 16, 15, 14, 13, 12, 11, 10, 9, 24, 23, 22, 21, 20, 19, 18, 17,
    };
    piso_span span;
    piso__span_decode(bytes + 1, &span);
    assert_int_equal(span.segment, 0x01020304);
    assert_int_equal(span.generation, 0x05060708);
    assert_int_equal(span.offset, 0x090a0b0c0d0e0f10);
    assert_int_equal(span.length, 0x1112131415161718);
    uint8_t again[1 + PISO__SPAN_SIZE] = {0xFF};
    piso__span_encode(&span, again + 1);
    assert_memory_equal(again, bytes, sizeof bytes);
}

static void release_is_little_endian_and_padded(void **state) {
    (void)state;
    static const uint8_t expected[PISO__RELEASE_SIZE] = {8, 7, 6, 5, 4, 3, 2, 1, 12, 11, 10, 9};
    uint8_t bytes[PISO__RELEASE_SIZE];
    memset(bytes, 0xFF, sizeof bytes);
    piso__release_encode(0x0102030405060708, 0x090a0b0c, bytes);
    assert_memory_equal(bytes, expected, sizeof bytes);
    uint64_t offset;
    uint32_t generation;
    assert_int_equal(piso__release_decode(bytes, &offset, &generation), 0);
    assert_int_equal(offset, 0x0102030405060708);
    assert_int_equal(generation, 0x090a0b0c);
}

static void release_with_padding_is_refused(void **state) {
    (void)state;
    for (int i = 12; i < PISO__RELEASE_SIZE; i++) {
        uint8_t bytes[PISO__RELEASE_SIZE] = {0};
        bytes[i] = 1;
        uint64_t offset = 7;
        uint32_t generation = 7;
        assert_int_equal(piso__release_decode(bytes, &offset, &generation), PISO_EPROTO);
        assert_int_equal(offset, 7);
        assert_int_equal(generation, 7);
    }
}

static void message_is_split(void **state) {
    (void)state;
    piso__frame frame = {.type = PISO__FRAME_CALL,
                         .flags = PISO_CALL_KWARGS,
                         .nspans = 2,
                         .timeout_ms = 5,
                         .id = 6,
                         .object = 7,
                         .method = 8};
    split s = decode(&frame, 9);
    assert_int_equal(s.result, 0);
    assert_memory_equal(&s.frame, &frame, sizeof frame);
    assert_int_equal(s.spans_at, PISO__FRAME_SIZE);
    assert_int_equal(s.body_at, PISO__FRAME_SIZE + 2 * PISO__SPAN_SIZE);
    assert_int_equal(s.body_size, 9);
}

static void samples_are_accepted(void **state) {
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++)
        assert_true(accepts(&samples[i].frame, samples[i].body_size));
}

static void unknown_types_are_refused(void **state) {
    (void)state;
    for (int type = 0; type <= UINT8_MAX; type++) {
        bool known = type >= PISO__FRAME_CALL && type <= PISO__FRAME_REFUSED;
        bool accepted = false;
        for (size_t i = 0; i < SAMPLES; i++) {
            piso__frame frame = samples[i].frame;
            frame.type = (uint8_t)type;
            accepted |= accepts(&frame, samples[i].body_size);
        }
        assert_int_equal(accepted, known);
    }
}

static void fields_belong_to_their_types(void **state) {
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        piso__frame_type type = samples[i].frame.type;
        bool call = type == PISO__FRAME_CALL, answer = type == PISO__FRAME_REPLY || type == PISO__FRAME_ERROR;
        size_t body = samples[i].body_size;
        piso__frame f = samples[i].frame;
        f.object = UINT32_MAX;
        assert_int_equal(accepts(&f, body), call);
        f = samples[i].frame;
        f.method = UINT32_MAX;
        bool numbered = (type >= PISO__FRAME_ATTACH && type <= PISO__FRAME_RETIRED) || type == PISO__FRAME_REFUSED;
        assert_int_equal(accepts(&f, body), call || type == PISO__FRAME_DEFINE || numbered);
        f = samples[i].frame;
        f.timeout_ms = UINT32_MAX;
        assert_int_equal(accepts(&f, body), call);
        f = samples[i].frame;
        f.id = UINT64_MAX;
        assert_int_equal(accepts(&f, body), call || answer || type == PISO__FRAME_CANCEL);
        f.id = 0;
        assert_int_equal(accepts(&f, body), !(call || answer || type == PISO__FRAME_CANCEL));
        f = samples[i].frame;
        f.nspans = 1;
        assert_int_equal(accepts(&f, body), call || answer);
    }
}

static void flags_belong_to_their_types(void **state) {
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++)
        for (int flags = 0; flags <= UINT8_MAX; flags++) {
            piso__frame f = samples[i].frame;
            bool call = f.type == PISO__FRAME_CALL;
            bool has_body = call || f.type == PISO__FRAME_REPLY || f.type == PISO__FRAME_ERROR;
            int allowed = (has_body ? PISO__FRAME_BODY_SPAN | PISO__FRAME_SPAN_TABLE : 0) |
                          (call ? PISO_CALL_KWARGS | PISO_CALL_NO_REPLY : 0);
            bool spilled = flags & PISO__FRAME_BODY_SPAN, table = flags & PISO__FRAME_SPAN_TABLE;
            f.flags = (uint8_t)flags;
            f.nspans = has_body ? (uint16_t)(spilled + table) : 0;
            if (call && (flags & PISO_CALL_NO_REPLY))
                f.id = 0;
            assert_int_equal(accepts(&f, spilled ? 0 : samples[i].body_size), (flags & ~allowed) == 0);
        }
}

static void call_without_reply_has_no_id(void **state) {
    (void)state;
    piso__frame f = {.type = PISO__FRAME_CALL, .flags = PISO_CALL_NO_REPLY};
    assert_true(accepts(&f, 1));
    f.id = 1;
    assert_false(accepts(&f, 1));
}

static void body_in_a_span_is_the_only_body(void **state) {
    (void)state;
    for (piso__frame_type type = PISO__FRAME_CALL; type <= PISO__FRAME_ERROR; type++) {
        piso__frame f = {.type = (uint8_t)type, .flags = PISO__FRAME_BODY_SPAN, .nspans = 1, .id = 1};
        assert_true(accepts(&f, 0));
        assert_false(accepts(&f, 1));
        f.nspans = 0;
        assert_false(accepts(&f, 0));
    }
}

static void a_table_is_the_only_span_but_the_body(void **state) {
    (void)state;
    for (piso__frame_type type = PISO__FRAME_CALL; type <= PISO__FRAME_ERROR; type++)
        for (int spilled = 0; spilled < 2; spilled++)
            for (uint16_t nspans = 0; nspans < 4; nspans++) {
                int flags = PISO__FRAME_SPAN_TABLE | (spilled ? PISO__FRAME_BODY_SPAN : 0);
                piso__frame f = {.type = (uint8_t)type, .flags = (uint8_t)flags, .nspans = nspans, .id = 1};
                assert_int_equal(accepts(&f, !spilled), nspans == 1 + spilled);
            }
}

static void body_has_a_size_for_its_type(void **state) {
    (void)state;
    static const size_t sizes[] = {
        0, 1, 15, 16, 17, 32, 255, 256, PISO_INLINE_BODY, PISO_INLINE_BODY + 1, PISO_INLINE_BODY + PISO__RELEASE_SIZE};
    for (size_t i = 0; i < SAMPLES; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            size_t size = sizes[j];
            piso__frame_type type = samples[i].frame.type;
            bool fits = size <= PISO_INLINE_BODY;
            if (type == PISO__FRAME_RELEASE || type == PISO__FRAME_END_LEASES)
                fits = size == 16 || size == 32 || size == 256 || size == PISO_INLINE_BODY;
            else if (type == PISO__FRAME_DEFINE)
                fits = size >= 1 && size <= 255;
            else if (type == PISO__FRAME_CANCEL || type >= PISO__FRAME_GOODBYE)
                fits = size == 0;
            assert_int_equal(accepts(&samples[i].frame, size), fits);
        }
}

static void spans_have_a_limit(void **state) {
    (void)state;
    piso__frame f = {.type = PISO__FRAME_REPLY, .id = 1, .nspans = PISO__HEADER_SPANS};
    assert_true(accepts(&f, 1));
    f.nspans = PISO__HEADER_SPANS + 1;
    assert_false(accepts(&f, 1));
    f.nspans = UINT16_MAX;
    assert_false(accepts(&f, 1));
}

static void truncated_messages_are_refused(void **state) {
    (void)state;
    piso__frame f = {.type = PISO__FRAME_REPLY, .id = 1, .nspans = 3};
    size_t whole = PISO__FRAME_SIZE + 3 * PISO__SPAN_SIZE;
    for (size_t size = 0; size <= whole; size++) {
        uint8_t message[PISO__FRAME_SIZE], *exact = calloc(1, size ? size : 1);
        assert_non_null(exact);
        piso__frame_encode(&f, message);
        memcpy(exact, message, size < sizeof message ? size : sizeof message);
        const uint8_t *spans, *body;
        size_t body_size;
        piso__frame decoded;
        int r = piso__frame_decode(exact, size, &decoded, &spans, &body, &body_size);
        assert_int_equal(r, size == whole ? 0 : PISO_EPROTO);
        free(exact);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_is_little_endian),
        cmocka_unit_test(parent_follows_the_header),
        cmocka_unit_test(span_is_little_endian_and_needs_no_alignment),
        cmocka_unit_test(release_is_little_endian_and_padded),
        cmocka_unit_test(release_with_padding_is_refused),
        cmocka_unit_test(message_is_split),
        cmocka_unit_test(samples_are_accepted),
        cmocka_unit_test(unknown_types_are_refused),
        cmocka_unit_test(fields_belong_to_their_types),
        cmocka_unit_test(flags_belong_to_their_types),
        cmocka_unit_test(call_without_reply_has_no_id),
        cmocka_unit_test(body_in_a_span_is_the_only_body),
        cmocka_unit_test(a_table_is_the_only_span_but_the_body),
        cmocka_unit_test(body_has_a_size_for_its_type),
        cmocka_unit_test(spans_have_a_limit),
        cmocka_unit_test(truncated_messages_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
