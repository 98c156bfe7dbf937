/* host.c - what a host does, and what it may expect of its session whatever the peer does. */
#include <string.h>

#include "hostile.h"

#define LOOKS 64

static uint32_t below(host *h, uint32_t limit) {
    return hostile_below(&h->random, limit);
}

/* ---- sending ---- */

static void give_up(host *h, piso_writer *w) {
    piso_session_discard_spans(h->session, w);
    piso_writer_fini(w);
}

/* give_object: writes a reference to an object of the host's, with a lease; a new object if the peer holds none of
 * that index. */
static void give_object(host *h, piso_writer *w) {
    host_object *o = &h->objects[below(h, HOST_OBJECTS)];
    int lease = h->given < HOST_GIVEN ? piso_session_lease(h->session, w, o) : -1;
    if (lease < 0)
        return;
    o->leases++;
    h->given++;
    piso_reference r = {.size = sizeof r, .object = o->id, .lease = (uint32_t)lease, .name = "name", .name_size = 4};
    r.kind = PISO_REFERENCE_FUNCTION + below(h, 2);
    r.method_count = r.kind == PISO_REFERENCE_OBJECT;
    size_t mark = piso_write_reference_begin(w, &r);
    if (r.method_count)
        piso_write_str(w, "method", 6);
    piso_write_ext_end(w, mark);
}

static void send_home(host *h, piso_writer *w) {
    if (h->remote_count == 0)
        return;
    piso_reference r = {.size = sizeof r, .object = h->remotes[below(h, h->remote_count)].object};
    piso_write_ext_end(w, piso_write_reference_begin(w, &r));
}

static void write_something(host *h, piso_writer *w) {
    piso_write_nil(w);
    if (below(h, 4) == 0)
        give_object(h, w);
    if (below(h, 4) == 0)
        send_home(h, w);
    if (below(h, 4) == 0) {
        piso_segment *segment = h->own[below(h, HOST_SEGMENTS)];
        if (h->held_segment_count && below(h, 2))
            segment = h->held_segments[below(h, h->held_segment_count)];
        piso_writer_add_segment(w, segment, 0, piso_segment_size(segment));
    }
    if (below(h, 8) == 0) {
        bool *cookie = &h->leased[below(h, HOST_LEASES)];
        if (!*cookie)
            *cookie = piso_session_lease(h->session, w, cookie) >= 0;
    }
    if (below(h, 8) == 0) {
        piso_span span;
        void *data;
        size_t size = 1 + below(h, 20000);
        if (piso_session_alloc(h->session, size, &span, &data) == 0) {
            memset(data, 1, size);
            piso_writer_add_span(w, &span);
        }
    } else if (below(h, 32) == 0) {
        static const uint8_t text[6000];
        piso_write_bin(w, text, sizeof text);
    }
}

static void call(host *h) {
    uint32_t i = below(h, HOST_CALLS);
    if (h->pending[i])
        return;
    piso_writer w;
    piso_writer_init(&w);
    write_something(h, &w);
    int64_t deadline = below(h, 4) ? PISO_NO_DEADLINE : piso_now_ns() + below(h, 2000000);
    bool no_reply = below(h, 16) == 0;
    uint32_t object = h->remote_count && below(h, 2) ? h->remotes[below(h, h->remote_count)].object : 1;
    int r = piso_session_call(h->session, no_reply ? NULL : &h->calls[i], object, 1, no_reply ? PISO_CALL_NO_REPLY : 0,
                              0, deadline, &w);
    h->pending[i] = r == 0 && !no_reply;
    give_up(h, &w);
}

/* burst: sends more than the ring holds, so that the peer's cursor matters. */
static void burst(host *h) {
    piso_writer w;
    piso_writer_init(&w);
    piso_write_nil(&w);
    for (int i = 0; i < 1100; i++)
        piso_session_call(h->session, NULL, 1, 1, PISO_CALL_NO_REPLY, 0, PISO_NO_DEADLINE, &w);
    piso_writer_fini(&w);
}

static void reply(host *h) {
    if (h->request_count == 0)
        return;
    piso_writer w;
    piso_writer_init(&w);
    write_something(h, &w);
    piso_session_reply(h->session, h->requests[--h->request_count], below(h, 2), &w);
    give_up(h, &w);
}

