/* test_arena.c - the arena. Its counters are compared with what the kernel reports for the memfd, and its
 * placement with a plain list of the live blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "memory/arena.h"
#include "os/os.h"
#include "skipping.h"

#define PAGE  piso__page_size()
#define MIB   ((uint64_t)1 << 20)
#define SIZE  (64 * MIB)
#define LARGE (10 * MIB + 1) /* its block is 16 MiB */

typedef struct fixture {
    int fd;
    void *base;
    piso__arena *arena;
} fixture;

static int setup(void **state) {
    fixture *f = malloc(sizeof *f);
    if (!f || (f->fd = piso__memfd_create("test", SIZE)) < 0 || piso__map(f->fd, SIZE, true, true, &f->base) < 0 ||
        piso__arena_new(f->fd, 0, f->base, SIZE, &f->arena) < 0)
        return -1;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    assert_null(piso__arena_free(f->arena));
    piso__unmap(f->base, SIZE);
    piso__fd_close(f->fd);
    free(f);
    return 0;
}

static piso_span alloc(fixture *f, uint64_t size) {
    piso_span span;
    void *data;
    assert_int_equal(piso__arena_alloc(f->arena, size, &span, &data), 0);
    assert_ptr_equal(data, (uint8_t *)f->base + span.offset);
    assert_int_equal(span.segment, 0);
    assert_int_equal(span.length, size);
    assert_int_equal(span.offset % PAGE, 0);
    assert_true(span.offset + size <= SIZE);
    return span;
}

static int refused(fixture *f, uint64_t size) {
    const piso_span untouched = {7, 7, 7, 7};
    piso_span span = untouched;
    void *data = f;
    int r = piso__arena_alloc(f->arena, size, &span, &data);
    assert_true(r < 0);
    assert_memory_equal(&span, &untouched, sizeof span);
    assert_ptr_equal(data, f);
    return r;
}

static void release(fixture *f, piso_span span) {
    assert_int_equal(piso__arena_release(f->arena, span.offset, span.generation), 0);
}

/* assert_books: checks that the arena's count of committed bytes is what the file occupies. Where the kernel
 * backs shared memory with huge pages the file may occupy more. */
static void assert_books(fixture *f, uint64_t live, uint64_t committed) {
    struct stat st;
    assert_int_equal(fstat(f->fd, &st), 0);
    assert_int_equal(piso__arena_live(f->arena), live);
    assert_int_equal(piso__arena_committed(f->arena), committed);
    if (committed == 0 || (uint64_t)st.st_blksize == PAGE)
        assert_int_equal(st.st_blocks * 512, committed);
}

/* ---- placement ---- */

static void takes_the_lowest_address(void **state) {
    fixture *f = *state;
    piso_span spans[8];
    for (uint64_t i = 0; i < 8; i++) {
        spans[i] = alloc(f, PAGE);
        assert_int_equal(spans[i].offset, i * PAGE);
    }
    release(f, spans[6]);
    release(f, spans[3]);
    assert_int_equal(alloc(f, 100).offset, 3 * PAGE);
    assert_int_equal(alloc(f, 100).offset, 6 * PAGE);
    assert_int_equal(alloc(f, 100).offset, 8 * PAGE);
}

static void merges_neighbours(void **state) {
    fixture *f = *state;
    piso_span spans[16];
    for (int i = 0; i < 16; i++)
        spans[i] = alloc(f, SIZE / 16);
    assert_int_equal(refused(f, 1), -ENOMEM);
    for (int i = 15; i >= 0; i--) /* in an order that no simple list would merge */
        release(f, spans[(i * 7) % 16]);
    piso_span whole = alloc(f, SIZE);
    assert_int_equal(whole.offset, 0);
    assert_int_equal(refused(f, 1), -ENOMEM);
    release(f, whole);
    assert_int_equal(alloc(f, 1).offset, 0);
}

