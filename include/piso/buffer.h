/* buffer.h - shared buffers in this side's arena, and buffers received from the peer. */
#ifndef PISO_BUFFER_H
#define PISO_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"
#include "piso/values.h"

#ifdef __cplusplus
extern "C" {
#endif

/* piso_session_alloc: allocates a buffer of `size` bytes in this side's arena. The buffer is 64-byte aligned
 * and backed by memory (no SIGBUS later); its contents are undefined. -ENOMEM when the arena or the system's
 * memory is exhausted, -EDQUOT when a limit is reached. The peer may poll longer than usual until a large
 * buffer is sent: fill and send it at once. */
PISO_API int piso_session_alloc(piso_session *s, size_t size, piso_span *ret_span, void **ret_data);
/* piso_session_discard_spans: releases the spans of a writer that was not sent. */
PISO_API void piso_session_discard_spans(piso_session *s, piso_writer *w);
/* piso_session_return_span: adds a span that was taken from an event of this session to a message, instead of
 * releasing it. The buffer is returned to the peer without a copy; its first `length` bytes count. Returns the
 * span's index or a negative code. The caller no longer owns the span, and must make sure that no thread of
 * this process accesses the buffer any more. piso_session_discard_spans releases the span. */
PISO_API int piso_session_return_span(piso_session *s, piso_writer *w, const piso_span *span, size_t length);
/* piso_session_release: releases a received span, which its receiver no longer needs. Releases are batched, and
 * sent with the next message or by piso_session_flush. */
PISO_API void piso_session_release(piso_session *s, const piso_span *span);
PISO_API void piso_session_flush(piso_session *s);
/* piso_session_trim: gives free arena memory above keep_bytes back to the system. */
PISO_API void piso_session_trim(piso_session *s, size_t keep_bytes);

#ifdef __cplusplus
}
#endif

#endif
