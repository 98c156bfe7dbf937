/* test_cuda.c - GPU memory and events between processes, against a mock of the driver: what is opened once,
 * what is never opened, which errors are detected. tests/gpu tests this on a real GPU. */
#include "session_tools.h"

#include <dlfcn.h>
#include <sys/wait.h>

#include "gpu/cuda.h"
#include "mock_cuda.h"

/* use_mock: loads the mock as the driver. Each test runs in its own process, so nothing has been loaded before. */
static mock_cuda *use_mock(void) {
    piso__cuda_library(MOCK_CUDA);
    void *file = dlopen(MOCK_CUDA, RTLD_NOW);
    assert_non_null(file);
    return dlsym(file, "mock");
}

/* What one process sends another about a tensor. */
typedef struct letter {
    piso_cuda_memory memory;
    uint8_t event[PISO_CUDA_HANDLE];
} letter;

static letter write_letter(const void *data, void *stream) {
    letter l;
    assert_int_equal(piso_cuda_export(0, data, &l.memory), 0);
    assert_int_equal(piso_cuda_record(0, stream, true, l.event), 1);
    return l;
}

/* in_other_process: runs `receive` in a process that has not used CUDA, with the letters that `send` writes in
 * this one, and returns its answer in `ret_answer`. */
typedef letter receiver(mock_cuda *mock, const letter *letters);
typedef void sender(mock_cuda *mock, letter *ret_letters);
static letter in_other_process(sender *send, receiver *receive, mock_cuda **ret_mock) {
    int there[2], back[2];
    letter letters[2], answer;
    assert_int_equal(pipe(there), 0);
    assert_int_equal(pipe(back), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(there[1]); /* so that it ends with this one */
        if (read(there[0], letters, sizeof letters) != sizeof letters)
            _exit(2);
        answer = receive(use_mock(), letters);
        _exit(write(back[1], &answer, sizeof answer) == sizeof answer ? 0 : 3);
    }
    close(back[1]);
    *ret_mock = use_mock();
    send(*ret_mock, letters);
    assert_int_equal(write(there[1], letters, sizeof letters), sizeof letters);
    assert_int_equal(read(back[0], &answer, sizeof answer), sizeof answer);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(there[0]);
    close(there[1]);
    close(back[0]);
    return answer;
}

static uint8_t *sent;

static void send_two_of_one_block(mock_cuda *mock, letter *ret_letters) {
    sent = mock->allocate(8192, true);
    sent[100] = 1;
    ret_letters[0] = write_letter(sent + 100, (void *)16);
    ret_letters[1] = write_letter(sent + 4000, (void *)16);
    assert_int_equal(mock->handles, 1);
    assert_int_equal(mock->events, 1); /* used again: it has happened */
    assert_ptr_equal(mock->last_stream, (void *)16);
}

static letter open_twice(mock_cuda *mock, const letter *letters) {
    void *first, *second;
    uint64_t size;
    mock->events_pending = true;
    assert_int_equal(piso_cuda_open(0, letters[0].memory.handle, NULL, &first, &size), 0);
    assert_int_equal(piso_cuda_open(0, letters[1].memory.handle, NULL, &second, &size), 0);
    assert_ptr_equal(first, second);
    assert_int_equal(size, 8192);
    assert_int_equal(mock->opens, 1);
    assert_int_equal(piso_cuda_wait(0, (void *)32, letters[0].event), 0);
    assert_int_equal(piso_cuda_wait(0, (void *)32, letters[1].event), 0);
    assert_int_equal(mock->event_opens, 1);
    assert_int_equal(mock->waits, 2);
    assert_int_equal(mock->last_recorded, 2);
    assert_ptr_equal(mock->last_stream, (void *)32);
    mock->events_pending = false; /* there is nothing to wait for any more */
    assert_int_equal(piso_cuda_wait(0, (void *)32, letters[1].event), 0);
    assert_int_equal(mock->waits, 2);
    uint8_t *data = (uint8_t *)first + letters[0].memory.offset;
    assert_int_equal(*data, 1);
    *data = 2;
    letter answer = write_letter(data, NULL); /* sent on, under the handle it came with */
    assert_memory_equal(answer.memory.handle, letters[0].memory.handle, PISO_CUDA_HANDLE);
    assert_int_equal(answer.memory.offset, 100);
    piso_cuda_close(0, first);
    assert_int_equal(mock->closes, 0);
    piso_cuda_close(0, second);
    assert_int_equal(mock->closes, 1);
    piso_cuda_close(0, second); /* not open */
    assert_int_equal(mock->closes, 1);
    assert_int_equal(mock->context_depth, 0);
    return answer;
}

