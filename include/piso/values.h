/* values.h - writing and reading the values of messages: MessagePack with extension types and spans of shared
 * memory (docs/wire-format.md). Needs neither a process nor a session. */
#ifndef PISO_VALUES_H
#define PISO_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- values: writing ---------------------------------------------------------------------------- */

#define PISO_MAX_DEPTH        128   /* nesting of containers */
#define PISO_MAX_SPANS        65536 /* shared buffers in one message */
#define PISO_INLINE_BODY      4096  /* larger bodies are sent in the arena */
#define PISO_BUFFER_THRESHOLD 2048  /* a binding puts byte payloads of at least this size into spans */

/* piso_span: a reference to a shared buffer, as it is sent. The buffer is in the sender's arena, or, where
 * segment is not 0, in the receiver's arena or in a segment (piso/segment.h). */
#define PISO_SPAN_RETURNED 0x80000000u /* segment: the buffer is in the receiver's arena and is returned to it */
typedef struct piso_span {
    uint32_t segment;
    uint32_t generation; /* of the block; guards against a stale release. 0 in a segment */
    uint64_t offset;     /* bytes from the start of the segment, a multiple of 64 */
    uint64_t length;     /* bytes */
} piso_span;

#define PISO_WRITER_INLINE 256

/* piso_writer: a growing byte buffer for one message body and the spans it refers to. Fields are private; the
 * struct is public so that it can be on a stack. The first failure is kept in `error` and turns later writes
 * into no-ops, so a caller checks once, at the end. Not thread-safe. */
typedef struct piso_writer {
    uint8_t *data;
    size_t size, capacity;
    int error;
    uint32_t nspans, span_capacity;
    piso_span *spans;
    uint32_t nsegments, segment_capacity;
    piso_segment **segments; /* a reference to each */
    uint8_t inline_data[PISO_WRITER_INLINE];
} piso_writer;

PISO_API void piso_writer_init(piso_writer *w);
/* piso_writer_fini: frees memory. The caller must first give back spans that are still in it, by
 * piso_session_discard_spans; piso_session_call and piso_session_reply take the spans. */
PISO_API void piso_writer_fini(piso_writer *w);
/* piso_writer_reset: empties the writer for reuse and keeps its memory. */
PISO_API void piso_writer_reset(piso_writer *w);

PISO_API void piso_write_nil(piso_writer *w);
PISO_API void piso_write_bool(piso_writer *w, bool value);
PISO_API void piso_write_int(piso_writer *w, int64_t value);   /* shortest form */
PISO_API void piso_write_uint(piso_writer *w, uint64_t value); /* shortest form */
PISO_API void piso_write_double(piso_writer *w, double value);
PISO_API void piso_write_str(piso_writer *w, const char *utf8, size_t size);
PISO_API void piso_write_bin(piso_writer *w, const void *data, size_t size);
PISO_API void piso_write_array(piso_writer *w, size_t count); /* then `count` values */
PISO_API void piso_write_map(piso_writer *w, size_t count);   /* then `count` key, value pairs */
PISO_API void piso_write_ext(piso_writer *w, int8_t type, const void *data, size_t size);
/* piso_write_ext_begin / _end: an ext whose payload is written between the two calls, with the functions above.
 * begin returns a mark for end. The 32-bit length form is used. Such exts may nest. */
PISO_API size_t piso_write_ext_begin(piso_writer *w, int8_t type);
PISO_API void piso_write_ext_end(piso_writer *w, size_t mark);
/* piso_write_raw: appends bytes unchanged (a payload of an open ext, or a value that was encoded before). */
PISO_API void piso_write_raw(piso_writer *w, const void *data, size_t size);
/* piso_writer_add_span: appends a span to the message. Returns its index or a negative code (also kept in
 * w->error). The caller writes the value that refers to it. */
PISO_API int piso_writer_add_span(piso_writer *w, const piso_span *span);
/* piso_writer_add_segment: adds a span of a shared segment, of which the writer keeps a reference until it is
 * reset. The bytes are shared, not copied: both sides see what either writes. A range equal to the last one is
 * not added again; its index is returned. -EINVAL when the range is not inside the segment. */
