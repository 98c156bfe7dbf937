/* host.c - a host that is not PyIsolate's: loads an extension and calls it, by docs/wire-format.md and the public headers.
 *
 *     host FOLDER PROGRAM ARGUMENT...
 *
 * starts the program, which is PyIsolate's child, has it load the extension in the folder, and calls it from two threads.
 * Prints what came back, a line each, and ends with 0. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <piso/piso.h>

#define SECOND INT64_C(1000000000)
#define LONG   (60 * SECOND)

extern char **environ;

static void fail(const char *what, int error) {
    fprintf(stderr, "%s: %s\n", what, piso_strerror(error));
    exit(1);
}

static void check(const char *what, int result) {
    if (result < 0)
        fail(what, result);
}

/* ---- values ---- */

static void write_text(piso_writer *w, const char *text) {
    piso_write_str(w, text, strlen(text));
}

/* next: the next item, of this kind. */
static piso_item next(piso_reader *r, piso_kind kind) {
    piso_item item;
    if (piso_read(r, &item) != 1 || item.kind != kind)
        fail("a value", PISO_EPROTO);
    return item;
}

static bool is_text(const piso_item *item, const char *text) {
    return item->kind == PISO_STR && item->as.bytes.size == strlen(text) &&
           memcmp(item->as.bytes.data, text, item->as.bytes.size) == 0;
}

static void print(const char *what, const piso_item *text) {
    printf("%s %.*s\n", what, (int)text->as.bytes.size, (const char *)text->as.bytes.data);
}

/* skip: a value with all that is in it. */
static void skip(piso_reader *r) {
    piso_item item;
    if (piso_read(r, &item) != 1)
        fail("a value", PISO_EPROTO);
    size_t inside = item.kind == PISO_ARRAY ? item.as.count : item.kind == PISO_MAP ? 2 * item.as.count : 0;
    while (inside--)
        skip(r);
}

/* find: moves to the value of a key. */
static bool find(piso_reader *r, const char *key) {
    for (size_t pairs = next(r, PISO_MAP).as.count; pairs; pairs--) {
        piso_item item = next(r, PISO_STR);
        if (is_text(&item, key))
            return true;
        skip(r);
    }
    return false;
}

/* body_of: the result, or what is in the exception; prints and ends where that is another than expected. */
static piso_reader body_of(const piso_event *event, piso_event_type expected) {
    piso_reader r = {event->body, event->body + event->body_size};
    if (event->type == PISO_EVENT_ERROR) {
        piso_item exception = next(&r, PISO_EXT);
        if (exception.ext_type != PISO_EXT_EXCEPTION)
            fail("an exception", PISO_EPROTO);
        r = (piso_reader){exception.as.bytes.data, exception.as.bytes.data + exception.as.bytes.size};
    }
    if (event->type == expected)
        return r;
    piso_reader type = r, arguments = r;
    if (find(&type, PISO_EXCEPTION_TYPE)) {
        piso_item name = next(&type, PISO_STR);
        print("unexpected", &name);
    }
    if (find(&arguments, PISO_EXCEPTION_ARGS) && next(&arguments, PISO_ARRAY).as.count) {
        piso_item text;
        if (piso_read(&arguments, &text) == 1 && text.kind == PISO_STR)
            print("unexpected", &text);
    }
    exit(1);
}

/* ---- calls ---- */

static uint32_t method(piso_session *s, const char *name) {
    uint32_t id;
    check("intern", piso_session_intern(s, name, strlen(name), &id));
    return id;
}

/* call: with the arguments in the writer, which is used up. */
static void call(piso_session *s, uint32_t object, const char *name, piso_writer *w, piso_event *event) {
    piso_event_init(event);
    check(name, piso_session_call_wait(s, object, method(s, name), 0, 0, LONG, w, event));
    piso_writer_fini(w);
}

static void write_reference(piso_writer *w, const char *module, const char *qualname) {
    piso_write_map(w, 4);
    write_text(w, "module");
    write_text(w, module);
    write_text(w, "qualname");
    write_text(w, qualname);
    write_text(w, "file");
    piso_write_nil(w);
    write_text(w, "run_as");
    piso_write_nil(w);
}