static void memory_is_opened_once_and_found_when_it_comes_back(void **state) {
    (void)state;
    mock_cuda *mock;
    letter answer = in_other_process(send_two_of_one_block, open_twice, &mock);
    assert_int_equal(sent[100], 2);
    void *base;
    uint64_t size;
    assert_int_equal(piso_cuda_open(0, answer.memory.handle, NULL, &base, &size), 1);
    assert_ptr_equal(base, sent);
    assert_int_equal(mock->opens, 0);
    assert_int_equal(mock->context_depth, 0);
    /* once freed it is no longer ours, even if the address is used again */
    mock->free(sent);
    assert_int_equal(piso_cuda_open(0, answer.memory.handle, NULL, &base, &size), -EIO);
}

static void devices_go_by_uuid(void **state) {
    (void)state;
    use_mock();
    uint8_t uuid[PISO_CUDA_UUID];
    assert_int_equal(piso_cuda_count(), 2);
    assert_int_equal(piso_cuda_uuid(1, uuid), 0);
    assert_int_equal(piso_cuda_find(uuid), 1);
    uuid[3]++;
    assert_int_equal(piso_cuda_find(uuid), -ENOENT);
    assert_int_equal(piso_cuda_uuid(2, uuid), -EINVAL);
    piso_cuda_memory memory;
    assert_int_equal(piso_cuda_export(-1, uuid, &memory), -EINVAL);
    assert_int_equal(piso_cuda_export(64, uuid, &memory), -EINVAL);
}

static void what_cannot_be_exported_is_refused(void **state) {
    (void)state;
    mock_cuda *mock = use_mock();
    piso_cuda_memory memory;
    void *expandable = mock->allocate(4096, false);
    assert_int_equal(piso_cuda_export(0, expandable, &memory), -ENOTSUP);
    assert_int_equal(piso_cuda_export(0, &memory, &memory), -ENOTSUP); /* of the CPU */
    assert_int_equal(mock->handles, 0);
    assert_int_equal(mock->context_depth, 0);
}

static void an_address_that_is_used_again_gets_another_handle(void **state) {
    (void)state;
    mock_cuda *mock = use_mock();
    piso_cuda_memory first, second;
    void *a = mock->allocate(4096, true);
    assert_int_equal(piso_cuda_export(0, a, &first), 0);
    mock->free(a);
    void *b = mock->allocate(4096, true);
    assert_ptr_equal(a, b);
    assert_int_equal(piso_cuda_export(0, b, &second), 0);
    assert_int_equal(mock->handles, 2);
    assert_int_equal(piso_cuda_export(0, b, &second), 0);
    assert_int_equal(mock->handles, 2);
}

static void freed_memory_leaves_no_entries(void **state) {
    (void)state;
    mock_cuda *mock = use_mock();
    void *kept = mock->allocate(4096, true);
    piso_cuda_memory memory, again;
    assert_int_equal(piso_cuda_export(0, kept, &memory), 0);
    for (int i = 0; i < 200; i++) {
        void *passing = mock->allocate((size_t)4096 * (size_t)(1 + i % 7), true);
        assert_int_equal(piso_cuda_export(0, passing, &again), 0);
        mock->free(passing);
    }
    void *base;
    uint64_t size;
    assert_int_equal(piso_cuda_open(0, memory.handle, NULL, &base, &size), 1);
    assert_ptr_equal(base, kept);
}

static void events_that_have_not_happened_are_not_recorded_again(void **state) {
    (void)state;
    mock_cuda *mock = use_mock();
    uint8_t first[PISO_CUDA_HANDLE], event[PISO_CUDA_HANDLE];
    mock->events_pending = true;
    assert_int_equal(piso_cuda_record(0, NULL, true, first), 1);
    assert_int_equal(piso_cuda_record(0, NULL, true, event), 1);
    assert_memory_not_equal(first, event, sizeof event);
    for (int i = 0; i < 30; i++)
        assert_int_equal(piso_cuda_record(0, NULL, true, event), 1);
    assert_int_equal(piso_cuda_record(0, NULL, true, event), -EINPROGRESS); /* no more than that */
    assert_int_equal(mock->events, 32);
    mock->events_pending = false;
    assert_int_equal(piso_cuda_record(0, NULL, true, event), 1);
    assert_int_equal(mock->events, 32);
    assert_int_equal(piso_cuda_wait(0, NULL, first), 0); /* of this process: not opened */
    assert_int_equal(mock->event_opens, 0);
}