PISO_API int piso_writer_add_segment(piso_writer *w, piso_segment *segment, uint64_t offset, uint64_t length);

/* ---- values: reading ---------------------------------------------------------------------------- */

/* piso_reader: a cursor over bytes that nobody else can change (a private copy). Not thread-safe. */
typedef struct piso_reader {
    const uint8_t *cursor, *end;
} piso_reader;

/* clang-format off */
typedef enum piso_kind { /* the kind of an item */
    PISO_NIL = 1, PISO_BOOL, PISO_INT, PISO_UINT, PISO_DOUBLE, PISO_STR, PISO_BIN, PISO_ARRAY, PISO_MAP, PISO_EXT
} piso_kind;
/* clang-format on */

/* piso_item: one decoded item. PISO_UINT only for values above INT64_MAX; everything else is PISO_INT. */
typedef struct piso_item {
    piso_kind kind;
    int8_t ext_type; /* PISO_EXT */
    union {
        bool boolean;
        int64_t integer;
        uint64_t uinteger;
        double real;
        size_t count; /* PISO_ARRAY: items; PISO_MAP: pairs */
        struct {
            const uint8_t *data;
            size_t size;
        } bytes; /* PISO_STR (not checked as UTF-8), _BIN, _EXT */
    } as;
} piso_item;

/* piso_read: reads the next item. 1; 0 at a clean end; PISO_EPROTO when it is truncated, has a reserved byte,
 * or a count larger than the remaining bytes can hold. Containers are not entered: read their items next. */
PISO_API int piso_read(piso_reader *r, piso_item *ret_item);

/* ---- extension types (docs/wire-format.md) ------------------------------------------------------- */

enum {
    PISO_EXT_BIGINT = 1, /* two's complement, little endian */
    /* clang-format off */
    PISO_EXT_TUPLE = 2, PISO_EXT_SET = 3, PISO_EXT_FROZENSET = 4, /* array */
    PISO_EXT_COMPLEX = 5, PISO_EXT_BYTEARRAY = 6, /* two doubles, little endian; the bytes */
    /* clang-format on */
    PISO_EXT_MEMORYVIEW = 7, /* [format, shape, readonly, data] */
    PISO_EXT_STR = 8,        /* a string with lone surrogates, in generalised UTF-8 */
    PISO_EXT_BUFFER = 9,     /* index of a span of this message; used where bytes are expected */
    PISO_EXT_ARRAY = 10,     /* [dtype, shape, flags, data] */
    PISO_EXT_SCALAR = 11,    /* [dtype, data] */
    /* clang-format off */
    PISO_EXT_DATETIME = 12, PISO_EXT_DATE = 13, PISO_EXT_TIME = 14, PISO_EXT_TIMEDELTA = 15,
    PISO_EXT_DECIMAL = 16, PISO_EXT_UUID = 17, PISO_EXT_PATH = 18,
    /* clang-format on */
    PISO_EXT_ENUM = 19,      /* [registered name, member name] */
    PISO_EXT_RECORD = 20,    /* [registered name, field values] (dataclass, named tuple) */
    PISO_EXT_EXCEPTION = 21, /* see docs/wire-format.md */
    PISO_EXT_TENSOR = 22,
    PISO_EXT_REFERENCE = 23,     /* a function or an object: piso/reference.h */
    PISO_EXT_STREAM = 24,        /* reserved */
    PISO_EXT_SHARED_ARRAY = 25,  /* [dtype, shape, strides, offset, flags, a span of a segment] */
    PISO_EXT_FOREIGN_ARRAY = 26, /* [framework, dtype, array] */
    PISO_EXT_CUDA_TENSOR = 27,   /* [UUID of the device, memory, tensor] */
    PISO_EXT_COLLECTION = 28,    /* [name, part...] */
    PISO_EXT_TORCH = 29,         /* [kind, part...] */
    PISO_EXT_DTYPE = 30,         /* a dtype of NumPy */
    PISO_EXT_INSTANCE = 31,      /* [registered name, value] (a class with encode and decode functions) */
    PISO_EXT_CONVERTED = 32,     /* [name of a converter, value] */
};

#ifdef __cplusplus
}
#endif

#endif
