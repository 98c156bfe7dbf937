/* fuzz_frame.c - any bytes as a message: split, or refused exactly where the rules of docs/wire-format.md say so; then
 * its spans, its releases and the values of its body are walked as a session and a binding would. */
#include "fuzz.h"

#include "wire/frame.h"

/* is_right: the rules, one type after another, in other words than those of frame.c. */
static bool is_right(const piso__frame *f, size_t body) {
    bool no_target = f->object == 0 && f->method == 0 && f->timeout_ms == 0, bare = f->flags == 0 && f->nspans == 0;
    bool spilled = f->flags & 4, table = f->flags & 16;
    bool sized = (spilled ? f->nspans >= 1 && body == 0 : body <= 4096) && (!table || f->nspans == 1 + spilled);
    switch (f->type) {
    case 1: /* CALL */
        return (f->flags & ~31) == 0 && (f->flags & 2 ? f->id == 0 : f->id != 0) && f->nspans <= 1024 && sized;
    case 2: /* REPLY */
    case 3: /* ERROR */
        return (f->flags & ~20) == 0 && f->id != 0 && no_target && f->nspans <= 1024 && sized;
    case 4: /* CANCEL */
        return bare && f->id != 0 && no_target && body == 0;
    case 5: /* RELEASE */
        return bare && f->id == 0 && no_target && body > 0 && body <= 4096 && body % 16 == 0;
    case 6: /* DEFINE */
        return bare && f->id == 0 && f->object == 0 && f->timeout_ms == 0 && body >= 1 && body <= 255;
    case 7: /* GOODBYE */
        return bare && f->id == 0 && no_target && body == 0;
    case 8:  /* ATTACH */
    case 9:  /* ATTACHED */
    case 10: /* RETIRE */
    case 11: /* RETIRED */
    case 13: /* REFUSED */
        return bare && f->id == 0 && f->object == 0 && f->timeout_ms == 0 && body == 0;
    case 12: /* END_LEASES */
        return bare && f->id == 0 && no_target && body > 0 && body <= 4096 && body % 8 == 0;
    default:
        return false;
    }
}

/* expected: whether the message is to be accepted. */
static bool expected(const uint8_t *data, size_t size) {
    piso__frame f;
    if (size < 24)
        return false;
    memcpy(&f, data, 24);
    bool has_parent = f.type == 1 && f.flags & 8;
    if (has_parent && (size < 32 || memcmp(data + 24, "\0\0\0\0\0\0\0", 8) == 0))
        return false;
    size_t head = (has_parent ? 32 : 24) + f.nspans * (size_t)24;
    return size >= head && is_right(&f, size - head);
}

static void walk_spans(const uint8_t *spans, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        piso_span span;
        uint8_t again[PISO__SPAN_SIZE];
        piso__span_decode(spans + i * PISO__SPAN_SIZE, &span);
        piso__span_encode(&span, again);
        check(memcmp(again, spans + i * PISO__SPAN_SIZE, sizeof again) == 0);
    }
}

static void walk_releases(const uint8_t *body, size_t size) {
    for (size_t at = 0; at < size; at += PISO__RELEASE_SIZE) {
        uint64_t offset;
        uint32_t generation;
        uint8_t again[PISO__RELEASE_SIZE];
        bool padded = memcmp(body + at + 12, "\0\0\0", 4) == 0;
        check(piso__release_decode(body + at, &offset, &generation) == (padded ? 0 : PISO_EPROTO));
        if (!padded)
            continue;
        piso__release_encode(offset, generation, again);
        check(memcmp(again, body + at, sizeof again) == 0);
    }
}

static void walk_values(const uint8_t *body, size_t size) {
    piso_reader r = {body, body + size};
    piso_writer w;
    piso_writer_init(&w);
    while (fuzz_copy_value(&r, &w, 0) == 1)
        ;
    piso_writer_fini(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    piso__frame frame = {.type = 0xEE};
    const uint8_t *spans = NULL, *body = NULL;
    size_t body_size = SIZE_MAX;
    int r = piso__frame_decode(data, size, &frame, &spans, &body, &body_size);
    check(r == (expected(data, size) ? 0 : PISO_EPROTO));
    if (r != 0) {
        check(frame.type == 0xEE && !spans && !body && body_size == SIZE_MAX);
        return 0;
    }
    uint8_t header[PISO__HEADER_MAX];
    size_t head = piso__frame_encode(&frame, header);
    check(memcmp(header, data, head) == 0);
    check(spans == data + head && body == spans + frame.nspans * (size_t)PISO__SPAN_SIZE);
    check(body + body_size == data + size);
    walk_spans(spans, frame.nspans);
    if (frame.type == PISO__FRAME_RELEASE)
        walk_releases(body, body_size);
    else if (frame.type <= PISO__FRAME_ERROR)
        walk_values(body, body_size);
    return 0;
}