static void exhausted_memory_is_told(void **state) {
    (void)state;
    mock_cuda *mock = use_mock();
    uint8_t handle[PISO_CUDA_HANDLE];
    void *base;
    uint64_t size;
    assert_int_equal(piso_cuda_record(0, NULL, true, handle), 1);
    mock->no_memory = true;
    assert_int_equal(piso_cuda_open(0, handle, NULL, &base, &size), -ENOMEM);
    assert_int_equal(piso_cuda_record(1, NULL, true, handle), -ENOMEM); /* its first context */
    mock->no_memory = false;
    memset(handle, 0xFF, sizeof handle);
    assert_int_equal(piso_cuda_open(0, handle, NULL, &base, &size), -EIO);
    assert_int_equal(piso_cuda_wait(0, NULL, handle), -EIO);
    assert_int_equal(mock->context_depth, 0);
}

static void streams_that_have_done_all_need_no_event(void **state) {
    (void)state;
    mock_cuda *mock = use_mock();
    uint8_t event[PISO_CUDA_HANDLE];
    mock->idle = true;
    assert_int_equal(piso_cuda_record(0, (void *)16, true, event), 0);
    assert_int_equal(mock->events, 0);
    mock->idle = false;
    assert_int_equal(piso_cuda_record(0, (void *)16, false, event), -EINPROGRESS); /* none are allowed */
    assert_int_equal(mock->events, 0);
    assert_int_equal(piso_cuda_drain(0, (void *)16), 0);
    assert_int_equal(mock->drains, 1);
    assert_ptr_equal(mock->last_stream, (void *)16);
    assert_int_equal(mock->context_depth, 0);
}

static void a_capture_into_a_graph_goes_on(void **state) {
    (void)state;
    mock_cuda *mock = use_mock();
    uint8_t event[PISO_CUDA_HANDLE];
    assert_int_equal(piso_cuda_record(0, NULL, true, event), 1);
    assert_int_equal(piso_cuda_captured(0, NULL), 0);
    mock->capturing = mock->events_pending = true;
    mock->capture_mode = 1;
    assert_int_equal(piso_cuda_captured(0, NULL), 1);
    assert_int_equal(piso_cuda_record(0, NULL, true, event), -EAGAIN);
    assert_int_equal(piso_cuda_wait(0, NULL, event), 0); /* by this thread, not by the graph */
    assert_int_equal(mock->waits, 0);
    assert_int_equal(mock->synchronisations, 1);
    assert_int_equal(mock->forbidden, 0);
    assert_int_equal(mock->capture_mode, 1); /* as it was */
}

static void send_two(mock_cuda *mock, letter *ret_letters) {
    ret_letters[0] = write_letter(mock->allocate(4096, true), NULL);
    ret_letters[1] = write_letter(mock->allocate(4096, true), NULL);
}

static int reopen(const letter *l, const void *keeper) {
    void *base;
    uint64_t size;
    int r = piso_cuda_open(0, l->memory.handle, keeper, &base, &size);
    if (r == 0)
        piso_cuda_close(0, base);
    return r;
}

static letter keep_open(mock_cuda *mock, const letter *letters) {
    int one, other;
    for (int i = 0; i < 10; i++)
        assert_int_equal(reopen(&letters[0], &one), 0);
    assert_int_equal(reopen(&letters[1], &other), 0);
    assert_int_equal(mock->opens, 2);
    assert_int_equal(mock->closes, 0);
    piso_cuda_release(&other, letters[0].memory.handle); /* of another keeper */
    piso_cuda_release(&one, letters[1].memory.handle);
    assert_int_equal(mock->closes, 0);
    piso_cuda_release(&one, letters[0].memory.handle);
    assert_int_equal(mock->closes, 1);
    /* an allocation in use is closed with its last user */
    void *base;
    uint64_t size;
    assert_int_equal(piso_cuda_open(0, letters[1].memory.handle, &other, &base, &size), 0);
    piso_cuda_release(&other, NULL);
    assert_int_equal(mock->closes, 1);
    piso_cuda_close(0, base);
    assert_int_equal(mock->closes, 2);
    /* when there is no room, idle mappings are closed */
    assert_int_equal(reopen(&letters[0], &one), 0);
    mock->no_memory = true;
    assert_int_equal(reopen(&letters[1], &one), -ENOMEM);
    assert_int_equal(mock->closes, 3);
    mock->no_memory = false;
    /* a driver that does not report the size */
    mock->no_ranges = true;
    assert_int_equal(piso_cuda_open(0, letters[0].memory.handle, NULL, &base, &size), 0);
    assert_true(size > UINT64_C(1) << 60);
    piso_cuda_close(0, base);
    assert_int_equal(mock->closes, 4);
    assert_int_equal(mock->context_depth, 0);
    return letters[0];
}

