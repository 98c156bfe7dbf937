/* printable.c - see printable.h. */
#include "printable.h"

static const char digits[] = "0123456789abcdef";

/* is_active: returns whether a character does something other than show itself. Joiners and variation selectors are not
 * replaced: scripts and emoji need them, and they have no effect elsewhere. */
static bool is_active(Py_UCS4 c) {
    if (c < 0x20 || (c >= 0x7f && c <= 0x9f))
        return true;
    if (c < 0x061c)
        return false;
    return c == 0x061c || c == 0x200e || c == 0x200f ||  /* directional marks */
           (c >= 0x2028 && c <= 0x202e) ||               /* line and paragraph separators; embeddings, overrides */
           (c >= 0x2066 && c <= 0x206f) ||               /* isolates, and their deprecated predecessors */
           (c >= 0xd800 && c <= 0xdfff) ||               /* surrogates */
           (c >= 0xfff9 && c <= 0xfffb) || c == 0xe0001; /* annotations, language tag */
}

static bool is_replaced(Py_UCS4 c, bool keep_lines) {
    return is_active(c) && !(keep_lines && (c == '\n' || c == '\t'));
}

/* short_escape: returns the letter of a two-character escape, or 0. */
static char short_escape(Py_UCS4 c) {
    return c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : 0;
}

static int escape_size(Py_UCS4 c) {
    return short_escape(c) ? 2 : c <= 0xff ? 4 : c <= 0xffff ? 6 : 10;
}

/* write_escape: writes \n, \xhh, \uhhhh or \Uhhhhhhhh, as repr() does; returns the position after it. */
static Py_ssize_t write_escape(PyObject *to, Py_ssize_t at, Py_UCS4 c) {
    int kind = PyUnicode_KIND(to), size = escape_size(c);
    void *data = PyUnicode_DATA(to);
    PyUnicode_WRITE(kind, data, at++, '\\');
    PyUnicode_WRITE(kind, data, at++, size == 2 ? (Py_UCS4)short_escape(c) : size == 4 ? 'x' : size == 6 ? 'u' : 'U');
    for (int shift = 4 * (size - 3); shift >= 0; shift -= 4)
        PyUnicode_WRITE(kind, data, at++, (Py_UCS4)digits[c >> shift & 15]);
    return at;
}

PyObject *core_printable(PyObject *text, bool keep_lines) {
    Py_ssize_t length = PyUnicode_GET_LENGTH(text), replaced = 0, size = 0;
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    Py_UCS4 highest = '\\';
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        bool escaped = is_replaced(c, keep_lines);
        replaced += escaped;
        size += escaped ? escape_size(c) : 1;
        if (!escaped && c > highest)
            highest = c;
    }
    if (!replaced)
        return Py_NewRef(text);
    PyObject *clean = PyUnicode_New(size, highest);
    for (Py_ssize_t i = 0, at = 0; clean && i < length; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        if (is_replaced(c, keep_lines))
            at = write_escape(clean, at, c);
        else
            PyUnicode_WRITE(PyUnicode_KIND(clean), PyUnicode_DATA(clean), at++, c);
    }
    return clean;
}

PyObject *core_name(PyObject *text, Py_ssize_t limit, bool keep_end) {
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    bool cut = length > limit;
    PyObject *part = !cut       ? Py_NewRef(text)
                     : keep_end ? PyUnicode_Substring(text, length - limit, length)
                                : PyUnicode_Substring(text, 0, limit);
    PyObject *clean = part ? core_printable(part, false) : NULL;
    if (clean && cut)
        Py_SETREF(clean, PyUnicode_FromFormat(keep_end ? "...%U" : "%U...", clean));
    Py_XDECREF(part);
    return clean;
}
