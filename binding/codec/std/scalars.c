/* scalars.c - dates and times, decimals, UUIDs and paths. */
#include <string.h>

#include "codec/decode.h"
#include "std.h"

#include <datetime.h>

#define MAX_PATH 32768 /* characters; Python 3.12 interns the parts of a path */

static const char *const path_classes[] = {"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"};

/* ---- looking up classes ---- */

/* class_of: returns an attribute of a module. */
static PyObject *class_of(const char *module_name, const char *name) {
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *cls = module ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return cls;
}

enum { DATETIME = 1, DATE, TIME, TIMEDELTA, DECIMAL, A_UUID, A_PATH }; /* kinds of entries */

static int encode(core_encoder *e, int kind, PyObject *value, const core_path *path);
static const core_encoder_entry entries[] = {
    [DATETIME] = {encode, DATETIME, false},   [DATE] = {encode, DATE, false},       [TIME] = {encode, TIME, false},
    [TIMEDELTA] = {encode, TIMEDELTA, false}, [DECIMAL] = {encode, DECIMAL, false}, [A_UUID] = {encode, A_UUID, false},
    [A_PATH] = {encode, A_PATH, false},
};

static int load_paths(core_state *state) {
    PyObject **paths = &state->std->paths;
    if (!*paths && !(*paths = PyDict_New()))
        return -1;
    for (size_t i = 0; i < sizeof path_classes / sizeof *path_classes; i++) {
        PyObject *cls = class_of("pathlib", path_classes[i]);
        int r = cls ? PyDict_SetItemString(*paths, path_classes[i], cls) : -1;
        if (r == 0)
            r = core_add_type(state, cls, &entries[A_PATH]);
        Py_XDECREF(cls);
        if (r < 0)
            return -1;
    }
    return 0;
}

static int load_datetime(core_state *state) {
    core_std_state *s = state->std;
    PyDateTime_IMPORT;
    if (!PyDateTimeAPI)
        return -1;
    if (!s->timedelta)
        s->timedelta = Py_NewRef((PyObject *)PyDateTimeAPI->DeltaType);
    if (!s->timezone)
        s->timezone = class_of("datetime", "timezone");
    return s->timezone && core_add_type(state, (PyObject *)PyDateTimeAPI->DateTimeType, &entries[DATETIME]) == 0 &&
                   core_add_type(state, (PyObject *)PyDateTimeAPI->DateType, &entries[DATE]) == 0 &&
                   core_add_type(state, (PyObject *)PyDateTimeAPI->TimeType, &entries[TIME]) == 0 &&
                   core_add_type(state, s->timedelta, &entries[TIMEDELTA]) == 0
               ? 0
               : -1;
}

static int load(core_state *state) {
    core_std_state *s = state->std;
    if (load_datetime(state) < 0 || load_paths(state) < 0)
        return -1;
    if (!s->decimal)
        s->decimal = class_of("decimal", "Decimal");
    if (s->decimal && !s->uuid)
        s->uuid = class_of("uuid", "UUID");
    if (s->uuid && !s->zone_info)
        s->zone_info = class_of("zoneinfo", "ZoneInfo");
    return s->zone_info && core_add_type(state, s->decimal, &entries[DECIMAL]) == 0 &&
                   core_add_type(state, s->uuid, &entries[A_UUID]) == 0
               ? 0
               : -1;
}

/* ---- time ---- */

static const char only_zones[] = "its tzinfo must be a datetime.timezone or a zoneinfo.ZoneInfo with a key";

static int64_t delta_microseconds(PyObject *delta) {
    return ((int64_t)PyDateTime_DELTA_GET_DAYS(delta) * 86400 + PyDateTime_DELTA_GET_SECONDS(delta)) * 1000000 +
           PyDateTime_DELTA_GET_MICROSECONDS(delta);
}

int core_encode_timezone(core_encoder *e, PyObject *zone) {
    PyObject *args = PyObject_CallMethod(zone, "__getinitargs__", NULL);
    if (!args || !PyTuple_Check(args) || PyTuple_GET_SIZE(args) < 1) {
        Py_XDECREF(args);
        return -1;
    }
    bool named = PyTuple_GET_SIZE(args) > 1;
    if (named)
        piso_write_array(e->w, 2);
    piso_write_int(e->w, delta_microseconds(PyTuple_GET_ITEM(args, 0)));
    core_path at = {.kind = CORE_AT_ROOT, .root = "the name of a timezone"};
    int r = named ? core_encode(e, PyTuple_GET_ITEM(args, 1), &at) : 0;
    Py_DECREF(args);
    return r;
}