static void what_was_opened_stays_open_for_its_keeper(void **state) {
    (void)state;
    mock_cuda *mock;
    in_other_process(send_two, keep_open, &mock);
}

static void faults_and_failures_are_told(void **state) {
    (void)state;
    mock_cuda *mock = use_mock();
    uint8_t handle[PISO_CUDA_HANDLE] = {0};
    void *base;
    uint64_t size;
    assert_int_equal(piso_cuda_synchronize(0), 0);
    assert_string_equal(piso_cuda_failure(), "no call has failed");
    mock->no_memory = true;
    assert_int_equal(piso_cuda_open(0, handle, NULL, &base, &size), -ENOMEM);
    assert_string_equal(piso_cuda_failure(), "cuIpcOpenMemHandle: 2 CUDA_ERROR_OUT_OF_MEMORY");
    mock->no_memory = false;
    mock->fault = 719;
    assert_int_equal(piso_cuda_record(0, NULL, true, handle), -ENOTRECOVERABLE);
    assert_int_equal(piso_cuda_synchronize(0), -ENOTRECOVERABLE);
    assert_string_equal(piso_cuda_failure(), "cuCtxSynchronize: 719 unknown to the driver");
    mock->fault = 700;
    assert_int_equal(piso_cuda_drain(0, NULL), -ENOTRECOVERABLE);
    mock->fault = 46;
    assert_int_equal(piso_cuda_drain(0, NULL), -EBUSY);
    mock->fault = 0;
    mock->no_shm = true;
    assert_int_equal(piso_cuda_record(0, NULL, true, handle), -EIO);
    assert_string_equal(piso_cuda_failure(), "cuIpcGetEventHandle: 304 unknown to the driver");
}

static void without_a_driver_nothing_works(void **state) {
    (void)state;
    piso__cuda_library("/nonexistent/libcuda.so.1");
    uint8_t bytes[PISO_CUDA_HANDLE] = {0};
    void *base;
    uint64_t size;
    piso_cuda_memory memory;
    assert_int_equal(piso_cuda_count(), -ENODEV);
    assert_int_equal(piso_cuda_find(bytes), -ENODEV);
    assert_int_equal(piso_cuda_export(0, bytes, &memory), -ENODEV);
    assert_int_equal(piso_cuda_open(0, bytes, NULL, &base, &size), -ENODEV);
    assert_int_equal(piso_cuda_record(0, NULL, true, bytes), -ENODEV);
    assert_int_equal(piso_cuda_synchronize(0), -ENODEV);
    assert_string_equal(piso_cuda_failure(), "/nonexistent/libcuda.so.1 is missing");
    piso_cuda_close(0, bytes);
}

static void a_forked_process_does_not_use_it(void **state) {
    (void)state;
    use_mock();
    assert_int_equal(piso_cuda_count(), 2);
    pid_t pid = fork();
    if (pid == 0)
        _exit(piso_cuda_count() == -ENODEV ? 0 : 1);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

typedef struct named {
    const char *name;
    void (*run)(void **state);
} named;

static const named tests[] = {
    {"memory_is_opened_once_and_found_when_it_comes_back", memory_is_opened_once_and_found_when_it_comes_back},
    {"devices_go_by_uuid", devices_go_by_uuid},
    {"what_cannot_be_exported_is_refused", what_cannot_be_exported_is_refused},
    {"an_address_that_is_used_again_gets_another_handle", an_address_that_is_used_again_gets_another_handle},
    {"freed_memory_leaves_no_entries", freed_memory_leaves_no_entries},
    {"events_that_have_not_happened_are_not_recorded_again", events_that_have_not_happened_are_not_recorded_again},
    {"streams_that_have_done_all_need_no_event", streams_that_have_done_all_need_no_event},
    {"a_capture_into_a_graph_goes_on", a_capture_into_a_graph_goes_on},
    {"what_was_opened_stays_open_for_its_keeper", what_was_opened_stays_open_for_its_keeper},
    {"faults_and_failures_are_told", faults_and_failures_are_told},
    {"exhausted_memory_is_told", exhausted_memory_is_told},
    {"without_a_driver_nothing_works", without_a_driver_nothing_works},
    {"a_forked_process_does_not_use_it", a_forked_process_does_not_use_it},
};

int main(void) {
    int failed = 0;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        const struct CMUnitTest test[] = {{tests[i].name, tests[i].run, NULL, NULL, NULL}};
        pid_t pid = fork();
        if (pid == 0)
            exit(cmocka_run_group_tests_name(tests[i].name, test, NULL, NULL));
        int status;
        failed |= waitpid(pid, &status, 0) != pid || status != 0;
    }
    return failed;
}