static void forget(host *h) {
    uint32_t i = below(h, HOST_CALLS);
    if (h->pending[i])
        piso_session_forget(h->session, &h->calls[i], below(h, 2));
    h->pending[i] = false;
}

/* ---- receiving ---- */

static bool lies_in(const void *data, const void *base, size_t size) {
    return (const uint8_t *)data >= (const uint8_t *)base && (const uint8_t *)data < (const uint8_t *)base + size;
}

static void check_body(const host *h, const piso_event *event) {
    const piso__channel *c = h->session->channel;
    if (event->body_size == 0)
        return;
    check(!lies_in(event->body, c->memory, PISO__ARENAS_AT + 2 * c->arena_size));
}

static void read_values(host *h, const piso_event *event) {
    piso_reader r = {event->body, event->body + event->body_size};
    piso_item item;
    int read;
    while ((read = piso_read(&r, &item)) == 1)
        h->sum += item.kind;
    if (read < 0 && below(h, 64) == 0) /* seldom, since a session that continues shows more */
        piso_session_reject(h->session, "it sent no value");
}

/* use_segment: reads and writes what a span names. Everything that was handed out can be mapped and touched. */
static void use_segment(host *h, const piso_segment *segment, const piso_span *span) {
    uint64_t size = piso_segment_size(segment);
    void *base;
    check(span->length > 0 && span->offset < size && span->length <= size - span->offset);
    check(piso__map(piso_segment_fd(segment), size, true, false, &base) == 0);
    uint8_t *data = (uint8_t *)base + span->offset;
    h->sum += data[0] + (uint64_t)data[span->length - 1];
    data[span->length - 1] = (uint8_t)h->sum;
    piso__unmap(base, size);
    h->taken++;
}

static void take_segment(host *h, piso_event *event, uint32_t i) {
    piso_span span, second;
    bool ours;
    piso_segment *segment = piso_event_take_segment(event, i, &span, &ours);
    check(segment && piso_event_take_segment(event, i, &second, &ours) == segment);
    piso_segment_unref(segment);
    check(h->shares || ours);
    if (below(h, 4) == 0)
        use_segment(h, segment, &span);
    if (h->held_segment_count < HOST_HELD && below(h, 4) == 0)
        h->held_segments[h->held_segment_count++] = segment;
    else
        piso_segment_unref(segment);
}

static void take_spans(host *h, piso_event *event) {
    for (uint32_t i = 0; i < event->nspans; i++) {
        piso_span span;
        if (event->segments[i]) {
            if (below(h, 4))
                take_segment(h, event, i);
            continue;
        }
        if (event->spans[i].segment == PISO__SEGMENT_LEASE) {
            uint64_t id = below(h, 4) == 0 ? piso_event_take_lease(event, i) : 0;
            if (id)
                piso_session_end_lease(h->session, id);
            continue;
        }
        uint8_t *data = piso_event_take_span(event, i, &span);
        const piso__channel *c = h->session->channel;
        check(data && lies_in(data, c->peer.base, c->arena_size));
        check(span.length > 0 && span.length <= c->arena_size - (uint64_t)(data - (uint8_t *)c->peer.base));
        h->sum += data[0] + (uint64_t)data[span.length - 1];
        if (h->held_count == HOST_CALLS || below(h, 2)) {
            piso_session_release(h->session, &span);
        } else {
            h->held[h->held_count] = span;
            h->held_data[h->held_count++] = data;
        }
    }
}

/* ---- functions and objects ---- */

static host_object *find_object(host *h, uint32_t id) {
    host_object *o = &h->objects[(id & 0xffff) % HOST_OBJECTS];
    return o->id == id && o->leases > 0 ? o : NULL;
}

