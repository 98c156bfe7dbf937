/* collisions.c - see collisions.h. */
#include "collisions.h"
#include "quota.h"

#include <string.h>

#include "converter.h"

#define MAX_SAME      64u /* keys of one hash in a container */
#define COMPARE_COST  3   /* of any two keys, in addition to their weight; in slots */
#define PLACE_COST    8   /* of a slot, in the quota, which bounds time as well as memory */
#define PERTURB_SHIFT 5   /* from here on as in CPython's dictobject.c and setobject.c, 3.10 to 3.14 */
#define LINEAR_PROBES 9
#define SMALLEST      8
#define LARGE_SET     50000

/* compare: returns the cost, in slots, of comparing two keys, one of this weight. */
static uint64_t compare(uint64_t weight) {
    return weight + COMPARE_COST;
}

/* too_much: raises. A registered class of this process may have a poor __hash__, which is not the peer's fault. */
static int too_much(core_decoder *d) {
    static const char text[] = "keys that all have the same hash, or are made to collide";
    if (d->registered)
        core_cannot_decode(d, PyExc_ValueError, "the peer sent %s; a registered class may need a better __hash__",
                           text);
    else
        core_malformed(d, text);
    return -1;
}

/* work_left: returns what the message may still cost. */
static uint64_t work_left(const core_decoder *d) {
    return CORE_WORK + CORE_WORK_PER_BYTE * (uint64_t)d->event->body_size - d->work;
}

static int spend(core_decoder *d, uint64_t work) {
    if (work > work_left(d))
        return too_much(d);
    d->work += work;
    return core_charge(d, work * PLACE_COST) ? 0 : -1;
}

/* ---- a table of hashes, probed in CPython's order ---- */

/* find_place: finds a free slot for this hash. *ret_steps: the slots probed, or more than `most`; *ret_same: how many
 * of them have the same hash. */
static size_t find_place(const core_keys *k, Py_hash_t hash, uint64_t most, uint64_t *ret_steps, uint64_t *ret_same) {
    size_t perturb = (size_t)hash, first = perturb & k->mask;
    uint64_t same = 0;
    for (uint64_t steps = 1;; steps++) {
        size_t last = k->is_set && first + LINEAR_PROBES <= k->mask ? first + LINEAR_PROBES : first;
        size_t at = first;
        for (; at <= last && k->slots[at] != -1; at++)
            same += k->slots[at] == hash;
        if (at <= last || steps > most) {
            *ret_steps = at <= last ? steps : steps + 1;
            *ret_same = same;
            return at;
        }
        perturb >>= PERTURB_SHIFT;
        first = (first * 5 + perturb + 1) & k->mask;
    }
}

/* full: returns the number of keys above which CPython grows the table. */
static size_t full(const core_keys *k) {
    return k->is_set ? (k->mask * 3 + 4) / 5 : (k->mask + 1) * 2 / 3;
}

/* larger: returns the size of the table that follows one of `count` keys. */
static size_t larger(size_t count, bool is_set) {
    size_t least = !is_set ? count * 3 : 1 + (count > LARGE_SET ? count * 2 : count * 4), size = SMALLEST;
    while (size < least)
        size *= 2;
    return size;
}

static int new_slots(core_keys *k, size_t size) {
    k->slots = PyMem_New(Py_hash_t, size);
    k->mask = size - 1;
    if (!k->slots) {
        PyErr_NoMemory();
        return -1;
    }
    memset(k->slots, 0xff, size * sizeof *k->slots);
    return 0;
}

/* reinsert: inserts a key into the larger table, where it is not compared with other keys. */
static int reinsert(core_keys *k, core_decoder *d, Py_hash_t hash) {
    uint64_t steps, same;
    size_t at = find_place(k, hash, work_left(d), &steps, &same);
    if (steps > 1 && spend(d, steps) < 0)
        return -1;
    k->slots[at] = hash;
    return 0;
}

/* grow: a set reinserts its keys in the order of slots, a dict in the order of insertion. */
static int grow(core_keys *k, core_decoder *d) {
    size_t size = k->mask + 1;
    Py_hash_t *before = k->slots;
    int r = new_slots(k, larger(full(k), k->is_set));
    for (size_t i = 0; r == 0 && i < (k->is_set ? size : k->placed); i++) {
        Py_hash_t hash = k->is_set ? before[i] : k->order[i];
        if (hash != -1)
            r = reinsert(k, d, hash);
    }
    PyMem_Free(before);
    return r;
}

/* begin: creates the table as it is after keys that were text. */
static int begin(core_keys *k) {
    size_t size = SMALLEST, before = k->count - 1;
#if PY_VERSION_HEX >= 0x030b0000
    if (!k->is_set && before) /* a dict with only text keys is converted when the first other key is inserted */
        size = larger(before, false);
#endif
    for (k->mask = size - 1; before >= full(k); k->mask = size - 1)
        size = larger(full(k), k->is_set);
    if (new_slots(k, size) < 0 || k->is_set)
        return k->slots ? 0 : -1;
    k->order = PyMem_New(Py_hash_t, k->expected - before);
    if (!k->order)
        PyErr_NoMemory();
    return k->order ? 0 : -1;
}

/* add_to_table: inserts into the table of a container that may become large. */
static int add_to_table(core_keys *k, core_decoder *d, Py_hash_t hash) {
    uint64_t steps, same;
    int r = k->slots ? 0 : begin(k);
    while (r == 0 && k->count > full(k)) /* with this key */
        r = grow(k, d);
    if (r < 0)
        return -1;
    size_t at = find_place(k, hash, work_left(d), &steps, &same);
    if (same >= MAX_SAME && k->heaviest <= 1)
        return too_much(d);
    if ((steps > 1 && spend(d, steps) < 0) || (same && spend(d, same * compare(k->heaviest)) < 0))
        return -1;
    k->slots[at] = hash;
    if (!k->is_set)
        k->order[k->placed] = hash;
    k->placed++;
    return 0;
}

/* add_to_few: in a container that stays small, each key is compared with all keys. */
static int add_to_few(core_keys *k, core_decoder *d, Py_hash_t hash) {
    if (!k->slots && new_slots(k, CORE_FEW_KEYS) < 0)
        return -1;
    for (size_t i = 0; i < k->placed; i++)
        if (k->slots[i] == hash && spend(d, compare(k->heaviest)) < 0)
            return -1;
    k->slots[k->placed++] = hash;
    return 0;
}

int core_keys_charge(core_keys *k, core_decoder *d, PyObject *key, uint64_t weight) {
    Py_hash_t hash = PyObject_Hash(key);
    if (hash == -1)
        return -1;
    if (weight > k->heaviest)
        k->heaviest = weight;
    return k->expected > CORE_FEW_KEYS ? add_to_table(k, d, hash) : add_to_few(k, d, hash);
}