static int encode_zone(core_encoder *e, PyObject *zone, PyObject *value, const core_path *path) {
    core_std_state *c = e->codec->state->std;
    if (zone == Py_None)
        return piso_write_nil(e->w), 0;
    if ((PyObject *)Py_TYPE(zone) == c->timezone)
        return core_encode_timezone(e, zone);
    PyObject *key = (PyObject *)Py_TYPE(zone) == c->zone_info ? PyObject_GetAttrString(zone, "key") : NULL;
    if (!key && PyErr_Occurred())
        return -1;
    int r = key && PyUnicode_CheckExact(key) ? core_encode(e, key, path) : core_encode_error(path, value, only_zones);
    Py_XDECREF(key);
    return r;
}

static int encode_datetime(core_encoder *e, PyObject *v, const core_path *path) {
    int fields[] = {PyDateTime_GET_YEAR(v),
                    PyDateTime_GET_MONTH(v),
                    PyDateTime_GET_DAY(v),
                    PyDateTime_DATE_GET_HOUR(v),
                    PyDateTime_DATE_GET_MINUTE(v),
                    PyDateTime_DATE_GET_SECOND(v),
                    PyDateTime_DATE_GET_MICROSECOND(v),
                    PyDateTime_DATE_GET_FOLD(v)};
    piso_write_array(e->w, 9);
    for (int i = 0; i < 8; i++)
        piso_write_int(e->w, fields[i]);
    return encode_zone(e, PyDateTime_DATE_GET_TZINFO(v), v, path);
}

static int encode_time(core_encoder *e, PyObject *v, const core_path *path) {
    int fields[] = {PyDateTime_TIME_GET_HOUR(v), PyDateTime_TIME_GET_MINUTE(v), PyDateTime_TIME_GET_SECOND(v),
                    PyDateTime_TIME_GET_MICROSECOND(v), PyDateTime_TIME_GET_FOLD(v)};
    piso_write_array(e->w, 6);
    for (int i = 0; i < 5; i++)
        piso_write_int(e->w, fields[i]);
    return encode_zone(e, PyDateTime_TIME_GET_TZINFO(v), v, path);
}

/* read_ints: reads `count` integers that fit an int. */
static int read_ints(core_decoder *d, piso_reader *r, int *values, int count) {
    for (int i = 0; i < count; i++) {
        piso_item item;
        if (core_read(d, r, PISO_INT, &item) < 0)
            return -1;
        if (item.as.integer > INT32_MAX || item.as.integer < INT32_MIN) {
            core_malformed(d, "a part of a time is out of range");
            return -1;
        }
        values[i] = (int)item.as.integer;
    }
    return 0;
}

PyObject *core_make_timezone(core_decoder *d, int64_t microseconds, PyObject *name) {
    core_std_state *c = d->codec->state->std;
    int64_t days = microseconds / 86400000000, rest = microseconds % 86400000000;
    if (days > 1 || days < -1)
        return core_malformed(d, "a timezone more than a day away");
    PyObject *delta = PyDelta_FromDSU((int)days, (int)(rest / 1000000), (int)(rest % 1000000));
    PyObject *zone = NULL;
    if (delta)
        zone = name                ? PyObject_CallFunctionObjArgs(c->timezone, delta, name, NULL)
               : microseconds == 0 ? Py_NewRef(PyDateTime_TimeZone_UTC)
                                   : PyObject_CallOneArg(c->timezone, delta);
    Py_XDECREF(delta);
    return zone;
}

