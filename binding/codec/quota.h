/* quota.h - limits what one message may cost its receiver. The sender is not trusted: one byte of a message can request
 * a dictionary of 88 bytes, or a comparison that takes a second.
 *
 * Memory: each value is charged with the bytes that it takes in this process. Kinds that take long to create for their
 * size are charged with half their nanoseconds instead. The bytes of text and of buffers are not counted, because the
 * sender holds them too. A message beyond the session's limit is refused with MemoryError. After each portion the limit
 * is checked and the GIL is released for other threads.
 *
 * Comparisons: see collisions.h. */
#ifndef BINDING_QUOTA_H
#define BINDING_QUOTA_H

#include "converter.h"

#define CORE_PORTION ((int64_t)8 << 20) /* some milliseconds */

/* Bytes, in addition to what a value holds. Measured on Python 3.10 to 3.13; rounded up. */
enum {
    CORE_COST_SLOT = 8, /* an item of a list or tuple */
    CORE_COST_NUMBER = 32,
    CORE_COST_BYTES = 48,
    CORE_COST_TEXT = 56,
    CORE_COST_LIST = 96,
    CORE_COST_DICT = 80,
    CORE_COST_KEYS = 128, /* of a dict that is not empty */
    CORE_COST_ENTRY = 72, /* a pair of a dict */
    CORE_COST_SET = 288,
    CORE_COST_ELEMENT = 96,           /* of a set */
    CORE_COST_COPIED_ENTRY = 136,     /* a pair of a collection that is built from a dict, which also keeps the order */
    CORE_COST_INT_COMBINATION = 3000, /* of flags that were not combined before */
    CORE_COST_COMBINATION = 20000,    /* the class may keep it for longer than it is used */
    CORE_COST_FIELD = 50,             /* of a record */
    CORE_COST_DTYPE_FIELD = 700,      /* of a structured dtype */
    CORE_COST_REMOTE_CLASS = 6000,
    CORE_COST_ATTRIBUTE = 300,
    CORE_COST_FRAME = 3000,
};

static inline void core_decoder_init(core_decoder *d, core_codec *c, piso_event *event) {
    *d = (core_decoder){
        .codec = c, .event = event, .items_left = event->body_size, .left = CORE_PORTION, .granted = CORE_PORTION};
}
/* core_charge: charges `bytes` of memory that the message is about to take. Returns false with an exception beyond the
 * limit. */
bool core_charge_more(core_decoder *d);
static inline bool core_charge(core_decoder *d, uint64_t bytes) {
    d->left -= (int64_t)bytes;
    return d->left >= 0 || core_charge_more(d);
}

/* core_charge_virtual: charges for an array or a tensor whose elements would take `whole` bytes without overlap, in
 * `size` bytes of memory. A computation with overlapping elements produces an array of `whole` bytes. */
static inline bool core_charge_virtual(core_decoder *d, uint64_t whole, uint64_t size) {
    return whole <= size || core_charge(d, whole - size < INT64_MAX / 2 ? whole - size : INT64_MAX / 2);
}

#endif