/* take_remote: takes the lease of a reference, which may have none, and keeps it or ends it. */
static void take_remote(host *h, piso_event *event, piso_reference *r) {
    piso_item name;
    for (size_t i = 0; i < r->name_size; i++)
        h->sum += (uint8_t)r->name[i];
    for (size_t i = 0; i < r->method_count; i++) {
        check(piso_read(&r->methods, &name) == 1 && name.kind == PISO_STR);
        h->sum += name.as.bytes.size ? name.as.bytes.data[name.as.bytes.size - 1] : 0;
    }
    uint64_t lease = piso_event_take_lease(event, r->lease);
    if (!lease)
        return;
    check(piso_event_take_lease(event, r->lease) == 0);
    if (h->remote_count < HOST_REMOTES && below(h, 2))
        h->remotes[h->remote_count++] = (host_remote){r->object, lease};
    else
        piso_session_end_lease(h->session, lease);
}

static void take_references(host *h, piso_event *event) {
    piso_reader r = {event->body, event->body + event->body_size};
    piso_item item;
    while (piso_read(&r, &item) == 1) {
        piso_reference reference = {.size = sizeof reference};
        if (item.kind != PISO_EXT || piso_read_reference(&item, &reference) < 0)
            continue;
        check(reference.object >= PISO_OBJECT_REFERENCED && reference.object != PISO_OBJECT_PREFETCH);
        h->referred++;
        if (reference.kind == PISO_REFERENCE_HOME)
            h->reached += find_object(h, reference.object) != NULL;
        else
            take_remote(h, event, &reference);
    }
}

static void end_remote(host *h) {
    if (h->remote_count == 0)
        return;
    uint32_t i = below(h, h->remote_count);
    piso_session_end_lease(h->session, h->remotes[i].lease);
    h->remotes[i] = h->remotes[--h->remote_count];
    if (below(h, 2))
        piso_session_flush(h->session);
}

/* end_lease_of: an object whose last lease has ended gets another id. */
static void end_lease_of(host *h, host_object *o) {
    check(o < h->objects + HOST_OBJECTS && o->leases > 0 && h->given > 0);
    h->given--;
    if (--o->leases == 0)
        o->id = PISO_OBJECT_REFERENCED | ((o->id + (1u << 16)) & 0x3fffffffu);
}

/* end_call: checks that the event is of a pending call, for the last time. */
static void end_call(host *h, const piso_event *event) {
    check(event->call >= h->calls && event->call < h->calls + HOST_CALLS);
    size_t i = (size_t)(event->call - h->calls);
    check(h->pending[i] && event->call == &h->calls[i]);
    h->pending[i] = false;
}

/* return_lease: checks that each comes back once. */
static void return_lease(host *h, void *cookie) {
    if ((uintptr_t)cookie >= (uintptr_t)h->objects && (uintptr_t)cookie < (uintptr_t)(h->objects + HOST_OBJECTS)) {
        end_lease_of(h, cookie);
        return;
    }
    bool *lease = cookie;
    check(lease >= h->leased && lease < h->leased + HOST_LEASES && *lease);
    *lease = false;
}

static void handle(host *h, piso_event *event) {
    h->served++;
    switch (event->type) {
    case PISO_EVENT_REQUEST:
        check_body(h, event);
        read_values(h, event);
        h->reached += find_object(h, event->object) != NULL;
        take_spans(h, event);
        take_references(h, event);
        if (!(event->flags & PISO_CALL_NO_REPLY) && h->request_count < HOST_CALLS)
            h->requests[h->request_count++] = event->id;
        break;
    case PISO_EVENT_REPLY:
    case PISO_EVENT_ERROR:
        check_body(h, event);
        read_values(h, event);
        take_spans(h, event);
        take_references(h, event);
        end_call(h, event);
        break;
    case PISO_EVENT_FAILED:
        check(event->error < 0);
        end_call(h, event);
        break;
    case PISO_EVENT_CANCEL:
        break;
    case PISO_EVENT_RETIRED:
        check(event->segment && h->shares);
        break;
    case PISO_EVENT_RELEASED:
        return_lease(h, event->cookie);
        break;
    default:
        check(!"an event of a known type");
    }
    piso_event_fini(event);
}

static void receive(host *h) {
    piso_event event = {.size = sizeof event};
    for (int i = 0; i < LOOKS && piso_session_next(h->session, &event) == 1; i++)
        handle(h, &event);
}