static void load(piso_session *s, const char *folder) {
    static const char *const nils[] = {"share_torch", "share_cuda", "shared_memory", "sandbox", "main", "threads"};
    static const char *const bools[] = {"share_numpy", "cuda_events", "refuse_subclasses", "may_leave_group"};
    static const char *const arrays[] = {"apis", "types"};
    piso_writer w;
    piso_event event;
    piso_writer_init(&w);
    piso_write_array(&w, 1);
    piso_write_map(&w, 17);
    write_text(&w, "module_path");
    write_text(&w, folder);
    write_text(&w, "extension_type");
    write_reference(&w, "pyisolate", "ExtensionBase");
    write_text(&w, "offered");
    piso_write_map(&w, 1);
    write_text(&w, "clock");
    piso_write_int(&w, PISO_OBJECT_OFFERED);
    write_text(&w, "log_level");
    piso_write_int(&w, 20);
    write_text(&w, "generation");
    piso_write_int(&w, 1);
    for (size_t i = 0; i < sizeof nils / sizeof *nils; i++) {
        write_text(&w, nils[i]);
        piso_write_nil(&w);
    }
    for (size_t i = 0; i < sizeof bools / sizeof *bools; i++) {
        write_text(&w, bools[i]);
        piso_write_bool(&w, false);
    }
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        write_text(&w, arrays[i]);
        piso_write_array(&w, 0);
    }
    call(s, PISO_OBJECT_CONTROL, PISO_METHOD_LOAD, &w, &event);
    piso_reader report = body_of(&event, PISO_EVENT_REPLY);
    if (!find(&report, "names") || !find(&report, "type"))
        fail("the report", PISO_EPROTO);
    piso_item type = next(&report, PISO_STR);
    print("loaded", &type);
    piso_event_fini(&event);
}

/* ---- what the extension calls ---- */

static pthread_mutex_t printing = PTHREAD_MUTEX_INITIALIZER;

static void reply(piso_session *s, const piso_event *request, bool is_error, piso_writer *w) {
    if (!(request->flags & PISO_CALL_NO_REPLY))
        check("reply", piso_session_reply(s, request->id, is_error, w));
    piso_writer_fini(w);
}

/* on_log: prints the logger, the level and the text. */
static void on_log(piso_reader *r) {
    next(r, PISO_ARRAY);
    piso_item name = next(r, PISO_STR), level = next(r, PISO_INT), text = next(r, PISO_STR);
    pthread_mutex_lock(&printing);
    printf("log %d ", (int)level.as.integer);
    print("of", &name);
    print("log text", &text);
    pthread_mutex_unlock(&printing);
}

static void on_request(piso_session *s, const piso_event *event) {
    size_t size = 0;
    const char *name = piso_session_name(s, event->method, &size);
    piso_item called = {.kind = PISO_STR, .as.bytes = {(const uint8_t *)name, size}};
    piso_reader arguments = {event->body, event->body + event->body_size};
    piso_writer w;
    piso_writer_init(&w);
    bool is_error = false;
    if (event->object == PISO_OBJECT_CONTROL && is_text(&called, PISO_METHOD_LOG)) {
        on_log(&arguments);
        piso_write_nil(&w);
    } else if (event->object == PISO_OBJECT_CONTROL && is_text(&called, PISO_METHOD_EMIT)) {
        next(&arguments, PISO_ARRAY);
        piso_item event_name = next(&arguments, PISO_STR);
        print("event", &event_name);
        piso_write_nil(&w);
    } else if (event->object == PISO_OBJECT_OFFERED && is_text(&called, "now")) {
        piso_write_int(&w, 1234);
    } else {
        is_error = true;
        size_t mark = piso_write_ext_begin(&w, PISO_EXT_EXCEPTION);
        piso_write_map(&w, 2);
        write_text(&w, PISO_EXCEPTION_TYPE);
        write_text(&w, "builtins:LookupError");
        write_text(&w, PISO_EXCEPTION_ARGS);
        piso_write_array(&w, 1);
        write_text(&w, "the host in C has no such thing");
        piso_write_ext_end(&w, mark);
    }
    reply(s, event, is_error, &w);
}

static void on_event(void *context, piso_event *event) {
    if (event->type == PISO_EVENT_REQUEST)
        on_request(context, event);
}

/* ---- the extension's methods ---- */

static int64_t add(piso_session *s, int64_t a, int64_t b) {
    piso_writer w;
    piso_event event;
    piso_writer_init(&w);
    piso_write_array(&w, 2);
    piso_write_int(&w, a);
    piso_write_int(&w, b);
    call(s, PISO_OBJECT_EXTENSION, "add", &w, &event);
    piso_reader body = body_of(&event, PISO_EVENT_REPLY);
    int64_t sum = next(&body, PISO_INT).as.integer;
    piso_event_fini(&event);
    return sum;
}

static void *add_often(void *session) {
    intptr_t wrong = 0;
    for (int i = 0; i < 1000; i++)
        wrong += add(session, i, 1) != i + 1;
    return (void *)wrong;
}

/* ask: a method without arguments; prints its text, or the type and the text of its exception. */
static void ask(piso_session *s, const char *name, piso_event_type expected) {
    piso_writer w;
    piso_event event;
    piso_writer_init(&w);
    piso_write_array(&w, 0);
    call(s, PISO_OBJECT_EXTENSION, name, &w, &event);
    piso_reader body = body_of(&event, expected), type = body;
    piso_item text;
    if (expected == PISO_EVENT_ERROR && find(&type, PISO_EXCEPTION_TYPE)) {
        text = next(&type, PISO_STR);
        print(name, &text);
        if (find(&body, PISO_EXCEPTION_ARGS))
            next(&body, PISO_ARRAY);
    }
    text = next(&body, PISO_STR);
    print(name, &text);
    piso_event_fini(&event);
}

