/* frame.h - the header, spans and body of a message, as pure bytes (docs/wire-format.md).
 *
 * A message is the header (24 bytes, little endian), 8 bytes more with PISO__FRAME_PARENT, then nspans spans of
 * 24 bytes, then the body up to the end. A body larger than PISO_INLINE_BODY is sent in the last span, marked
 * by PISO__FRAME_BODY_SPAN; the inline body is then empty. The spans of a message with more than
 * PISO__HEADER_SPANS are in a separate buffer, the table: PISO__FRAME_SPAN_TABLE marks that the first span
 * locates it. No other span follows except the body's. */
#ifndef PISO_WIRE_FRAME_H
#define PISO_WIRE_FRAME_H

#include "base/base.h"

typedef enum piso__frame_type {
    PISO__FRAME_CALL = 1,   /* id (0 with NO_REPLY), object, method, timeout_ms, parent; body: arguments */
    PISO__FRAME_REPLY,      /* id of the call; body: the result */
    PISO__FRAME_ERROR,      /* id of the call; body: an exception */
    PISO__FRAME_CANCEL,     /* id of the call whose caller no longer waits */
    PISO__FRAME_RELEASE,    /* body: 1.. records of (offset u64, generation u32, 0 u32) */
    PISO__FRAME_DEFINE,     /* method: the id; body: the name, UTF-8, 1..255 bytes */
    PISO__FRAME_GOODBYE,    /* the sender has closed the session */
    PISO__FRAME_ATTACH,     /* method: a new id for the segment whose descriptor is next in the socket */
    PISO__FRAME_ATTACHED,   /* method: that id: the descriptor has been taken out of the socket */
    PISO__FRAME_RETIRE,     /* method: the sender's id that it will not use again */
    PISO__FRAME_RETIRED,    /* method: that id: the peer will not use it again either */
    PISO__FRAME_END_LEASES, /* body: 1.. ids (u64) of leases that the receiver gave */
    /* method: the id of an ATTACH that gets no ATTACHED, because there is no room for the segment */
    PISO__FRAME_REFUSED,
} piso__frame_type;

/* Flags. The two lowest are PISO_CALL_KWARGS and PISO_CALL_NO_REPLY. */
enum { PISO__FRAME_BODY_SPAN = 4, PISO__FRAME_PARENT = 8, PISO__FRAME_SPAN_TABLE = 16 };

/* The segment field of a span is 0 for the arena, else an id. This bit marks an id that the span's receiver
 * gave. */
#define PISO__SEGMENT_YOURS 0x40000000u

/* In an event only: the span's segment could not be taken; `offset` is the negative code that says why. */
#define PISO__SEGMENT_REFUSED 0x10000000u

/* A span that is a lease: `offset` is its id, all other fields are 0. */
#define PISO__SEGMENT_LEASE 0x20000000u

#define PISO__FRAME_SIZE   24 /* without the parent */
#define PISO__PARENT_SIZE  8
#define PISO__HEADER_MAX   (PISO__FRAME_SIZE + PISO__PARENT_SIZE)
#define PISO__SPAN_SIZE    24
#define PISO__HEADER_SPANS 1024 /* at most so many follow the header */
#define PISO__RELEASE_SIZE 16
#define PISO__LEASE_SIZE   8

typedef struct piso__frame {
    uint8_t type, flags;
    uint16_t nspans;
    uint32_t timeout_ms; /* of a call: how long the caller still waits; 0: no limit */
    uint64_t id;
    uint32_t object, method;
    uint64_t parent; /* of a call: the receiver's call in whose handler it was made; 0: none */
} piso__frame;
static_assert(sizeof(piso__frame) == PISO__HEADER_MAX, "the header is the struct on little-endian machines");
static_assert(sizeof(piso_span) == PISO__SPAN_SIZE, "a span is the struct on little-endian machines");

/* The packet in the socket that carries a segment's descriptor. */
typedef struct piso__attachment {
    uint32_t id, zero;
    uint64_t size;
} piso__attachment;

/* piso__frame_encode: writes the header and returns its size: PISO__FRAME_SIZE, or PISO__HEADER_MAX with a
 * parent, whose flag it sets. */
size_t piso__frame_encode(const piso__frame *frame, uint8_t *ret_bytes);

/* piso__frame_decode: splits a message, which must be a private copy. 0, or PISO_EPROTO: unknown type or flag;
 * a field that is not 0 although its type requires that; spans or a body that the type does not carry; sizes
 * that do not add up; an inline body over PISO_INLINE_BODY. ret_spans and ret_body point into `data` (spans are
 * unaligned: use piso__span_decode). Spans are not checked against an arena here. */
int piso__frame_decode(const uint8_t *data, size_t size, piso__frame *ret_frame, const uint8_t **ret_spans,
                       const uint8_t **ret_body, size_t *ret_body_size);

void piso__span_encode(const piso_span *span, uint8_t ret_bytes[PISO__SPAN_SIZE]);
void piso__span_decode(const uint8_t bytes[PISO__SPAN_SIZE], piso_span *ret_span);
void piso__release_encode(uint64_t offset, uint32_t generation, uint8_t ret_bytes[PISO__RELEASE_SIZE]);
/* piso__release_decode: 0, or PISO_EPROTO when the padding is not 0. */
int piso__release_decode(const uint8_t bytes[PISO__RELEASE_SIZE], uint64_t *ret_offset, uint32_t *ret_generation);

#endif
