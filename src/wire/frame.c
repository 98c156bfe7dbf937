/* frame.c - see frame.h. The structs are the bytes on little-endian machines; memcpy keeps alignment out of it. */
#include "wire/frame.h"

#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the protocol is little endian");

void piso__frame_encode(const piso__frame *frame, uint8_t ret_bytes[PISO__FRAME_SIZE]) {
    memcpy(ret_bytes, frame, PISO__FRAME_SIZE);
}

void piso__span_encode(const piso_span *span, uint8_t ret_bytes[PISO__SPAN_SIZE]) {
    memcpy(ret_bytes, span, PISO__SPAN_SIZE);
}

void piso__span_decode(const uint8_t bytes[PISO__SPAN_SIZE], piso_span *ret_span) {
    memcpy(ret_span, bytes, PISO__SPAN_SIZE);
}

void piso__release_encode(uint64_t offset, uint32_t generation, uint8_t ret_bytes[PISO__RELEASE_SIZE]) {
    memset(ret_bytes, 0, PISO__RELEASE_SIZE);
    memcpy(ret_bytes, &offset, 8);
    memcpy(ret_bytes + 8, &generation, 4);
}

int piso__release_decode(const uint8_t bytes[PISO__RELEASE_SIZE], uint64_t *ret_offset, uint32_t *ret_generation) {
    uint32_t padding;
    memcpy(&padding, bytes + 12, 4);
    if (padding != 0)
        return PISO_EPROTO;
    memcpy(ret_offset, bytes, 8);
    memcpy(ret_generation, bytes + 8, 4);
    return 0;
}

/* What each type may carry; a field that is not listed must be 0. */
typedef struct rule {
    uint8_t flags;
    bool id, target, timeout, spans, body, number;
} rule;

static const rule rules[] = {
    [PISO__FRAME_CALL] = {.flags = PISO_CALL_KWARGS | PISO_CALL_NO_REPLY | PISO__FRAME_BODY_SPAN,
                          .id = true,
                          .target = true,
                          .timeout = true,
                          .spans = true,
                          .body = true,
                          .number = true},
    [PISO__FRAME_REPLY] = {.flags = PISO__FRAME_BODY_SPAN, .id = true, .spans = true, .body = true},
    [PISO__FRAME_ERROR] = {.flags = PISO__FRAME_BODY_SPAN, .id = true, .spans = true, .body = true},
    [PISO__FRAME_CANCEL] = {.id = true},
    [PISO__FRAME_RELEASE] = {.body = true},
    [PISO__FRAME_DEFINE] = {.body = true, .number = true},
    [PISO__FRAME_GOODBYE] = {0},
    [PISO__FRAME_ATTACH] = {.number = true},
    [PISO__FRAME_ATTACHED] = {.number = true},
    [PISO__FRAME_RETIRE] = {.number = true},
    [PISO__FRAME_RETIRED] = {.number = true},
    [PISO__FRAME_END_LEASES] = {.body = true},
};

/* check_header: the fields against the rule of their type. */
static bool check_header(const piso__frame *f) {
    if (f->type == 0 || f->type >= sizeof rules / sizeof *rules)
        return false;
    const rule *rule = &rules[f->type];
    bool no_reply = f->type == PISO__FRAME_CALL && (f->flags & PISO_CALL_NO_REPLY);
    if ((f->flags & ~rule->flags) || (f->id != 0) != (rule->id && !no_reply))
        return false;
    if ((!rule->target && f->object) || (!rule->number && f->method) || (!rule->timeout && f->timeout_ms))
        return false;
    return f->nspans <= (rule->spans ? PISO_MAX_SPANS : 0) && (f->nspans || !(f->flags & PISO__FRAME_BODY_SPAN));
}

/* check_body: the size of the inline body. */
static bool check_body(const piso__frame *f, size_t size) {
    if (f->flags & PISO__FRAME_BODY_SPAN)
        return size == 0;
    switch (f->type) {
    case PISO__FRAME_RELEASE:
        return size > 0 && size % PISO__RELEASE_SIZE == 0 && size <= PISO_INLINE_BODY;
    case PISO__FRAME_END_LEASES:
        return size > 0 && size % PISO__LEASE_SIZE == 0 && size <= PISO_INLINE_BODY;
    case PISO__FRAME_DEFINE:
        return size >= 1 && size <= 255;
    default:
        return rules[f->type].body ? size <= PISO_INLINE_BODY : size == 0;
    }
}

int piso__frame_decode(const uint8_t *data, size_t size, piso__frame *ret_frame, const uint8_t **ret_spans,
                       const uint8_t **ret_body, size_t *ret_body_size) {
    piso__frame f;
    if (size < sizeof f)
        return PISO_EPROTO;
    memcpy(&f, data, sizeof f);
    size_t spans_size = (size_t)f.nspans * PISO__SPAN_SIZE;
    if (!check_header(&f) || size - sizeof f < spans_size || !check_body(&f, size - sizeof f - spans_size))
        return PISO_EPROTO;
    *ret_frame = f;
    *ret_spans = data + sizeof f;
    *ret_body = data + sizeof f + spans_size;
    *ret_body_size = size - sizeof f - spans_size;
    return 0;
}