/* Random traffic: every live block keeps its contents, and the counters agree with the list. */
static void agrees_with_a_list(void **state) {
    fixture *f = *state;
    enum { LIVE = 40 };
    piso_span list[LIVE];
    uint64_t live = 0;
    uint32_t count = 0, random = 3;
    for (int step = 0; step < 4000; step++) {
        random = random * 1664525u + 1013904223u;
        if (count < LIVE && (count == 0 || random >> 31)) {
            uint64_t size = 1 + ((random >> 4) & ((1u << (6 + (random >> 25) % 15)) - 1));
            piso_span span = list[count++] = alloc(f, size);
            live += piso__align_up(size, PAGE);
            memset((uint8_t *)f->base + span.offset, (int)span.generation, size);
        } else {
            uint32_t victim = (random >> 8) % count;
            piso_span span = list[victim];
            const uint8_t *data = (uint8_t *)f->base + span.offset;
            for (uint64_t i = 0; i<span.length; i += span.length> 64 ? span.length / 64 : 1)
                assert_int_equal(data[i], (uint8_t)span.generation);
            assert_int_equal(data[span.length - 1], (uint8_t)span.generation);
            release(f, span);
            live -= piso__align_up(span.length, PAGE);
            list[victim] = list[--count];
        }
        if (step % 512 == 0)
            piso__arena_trim(f->arena, MIB);
        if (step % 16 == 0)
            assert_books(f, live, piso__arena_committed(f->arena));
    }
    while (count)
        release(f, list[--count]);
    piso__arena_trim(f->arena, 0);
    assert_books(f, 0, 0);
}

/* ---- names of blocks ---- */

static void refuses_stale_and_invented_names(void **state) {
    fixture *f = *state;
    assert_int_equal(piso__arena_release(f->arena, 0, 0), -ESTALE);
    piso_span old = alloc(f, 3 * PAGE);
    assert_int_not_equal(old.generation, 0);
    const uint64_t offsets[] = {1, 64, PAGE, 3 * PAGE, 4 * PAGE, SIZE - 1, SIZE, SIZE + PAGE, UINT64_MAX};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
        assert_int_equal(piso__arena_release(f->arena, offsets[i], old.generation), -ESTALE);
    assert_int_equal(piso__arena_release(f->arena, old.offset, old.generation + 1), -ESTALE);
    assert_int_equal(piso__arena_release(f->arena, old.offset, 0), -ESTALE);
    assert_int_equal(piso__arena_live(f->arena), 3 * PAGE);

    release(f, old);
    assert_int_equal(piso__arena_release(f->arena, old.offset, old.generation), -ESTALE); /* twice */
    piso_span new = alloc(f, 3 * PAGE);
    assert_int_equal(new.offset, old.offset);
    assert_int_equal(piso__arena_release(f->arena, old.offset, old.generation), -ESTALE); /* late */
    release(f, new);
}

static void only_what_is_lent_comes_back(void **state) {
    fixture *f = *state;
    piso_span span = alloc(f, 5000);
    assert_int_equal(piso__arena_take_back(f->arena, span.offset, span.generation, 5000), -ESTALE);
    assert_int_equal(piso__arena_lend(f->arena, span.offset, span.generation + 1), -ESTALE);
    assert_int_equal(piso__arena_lend(f->arena, span.offset, span.generation), 0);
    assert_int_equal(piso__arena_lend(f->arena, span.offset, span.generation), -ESTALE);
    assert_int_equal(piso__arena_take_back(f->arena, span.offset, span.generation, 2 * PAGE + 1), -ESTALE);
    assert_int_equal(piso__arena_take_back(f->arena, span.offset + PAGE, span.generation, 1), -ESTALE);
    assert_int_equal(piso__arena_take_back(f->arena, SIZE, span.generation, 1), -ESTALE);
    assert_int_equal(piso__arena_take_back(f->arena, span.offset, span.generation, 2 * PAGE), 0);
    assert_int_equal(piso__arena_take_back(f->arena, span.offset, span.generation, 0), -ESTALE);
    assert_int_equal(piso__arena_lend(f->arena, span.offset, span.generation), 0);
    release(f, span); /* the owner always may */
    assert_int_equal(piso__arena_take_back(f->arena, span.offset, span.generation, 0), -ESTALE);
    piso_span next = alloc(f, 5000);
    assert_int_equal(next.offset, span.offset);
    assert_int_equal(piso__arena_take_back(f->arena, next.offset, next.generation, 0), -ESTALE);
}