static PyObject *decode_zone(core_decoder *d, piso_reader *r) {
    piso_item item;
    if (piso_read(r, &item) != 1)
        return core_malformed(d, "a timezone is missing");
    if (item.kind == PISO_NIL)
        Py_RETURN_NONE;
    if (item.kind == PISO_INT)
        return core_make_timezone(d, item.as.integer, NULL);
    if (item.kind == PISO_STR) {
        PyObject *key = core_decode_item(d, r, &item);
        PyObject *zone = key ? PyObject_CallOneArg(d->codec->state->std->zone_info, key) : NULL;
        Py_XDECREF(key);
        return zone;
    }
    piso_item offset;
    if (item.kind != PISO_ARRAY || item.as.count != 2 || core_read(d, r, PISO_INT, &offset) < 0)
        return core_malformed(d, "a timezone of an unknown kind");
    PyObject *name = core_decode(d, r);
    PyObject *zone = name ? core_make_timezone(d, offset.as.integer, name) : NULL;
    Py_XDECREF(name);
    return zone;
}

static PyObject *decode_datetime(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    int f[8];
    if (core_read_array(d, ext, 9, &r) < 0 || read_ints(d, &r, f, 8) < 0)
        return NULL;
    PyObject *zone = decode_zone(d, &r);
    if (!zone)
        return NULL;
    PyObject *value = PyDateTimeAPI->DateTime_FromDateAndTimeAndFold(f[0], f[1], f[2], f[3], f[4], f[5], f[6], zone,
                                                                     f[7], PyDateTimeAPI->DateTimeType);
    Py_DECREF(zone);
    return core_check_payload_end(d, &r, value);
}

static PyObject *decode_time(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    int f[5];
    if (core_read_array(d, ext, 6, &r) < 0 || read_ints(d, &r, f, 5) < 0)
        return NULL;
    PyObject *zone = decode_zone(d, &r);
    if (!zone)
        return NULL;
    PyObject *value = PyDateTimeAPI->Time_FromTimeAndFold(f[0], f[1], f[2], f[3], zone, f[4], PyDateTimeAPI->TimeType);
    Py_DECREF(zone);
    return core_check_payload_end(d, &r, value);
}

/* ---- the known classes ---- */

/* write_attribute: writes one attribute that is a plain value, or the object's text when `name` is NULL. */
static int write_attribute(core_encoder *e, PyObject *value, const char *name, const core_path *path) {
    PyObject *attribute = name ? PyObject_GetAttrString(value, name) : PyObject_Str(value);
    int r = attribute ? core_encode(e, attribute, path) : -1;
    Py_XDECREF(attribute);
    return r;
}

static int encode(core_encoder *e, int kind, PyObject *value, const core_path *path) {
    static const int8_t types[] = {
        [DATETIME] = PISO_EXT_DATETIME,   [DATE] = PISO_EXT_DATE,       [TIME] = PISO_EXT_TIME,
        [TIMEDELTA] = PISO_EXT_TIMEDELTA, [DECIMAL] = PISO_EXT_DECIMAL, [A_UUID] = PISO_EXT_UUID,
        [A_PATH] = PISO_EXT_PATH,
    };
    int r = 0;
    size_t mark = piso_write_ext_begin(e->w, types[kind]);
    switch (kind) {
    case DATETIME:
        r = encode_datetime(e, value, path);
        break;
    case TIME:
        r = encode_time(e, value, path);
        break;
    case DATE:
        piso_write_array(e->w, 3);
        piso_write_int(e->w, PyDateTime_GET_YEAR(value));
        piso_write_int(e->w, PyDateTime_GET_MONTH(value));
        piso_write_int(e->w, PyDateTime_GET_DAY(value));
        break;
    case TIMEDELTA:
        piso_write_array(e->w, 3);
        piso_write_int(e->w, PyDateTime_DELTA_GET_DAYS(value));
        piso_write_int(e->w, PyDateTime_DELTA_GET_SECONDS(value));
        piso_write_int(e->w, PyDateTime_DELTA_GET_MICROSECONDS(value));
        break;
    case A_PATH:
        piso_write_array(e->w, 2);
        piso_write_str(e->w, _PyType_Name(Py_TYPE(value)), strlen(_PyType_Name(Py_TYPE(value))));
        r = write_attribute(e, value, NULL, path);
        break;
    case A_UUID:
        r = write_attribute(e, value, "bytes", path);
        break;
    default:
        r = write_attribute(e, value, NULL, path);
    }
    piso_write_ext_end(e->w, mark);
    return r;
}

