/* reference_acts.c - the acts of a hostile peer that concern functions and objects by reference.
 *
 * Leases have few ids, so that one is sent with several references, several times, and after it has been ended. */
#include <string.h>

#include "hostile.h"

#define MESSAGE 1024
#define MOST    4 /* references in a message */

static uint32_t below(mutator *m, uint32_t limit) {
    return hostile_below(&m->random, limit);
}

/* some_object: returns an id of an object that this side has, claims to have, or cannot have. */
static uint32_t some_object(mutator *m) {
    if (below(m, 32) == 0)
        return (uint32_t)hostile_random(&m->random);
    return PISO_OBJECT_REFERENCED + below(m, 2 * HOST_REMOTES);
}

/* write_own: writes a reference to an object of this side. The lease is mostly span `index`. */
static void write_own(mutator *m, piso_writer *w, uint32_t index) {
    static const char names[1100] = "predict";
    piso_reference r = {.size = sizeof r, .kind = PISO_REFERENCE_FUNCTION + below(m, 2), .object = some_object(m)};
    r.lease = below(m, 16) ? index : below(m, 32) ? below(m, MOST + 1) : (uint32_t)hostile_random(&m->random);
    r.name = names;
    r.name_size = below(m, 64) ? below(m, 8) : below(m, sizeof names);
    if (r.kind == PISO_REFERENCE_OBJECT)
        r.method_count = below(m, 64) ? below(m, 4) : below(m, 2000);
    size_t mark = piso_write_reference_begin(w, &r);
    for (size_t i = 0; i < r.method_count && w->size < MESSAGE; i++)
        below(m, 64) ? piso_write_str(w, "method", below(m, 7)) : piso_write_int(w, 1);
    piso_write_ext_end(w, mark);
}

static void write_home(mutator *m, piso_writer *w) {
    piso_reference r = {.size = sizeof r, .kind = PISO_REFERENCE_HOME, .object = mutator_object(m)};
    piso_write_ext_end(w, piso_write_reference_begin(w, &r));
}

/* damage: changes bytes of a body. */
static void damage(mutator *m, uint8_t *body, size_t size) {
    for (uint32_t i = 1 + below(m, 3); i > 0 && size; i--)
        body[below(m, (uint32_t)size)] = (uint8_t)hostile_random(&m->random);
}

/* write_frame: writes the header of a call, also of an object of the host's, or of a reply, with lease spans. Returns
 * its size. */
static size_t write_frame(mutator *m, uint8_t *data, uint32_t nspans) {
    piso__frame f = {.type = PISO__FRAME_CALL, .nspans = (uint16_t)nspans};
    uint64_t answered = below(m, 2) ? mutator_read(m) : 0;
    if (answered) {
        f.type = (uint8_t)(PISO__FRAME_REPLY + below(m, 2));
        f.id = answered;
    } else {
        f.flags = below(m, 4) ? 0 : PISO_CALL_NO_REPLY;
        f.id = f.flags ? 0 : (uint64_t)below(m, 64) << 32 | (1 + below(m, 64));
        f.object = below(m, 2) ? mutator_object(m) : 1;
    }
    uint8_t *at = data + piso__frame_encode(&f, data);
    for (uint32_t i = 0; i < nspans; i++, at += PISO__SPAN_SIZE) {
        piso_span span = {.segment = PISO__SEGMENT_LEASE, .offset = 1 + below(m, 40)};
        if (below(m, 64) == 0)
            span.length = below(m, 2); /* a buffer, or a lease that is malformed */
        piso__span_encode(&span, at);
    }
    return (size_t)(at - data);
}

void act_refer(mutator *m) {
    piso_writer w;
    piso_writer_init(&w);
    uint32_t count = 1 + below(m, MOST), own = 0;
    for (uint32_t i = 0; i < count; i++)
        below(m, 3) ? write_own(m, &w, own++) : write_home(m, &w);
    uint8_t data[PISO__FRAME_SIZE + MOST * PISO__SPAN_SIZE + 2 * MESSAGE];
    size_t size = write_frame(m, data, own);
    if (w.error == 0 && w.size <= 2 * MESSAGE) {
        if (below(m, 32) == 0)
            damage(m, w.data, w.size);
        memcpy(data + size, w.data, w.size);
        mutator_send(m, data, size + w.size);
    }
    piso_writer_fini(&w);
}
