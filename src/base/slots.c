/* slots.c - see slots.h. Free slots form a list through next_free, so add and remove are O(1). */
#include "base/slots.h"

#include <string.h>

#define NONE UINT32_MAX

void piso__slots_init(piso__slots *t) {
    memset(t, 0, sizeof *t);
    t->free_head = NONE;
}

void piso__slots_fini(piso__slots *t) {
    free(t->slots);
    piso__slots_init(t);
}

static int grow(piso__slots *t) {
    uint32_t capacity = t->capacity ? t->capacity * 2 : 64;
    if (t->capacity > NONE / 4)
        return -ENOMEM;
    piso__slot *slots = reallocarray(t->slots, capacity, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    t->slots = slots;
    t->capacity = capacity;
    return 0;
}

static uint64_t make_id(uint32_t index, uint32_t generation) {
    return (uint64_t)generation << 32 | (index + 1);
}

uint64_t piso__slots_add(piso__slots *t, void *pointer) {
    uint32_t index = t->free_head;
    if (index != NONE) {
        t->free_head = t->slots[index].next_free;
    } else {
        if (t->size == t->capacity && grow(t) < 0)
            return 0;
        index = t->size++;
        t->slots[index].generation = 0;
    }
    t->slots[index].pointer = pointer;
    t->live++;
    return make_id(index, t->slots[index].generation);
}

static piso__slot *find(const piso__slots *t, uint64_t id) {
    uint32_t index = (uint32_t)id - 1; /* 0 becomes a huge index, which is out of range */
    if (index >= t->size)
        return NULL;
    piso__slot *slot = &t->slots[index];
    return slot->pointer && slot->generation == (uint32_t)(id >> 32) ? slot : NULL;
}

void *piso__slots_get(const piso__slots *t, uint64_t id) {
    piso__slot *slot = find(t, id);
    return slot ? slot->pointer : NULL;
}

void *piso__slots_replace(piso__slots *t, uint64_t id, void *pointer) {
    piso__slot *slot = find(t, id);
    void *old = slot ? slot->pointer : NULL;
    if (slot)
        slot->pointer = pointer;
    return old;
}

void *piso__slots_remove(piso__slots *t, uint64_t id) {
    piso__slot *slot = find(t, id);
    if (!slot)
        return NULL;
    void *pointer = slot->pointer;
    slot->pointer = NULL;
    slot->generation++;
    slot->next_free = t->free_head;
    t->free_head = (uint32_t)(slot - t->slots);
    t->live--;
    return pointer;
}

void *piso__slots_take_any(piso__slots *t) {
    t->free_head = NONE; /* the slots in the list may be beyond the end from now on */
    while (t->size > 0) {
        void *pointer = t->slots[--t->size].pointer;
        if (pointer) {
            t->live--;
            return pointer;
        }
    }
    return NULL;
}
