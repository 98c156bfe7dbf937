/* frame.c - see frame.h. On little-endian machines the structs have the layout of the bytes. memcpy makes
 * alignment irrelevant. */
#include "wire/frame.h"

#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the protocol is little endian");

size_t piso__frame_encode(const piso__frame *frame, uint8_t *ret_bytes) {
    memcpy(ret_bytes, frame, PISO__FRAME_SIZE);
    if (!frame->parent)
        return PISO__FRAME_SIZE;
    ret_bytes[offsetof(piso__frame, flags)] |= PISO__FRAME_PARENT;
    memcpy(ret_bytes + PISO__FRAME_SIZE, &frame->parent, sizeof frame->parent);
    return PISO__HEADER_MAX;
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

/* What each type may carry. The header is read as three words. */
typedef struct rule {
    uint64_t forbidden[3]; /* bits that must be 0 */
    bool id;               /* whether there must be an id; a call without a reply has none */
    bool body;             /* whether there is an inline body, of up to PISO_INLINE_BODY bytes */
} rule;

#define WORD(type, flags, nspans, timeout)                                                                             \
    ((uint64_t)(type) | (uint64_t)(flags) << 8 | (uint64_t)(nspans) << 16 | (uint64_t)(timeout) << 32)
#define ALL        UINT64_MAX
#define NO_OBJECT  UINT64_C(0xffffffff)
#define SPANS      0x7ffu /* as many bits as PISO__HEADER_SPANS needs */
#define IN_SPANS   (PISO__FRAME_BODY_SPAN | PISO__FRAME_SPAN_TABLE)
#define CALL_FLAGS (PISO_CALL_KWARGS | PISO_CALL_NO_REPLY | IN_SPANS | PISO__FRAME_PARENT)
#define ANSWER                                                                                                         \
    { ~WORD(0xff, IN_SPANS, SPANS, 0), 0, ALL }
#define PLAIN(number)                                                                                                  \
    { ~WORD(0xff, 0, 0, 0), ALL, (number) ? NO_OBJECT : ALL }

static const rule rules[] = {
    [PISO__FRAME_CALL] = {.forbidden = {~WORD(0xff, CALL_FLAGS, SPANS, UINT32_MAX)}, .id = true, .body = true},
    [PISO__FRAME_REPLY] = {.forbidden = ANSWER, .id = true, .body = true},
    [PISO__FRAME_ERROR] = {.forbidden = ANSWER, .id = true, .body = true},
    [PISO__FRAME_CANCEL] = {.forbidden = {~WORD(0xff, 0, 0, 0), 0, ALL}, .id = true},
    [PISO__FRAME_RELEASE] = {.forbidden = PLAIN(false), .body = true},
    [PISO__FRAME_DEFINE] = {.forbidden = PLAIN(true), .body = true},
    [PISO__FRAME_GOODBYE] = {.forbidden = PLAIN(false)},
    [PISO__FRAME_ATTACH] = {.forbidden = PLAIN(true)},
    [PISO__FRAME_ATTACHED] = {.forbidden = PLAIN(true)},
    [PISO__FRAME_RETIRE] = {.forbidden = PLAIN(true)},
    [PISO__FRAME_RETIRED] = {.forbidden = PLAIN(true)},
    [PISO__FRAME_END_LEASES] = {.forbidden = PLAIN(false), .body = true},
    [PISO__FRAME_REFUSED] = {.forbidden = PLAIN(true)},
};
static_assert(offsetof(piso__frame, flags) == 1 && offsetof(piso__frame, nspans) == 2 &&
                  offsetof(piso__frame, timeout_ms) == 4 && offsetof(piso__frame, id) == 8 &&
                  offsetof(piso__frame, object) == 16 && offsetof(piso__frame, method) == 20 &&
                  offsetof(piso__frame, parent) == PISO__FRAME_SIZE,
              "the masks are of this layout");

/* check_header: checks the fields against the rule of their type. */
static bool check_header(const piso__frame *f, const rule *rule) {
    uint64_t words[3];
    memcpy(words, f, sizeof words);
    uint64_t wrong =
        (words[0] & rule->forbidden[0]) | (words[1] & rule->forbidden[1]) | (words[2] & rule->forbidden[2]);
    bool has_id = f->type == PISO__FRAME_CALL ? !(f->flags & PISO_CALL_NO_REPLY) : rule->id;
    return !wrong && (f->id != 0) == has_id && f->nspans <= PISO__HEADER_SPANS;
}

/* check_body: checks the size of the inline body. */
static bool check_body(const piso__frame *f, const rule *rule, size_t size) {
    bool spilled = f->flags & PISO__FRAME_BODY_SPAN;
    if (f->flags & PISO__FRAME_SPAN_TABLE && f->nspans != 1 + spilled)
        return false;
    if (spilled)
        return size == 0 && f->nspans > 0;
    switch (f->type) {
    case PISO__FRAME_RELEASE:
        return size > 0 && size % PISO__RELEASE_SIZE == 0 && size <= PISO_INLINE_BODY;
    case PISO__FRAME_END_LEASES:
        return size > 0 && size % PISO__LEASE_SIZE == 0 && size <= PISO_INLINE_BODY;
    case PISO__FRAME_DEFINE:
        return size >= 1 && size <= 255;
    default:
        return rule->body ? size <= PISO_INLINE_BODY : size == 0;
    }
}

/* take_parent: returns the size of a header with a parent, or 0 when the parent is missing. */
static size_t take_parent(piso__frame *f, const uint8_t *data, size_t size) {
    if (size < PISO__HEADER_MAX)
        return 0;
    memcpy(&f->parent, data + PISO__FRAME_SIZE, sizeof f->parent);
    return f->parent ? PISO__HEADER_MAX : 0;
}

int piso__frame_decode(const uint8_t *data, size_t size, piso__frame *ret_frame, const uint8_t **ret_spans,
                       const uint8_t **ret_body, size_t *ret_body_size) {
    piso__frame f = {.parent = 0};
    size_t header = PISO__FRAME_SIZE;
    if (size < header)
        return PISO_EPROTO;
    memcpy(&f, data, header);
    if (f.type == 0 || f.type >= sizeof rules / sizeof *rules)
        return PISO_EPROTO;
    const rule *rule = &rules[f.type];
    if (!check_header(&f, rule) || (f.flags & PISO__FRAME_PARENT && (header = take_parent(&f, data, size)) == 0))
        return PISO_EPROTO;
    size_t spans_size = (size_t)f.nspans * PISO__SPAN_SIZE;
    if (size - header < spans_size || !check_body(&f, rule, size - header - spans_size))
        return PISO_EPROTO;
    *ret_frame = f;
    *ret_spans = data + header;
    *ret_body = data + header + spans_size;
    *ret_body_size = size - header - spans_size;
    return 0;
}
