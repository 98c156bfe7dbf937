/* version.h - the version of these headers and of the library at run time. */
#ifndef PISO_VERSION_H
#define PISO_VERSION_H

#include "piso/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The version of these headers. */
#define PISO_VERSION_MAJOR 0
#define PISO_VERSION_MINOR 1
#define PISO_VERSION_PATCH 0
#define PISO_VERSION       "0.1.0"

/* PISO_VERSION_NUMBER: one number that the preprocessor can compare: #if PISO_VERSION_NUMBER >=
 * PISO_VERSION_MAKE(0, 2, 0) */
#define PISO_VERSION_MAKE(major, minor, patch) ((major)*1000000 + (minor)*1000 + (patch))
#define PISO_VERSION_NUMBER                    PISO_VERSION_MAKE(PISO_VERSION_MAJOR, PISO_VERSION_MINOR, PISO_VERSION_PATCH)

/* piso_version: returns "major.minor.patch" of the running library; static storage. piso_version_number:
 * returns the same as one number, comparable with PISO_VERSION_NUMBER. */
PISO_API const char *piso_version(void);
PISO_API int piso_version_number(void);

#ifdef __cplusplus
}
#endif

#endif