/* call_with: calls a class with the value of the payload, which must be of that kind. */
static PyObject *call_with(core_decoder *d, const piso_item *ext, piso_kind kind, PyObject *cls, const char *keyword) {
    piso_reader r = {ext->as.bytes.data, ext->as.bytes.data + ext->as.bytes.size};
    piso_item item;
    if (core_read(d, &r, kind, &item) < 0)
        return NULL;
    PyObject *argument = core_decode_item(d, &r, &item);
    if (!argument)
        return NULL;
    PyObject *args = keyword ? PyTuple_New(0) : PyTuple_Pack(1, argument);
    PyObject *options = args && keyword ? Py_BuildValue("{s:O}", keyword, argument) : NULL;
    PyObject *value = args && (options || !keyword) ? PyObject_Call(cls, args, options) : NULL;
    Py_XDECREF(args);
    Py_XDECREF(options);
    Py_DECREF(argument);
    return core_check_payload_end(d, &r, value);
}

static PyObject *decode_path(core_decoder *d, const piso_item *ext) {
    piso_reader r;
    if (core_read_array(d, ext, 2, &r) < 0)
        return NULL;
    PyObject *name = core_decode(d, &r), *text = name ? core_decode(d, &r) : NULL, *value = NULL;
    if (text && PyUnicode_CheckExact(name) && PyUnicode_CheckExact(text) && PyUnicode_GET_LENGTH(text) > MAX_PATH) {
        core_cannot_decode(d, PyExc_ValueError, "the peer sent a path of more than %d characters, the limit", MAX_PATH);
    } else if (text && PyUnicode_CheckExact(name) && PyUnicode_CheckExact(text)) {
        PyObject *cls = PyDict_GetItemWithError(d->codec->state->std->paths, name);
        value = cls ? PyObject_CallOneArg(cls, text) : core_malformed(d, "a path of an unknown class");
    } else if (text) {
        core_malformed(d, "a path that is not text");
    }
    Py_XDECREF(name);
    Py_XDECREF(text);
    return core_check_payload_end(d, &r, value);
}

static PyObject *decode(core_decoder *d, const piso_item *ext) {
    core_std_state *c = d->codec->state->std;
    if (core_tables_load(d->codec->state) < 0)
        return NULL;
    piso_reader r;
    int f[3];
    switch (ext->ext_type) {
    case PISO_EXT_DATETIME:
        return decode_datetime(d, ext);
    case PISO_EXT_TIME:
        return decode_time(d, ext);
    case PISO_EXT_DATE:
        if (core_read_array(d, ext, 3, &r) < 0 || read_ints(d, &r, f, 3) < 0)
            return NULL;
        return core_check_payload_end(d, &r, PyDate_FromDate(f[0], f[1], f[2]));
    case PISO_EXT_TIMEDELTA:
        if (core_read_array(d, ext, 3, &r) < 0 || read_ints(d, &r, f, 3) < 0)
            return NULL;
        return core_check_payload_end(d, &r, PyDelta_FromDSU(f[0], f[1], f[2]));
    case PISO_EXT_DECIMAL:
        return call_with(d, ext, PISO_STR, c->decimal, NULL);
    case PISO_EXT_UUID:
        return call_with(d, ext, PISO_BIN, c->uuid, "bytes");
    default:
        return decode_path(d, ext);
    }
}

void core_scalars_init(core_state *state) {
    core_add_loader(state, load);
    core_add_decoder(state, PISO_EXT_DATETIME, (core_decoder_entry){.decode = decode, .cost = 128});
    core_add_decoder(state, PISO_EXT_DATE, (core_decoder_entry){.decode = decode, .cost = 40});
    core_add_decoder(state, PISO_EXT_TIME, (core_decoder_entry){.decode = decode, .cost = 128});
    core_add_decoder(state, PISO_EXT_TIMEDELTA, (core_decoder_entry){.decode = decode, .cost = 48});
    core_add_decoder(state, PISO_EXT_DECIMAL, (core_decoder_entry){.decode = decode, .cost = 128});
    core_add_decoder(state, PISO_EXT_UUID, (core_decoder_entry){.decode = decode, .cost = 700});
    core_add_decoder(state, PISO_EXT_PATH, (core_decoder_entry){.decode = decode, .cost = 950});
}
