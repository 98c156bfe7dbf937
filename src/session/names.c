/* names.c - ids of method names: ours in a hash table, the peer's in an array. A name gets its id on first use. */
#include <errno.h>
#include <string.h>

#include "session/send.h"

static uint32_t hash(const char *text, size_t size) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        h = (h ^ (uint8_t)text[i]) * 16777619u;
    return h;
}

/* bucket_of: returns the bucket where the name is, or where it would be inserted. */
static uint32_t bucket_of(const piso_session *s, const char *text, size_t size) {
    uint32_t i = hash(text, size) & (s->bucket_count - 1);
    for (; s->name_buckets[i]; i = (i + 1) & (s->bucket_count - 1)) {
        const piso__name *name = &s->names[s->name_buckets[i] - 1];
        if (name->size == size && memcmp(name->text, text, size) == 0)
            break;
    }
    return i;
}

static int grow(piso_session *s) {
    uint32_t count = s->bucket_count ? s->bucket_count * 2 : 32;
    piso__name *names = reallocarray(s->names, count / 2, sizeof *names);
    if (!names)
        return -ENOMEM;
    s->names = names;
    uint32_t *buckets = calloc(count, sizeof *buckets);
    if (!buckets)
        return -ENOMEM;
    free(s->name_buckets);
    s->name_buckets = buckets;
    s->bucket_count = count;
    for (uint32_t i = 0; i < s->name_count; i++)
        s->name_buckets[bucket_of(s, s->names[i].text, s->names[i].size)] = i + 1;
    return 0;
}

/* add: sends a new name to the peer and gives it the next id. */
static int add(piso_session *s, const char *text, size_t size, uint32_t *ret_id) {
    if (s->name_count == PISO__MAX_NAMES)
        return -ENOSPC;
    if (s->name_count * 2 >= s->bucket_count && grow(s) < 0)
        return -ENOMEM;
    char *copy = strndup(text, size);
    if (!copy)
        return -ENOMEM;
    piso__frame frame = {.type = PISO__FRAME_DEFINE, .method = s->name_count};
    int r = piso__session_send(s, &frame, NULL, text, size);
    if (r < 0) {
        free(copy);
        return r;
    }
    s->name_buckets[bucket_of(s, text, size)] = s->name_count + 1;
    s->names[s->name_count] = (piso__name){.text = copy, .size = size};
    *ret_id = s->name_count++;
    return 0;
}

int piso_session_intern(piso_session *s, const char *name, size_t size, uint32_t *ret_id) {
    if (size == 0 || size > 255 || memchr(name, '\0', size))
        return -EINVAL;
    int r = piso__session_check(s);
    if (r < 0)
        return r;
    piso__session_lock(s);
    uint32_t found = s->bucket_count ? s->name_buckets[bucket_of(s, name, size)] : 0;
    if (found)
        *ret_id = found - 1;
    else
        r = add(s, name, size, ret_id);
    piso__session_unlock(s);
    return r;
}

int piso__session_define(piso_session *s, uint32_t id, const uint8_t *text, size_t size) {
    if (id != s->peer_name_count || id >= PISO__MAX_NAMES || memchr(text, '\0', size))
        return piso__session_protocol_error(s, "it defines method names out of order, in a wrong form, or too many");
    if (id == s->peer_name_capacity) {
        uint32_t capacity = s->peer_name_capacity ? s->peer_name_capacity * 2 : 16;
        piso__name *names = reallocarray(s->peer_names, capacity, sizeof *names);
        if (!names)
            return -ENOMEM;
        s->peer_names = names;
        s->peer_name_capacity = capacity;
    }
    char *copy = strndup((const char *)text, size);
    if (!copy)
        return -ENOMEM;
    s->peer_names[s->peer_name_count++] = (piso__name){.text = copy, .size = size};
    return 0;
}

const char *piso_session_name(piso_session *s, uint32_t id, size_t *ret_size) {
    const char *text = NULL;
    if (piso__session_forked(s))
        return NULL;
    piso__session_lock(s);
    if (id < s->peer_name_count) {
        text = s->peer_names[id].text;
        *ret_size = s->peer_names[id].size;
    }
    piso__session_unlock(s);
    return text;
}

void piso__session_free_names(piso_session *s) {
    for (uint32_t i = 0; i < s->name_count; i++)
        free(s->names[i].text);
    for (uint32_t i = 0; i < s->peer_name_count; i++)
        free(s->peer_names[i].text);
    free(s->names);
    free(s->peer_names);
    free(s->name_buckets);
}