static void checks_spans_of_the_peer(void **state) {
    (void)state;
    const piso__arena_view view = {.size = SIZE};
    const struct {
        piso_span span;
        bool good;
    } cases[] = {
        {{.offset = 0, .length = 1}, true},
        {{.offset = 0, .length = SIZE}, true},
        {{.offset = SIZE - 64, .length = 64}, true},
        {{.offset = SIZE - 64, .length = 65}, false},
        {{.offset = 0, .length = SIZE + 1}, false},
        {{.offset = 0, .length = 0}, false},
        {{.offset = 1, .length = 1}, false},
        {{.offset = SIZE, .length = 1}, false},
        {{.offset = SIZE, .length = UINT64_MAX - SIZE + 1}, false},
        {{.offset = UINT64_MAX - 63, .length = 128}, false},
        {{.offset = 64, .length = UINT64_MAX}, false},
        {{.segment = 1, .offset = 0, .length = 1}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(piso__arena_check(&view, &cases[i].span), cases[i].good);
}

/* ---- memory ---- */

static void commits_what_is_asked_for(void **state) {
    fixture *f = *state;
    assert_books(f, 0, 0);
    piso_span small = alloc(f, 0);
    assert_books(f, PAGE, PAGE);
    piso_span large = alloc(f, LARGE);
    assert_books(f, PAGE + piso__align_up(LARGE, PAGE), PAGE + piso__align_up(LARGE, PAGE));
    release(f, small);
    release(f, large);
    assert_books(f, 0, PAGE + piso__align_up(LARGE, PAGE)); /* kept warm */
}

/* Without its descriptor the arena can make no system call, and steady traffic needs none. */
static void recycles_without_system_calls(void **state) {
    fixture *f = *state;
    const uint64_t sizes[] = {100, LARGE, 5 * PAGE, 100};
    piso_span spans[4];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++)
            spans[i] = alloc(f, sizes[i]);
        for (int i = 0; i < 4; i++)
            release(f, spans[i]);
        if (round == 0)
            f->fd = piso__fd_close(f->fd);
    }
}

static void trims_the_highest_first(void **state) {
    fixture *f = *state;
    piso_span low = alloc(f, 2 * PAGE), middle = alloc(f, 2 * PAGE), high = alloc(f, 2 * PAGE);
    memset((uint8_t *)f->base + low.offset, 1, 2 * PAGE);
    memset((uint8_t *)f->base + high.offset, 3, 2 * PAGE);
    release(f, low);
    release(f, high);
    piso__arena_trim(f->arena, 3 * PAGE);
    assert_books(f, 2 * PAGE, 5 * PAGE);
    assert_int_equal(((uint8_t *)f->base)[low.offset + PAGE], 1);
    assert_int_equal(((uint8_t *)f->base)[high.offset], 3);
    uint8_t byte = 1; /* not read through the mapping: that would bring the page back */
    assert_int_equal(pread(f->fd, &byte, 1, (off_t)(high.offset + PAGE)), 1);
    assert_int_equal(byte, 0);
    piso__arena_trim(f->arena, 3 * PAGE);
    assert_books(f, 2 * PAGE, 5 * PAGE); /* nothing more to do */
    piso__arena_trim(f->arena, 1);
    assert_books(f, 2 * PAGE, 2 * PAGE); /* whole pages only */
    release(f, middle);
    piso__arena_trim(f->arena, 0);
    assert_books(f, 0, 0);
}

/* A live block is never touched. What an earlier, larger block left behind it in the same place is. */
static void trims_behind_live_blocks(void **state) {
    fixture *f = *state;
    release(f, alloc(f, 8 * PAGE));
    piso_span span = alloc(f, 5 * PAGE);
    memset((uint8_t *)f->base + span.offset, 9, span.length);
    piso__arena_trim(f->arena, 0);
    assert_books(f, 5 * PAGE, 5 * PAGE);
    for (uint64_t i = 0; i < span.length; i++)
        assert_int_equal(((uint8_t *)f->base)[span.offset + i], 9);
}

static void refuses_more_than_there_is(void **state) {
    fixture *f = *state;
    assert_int_equal(refused(f, SIZE + 1), -ENOMEM);
    assert_int_equal(refused(f, UINT64_MAX), -ENOMEM);
    assert_int_equal(refused(f, UINT64_MAX - PAGE), -ENOMEM);
    alloc(f, 1);
    assert_int_equal(refused(f, SIZE), -ENOMEM);
    assert_books(f, PAGE, PAGE);
    alloc(f, SIZE / 2);
}

/* The system is out of memory. Simulated by a memfd of huge pages, of more than any machine keeps ready. */
static void survives_lack_of_memory(void **state) {
    (void)state;
    const uint64_t size = (uint64_t)1 << 46;
    piso__autoclose int fd = memfd_create("test", MFD_CLOEXEC | MFD_HUGETLB);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        skip_because("there can be no file of huge pages");
    fixture f = {.fd = fd, .base = &f}; /* nothing gets as far as the mapping */
    assert_int_equal(piso__arena_new(fd, 0, f.base, size, &f.arena), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(refused(&f, size / 2), -ENOMEM);
        assert_int_equal(piso__arena_live(f.arena), 0);
        assert_int_equal(piso__arena_committed(f.arena), 0);
    }
    piso__arena_free(f.arena);
}

