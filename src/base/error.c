/* error.c - texts for error codes, and the library's version. */
#include <limits.h>
#include <string.h>

#include "base/base.h"

/* system_text: the text for an errno. glibc's strerror_r, which may return a text that is not in the buffer,
 * has the same name as POSIX's. */
static const char *system_text(int number) {
    static _Thread_local char text[96];
#ifdef __GLIBC__
    return strerror_r(number, text, sizeof text);
#else
    return strerror_r(number, text, sizeof text) == 0 ? text : "unknown error";
#endif
}

const char *piso_strerror(int error) {
    switch (error) {
    case PISO_EPROTO:
        return "the peer sent something malformed";
    case PISO_EDIED:
        return "the peer's process has ended";
    case PISO_ECLOSED:
        return "the session was closed";
    case PISO_EFORKED:
        return "the session belongs to the process that forked this one";
    case PISO_EDEPTH:
        return "values are nested too deeply";
    case PISO_ESANDBOX:
        return "the process could not be confined";
    case PISO_EOLDER:
        return "the peer speaks an older version of the wire; update PyIsolate there";
    case PISO_ENEWER:
        return "the peer speaks a newer version of the wire; update PyIsolate here";
    default:
        return system_text(error < 0 && error > INT_MIN ? -error : error);
    }
}

const char *piso_version(void) {
    return PISO_VERSION;
}

int piso_version_number(void) {
    return PISO_VERSION_NUMBER;
}
