/* reference.h - functions and objects that are sent by reference (docs/wire-format.md, "References").
 *
 * The owner of an object gives it an id and keeps it for a lease (piso/lease.h) that is sent with the reference.
 * While the receiver holds the lease, piso_session_call with that id calls the object. */
#ifndef PISO_REFERENCE_H
#define PISO_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#include "piso/api.h"
#include "piso/values.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PISO_OBJECT_REFERENCED  0x80000000u /* ids of such objects are this or more, and not PISO_OBJECT_PREFETCH */
#define PISO_METHOD_CALL        "__call__"  /* the method that calls a function */
#define PISO_MAX_REFERENCES     65536       /* objects that one side has sent and the other still holds */
#define PISO_MAX_REFERENCE_NAME 1000        /* bytes */
#define PISO_MAX_METHODS        1000        /* of one object */

typedef enum piso_reference_kind {
    PISO_REFERENCE_HOME = 0, /* to an object of the message's receiver, which has sent it before */
    PISO_REFERENCE_FUNCTION, /* can be called by the name PISO_METHOD_CALL, and by no other */
    PISO_REFERENCE_OBJECT,   /* its methods can be called, and no others */
} piso_reference_kind;

typedef struct piso_reference {
    size_t size; /* sizeof(piso_reference) */
    piso_reference_kind kind;
    uint32_t object;     /* its id, PISO_OBJECT_REFERENCED or more */
    uint32_t lease;      /* index of the span that is the lease; not of PISO_REFERENCE_HOME, nor are the rest */
    const char *name;    /* of the function, or of the object's type; not checked as UTF-8 */
    size_t name_size;    /* at most PISO_MAX_REFERENCE_NAME */
    size_t method_count; /* of PISO_REFERENCE_OBJECT, at most PISO_MAX_METHODS */
    piso_reader methods; /* output of piso_read_reference: the names, one PISO_STR each, not checked */
} piso_reference;

/* piso_write_reference_begin: writes a reference. The names of its methods, method_count texts, and
 * piso_write_ext_end with the returned mark must follow. */
PISO_API size_t piso_write_reference_begin(piso_writer *w, const piso_reference *reference);
/* piso_read_reference: reads a reference from a PISO_EXT item of type PISO_EXT_REFERENCE. The receiver takes the
 * lease by piso_event_take_lease. Returns 0; PISO_EPROTO when it is malformed; -EINVAL when ret_reference->size is
 * not known. */
PISO_API int piso_read_reference(const piso_item *ext, piso_reference *ret_reference);

#ifdef __cplusplus
}
#endif

#endif