/* A block whose memory cannot be had is free again, with the part that was backed before. */
static void leaks_nothing_on_failure(void **state) {
    fixture *f = *state;
    release(f, alloc(f, 2 * PAGE));
    int good = dup(f->fd), null = piso__open_null();
    assert_true(good >= 0 && null >= 0);
    assert_int_equal(dup2(null, f->fd), f->fd); /* from here on nothing can be committed */
    assert_true(refused(f, 3 * PAGE) < 0);
    assert_true(refused(f, SIZE) < 0);
    assert_int_equal(alloc(f, 2 * PAGE).offset, 0); /* what is there can be used */
    assert_int_equal(dup2(good, f->fd), f->fd);
    assert_books(f, 2 * PAGE, 2 * PAGE);
    alloc(f, SIZE / 2);
    piso__fd_close(good);
    piso__fd_close(null);
}

static void serves_the_largest_arena(void **state) {
    (void)state;
    const uint64_t size = PISO__ARENA_DEFAULT_SIZE;
    fixture f;
    f.fd = piso__memfd_create("test", size);
    assert_true(f.fd >= 0);
    if (piso__map(f.fd, size, true, true, &f.base) < 0) {
        piso__fd_close(f.fd);
        skip_because("address space is limited");
    }
    assert_int_equal(piso__arena_new(f.fd, 0, f.base, size, &f.arena), 0);
    piso_span spans[2] = {alloc(&f, PAGE), alloc(&f, LARGE)};
    memset((uint8_t *)f.base + spans[1].offset, 1, LARGE);
    release(&f, spans[0]);
    release(&f, spans[1]);
    piso__arena_free(f.arena);
    piso__unmap(f.base, size);
    piso__fd_close(f.fd);
}

static void refuses_a_size_that_is_no_power_of_two(void **state) {
    (void)state;
    const uint64_t sizes[] = {0, PAGE / 2, PAGE + 1, 3 * PAGE, UINT64_MAX};
    piso__arena *arena = NULL;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(piso__arena_new(-1, 0, NULL, sizes[i], &arena), -EINVAL);
        assert_null(arena);
    }
    assert_null(piso__arena_free(NULL));
}

/* Where pages are larger than the smallest block no two blocks share a page: it could not be given back while
 * one of them lives. */
static void larger_pages_belong_to_one_block(void **state) {
    (void)state;
    const uint64_t page = 65536;
    fixture f = {.fd = piso__memfd_create("test", SIZE)};
    assert_int_equal(piso__map(f.fd, SIZE, true, true, &f.base), 0);
    assert_int_equal(piso__arena_new_paged(f.fd, 0, f.base, page / 2, page, &f.arena), -EINVAL);
    assert_int_equal(piso__arena_new_paged(f.fd, page / 2, f.base, SIZE / 2, page, &f.arena), -EINVAL);
    assert_int_equal(piso__arena_new_paged(f.fd, 0, f.base, SIZE, page, &f.arena), 0);
    piso_span spans[9];
    for (uint64_t i = 0; i < 9; i++) {
        spans[i] = alloc(&f, i == 8 ? 3 * page + 1 : 5000 + i);
        assert_int_equal(spans[i].offset, i * page);
    }
    assert_books(&f, 12 * page, 12 * page);
    release(&f, spans[1]);
    release(&f, spans[3]);
    piso__arena_trim(f.arena, page);
    assert_books(&f, 10 * page, 11 * page);
    piso__arena_trim(f.arena, 1);
    assert_books(&f, 10 * page, 10 * page);
    assert_int_equal(alloc(&f, page).offset, page);
    assert_books(&f, 11 * page, 11 * page);
    for (uint64_t i = 0; i < 9; i++)
        if (i != 1 && i != 3)
            release(&f, spans[i]);
    piso__arena_free(f.arena);
    piso__unmap(f.base, SIZE);
    piso__fd_close(f.fd);
}

int main(void) {
#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(takes_the_lowest_address),
        CASE(merges_neighbours),
        CASE(agrees_with_a_list),
        CASE(refuses_stale_and_invented_names),
        CASE(only_what_is_lent_comes_back),
        cmocka_unit_test(checks_spans_of_the_peer),
        CASE(commits_what_is_asked_for),
        CASE(recycles_without_system_calls),
        CASE(trims_the_highest_first),
        CASE(trims_behind_live_blocks),
        CASE(refuses_more_than_there_is),
        cmocka_unit_test(survives_lack_of_memory),
        CASE(leaks_nothing_on_failure),
        cmocka_unit_test(serves_the_largest_arena),
        cmocka_unit_test(refuses_a_size_that_is_no_power_of_two),
        cmocka_unit_test(larger_pages_belong_to_one_block),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
