/* quota.h - what one message may cost its receiver. The sender is not trusted: a byte of a message can ask for a
 * dictionary of 88 bytes, or for a comparison that takes a second.
 *
 * Memory: each value is charged with what it takes here, in bytes; kinds that take long to make for their size are
 * charged with half their nanoseconds instead. The bytes of text and of buffers are not counted, since the sender has
 * to have them too. Beyond the limit of the session the message is refused: MemoryError. The limit is looked at, and
 * other threads are let run, after each portion.
 *
 * Comparisons: see collisions.h. */
#ifndef BINDING_QUOTA_H
#define BINDING_QUOTA_H

#include "converter.h"

#define CORE_PORTION ((int64_t)8 << 20) /* some milliseconds */

/* Bytes, beside what a value holds. Measured on Python 3.10 to 3.13; rounded up. */
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
    CORE_COST_COPIED_ENTRY = 136,     /* a pair of a collection that is made of a dict, with its order */
    CORE_COST_INT_COMBINATION = 3000, /* of flags that were not combined before */
    CORE_COST_COMBINATION = 20000,    /* which may be kept for longer than they are used */
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
/* core_charge: `bytes` of memory that the message is about to take. False with an exception beyond the limit. */
bool core_charge_more(core_decoder *d);
static inline bool core_charge(core_decoder *d, uint64_t bytes) {
    d->left -= (int64_t)bytes;
    return d->left >= 0 || core_charge_more(d);
}

/* core_charge_virtual: for an array or a tensor whose elements would take `whole` bytes by themselves, over the `size` that
 * came: elements may lie over each other. Who computes with it gets as much. */
static inline bool core_charge_virtual(core_decoder *d, uint64_t whole, uint64_t size) {
    return whole <= size || core_charge(d, whole - size < INT64_MAX / 2 ? whole - size : INT64_MAX / 2);
}

#endif
