/* ring.pml - the two sleep handshakes of src/memory/ring.c, over all interleavings.
 *
 * One producer, one consumer, and messages of 1 to LARGEST slots. Shared variables have their names of ring.h, inline
 * blocks those of the C functions; one statement is one access to shared memory, in the order of the C code. Those
 * accesses are sequentially consistent there, or ordered by one that is, so interleaving alone is the right memory
 * model. Two in take are weaker: its load of want_space may miss a flag here at will, its first store of `consumed` be
 * seen only with the next one. A doorbell is an eventfd: up until its sleeper has woken and cleared it. A sender that
 * finds no room may sleep, or try again at any time.
 *
 * Harder than the real ring: a message may need every slot, so that nothing but the handshake makes room for it.
 *
 * Checked: nobody sleeps for ever (it would be an invalid end state), messages arrive whole, once and in order, no
 * slot is written before it was read, and a cursor never looks false to the producer.
 *
 *     spin -run -safety -m100000 tests/model/ring.pml       (in a scratch directory: it leaves pan* behind)
 *
 * It holds if the output has "errors: 0"; the exit status is 0 in either case. With -DBREAK=1 ... -DBREAK=8, given
 * before -run (what follows goes to the verifier), one step that matters is left out or moved: "errors: 1". */

#ifndef BREAK
#define BREAK 0
#endif

#define SLOTS         3
#define LARGEST       3
#define PUBLISH_EVERY 2
#define MESSAGES      5

/* Shared memory. */
byte sequence[SLOTS]; /* a slot's word: position + 1, */
byte size[SLOTS];     /* and in the first slot of a message its size in slots */
byte payload[SLOTS];  /* the number of the message */
byte consumed;
bit want_space, sleeping;

/* Doorbells of the two ends. */
bit consumer_bell, producer_bell;

/* Not in the program: slots that were filled and not yet read. */
bit unread[SLOTS];

/* ---- producer ---- */

inline refresh() {
    consumed_seen = consumed;
    assert(consumed_seen <= position)
}

inline fill_slot(at) {
    d_step {
        assert(!unread[(at) % SLOTS]);
        unread[(at) % SLOTS] = 1;
        payload[(at) % SLOTS] = message
    }
}

inline write_word(at, slots) {
    atomic {
        sequence[(at) % SLOTS] = at + 1;
        size[(at) % SLOTS] = slots
    }
}

/* publish_message: continuation slots first, the word of the first slot last. */
inline publish_message() {
#if BREAK == 1 /* the first slot's word before the rest */
    fill_slot(position);
    write_word(position, needed);
#else
    fill_slot(position);
#endif
    i = 1;
    do
    :: i < needed ->
        fill_slot(position + i);
        write_word(position + i, 0);
        i++
    :: else -> break
    od;
#if BREAK != 1
    write_word(position, needed);
#endif
    position = position + needed
}

inline must_wake() {
    if
    :: sleeping ->
        if
        :: d_step { sleeping -> sleeping = 0 }; consumer_bell = 1
        :: !sleeping /* the consumer has woken by itself */
        fi
    :: !sleeping
    fi
}

#define HAS_ROOM (position + needed - consumed_seen <= SLOTS)

active proctype producer() {
    byte position, consumed_seen, message, needed, i;
    bit tried_again, woken;
    do
    :: message < MESSAGES ->
        select(needed : 1 .. LARGEST);
try:
        if
        :: HAS_ROOM
        :: else ->
            refresh();
            if
            :: HAS_ROOM
            :: else ->
                want_space = 1;
#if BREAK != 2 /* no second look */
                refresh();
#endif
                if
                :: HAS_ROOM -> want_space = 0
                :: else ->
                    if
                    :: producer_bell -> producer_bell = 0 /* sleep */
                    :: !tried_again -> tried_again = 1    /* or not, once for each message */
                    fi;
                    goto try
                fi
            fi
        fi;
#if BREAK == 3 /* the store of the word passes the load of the flag, as it would without sequential consistency */
        woken = sleeping;
        publish_message();
        if
        :: woken -> must_wake()
        :: else
        fi;
#else
        publish_message();
        must_wake();
#endif
        tried_again = 0;
        message++
    :: else -> break
    od
}

/* ---- consumer ---- */

inline publish() {
    if
    :: published == position
    :: else ->
        published = position;
#if BREAK == 4 /* the flag before the cursor */
        wanted = want_space;
        consumed = position;
#else
        consumed = position;
        wanted = want_space;
#endif
        if
        :: wanted ->
            if
            :: d_step { want_space -> want_space = 0 }; producer_bell = 1
            :: !want_space
            fi
        :: else
        fi
    fi
}

/* arm: true in `ready` when a message is there. */
inline arm() {
#if BREAK == 5 /* the look before the flag */
    ready = (sequence[position % SLOTS] == position + 1);
    sleeping = 1
#else
    sleeping = 1;
#if BREAK == 6 /* no look at all */
    ready = 0
#else
    ready = (sequence[position % SLOTS] == position + 1)
#endif
#endif
}

inline take() {
    d_step { needed = size[position % SLOTS]; assert(needed >= 1 && needed <= LARGEST) };
    i = 0;
    do
    :: i < needed ->
        d_step {
            assert(sequence[(position + i) % SLOTS] == position + i + 1);
            assert(i == 0 || size[(position + i) % SLOTS] == 0);
            assert(payload[(position + i) % SLOTS] == message);
            unread[(position + i) % SLOTS] = 0
        };
        i++
    :: else -> break
    od;
#if BREAK == 7 /* the cursor is seen before the payload has been read */
    unread[position % SLOTS] = 1;
#endif
    position = position + needed;
    message++;
    if
    :: consumed = position
    :: skip /* a store without a fence may be seen late */
    fi;
    if
    :: position - published >= PUBLISH_EVERY -> publish()
    :: position - published < PUBLISH_EVERY && want_space -> publish()
    :: position - published < PUBLISH_EVERY /* a relaxed load may miss the flag */
    fi;
#if BREAK == 7
    unread[(position - needed) % SLOTS] = 0
#endif
}

active proctype consumer() {
    byte position, published, message, needed, i;
    bit ready, wanted;
    do
    :: message == MESSAGES -> break
    :: message < MESSAGES ->
        if
        :: sequence[position % SLOTS] == position + 1 -> take()
        :: sequence[position % SLOTS] != position + 1 ->
#if BREAK != 8 /* no publishing before sleep */
            publish();
#endif
            arm();
            if
            :: ready
            :: else -> consumer_bell -> consumer_bell = 0
            fi;
            sleeping = 0 /* disarm */
        fi
    od
}