static void release(host *h) {
    if (h->held_count == 0)
        return;
    h->held_count--;
    h->sum += h->held_data[h->held_count][0];
    piso_session_release(h->session, &h->held[h->held_count]);
}

static void retire(host *h) {
    if (h->held_segment_count)
        piso_segment_unref(h->held_segments[--h->held_segment_count]);
    piso_session_retire(h->session, h->own[below(h, HOST_SEGMENTS)]);
}

static void wait_a_little(host *h) {
    piso_session_poll_begin(h->session);
    if (below(h, 64) == 0)
        piso_session_spin(h->session);
    piso_session_poll_end(h->session);
    piso_session_sleep_begin(h->session);
    piso_session_sleep_end(h->session);
    uint64_t sent, taken;
    piso_session_progress(h->session, &sent, &taken);
}

static void tidy(host *h) {
    char name[8];
    uint32_t id;
    size_t size;
    snprintf(name, sizeof name, "m%u", below(h, 500));
    piso_session_intern(h->session, name, strlen(name), &id);
    const char *text = piso_session_name(h->session, below(h, 100), &size);
    check(!text || (strlen(text) == size && size >= 1 && size <= 255));
    piso_session_flush(h->session);
    if (below(h, 16) == 0)
        burst(h);
    if (below(h, 8) == 0)
        piso_session_trim(h->session, 0);
}

void host_meet(host *h, piso_session *session) {
    h->session = session;
    h->shares = below(h, 8) != 0;
    h->request_count = 0;
    piso_session_share(session, h->shares);
}

void host_init(host *h, uint64_t seed) {
    memset(h, 0, sizeof *h);
    h->random = seed;
    for (uint32_t i = 0; i < HOST_OBJECTS; i++)
        h->objects[i].id = PISO_OBJECT_REFERENCED | i;
    for (int i = 0; i < HOST_SEGMENTS; i++)
        check(piso_segment_create(1u << (4 * i), &h->own[i]) == 0);
}

void host_fini(host *h) {
    for (int i = 0; i < HOST_SEGMENTS; i++) {
        check(h->own[i]->references == 1); /* no session has kept one */
        piso_segment_unref(h->own[i]);
    }
}

int host_step(host *h) {
    h->steps++;
    switch (below(h, 18)) {
    case 0:
    case 1:
    case 2:
    case 3:
        call(h);
        break;
    case 4:
        reply(h);
        break;
    case 5:
        forget(h);
        break;
    case 6:
        release(h);
        break;
    case 7:
        wait_a_little(h);
        break;
    case 8:
        tidy(h);
        break;
    case 9:
        piso_session_expire(h->session);
        break;
    case 10:
        retire(h);
        break;
    case 11:
        end_remote(h);
        break;
    default:
        receive(h);
    }
    return piso_session_state(h->session);
}

void host_finish(host *h) {
    piso_event event = {.size = sizeof event};
    piso_session_close(h->session);
    int state = piso_session_state(h->session), r;
    check(state < 0);
    check(state != PISO_EPROTO || piso_session_fault(h->session));
    int events = 0;
    while ((r = piso_session_next(h->session, &event)) == 1) {
        check(event.type == PISO_EVENT_FAILED || event.type == PISO_EVENT_RELEASED);
        check(++events <= HOST_CALLS + HOST_LEASES + HOST_GIVEN);
        handle(h, &event);
    }
    check(r == state && piso_session_next(h->session, &event) == state);
    for (int i = 0; i < HOST_CALLS; i++)
        check(!h->pending[i]);
    for (int i = 0; i < HOST_LEASES; i++)
        check(!h->leased[i]);
    for (int i = 0; i < HOST_OBJECTS; i++)
        check(h->objects[i].leases == 0);
    check(h->given == 0);
    while (h->held_count)
        release(h);
    while (h->remote_count)
        end_remote(h);
    while (h->held_segment_count) /* segments outlive the session while their users hold them */
        piso_segment_unref(h->held_segments[--h->held_segment_count]);
    for (int i = 0; i < HOST_SEGMENTS; i++)
        check(h->own[i]->references == 1 || h->session->queue_head); /* a queued message keeps its segment */
    h->session = piso_session_unref(h->session);
}