/* ---- a function of the extension's ---- */

/* call_function: calls `function(number)`; prints the result. */
static void call_function(piso_session *s, uint32_t function, int64_t number) {
    piso_writer w;
    piso_event event;
    piso_writer_init(&w);
    piso_write_array(&w, 1);
    piso_write_int(&w, number);
    call(s, function, PISO_METHOD_CALL, &w, &event);
    piso_reader body = body_of(&event, PISO_EVENT_REPLY);
    printf("function %d\n", (int)next(&body, PISO_INT).as.integer);
    piso_event_fini(&event);
}

/* call_ended: calls a function whose reference has ended; prints the type of the exception. */
static void call_ended(piso_session *s, uint32_t function) {
    piso_writer w;
    piso_event event;
    piso_writer_init(&w);
    piso_write_array(&w, 0);
    call(s, function, PISO_METHOD_CALL, &w, &event);
    piso_reader body = body_of(&event, PISO_EVENT_ERROR);
    if (find(&body, PISO_EXCEPTION_TYPE)) {
        piso_item type = next(&body, PISO_STR);
        print("ended", &type);
    }
    piso_event_fini(&event);
}

/* send_home: sends the function back; prints whether its owner got the function itself. */
static void send_home(piso_session *s, uint32_t function) {
    piso_writer w;
    piso_event event;
    piso_reference home = {.size = sizeof home, .kind = PISO_REFERENCE_HOME, .object = function};
    piso_writer_init(&w);
    piso_write_array(&w, 1);
    piso_write_ext_end(&w, piso_write_reference_begin(&w, &home));
    call(s, PISO_OBJECT_EXTENSION, "is_mine", &w, &event);
    piso_reader body = body_of(&event, PISO_EVENT_REPLY);
    printf("home %d\n", next(&body, PISO_BOOL).as.boolean);
    piso_event_fini(&event);
}

/* use_function: gets a function of the extension, and calls it as long as it holds the lease. */
static void use_function(piso_session *s) {
    piso_writer w;
    piso_event event;
    piso_writer_init(&w);
    piso_write_array(&w, 0);
    call(s, PISO_OBJECT_EXTENSION, "give", &w, &event);
    piso_reader body = body_of(&event, PISO_EVENT_REPLY);
    piso_item item = next(&body, PISO_EXT);
    piso_reference function = {.size = sizeof function};
    check("a reference", piso_read_reference(&item, &function));
    uint64_t lease = piso_event_take_lease(&event, function.lease);
    if (function.kind != PISO_REFERENCE_FUNCTION || !lease)
        fail("a function", PISO_EPROTO);
    printf("given %.*s\n", (int)function.name_size, function.name);
    piso_event_fini(&event); /* the name was in its body; the lease is ours */
    call_function(s, function.object, 5);
    call_function(s, function.object, 6);
    send_home(s, function.object);
    piso_session_end_lease(s, lease);
    piso_session_flush(s);
    call_ended(s, function.object);
}

static void shut_down(piso_session *s) {
    piso_writer w;
    piso_event event;
    piso_exit status;
    piso_writer_init(&w);
    piso_write_array(&w, 0);
    call(s, PISO_OBJECT_CONTROL, PISO_METHOD_SHUT_DOWN, &w, &event);
    body_of(&event, PISO_EVENT_REPLY);
    piso_event_fini(&event);
    piso_session_close(s);
    if (piso_process_wait(piso_session_process(s), LONG, &status) != 1)
        fail("the end", -ETIMEDOUT);
    printf("ended %d\n", status.code);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    setenv("PYISOLATE_CHILD", "1", true);
    piso_spawn spawn = {
        .size = sizeof spawn,
        .argv = (const char *const *)argv + 2,
        .envp = (const char *const *)environ,
        .name = "extension",
        .echo_stderr = true,
    };
    piso_session *s;
    check("spawn", piso_session_spawn(&spawn, &s));
    piso_session_on_event(s, on_event, s);
    check("handshake", piso_session_handshake(s, LONG));
    load(s, argv[1]);

    pthread_t threads[2];
    intptr_t wrong = 0;
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, add_often, s))
            return 1;
    for (int i = 0; i < 2; i++) {
        void *result;
        pthread_join(threads[i], &result);
        wrong += (intptr_t)result;
    }
    printf("wrong %d\n", (int)wrong);
    ask(s, "greet", PISO_EVENT_REPLY);
    ask(s, "fail", PISO_EVENT_ERROR);
    use_function(s);
    shut_down(s);
    piso_session_unref(s);
    return 0;
}
